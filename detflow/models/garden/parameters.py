"""Turns the configuration into Model Garden's own parameters.

detflow's settings come first; what `model.garden` says wins over them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from detflow.config.schema import ModelConfig
from detflow.errors import ConfigError
from detflow.text import find_nearest, first_line

_Parameters = TypeVar("_Parameters")

# Parameters that are not free, and what to do instead.
_NOT_FREE = {
    "attribute_heads": "VOC has no attributes to learn",
    "auto_balance": "it keeps a state that a resumed run does not have",
    "cascade_class_ensemble": "cascades are not built",
    "cascade_iou_thresholds": "cascades are not built",
    "class_agnostic_bbox_pred": "each class has its own box",
    "depth_multiplier": "set model.width_multiplier",
    "filter_size_scale": "set model.width_multiplier",
    "max_level": "set model.max_level",
    "min_level": "set model.min_level",
    "num_anchors": "set model.aspect_ratios and model.anchors_per_octave",
    "output_intermediate_endpoints": "one feature map a level is used",
    "output_stride": "the levels need their strides",
    "share_classification_heads": "VOC has no attributes to learn",
    "stochastic_depth_drop_rate": (
        "it draws random numbers from a state that a resumed run does not have"
    ),
    "use_ota": "the loss without it is built",
    "use_sync_bn": "it is on where a batch is split over devices",
}


class GardenParameters:
    """The settings of `model.garden`, checked name by name and type by type.

    Nothing in them is run or loaded.

    Args:
        config: The model's section of the configuration.
        parts: The parts that the architecture has.

    Raises:
        ConfigError: `model.garden` names another part.
    """

    def __init__(self, config: ModelConfig, parts: tuple[str, ...]) -> None:
        self._given = config.garden
        for part in config.garden:
            if part not in parts:
                raise ConfigError(
                    f"unknown setting model.garden.{part}", remedy=_nearest(part, parts)
                )

    def fill(self, kind: type[_Parameters], part: str, **settings: Any) -> _Parameters:
        """Makes one of Model Garden's parameter classes.

        Args:
            kind: A dataclass of Model Garden.
            part: Its name under `model.garden`.
            **settings: What detflow's own settings come to; the rest keeps Model Garden's defaults.

        Raises:
            ConfigError: A parameter does not exist, is not free, or has another type.
        """
        names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        types = typing.get_type_hints(kind)
        given = self._given.get(part, {})
        for name, value in given.items():
            setting = f"model.garden.{part}.{name}"
            if name not in names:
                raise ConfigError(
                    f"unknown setting {setting}",
                    remedy=_nearest(name, [n for n in names if n not in _NOT_FREE]),
                )
            if name in _NOT_FREE:
                raise ConfigError(f"{setting} cannot be set", remedy=_NOT_FREE[name])
            try:
                TypeAdapter(types[name]).validate_python(value, strict=True)
            except ValidationError as error:
                message = error.errors()[0]["msg"]
                raise ConfigError(
                    f"{setting}: {message[:1].lower()}{message[1:]}, got {value!r}"
                ) from None
        return kind(**{**settings, **given})

    @contextlib.contextmanager
    def refusals(self) -> Iterator[None]:
        """Turns Model Garden's errors in the block into ConfigError where a user set parameters."""
        try:
            yield
        except (
            ValueError,
            TypeError,
            KeyError,
            AssertionError,
            IndexError,
            AttributeError,
        ) as error:
            if not self._given:
                raise
            reason = first_line(error)
            raise ConfigError(f"model.garden: Model Garden cannot build this: {reason}") from error


def _nearest(name: str, known: Sequence[str]) -> str:
    nearest = find_nearest(name, known)
    return f"did you mean {nearest}?" if nearest else f"known here: {', '.join(known)}"
