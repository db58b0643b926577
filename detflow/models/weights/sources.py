"""Where initial weights come from: a published name, an address, or a path.

This file imports no TensorFlow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from detflow.config.schema import TrainConfig
from detflow.digests import FileDigest, digest_file
from detflow.errors import ArtifactError, ConfigError, environment_faults
from detflow.runs.run_dir import RunDir
from detflow.runs.states import find_checkpoint, is_checkpoint, read_state
from detflow.storage.download import Fetched, fetch_files, is_archive, require_digest, unpack_file
from detflow.text import find_nearest

_GARDEN = "https://storage.googleapis.com/tf_model_garden/vision"
_RESNET50 = "https://storage.googleapis.com/cloud-tpu-checkpoints/vision-2.0/resnet50_imagenet"


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that Model Garden's authors publish.

    Attributes:
        urls: The archive, or the files of a checkpoint.
        fits: The model that they were trained as; a model takes what it has in common with it.
    """

    urls: tuple[str, ...]
    fits: str


# Addresses as Model Garden's pages and model files give them. All are TF2 object checkpoints with
# Model Garden's names.
PUBLISHED = {
    "resnet50-imagenet": PublishedWeights(
        tuple(
            f"{_RESNET50}/{name}" for name in ("ckpt-28080.index", "ckpt-28080.data-00000-of-00001")
        ),
        "backbone resnet50 of width 1; ImageNet",
    ),
    "retinanet-resnet50fpn-coco": PublishedWeights(
        (f"{_GARDEN}/retinanet/retinanet-resnet50fpn.tar.gz",),
        "RetinaNet, resnet50, FPN of 256 filters; COCO AP 36.8",
    ),
    "retinanet-spinenet49mobile-coco": PublishedWeights(
        (f"{_GARDEN}/retinanet/spinenet49mobile.tar.gz",),
        "RetinaNet, SpineNet-49-mobile; COCO AP 28.1",
    ),
    "retinanet-mobilenetv2-256-coco": PublishedWeights(
        (f"{_GARDEN}/qat/mobilenetv2_ssd_coco/mobilenetv2_ssd_i256_ckpt.tar.gz",),
        "RetinaNet, mobilenet_v2, separable FPN and head of 128 filters, 256 px; COCO",
    ),
    "retinanet-mobilenetv2-320-coco": PublishedWeights(
        (f"{_GARDEN}/qat/mobilenetv2_ssd_coco/mobilenetv2_ssd_i320_ckpt.tar.gz",),
        "RetinaNet, mobilenet_v2, separable FPN and head up to level 6, 320 px; COCO",
    ),
    "retinanet-mobilenetv3.5-256-coco": PublishedWeights(
        (f"{_GARDEN}/qat/mobilenetv3.5_ssd_coco/mobilenetv3.5_ssd_i256_ckpt.tar.gz",),
        "RetinaNet, MobileNetV3.5, 256 px; COCO",
    ),
    "retinanet-mobilenetv3.5-384-coco": PublishedWeights(
        (f"{_GARDEN}/qat/mobilenetv2_ssd_coco/mobilenetv3.5_ssd_i384_ckpt.tar.gz",),
        "RetinaNet, MobileNetV3.5, 384 px; COCO",
    ),
}

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class InitialWeights:
    """Weights on this machine, not yet read.

    Attributes:
        source: The name, address or path in the configuration.
        path: A checkpoint folder of a detflow run, or the prefix of another TensorFlow checkpoint.
        is_run: Whether a detflow run wrote the checkpoint.
        digests: Digests of the files that decide the weights, by name.
        classes: The classes of its outputs in their order; None where nobody knows them.
    """

    source: str
    path: Path
    is_run: bool
    digests: Mapping[str, FileDigest]
    classes: tuple[str, ...] | None = None


def find_initial_weights(config: TrainConfig) -> InitialWeights | None:
    """Finds what `train.init_from` means, and downloads it where the cache does not have it.

    Returns:
        None where training starts from scratch.

    Raises:
        ConfigError: There is no such name, address or path, or it is not what `train.init_sha256`
            says.
        ArtifactError: What is there is damaged, or holds no checkpoint.
        EnvironmentFault: Network or disk fail.
    """
    source, sha256 = config.init_from, config.init_sha256
    if source is None:
        return None
    if source in PUBLISHED:
        return _from_fetched(source, fetch_files(PUBLISHED[source].urls, sha256))
    scheme = urlsplit(source).scheme
    if scheme in ("http", "https"):
        return _from_fetched(source, fetch_files([source], sha256))
    path = Path(unquote(urlsplit(source).path)) if scheme == "file" else Path(source)
    with environment_faults(path):
        return _from_path(source, path, sha256)


def _from_path(source: str, path: Path, sha256: str | None) -> InitialWeights:
    if is_archive(path) and path.is_file():
        return _from_fetched(source, unpack_file(path, sha256))
    if RunDir(path).exists() or is_checkpoint(path):
        run, checkpoint = find_checkpoint(path)
        state = read_state(checkpoint)
        classes = state.record.label_map
        run.require_classes(classes)
        require_digest(state.files, sha256)
        return InitialWeights(
            source, checkpoint, is_run=True, digests=state.files, classes=classes.names
        )
    if path.is_dir():
        prefix = _find_prefix(path)
    elif _index(path).is_file():
        prefix = path
    elif path.suffix == ".index" and path.is_file():
        prefix = path.with_suffix("")
    else:
        near = find_nearest(source, PUBLISHED)
        remedy = f"did you mean {near}?" if near else f"published weights: {', '.join(PUBLISHED)}"
        raise ConfigError(
            f"train.init_from {source} is not a name, an address, a run or a checkpoint",
            remedy=remedy,
        )
    files = [
        _index(prefix),
        *sorted(prefix.parent.glob(f"{_escape(prefix.name)}.data-?????-of-?????")),
    ]
    digests = {file.name: digest_file(file) for file in files}
    require_digest(digests, sha256)
    return InitialWeights(source, prefix, is_run=False, digests=digests)


def _from_fetched(source: str, fetched: Fetched) -> InitialWeights:
    return InitialWeights(source, _find_prefix(fetched.path), is_run=False, digests=fetched.digests)


def _find_prefix(folder: Path) -> Path:
    """Returns the prefix of the checkpoint of the highest number below a folder."""
    prefixes = [path.with_suffix("") for path in folder.rglob("*.index") if path.is_file()]
    if not prefixes:
        raise ArtifactError(
            "there is no TensorFlow checkpoint inside: no file ends in .index", path=folder
        )
    return max(
        prefixes,
        key=lambda path: ([int(number) for number in _NUMBER.findall(path.name)], path.as_posix()),
    )


def _index(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.index")


def _escape(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
