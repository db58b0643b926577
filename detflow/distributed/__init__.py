"""Several devices and processes that train as one."""

from detflow.process.tensorflow_settings import prepare_tensorflow

prepare_tensorflow()
