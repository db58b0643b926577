"""What all commands have in common: how much they say, and the groups in which help lists them."""

from __future__ import annotations

import importlib.abc
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import click
from typing_extensions import override

from detflow.cli.closed_pipe import hide_broken_pipe
from detflow.cli.options import FiniteRange
from detflow.cli.output import print_text
from detflow.progress import choose_talk, show_status, tell_status

WORKFLOW = {
    "Prepare": ("check", "make-records", "convert", "diff"),
    "Train": ("init", "config", "weights", "train", "runs"),
    "Judge": ("evaluate", "compare", "benchmark"),
    "Ship": ("export", "push", "predict", "serve"),
}
"""The commands in the order in which a person needs them."""

_OTHERS = "More"
# What takes seconds to import, and what a person calls it.
_SLOW_IMPORTS = {"tensorflow": "TensorFlow", "official": "Model Garden", "openvino": "OpenVINO"}


# Click calls them INTEGER RANGE and FLOAT RANGE; the range itself stands behind the text.
_NUMBERS = {click.IntRange: "N", FiniteRange: "X"}


class Workflow(click.Group):
    """A group of commands that help lists by what they are for; `run_group` runs it.

    A command that is added gets the options that are the same for all.
    """

    @override
    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with hide_broken_pipe():
            return super().make_context(*arguments, **options)

    @override
    def invoke(self, ctx: click.Context) -> Any:
        with hide_broken_pipe():
            return super().invoke(ctx)

    @override
    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        for option in _TALK_OPTIONS:
            option(cmd)
        for parameter in cmd.params:
            if isinstance(parameter, click.Option) and parameter.metavar is None:
                parameter.metavar = _NUMBERS.get(type(parameter.type))
        super().add_command(cmd, name)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        listed = {name for names in WORKFLOW.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in listed)
        width = max(map(len, self.commands))
        limit = formatter.width - 6 - width
        for title, names in {**WORKFLOW, _OTHERS: others}.items():
            rows = [
                (name.ljust(width), self.commands[name].get_short_help_str(limit))
                for name in names
                if name in self.commands
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _choose(context: click.Context, parameter: click.Parameter, is_given: bool) -> bool:
    if is_given and parameter.name in ("quiet", "verbose"):
        choose_talk("quiet" if parameter.name == "quiet" else "verbose")
        if parameter.name == "verbose":
            logging.getLogger("detflow").setLevel(logging.INFO)
    return is_given


def _talk_option(*names: str, help_text: str) -> Callable[[Any], Any]:
    return click.option(
        *names, is_flag=True, expose_value=False, is_eager=True, callback=_choose, help=help_text
    )


_TALK_OPTIONS = (
    _talk_option("--quiet", "-q", help_text="Show results and errors alone."),
    _talk_option("--verbose", "-v", help_text="Tell what is done, with the time."),
    _talk_option("--debug", help_text="Show the Python traceback of an error."),
)


def talk_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that say how much is shown; they may stand before or behind a command."""
    for option in reversed(_TALK_OPTIONS):
        command = option(command)
    return command


def is_debug(arguments: Sequence[str]) -> bool:
    """Tells whether a command line asks for tracebacks."""
    return "--debug" in arguments


class _TellSlowImports(importlib.abc.MetaPathFinder):
    """Says when a library is imported that takes seconds."""

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in _SLOW_IMPORTS:
            tell_status(f"loading {_SLOW_IMPORTS[fullname]}")
        return None


class _Warnings(logging.Handler):
    """Shows what detflow logs as it shows errors, on a line of its own."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        print_text(f"detflow: {record.levelname.lower()}: {record.getMessage()}", err=True)


@contextmanager
def talking() -> Iterator[None]:
    """Says during the block what a command does, from its first moment on."""
    finder, last_resort = _TellSlowImports(), logging.lastResort
    level = logging.getLogger("detflow").level
    sys.meta_path.insert(0, finder)
    logging.lastResort = _Warnings(logging.INFO)
    try:
        with show_status():
            tell_status("starting")
            yield
    finally:
        sys.meta_path.remove(finder)
        logging.lastResort = last_resort
        logging.getLogger("detflow").setLevel(level)
