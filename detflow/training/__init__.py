"""How a model directory comes to be."""

from detflow.process.tensorflow_settings import prepare_tensorflow

prepare_tensorflow()
