"""The only room that speaks tf-models-official (Model Garden, package `official`).

Leaf modules are imported, since `import tensorflow_models` needs packages that object detection
does not.
"""

import matplotlib

_backend = matplotlib.get_backend(auto_select=False)

import official.vision  # noqa: E402, F401

if _backend is not None and _backend.startswith(("inline", "module://")):
    # Importing Model Garden makes matplotlib draw without a screen, so that a notebook would show
    # no figure after a training. Its backend looks at the setting while it is loaded.
    import matplotlib.pyplot

    matplotlib.rcParams["backend"] = _backend
    matplotlib.pyplot.switch_backend(_backend)
