"""The dialect of PASCAL VOC: one XML file for each image."""
