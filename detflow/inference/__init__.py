"""One detector over every runtime.

Only `tensorflow`, `serving`, `trained` and `evaluate` import TensorFlow; a format imports its
runtime when it loads a file.
"""

from detflow.process.tensorflow_settings import prepare_tensorflow

prepare_tensorflow()
