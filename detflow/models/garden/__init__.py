"""The only room that speaks tf-models-official (Model Garden, package `official`).

Leaf modules are imported, since `import tensorflow_models` needs packages that object detection
does not.
"""

import matplotlib

# Importing Model Garden makes matplotlib draw without a screen, so that a notebook would show no
# figure after a training. The backend that was chosen before is chosen again.
_backend = matplotlib.get_backend(auto_select=False)

import official.vision  # noqa: E402, F401

if _backend is not None:
    # A notebook's backend reads this setting while it is loaded.
    matplotlib.rcParams["backend"] = _backend
    try:
        matplotlib.use(_backend)
    except ImportError:
        # It needs a screen, and there is none.
        matplotlib.use("Agg")
