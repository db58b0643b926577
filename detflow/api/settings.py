"""The configuration as the front door takes it, and the settings that replace some of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from detflow.api.common import Place, to_location
from detflow.errors import ConfigError
from detflow.storage.kinds import describe_mistake
from detflow.storage.location import Location, is_url

if TYPE_CHECKING:
    from detflow.config.schema import ExperimentConfig

Config: TypeAlias = "ExperimentConfig | Mapping[str, Any] | str | os.PathLike[str]"
"""A configuration: the object, its sections as dicts, or the path of a YAML file."""

_FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "data.records": "--records",
        "train.time_budget": "--time-budget",
        "data.overfit": "--overfit",
    }
)
"""The options that stand for a setting."""


def read_settings(
    config: Config,
    *,
    records: Place | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    time_budget: str | float | None = None,
    overfit: int | None = None,
) -> ExperimentConfig:
    """Reads a configuration and the settings that replace some of its own; arguments as in `train`.

    Raises:
        ConfigError: Anything is not as the schema says.
    """
    from detflow.config.reading import format_config, parse_config, read_config
    from detflow.config.schema import ExperimentConfig

    if isinstance(config, str | os.PathLike):
        settings = list_overrides(records, overrides, time_budget, overfit)
        return read_config(_require_file(Path(config)), settings, _FLAGS)
    text = (
        format_config(config)
        if isinstance(config, ExperimentConfig)
        else json.dumps(config, default=str)
    )
    return parse_config(text, list_overrides(records, overrides, time_budget, overfit))


def list_overrides(
    records: Place | None,
    overrides: Mapping[str, Any] | Sequence[str],
    time_budget: str | float | None,
    overfit: int | None,
) -> tuple[str, ...]:
    """Returns `key=value` of each setting that replaces one of the configuration's."""
    named = {
        "data.records": None if records is None else str(to_location(records)),
        "train.time_budget": time_budget,
        "data.overfit": overfit,
    }
    listed = [f"{key}={json.dumps(value)}" for key, value in named.items() if value is not None]
    if isinstance(overrides, Mapping):
        listed += [f"{key}={json.dumps(value, default=str)}" for key, value in overrides.items()]
    else:
        listed += overrides
    return tuple(listed)


def choose_model_dir(config: Config, model_dir: Place | None) -> Location:
    """Returns the model directory: the one that was named, or runs/ and the configuration's name.

    Raises:
        ConfigError: None was named, and the configuration is no file.
    """
    if model_dir is not None:
        return to_location(model_dir)
    if isinstance(config, str | os.PathLike) and not is_url(os.fspath(config)):
        return Path("runs") / Path(config).stem
    raise ConfigError(
        "there is no model directory", remedy="pass model_dir, or the path of a configuration file"
    )


def _require_file(path: Path) -> Path:
    """Returns the path of a configuration; says what a folder is, and what to do.

    Raises:
        ConfigError: It is a folder.
    """
    if path.is_dir():
        cause, remedy = describe_mistake(path, "configuration")
        raise ConfigError(cause, path=path, remedy=remedy)
    return path
