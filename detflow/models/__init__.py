"""What a network is: how it is built, what goes in, and what its outputs mean."""

from detflow.process.tensorflow_settings import prepare_tensorflow

prepare_tensorflow()
