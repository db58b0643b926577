"""What a model directory is: its files, its checkpoints and what they say of themselves."""

from detflow.process.tensorflow_settings import prepare_tensorflow

prepare_tensorflow()
