"""Reads, writes and explains the experiment's configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from detflow.config.schema import ExperimentConfig
from detflow.config.section import OneOf
from detflow.errors import ConfigError
from detflow.text import find_nearest, first_line

_MAX_CONFIG_BYTES = 1 << 20
_MAX_DEPTH = 20
# The settings that are places.
_PATHS = (("data", "records"), ("train", "init_from"))
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")

# What a word without quotes is, apart from text, with the characters that it can begin with. These
# are the spellings on which YAML 1.1 and 1.2 agree, and 1e-3, which is a number to everybody: by
# 1.1, which PyYAML follows, yes is true, 010 is 8, 1:30 is 90 and 2026-11-29 a date.
_WORDS = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


def read_config(
    path: Path, overrides: Sequence[str] = (), flags: Mapping[str, str] = MappingProxyType({})
) -> ExperimentConfig:
    """Reads a YAML file, in which relative paths start at the file's folder.

    Args:
        path: The file.
        overrides: `a.b=value` each, the value being YAML; applied after the file. Relative paths in
            them start at the working directory.
        flags: Which flag an override comes from, by the setting's name; --set for all others.

    Raises:
        ConfigError: The file cannot be read, or anything in it is not as the schema says.
    """
    try:
        with open(path, "rb") as file:
            # A device or a pipe has no size that could be asked for.
            content = file.read(_MAX_CONFIG_BYTES + 1)
        if len(content) > _MAX_CONFIG_BYTES:
            raise ConfigError(f"a configuration has at most {_MAX_CONFIG_BYTES:,} bytes", path=path)
        text = content.decode()
    except FileNotFoundError:
        raise ConfigError("no such file", path=path) from None
    except OSError as error:
        raise ConfigError(f"cannot read the configuration: {error.strerror}", path=path) from error
    except UnicodeDecodeError as error:
        raise ConfigError("the configuration is not UTF-8 text", path=path) from error
    return parse_config(text, overrides, path=path, flags=flags)


def parse_config(
    text: str,
    overrides: Sequence[str] = (),
    path: Path | None = None,
    flags: Mapping[str, str] = MappingProxyType({}),
) -> ExperimentConfig:
    """Like `read_config`, from text; relative paths start at `path`'s folder, if it is given."""
    values, lines = _load_yaml(text, path)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError("a configuration is a mapping of sections", path=path, place=1)
    if path is not None:
        _anchor_paths(values, Path(path).parent)
    blamed: dict[tuple[str, ...], str] = {}
    for override in overrides:
        name = override.partition("=")[0]
        flag = flags.get(name)
        shown = f"--set {override}" if flag is None else f"{flag} {_plain_text(override)}"
        _apply_override(values, override, shown)
        blamed[tuple(name.split("."))] = shown
    try:
        return ExperimentConfig.model_validate(values)
    except ValidationError as error:
        raise _first_problem(error, lines, path, blamed) from None


def format_config(config: ExperimentConfig) -> str:
    """Returns the configuration with every value as YAML, which `parse_config` reads back."""
    return yaml.dump(
        config.model_dump(mode="json"), Dumper=_FlowLists, sort_keys=False, allow_unicode=True
    )


def flatten_config(config: ExperimentConfig) -> dict[str, Any]:
    """Returns every setting's value, as JSON has it, by its dotted name such as `train.steps`."""
    return {
        f"{section}.{name}": value
        for section, values in config.model_dump(mode="json").items()
        for name, value in values.items()
    }


def explain_config() -> Iterator[tuple[str, str, str]]:
    """Yields (name, default, description) of every setting, in the order of the schema."""
    for section_name in ExperimentConfig.model_fields:
        for name, field in _section_type((section_name,)).model_fields.items():
            default = (
                "required"
                if field.is_required()
                else yaml.safe_dump(
                    _plain(field.get_default(call_default_factory=True)), default_flow_style=True
                )
            )
            values = _known_values(field)
            meaning = (
                f"{field.description} One of {', '.join(values)}."
                if values
                else (field.description or "")
            )
            yield (
                f"{section_name}.{name}",
                default.removesuffix("\n").removesuffix("\n..."),
                " ".join(meaning.split()),
            )


def _known_values(field: FieldInfo) -> list[str]:
    """Returns the names that a setting takes; none where it takes other values."""
    tables = [list(entry.table) for entry in field.metadata if isinstance(entry, OneOf)]
    is_literal = get_origin(field.annotation) is Literal
    return tables[0] if tables else list(get_args(field.annotation)) if is_literal else []


class _PlainLoader(yaml.SafeLoader):
    """Reads a word without quotes as text unless it is plainly something else."""


_PlainLoader.yaml_implicit_resolvers = {}


class _FlowLists(yaml.SafeDumper):
    """Writes lists on one line: they are pairs and short. Quotes what any YAML takes for a word."""


for _tag, _pattern, _first in _WORDS:
    for _class in (_PlainLoader, _FlowLists):
        _class.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)

_FlowLists.add_representer(
    list,
    lambda dumper, value: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", value, flow_style=True
    ),
)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _load_yaml(text: str, path: Path | None) -> tuple[Any, dict[tuple[str, ...], int]]:
    """Returns the document and the line number of each key, by its path of keys."""
    try:
        _require_plain(text, path)
        node = yaml.compose(text, Loader=_PlainLoader)
        lines: dict[tuple[str, ...], int] = {}
        if node is not None:
            _collect_lines(node, (), lines, path)
        return yaml.load(text, Loader=_PlainLoader), lines  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ConfigError(
            f"not valid YAML: {error.problem}",
            path=path,
            place=None if mark is None else mark.line + 1,
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"not valid YAML: {first_line(error)}", path=path) from None


def _require_plain(text: str, path: Path | None) -> None:
    """Refuses what a configuration needs none of.

    Aliases can make a small file describe a huge document, tags make other types than settings
    have, and depth costs time and stack.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_PlainLoader):
        line = None if event.start_mark is None else event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError("YAML aliases are not supported", path=path, place=line)
        if (tag := getattr(event, "tag", None)) is not None:
            cause = f"not valid YAML for a configuration: the tag {tag!r} is not supported"
            raise ConfigError(cause, path=path, place=line, remedy="leave it out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            cause = f"not valid YAML for a configuration: nested more than {_MAX_DEPTH} deep"
            raise ConfigError(cause, path=path, place=line)


def _collect_lines(
    node: yaml.Node, prefix: tuple[str, ...], lines: dict[tuple[str, ...], int], path: Path | None
) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = (*prefix, str(key.value))
        if name in lines:
            raise ConfigError(
                f"{'.'.join(name)} is set twice", path=path, place=key.start_mark.line + 1
            )
        lines[name] = key.start_mark.line + 1
        _collect_lines(value, name, lines, path)


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Makes paths of a file that start at its folder start at the working directory."""
    for section, key in _PATHS:
        settings = values.get(section)
        if not isinstance(settings, dict):
            continue
        place = settings.get(key)
        if isinstance(place, str) and _is_relative_path(place, folder, key):
            settings[key] = os.path.normpath(os.path.join(folder, place))


def _is_relative_path(place: str, folder: Path, key: str) -> bool:
    if not place or os.path.isabs(place) or _ADDRESS.match(place):
        return False
    # Initial weights may be a published name.
    is_name = key == "init_from" and "/" not in place and not place.startswith(".")
    return not is_name or os.path.lexists(folder / place)


def _plain_text(override: str) -> str:
    """Returns the value of an override as it was given to a flag."""
    return override.partition("=")[2].strip('"')


def _apply_override(values: dict[str, Any], override: str, shown: str) -> None:
    name, equals, text = override.partition("=")
    keys = name.split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {override}: expected section.name=value")
    try:
        value, _ = _load_yaml(text, None)
    except ConfigError as error:
        raise ConfigError(f"{shown}: {error.cause}", remedy=error.remedy) from None
    section = values
    for key in keys[:-1]:
        inner = section.setdefault(key, {})
        if inner is None:
            inner = section[key] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"{shown}: {key} is a value, not a section")
        section = inner
    section[keys[-1]] = value


def _first_problem(
    error: ValidationError,
    lines: dict[tuple[str, ...], int],
    path: Path | None,
    blamed: Mapping[tuple[str, ...], str],
) -> ConfigError:
    """Returns the error for the first of a validation's problems.

    A misspelt name comes before the value that is missing because of it.
    """
    problem = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    keys = tuple(str(part) for part in problem["loc"])
    line = next((lines[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in lines), None)
    name = ".".join(keys)
    flag = next((blamed[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in blamed), None)
    if flag is None:
        # What does not go together in a section: a setting that is named, and was given here.
        inside = (given for given in blamed if given[: len(keys)] == keys)
        flag = next((blamed[given] for given in inside if given[-1] in problem["msg"]), None)
    if flag is not None:
        # The file is not to blame, and its line says something else.
        path, line = None, None
    if problem["type"] == "extra_forbidden":
        known = list(_section_type(keys[:-1]).model_fields)
        nearest = find_nearest(keys[-1], known, cutoff=0.5)
        remedy = f"did you mean {nearest}?" if nearest else f"known here: {', '.join(known)}"
        cause = f"unknown setting {name}"
        return ConfigError(_blame(flag, cause), path=path, place=line, remedy=remedy)
    if problem["type"] == "missing":
        return ConfigError(
            f"{name} is missing", path=path, place=line, remedy=f"add it, or pass --set {name}=…"
        )
    message = problem["msg"].removeprefix("Value error, ")
    value = "" if isinstance(problem["input"], dict) else f", got {problem['input']!r}"
    cause = f"{name}: {message[:1].lower()}{message[1:]}{value}"
    return ConfigError(_blame(flag, cause), path=path, place=line)


def _blame(flag: str | None, cause: str) -> str:
    return cause if flag is None else f"{flag}: {cause}"


def _section_type(keys: Sequence[str]) -> type[BaseModel]:
    """Returns the schema of a section by its path of names."""
    section: type[BaseModel] = ExperimentConfig
    for key in keys:
        inner = section.model_fields[key].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            raise TypeError(f"{key} is not a section")
        section = inner
    return section
