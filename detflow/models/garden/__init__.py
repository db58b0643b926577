"""The only room that speaks tf-models-official (Model Garden, package `official`).

Leaf modules are imported, since `import tensorflow_models` needs packages that object detection
does not.
"""
