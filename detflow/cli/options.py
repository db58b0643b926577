"""What several commands have in common: places, options, and defaults that stand elsewhere."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from typing_extensions import override

from detflow.cli.output import print_text
from detflow.progress import is_quiet

if TYPE_CHECKING:
    from detflow.storage.location import Location


class LocationType(click.ParamType[Any]):
    """A path, or the URL of an object store. Click checks whether a path exists, where it has to.

    Args:
        path_type: What paths have to be.
    """

    name = "path"

    def __init__(self, path_type: click.Path) -> None:
        self._path_type = path_type

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        from detflow.storage.location import Url, is_url

        return (
            Url.parse(value)
            if is_url(value)
            else Path(os.fsdecode(self._path_type.convert(value, param, ctx)))
        )


class LocalType(click.Path):
    """A path; a URL is refused, which would be a folder named `s3:`."""

    @override
    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        from detflow.storage.location import require_local

        require_local(os.fspath(value))
        return super().convert(value, param, ctx)


class FiniteRange(click.FloatRange):
    """A number in a range. Click lets nan through, which no comparison puts outside of a range."""

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number", param, ctx)
        return number


PATH = LocalType(path_type=Path)
EXISTING = LocalType(exists=True, path_type=Path)
FOLDER = LocalType(exists=True, file_okay=False, path_type=Path)
LOCATION = LocationType(PATH)
EXISTING_LOCATION = LocationType(EXISTING)
SHARE = FiniteRange(0, 1)


def show_value(value: Any) -> str:
    """Returns the text of a default, with commas in a number that nobody reads without."""
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


class FieldOption(click.Option):
    """An option that fills a field; its default is the field's own and is read only to be shown.

    Where the option is not given, its value is None; `given` leaves it out.

    Args:
        field: Whose default it is: `module:Dataclass.field`, `module:function.parameter`, or
            `module:CONSTANT`.
        unit: How many of the field's units one of the option's is, such as 1 << 20 for MiB.
        show: From the default to the text that help shows.
    """

    def __init__(
        self,
        *args: Any,
        field: str,
        unit: float = 1,
        show: Callable[[Any], str] = show_value,
        **settings: Any,
    ) -> None:
        super().__init__(*args, default=None, **settings)
        self._field = field
        self._unit = unit
        self._show = show

    @override
    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        found = super().type_cast_value(ctx, value)
        return found if found is None or self._unit == 1 else found * self._unit

    @override
    def get_help_extra(self, ctx: click.Context) -> click.types.OptionHelpExtra:
        extra = super().get_help_extra(ctx)
        value = read_default(self._field)
        if isinstance(self._unit, int) and self._unit > 1:
            value //= self._unit
        elif self._unit != 1:
            value /= self._unit
        if text := self._show(value):
            extra["default"] = text
        return extra


def read_default(field: str) -> Any:
    """Returns the default of a dataclass's field or of a parameter, or a constant.

    Args:
        field: As in `FieldOption`.
    """
    module, _, path = field.partition(":")
    name, _, attribute = path.partition(".")
    home = getattr(importlib.import_module(module), name)
    if not attribute:
        return home
    if not dataclasses.is_dataclass(home):
        return inspect.signature(home).parameters[attribute].default
    found = next(one for one in dataclasses.fields(home) if one.name == attribute)
    if found.default_factory is not dataclasses.MISSING:
        return found.default_factory()
    return found.default


def given(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that the user gave."""
    return {name: value for name, value in choices.items() if value is not None}


def set_option(command: Callable[..., None]) -> Callable[..., None]:
    """Adds `--set`."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a setting, as in train.steps=600. May be repeated.",
    )(command)


def runner_options(help_text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Returns what adds `--runner` and `--ray-address`.

    Args:
        help_text: What the runner does.
    """

    def add(command: Callable[..., None]) -> Callable[..., None]:
        address = click.option(
            "--ray-address",
            metavar="HOST:PORT",
            help="Head of the Ray cluster.  [default: RAY_ADDRESS, or one that is started here]",
        )
        runner = click.option(
            "--runner",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help=help_text,
        )
        return runner(address(command))

    return add


def require_ray(runner: str, ray_address: str | None) -> None:
    """Refuses an address of a cluster that would not be used."""
    if ray_address is not None and runner != "ray":
        raise click.UsageError("--ray-address goes with --runner ray")


def announce(line: str) -> None:
    """Prints a line on stderr, unless results and errors alone are asked for."""
    if not is_quiet():
        print_text(line, err=True)
