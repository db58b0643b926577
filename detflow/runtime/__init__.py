"""Exported models in runtimes that start in a fraction of TensorFlow's time. Nothing in here imports TensorFlow."""
