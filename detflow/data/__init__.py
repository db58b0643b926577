"""Annotations and images in, records out. Nothing in here imports TensorFlow."""
