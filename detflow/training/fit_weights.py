"""Which weights a fitted configuration starts from, and the model that they go with.

This file imports no TensorFlow.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from detflow.config.schema import ModelConfig, TrainConfig
from detflow.errors import ArtifactError, ConfigError, EnvironmentFault
from detflow.models.weights.library import is_here
from detflow.models.weights.published import PUBLISHED
from detflow.models.weights.sources import InitialWeights, find_initial_weights
from detflow.process.libraries import is_installed
from detflow.storage.download import DownloadLimits, fetch_files, is_fetched
from detflow.training.fit_text import Choice

_log = logging.getLogger(__name__)

SCRATCH = "scratch"
"""What `--from` takes for no weights."""
_CLASSIFIER, _DETECTOR = "efficientnet-lite0-imagenet", "mobilenet-v2-openimages"
_FETCHED = f"fetched ({PUBLISHED[_DETECTOR].num_bytes or 0:,} bytes), or in the cache before"
_OFFLINE_VARIABLE = "DETFLOW_OFFLINE"
_SCRATCH_PRESET = "retinanet_resnet10"
_UNKNOWN = "nobody knows its data and its licence: state it as train.init_licence"
# Backbones whose finest levels and depthwise kernels the recipe freezes.
_MOBILE = ("efficientnet_lite0", "mobilenet_v2")
# In 5 minutes the detector's backbone is ahead with 1 class and with 3, and behind with 12. Where
# between them it falls behind was not tried.
_MANY_CLASSES = 8
# These settings of a model are fitted to the images and not to the weights.
_CANVASES = ("input_size", "more_input_sizes")
_ANCHORS = ("anchor_scale", "aspect_ratios", "anchors_per_octave")
# A machine without a network should learn so at once.
_LIMITS = DownloadLimits(max_attempts=1, timeout_seconds=5.0)


@dataclass(frozen=True)
class Beginning:
    """What a training begins with.

    Attributes:
        source: As in `train.init_from`; None from scratch.
        model: Settings under `model` that decide what the weights fit.
        why: The reason for the weights.
        is_mobile: Whether the backbone is one whose levels are frozen by the recipe.
        is_automatic: Whether the user left the choice to init.
    """

    source: str | None
    model: Mapping[str, Any] = field(default_factory=lambda: {"preset": _SCRATCH_PRESET})
    why: str = ""
    is_mobile: bool = False
    is_automatic: bool = False


def choose_beginning(start_from: str | None, *, offline: bool, num_classes: int) -> Beginning:
    """Chooses the weights to start from.

    Args:
        start_from: `scratch`, or what `train.init_from` takes; None leaves the choice to this
            function.
        offline: Whether nothing may be fetched; the variable DETFLOW_OFFLINE forbids it as well.
        num_classes: Classes of the records. Where they are many, a classifier's backbone tells
            them apart sooner than that of a detector (docs/benchmarks.md, "Accuracy from weights").

    Raises:
        ConfigError: `start_from` is nothing that a training can start from.
        ArtifactError: What it names is damaged.
        EnvironmentFault: It cannot be fetched, must not be, or is not installed.
    """
    offline = offline or os.environ.get(_OFFLINE_VARIABLE, "") not in ("", "0")
    if start_from == SCRATCH:
        return Beginning(None, why="--from scratch")
    if start_from is not None:
        if offline and not _needs_no_network(start_from):
            raise EnvironmentFault(
                f"--from {start_from} is not on this machine, and no network is to be used",
                remedy="leave --offline and DETFLOW_OFFLINE out, or name a file or folder that "
                "`detflow weights fetch` brought",
            )
        return _describe(find_initial_weights(TrainConfig(init_from=start_from)), start_from)
    has_many_classes = num_classes >= _MANY_CLASSES
    if has_many_classes:
        why = f"a classifier's backbone tells {num_classes} classes apart sooner than a detector's"
    elif offline:
        why = "no network was to be used"
    elif _fetch(_DETECTOR):
        better = "a detector's backbone finds objects of few classes sooner than a classifier's"
        return _published(_DETECTOR, f"{better}; {_FETCHED}", is_automatic=True)
    else:
        why = "a detector's weights could not be fetched"
    try:
        find_initial_weights(TrainConfig(init_from=_CLASSIFIER))
    except EnvironmentFault as fault:
        lacks = f"{why}, and {fault.cause}"
        # A detector's backbone is better than none for many classes, too.
        if is_here(_DETECTOR) or (has_many_classes and not offline and _fetch(_DETECTOR)):
            return _published(_DETECTOR, f"{_FETCHED}; {lacks}", is_automatic=True)
        return Beginning(None, why=f"{lacks}: from scratch")
    return _published(_CLASSIFIER, f"it came with the installation; {why}", is_automatic=True)


def choose_weights(beginning: Beginning) -> list[Choice]:
    """Returns the settings of the model that the weights fit, and the weights."""
    why = "its backbone is what the weights fit" if beginning.source else "the fastest to train"
    model = [Choice(f"model.{name}", value, why) for name, value in beginning.model.items()]
    return [*model, Choice("train.init_from", beginning.source, beginning.why or "from scratch")]


def _needs_no_network(source: str) -> bool:
    """Tells whether what `train.init_from` takes is a path, or was fetched before."""
    if source in PUBLISHED:
        # What a package brings is never fetched: where it is missing, that is said elsewhere.
        return PUBLISHED[source].package is not None or is_here(source)
    return urlsplit(source).scheme not in ("http", "https") or is_fetched([source])


def _fetch(name: str) -> bool:
    entry = PUBLISHED[name]
    try:
        fetch_files(entry.urls, entry.sha256, _LIMITS)
    except (ArtifactError, ConfigError, EnvironmentFault) as fault:
        # Nobody named this address: one that refuses, or a gate's own page, is as good as none.
        _log.warning("%s could not be fetched: %s", name, fault.cause)
        return False
    return True


def _published(
    name: str, why: str, source: str | None = None, *, is_automatic: bool = False
) -> Beginning:
    entry = PUBLISHED[name]
    return Beginning(
        source or name,
        {"preset": entry.preset},
        f"{entry.data}, licence {entry.licence}: {why}",
        is_mobile=entry.kind in ("lite0", "tflite"),
        is_automatic=is_automatic,
    )


def _describe(weights: InitialWeights | None, source: str) -> Beginning:
    """Returns what goes with weights that the user named."""
    if weights is None:
        raise ConfigError("--from names nothing", remedy="name weights, a file, or scratch")
    if weights.model is not None:
        what = "an export" if weights.kind == "export" else "a run"
        return Beginning(
            source,
            _settings_of(weights.model),
            f"--from, {what} of detflow: its classes are taken by name",
            is_mobile=weights.model.backbone in _MOBILE,
        )
    name = source if source in PUBLISHED else weights.terms.get("name")
    if name is None and weights.kind in ("lite0", "tflite"):
        # The end of a name says nothing; what is inside must be that network.
        weights.read_convolutions()
        alike = next(entry for entry in PUBLISHED.values() if entry.kind == weights.kind)
        return Beginning(
            source,
            {"preset": alike.preset},
            f"--from, a file of the network of {alike.preset}; {_UNKNOWN}",
            is_mobile=True,
        )
    if name is not None and PUBLISHED[name].preset:
        return _published(name, "--from", source)
    if weights.kind == "checkpoint" and name is None and is_installed("tensorflow"):
        # Building networks needs TensorFlow, which takes seconds to import.
        from detflow.models.weights.fitting import find_fitting_preset

        if preset := find_fitting_preset(weights):
            model = ModelConfig.model_validate({"preset": preset})
            return Beginning(
                source,
                {"preset": preset},
                f"--from, a checkpoint of TensorFlow that fits this preset best; {_UNKNOWN}",
                is_mobile=model.backbone in _MOBILE,
            )
    raise ConfigError(
        f"--from {source}: nobody knows which model these weights fit",
        remedy="set train.init_from and the section model yourself",
    )


def _settings_of(model: ModelConfig) -> dict[str, Any]:
    """Returns what a section `model` has to say so that the weights of a model fit.

    Canvases are fitted to the images. So are anchors where a cell has one; several are what the
    head has as many outputs for.
    """
    values = model.model_dump(mode="json")
    defaults = ModelConfig.model_validate({"preset": model.preset}).model_dump(mode="json")
    has_several = len(model.aspect_ratios) * model.anchors_per_octave > 1
    fitted = _CANVASES if has_several else (*_CANVASES, *_ANCHORS)
    kept = {
        name: value
        for name, value in values.items()
        if name not in fitted and (value != defaults[name] or (has_several and name in _ANCHORS))
    }
    return {"preset": model.preset, **kept}
