"""A RetinaNet on a network of four convolutions, for tests of what surrounds a network.

Losses, anchors, decoding, averages and checkpoints are the real ones. Only the network is small:
building, differentiating and compiling Model Garden's takes many times as long as all the rest. The
module stands in for `detflow.models.garden.retinanet`, and so it has that one's function.
"""

import tensorflow as tf
import tf_keras


class Head(tf_keras.layers.Layer):
    """Class logits [B, anchors of a level, C] and box deltas [B, anchors of a level, 4]."""

    def __init__(self, num_classes, num_anchors):
        super().__init__(name="head")
        self._num_classes = num_classes
        self._classifier = tf_keras.layers.Conv2D(
            num_classes * num_anchors,
            1,
            # As Model Garden's: nothing is detected at first. On a flat picture neighbours would
            # overlap by as much as suppression allows, and the last bit would decide.
            bias_initializer=tf_keras.initializers.Constant(-4.6),
            name="scores",
        )
        self._box_regressor = tf_keras.layers.Conv2D(4 * num_anchors, 1, name="boxes")

    def call(self, features):
        logits, deltas = self._classifier(features), self._box_regressor(features)
        return _as_rows(logits, self._num_classes), _as_rows(deltas, 4)


def _as_rows(tensor, depth):
    height, width, channels = tensor.shape[1:]
    if height is None:
        return tf.reshape(tensor, [tf.shape(tensor)[0], -1, depth])
    return tf.reshape(tensor, [-1, height * width * channels // depth, depth])


def build_retinanet_network(config, num_classes):
    """Convolves once for the finest level, and pools the features for the coarser ones."""
    size = (None, None) if config.more_input_sizes else config.input_size
    images = tf_keras.Input((*size, 3), name="images")
    # The mean of a few pixels, so that a grey level more or less changes little.
    convolve = tf_keras.layers.Conv2D(8, 2, 2, use_bias=False, name="convolve")
    pool = tf_keras.layers.AveragePooling2D(2 ** (config.min_level - 1), name="pool")
    # As Model Garden's are: of the whole batch, however many devices share it.
    is_shared = tf.distribute.get_strategy().num_replicas_in_sync > 1
    norm = tf_keras.layers.BatchNormalization(synchronized=is_shared, name="norm")
    found = tf_keras.layers.ReLU(name="found")(norm(pool(convolve(images))))
    backbone = tf_keras.Model(images, found, name="backbone")
    # It reaches the border from nearly everywhere, so that no two places of a flat picture tie.
    decoder = tf_keras.layers.Conv2D(8, 13, padding="same", name="decoder")
    head = Head(num_classes, config.anchors_per_octave * len(config.aspect_ratios))
    found = backbone(images)
    surroundings = tf_keras.layers.Rescaling(0.5, name="surroundings")(decoder(found))
    features = tf_keras.layers.Add(name="features")([found, surroundings])
    levels = [head(features)]
    for level in range(config.min_level, config.max_level):
        coarser = tf_keras.layers.AveragePooling2D(2, padding="same", name=f"level{level + 1}")
        features = coarser(features)
        levels.append(head(features))
    outputs = tuple(
        tf_keras.layers.Concatenate(1, name=name)(parts)
        for name, parts in zip(("logits", "deltas"), zip(*levels, strict=True), strict=True)
    )
    network = tf_keras.Model(images, outputs, name="retinanet")
    return network, {"backbone": backbone, "decoder": decoder, "head": head}
