"""Writes the files of each format: one module a format, named as in `inference.formats`."""
