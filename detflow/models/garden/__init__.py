"""The only room that speaks tf-models-official (Model Garden, package `official`).

Leaf modules are imported, since `import tensorflow_models` needs packages that object detection
does not; and the packages that hold them are lazy.
"""

from detflow.models.garden.lazy_packages import make_lazy

make_lazy(
    {
        "official.core": {},
        "official.vision": {},
        "official.vision.configs": {},
        "official.vision.modeling": {},
        "official.vision.modeling.backbones": {},
        "official.vision.modeling.decoders": {},
        "official.vision.modeling.heads": {},
        "official.vision.modeling.layers": {},
        "official.nlp.modeling": {},
        # The building blocks of vision derive classes from these two.
        "official.nlp.modeling.layers": {
            "TransformerEncoderBlock": "transformer_encoder_block",
            "TransformerScaffold": "transformer_scaffold",
        },
    }
)
