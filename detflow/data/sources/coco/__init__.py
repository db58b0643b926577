"""The dialect of COCO: one JSON file for many images."""
