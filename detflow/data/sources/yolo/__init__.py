"""The dialect of YOLO: one text file for each image, with fractions of its sides."""
