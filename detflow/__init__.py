"""Train and deploy object detectors from a folder of images and VOC XML."""

__version__ = "0.1.0"
