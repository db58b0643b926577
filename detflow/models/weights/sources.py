"""Where initial weights come from: a published name, an address, or a path.

This file imports no TensorFlow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from detflow.artifact import SAVED_MODEL_NAME, ArtifactDir
from detflow.config.schema import ModelConfig, TrainConfig
from detflow.digests import FileDigest, digest_file
from detflow.errors import ArtifactError, ConfigError, environment_faults
from detflow.models.weights.convolutions import NormedConvolution
from detflow.models.weights.library import (
    find_in_package,
    is_fetched_folder,
    read_fetched_folder,
)
from detflow.models.weights.published import (
    PUBLISHED,
    Kind,
    describe_terms,
    find_by_digest,
    find_origin,
    state_licence,
)
from detflow.runs.learnt import list_lessons
from detflow.runs.record import RunRecord
from detflow.runs.run_dir import RunDir
from detflow.runs.states import find_checkpoint, is_checkpoint, read_state
from detflow.storage.download import Fetched, fetch_files, is_archive, require_digest, unpack_file
from detflow.text import find_nearest

_NUMBER = re.compile(r"\d+")


# Files of other programs that are read, by the ends of their names, and the one activation that
# their networks were trained with.
_SUFFIXES: Mapping[str, Kind] = {".pth": "lite0", ".tflite": "tflite"}
_BACKBONES: Mapping[Kind, str] = {"lite0": "efficientnet_lite0", "tflite": "mobilenet_v2"}
_ACTIVATION = "relu6"


@dataclass(frozen=True)
class InitialWeights:
    """Weights on this machine, not yet read.

    Attributes:
        source: The name, address or path in the configuration.
        path: A checkpoint folder of a detflow run, the prefix of another TensorFlow checkpoint, or
            a file.
        kind: What is there.
        digests: Digests of the files that decide the weights, by name.
        classes: The classes of its outputs in their order; None where nobody knows them.
        terms: What they were made from: `name` of published weights, their `data`, their `licence`;
            of a run the fingerprint of its `records`, pairs of records and split that it has
            `learnt`, and what it had `begun_with`, which is None of a run from scratch. Empty where
            nobody knows; further back it may be the `stated_licence` alone.
        model: The model of the run that they are of; None where nobody knows it.
    """

    source: str
    path: Path
    kind: Kind
    digests: Mapping[str, FileDigest]
    classes: tuple[str, ...] | None = None
    terms: Mapping[str, Any] = field(default_factory=dict)
    model: ModelConfig | None = None

    @property
    def backbone(self) -> str | None:
        """The one value of `model.backbone` that they fit; None where shapes decide."""
        return _BACKBONES.get(self.kind)

    def read_convolutions(self) -> list[NormedConvolution]:
        """Reads a file of another program: the convolutions of its backbone, in their order.

        Raises:
            ArtifactError: It is damaged, or of another network.
        """
        # The format of TFLite takes a third of a second to import.
        from detflow.models.weights.lite0 import read_lite0
        from detflow.models.weights.tflite_file import read_mobilenet_v2

        readers = {"lite0": read_lite0, "tflite": read_mobilenet_v2}
        return readers[self.kind](self.path)


def find_initial_weights(config: TrainConfig) -> InitialWeights | None:
    """Finds what `train.init_from` means, and downloads it where the cache does not have it.

    Returns:
        None where training starts from scratch.

    Raises:
        ConfigError: There is no such name, address or path, or it is not what `train.init_sha256`
            says, or `train.init_licence` states a licence where one is known.
        ArtifactError: What is there is damaged, or holds no weights.
        EnvironmentFault: Network or disk fail, or the package that brings the weights is not there.
    """
    licence = config.init_licence
    if config.init_from is None:
        if licence is not None:
            raise ConfigError(
                f"train.init_licence is {licence}, and there is no train.init_from",
                remedy="name the weights, or leave train.init_licence out",
            )
        return None
    weights = _find(config.init_from, config.init_sha256)
    if licence is not None and find_origin(weights.terms) != {}:
        raise ConfigError(
            f"train.init_licence is {licence}, and what {weights.source} was made from "
            f"is known: {describe_terms(weights.terms)}",
            remedy="leave train.init_licence out",
        )
    return weights


def _find(source: str, sha256: str | None) -> InitialWeights:
    if entry := PUBLISHED.get(source):
        if entry.package:
            return _from_file(source, find_in_package(source), sha256)
        fetched = fetch_files(entry.urls, entry.sha256 or sha256)
        require_digest(fetched.digests, sha256)
        return _from_fetched(source, fetched, name=source)
    scheme = urlsplit(source).scheme
    if scheme in ("http", "https"):
        return _from_fetched(source, fetch_files([source], sha256))
    path = Path(unquote(urlsplit(source).path)) if scheme == "file" else Path(source)
    with environment_faults(path):
        return _from_path(source, path, sha256)


def require_fitting(weights: InitialWeights, config: ModelConfig) -> None:
    """Refuses weights of one backbone for a model that has another, or computes otherwise.

    Raises:
        ConfigError: They do not fit; where shapes decide, `restore` says so later.
    """
    if (backbone := weights.backbone) is None:
        return
    preset = next(entry.preset for entry in PUBLISHED.values() if entry.kind == weights.kind)
    activation = config.garden.get("norm_activation", {}).get("activation")
    if config.backbone != backbone or config.width_multiplier != 1.0:
        cause = (
            f"fits backbone {backbone} of width 1, and the model has {config.backbone} of width "
            f"{config.width_multiplier:g}"
        )
    elif activation != _ACTIVATION:
        cause = f"was trained with the activation {_ACTIVATION}, and the model has another one"
    else:
        return
    raise ConfigError(
        f"train.init_from {weights.source} {cause}",
        remedy=f"set model.preset to {preset}, or choose other weights",
    )


def _from_export(source: str, artifact: ArtifactDir, sha256: str | None) -> InitialWeights:
    """Returns the weights of an export, which are those of its checkpoint's average."""
    card = artifact.read_card()
    folder = artifact.path / SAVED_MODEL_NAME
    if not artifact.lists(card, SAVED_MODEL_NAME):
        raise ConfigError(
            f"train.init_from {source} is an export without the format {SAVED_MODEL_NAME}, the one "
            "whose weights can be trained on",
            remedy="name the model directory that it was exported from",
        )
    artifact.verify_part(folder)
    artifact.require_entries(card, "training")
    record = RunRecord.from_json(card["training"], artifact.manifest_path)
    digests = {
        name: digest
        for name, digest in artifact.list_files(card).items()
        if name.startswith(f"{SAVED_MODEL_NAME}/variables/")
    }
    require_digest(digests, sha256)
    return InitialWeights(
        source,
        artifact.path,
        "export",
        digests,
        record.label_map.names,
        _inherited(record),
        record.config.model,
    )


def _inherited(record: RunRecord) -> dict[str, Any]:
    """Returns what the weights of a run were made from."""
    begun_with = None
    if record.initial_weights:
        terms, licence = record.initial_weights["terms"], record.config.train.init_licence
        begun_with = state_licence(terms, licence)
    learnt = [list(lesson) for lesson in list_lessons(record)]
    return {"records": record.data_fingerprint, "learnt": learnt, "begun_with": begun_with}


def _from_file(source: str, path: Path, sha256: str | None) -> InitialWeights:
    digest = digest_file(path)
    require_digest({path.name: digest}, sha256)
    return InitialWeights(
        source,
        path,
        _SUFFIXES[path.suffix],
        {path.name: digest},
        terms=_terms(find_by_digest(digest["sha256"])),
    )


def _terms(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    return {"name": name, "data": PUBLISHED[name].data, "licence": PUBLISHED[name].licence}


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
            source,
            checkpoint,
            "run",
            state.files,
            classes.names,
            _inherited(state.record),
            state.record.config.model,
        )
    if is_fetched_folder(path):
        folder = read_fetched_folder(path)
        require_digest(folder.digests, sha256)
        return _from_fetched(source, Fetched(path, folder.digests), folder.name)
    if (artifact := ArtifactDir(path)).exists():
        return _from_export(source, artifact, sha256)
    if path.suffix in _SUFFIXES and path.is_file():
        return _from_file(source, path, sha256)
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
            f"train.init_from {source} is not a name, an address, a run, a checkpoint, a .pth or a "
            ".tflite",
            remedy=remedy,
        )
    files = [
        _index(prefix),
        *sorted(prefix.parent.glob(f"{_escape(prefix.name)}.data-?????-of-?????")),
    ]
    digests = {file.name: digest_file(file) for file in files}
    require_digest(digests, sha256)
    return InitialWeights(source, prefix, "checkpoint", digests)


def _from_fetched(source: str, fetched: Fetched, name: str | None = None) -> InitialWeights:
    """Returns what an address gave: a file of another program, or else a checkpoint."""
    files = [path for path in fetched.path.iterdir() if path.suffix in _SUFFIXES]
    kind: Kind = _SUFFIXES[files[0].suffix] if files else "checkpoint"
    path = files[0] if files else _find_prefix(fetched.path)
    found = [find_by_digest(digest["sha256"]) for digest in fetched.digests.values()]
    name = name or next(filter(None, found), None)
    return InitialWeights(source, path, kind, fetched.digests, terms=_terms(name))


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
