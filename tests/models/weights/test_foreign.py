"""The real weights of other programs, against what computes with them independently."""

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy_lite0 import classify
from PIL import Image

from detflow.config.schema import ModelConfig, TrainConfig
from detflow.geometry import MEAN_RGB
from detflow.models.build import build_model
from detflow.models.preprocess import normalize
from detflow.models.weights.foreign import Photos
from detflow.models.weights.restore import restore_initial_weights
from detflow.models.weights.sources import find_initial_weights
from detflow.models.weights.torch_file import read_state_dict

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.whole_network]

# Classes of ImageNet that photos out of a car in town show.
TRAFFIC_LIGHT, STREET_SIGN, CAB = 920, 919, 468


@pytest.fixture(scope="module")
def photos(shared_data):
    """Photos out of a car, [224, 224, 3]."""
    paths = sorted((shared_data / "plates16").rglob("*.jp*g"))[:8:2]
    if not paths:
        pytest.skip("no photos of plates16")
    cropped = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        left, top = ((length - side) // 2 for length in image.size)
        box = (left, top, left + side, top + side)
        cropped.append(np.asarray(image.crop(box).resize((224, 224), Image.Resampling.BICUBIC)))
    return cropped


def build(preset, size):
    settings = {"preset": preset, "input_size": size, "max_level": 5, "num_filters": 8}
    return build_model(ModelConfig.model_validate(settings), 2)


def test_lite0_classifies_as_numpy_does_with_the_package_s_arrays(photos):
    weights = find_initial_weights(TrainConfig(init_from="efficientnet-lite0-imagenet"))
    model = build("retinanet_lite0", [224, 224])
    report = restore_initial_weights(weights, model, ("a", "b"))
    assert (report.parts["backbone"].restored, report.parts["backbone"].missing) == (245, [])
    assert report.parts["decoder"].restored == report.parts["head"].restored == 0
    features = model.parts["backbone"](normalize(np.stack(photos)), training=False)["6"]
    state = read_state_dict(weights.path)
    logits = features.numpy().mean((1, 2)) @ state["_fc.weight"].T + state["_fc.bias"]
    for photo, ours in zip(photos, logits, strict=True):
        # Around an image detflow pads with the mean colour, where the network saw grey.
        np.testing.assert_allclose(ours, classify(state, photo, MEAN_RGB), atol=2e-3)
        own = classify(state, photo)
        assert np.abs(ours - own).max() < 0.5
        assert np.corrcoef(ours, own)[0, 1] > 0.998
        assert {TRAFFIC_LIGHT, STREET_SIGN, CAB} & set(np.argsort(-own)[:5].tolist())
    lines = list(report.lines())
    assert lines[1].startswith(f"they were made from {weights.source}: data ImageNet")


def test_the_open_images_detector_gives_what_its_file_gives(photos, open_images_file):
    pixels = np.asarray(Image.fromarray(photos[0]).resize((300, 300)))
    weights = find_initial_weights(TrainConfig(init_from=str(open_images_file)))
    assert weights.terms["name"] == "mobilenet-v2-openimages"
    model = build("retinanet_mobilenet_v2_light", [320, 320])
    backbone = model.parts["backbone"]
    canvases = [np.pad(photo, ((0, 96), (0, 96), (0, 0))).astype(np.float32) for photo in photos]
    seen = Photos(("one.jpg", "two.jpg"), canvases[:2])
    report = restore_initial_weights(weights, model, ("a", "b"), lambda: seen)
    assert (report.parts["backbone"].restored, report.parts["backbone"].missing) == (260, [])
    assert report.record()["statistics_of"] == ["one.jpg", "two.jpg"]
    assert "batch norms have the statistics of 2 images" in list(report.lines())[2]

    # The backbone's own call takes images of any size.
    ours = tf.function(backbone.call, autograph=False)(normalize(pixels)[tf.newaxis])
    theirs = run_tflite(open_images_file, pixels)
    for level, name in {
        "2": "expanded_conv_2/add",
        "3": "expanded_conv_5/add",
        "4": "expanded_conv_12/add",
        "5": "expanded_conv_16/project/Conv2D1",
    }.items():
        mine, other = ours[level].numpy()[0], theirs[name]
        # The lower border is padded with another colour; the upper left corner does not see it.
        half = len(other) // 2
        np.testing.assert_allclose(mine[:half, :half], other[:half, :half], atol=0.05)
        assert np.corrcoef(mine.ravel(), other.ravel())[0, 1] > 0.999
    # Normalised by the statistics of the batch that they are of, the network is the same.
    batch = normalize(np.stack(canvases[:2]))
    exact = backbone(batch, training=False)
    for level, features in backbone(batch, training=True).items():
        difference = np.abs(features - exact[level]).mean()
        assert difference < 0.005 * np.abs(exact[level]).mean()


def run_tflite(path, pixels):
    """Returns the outputs of the file's operators for an image, by the end of their names."""
    # Delegates would join operators, and what is between them could not be seen.
    interpreter = Interpreter(
        str(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    image = (pixels[np.newaxis].astype(np.float32) - 127.5) / 127.5
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    prefix = "FeatureExtractor/MobilenetV2/"
    return {
        detail["name"].rpartition(prefix)[2]: interpreter.get_tensor(detail["index"])[0]
        for detail in interpreter.get_tensor_details()
        if detail["name"].count(prefix) and len(detail["shape"]) == 4 and detail["shape"][1] > 3
    }
