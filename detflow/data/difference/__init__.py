"""Compares two sets of images with objects: datasets, records, or one with the other."""
