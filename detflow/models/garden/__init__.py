"""The only room that speaks tf-models-official (Model Garden, package `official`).

Leaf modules are imported, since `import tensorflow_models` needs packages that object detection
does not.
"""

import matplotlib

# Importing Model Garden makes matplotlib draw without a screen, and a notebook that trains would
# show no figure any more. What was chosen before is chosen again.
_backend = matplotlib.get_backend(auto_select=False)

import official.vision  # noqa: E402, F401

if _backend is not None:
    matplotlib.use(_backend)
