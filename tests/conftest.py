"""Settings that have to be made before any test imports TensorFlow."""

import detflow.engine  # noqa: F401
