"""One detector over every runtime. Only `tensorflow`, `serving`, `trained` and `evaluate` import TensorFlow."""

from detflow.process.tensorflow_settings import prepare_tensorflow

prepare_tensorflow()
