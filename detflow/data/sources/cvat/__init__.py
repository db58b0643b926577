"""The dialect of CVAT: one XML file, "CVAT for images 1.1", for many images."""
