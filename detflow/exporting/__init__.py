"""Exports a checkpoint as files that other runtimes load, each proved against it."""

from detflow.process.tensorflow_settings import prepare_tensorflow

prepare_tensorflow()
