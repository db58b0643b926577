"""A wrong command line, told in the one style of all errors."""

from __future__ import annotations

import re

import click

_MISSING_PATH = re.compile(r"(?:File|Directory|Path) ['\"](.*)['\"] does not exist\.", re.DOTALL)
_WRONG_PATH = re.compile(
    r"(?:File|Directory|Path) ['\"](.*)['\"] is (a directory|a file)\.", re.DOTALL
)
# An argument that may be left out is [WORD], one that may come several times WORD...
_WORD = re.compile(r"\[?([^][\s]+?)(?:\.\.\.)?\]?")
# Whole words first: the shorter ones are parts of them.
_KINDS = {
    "integer range": "whole number",
    "integer": "whole number",
    "float range": "number",
    "float": "number",
}


def describe_usage_error(error: click.ClickException) -> str:
    """Returns what is wrong with a command line, and where to look: one line without an end.

    click says it over several lines, in words of its own.
    """
    text = _describe(error)
    is_lost = isinstance(error, click.NoSuchOption | click.MissingParameter) or (
        "there is no command" in text
    )
    if is_lost and isinstance(error, click.UsageError) and error.ctx and "; " not in text:
        text += f"; {error.ctx.command_path} --help lists what there is"
    return text


def _describe(error: click.ClickException) -> str:
    if isinstance(error, click.NoSuchOption):
        return f"there is no option {error.option_name}{_suggest(error.possibilities)}"
    if isinstance(error, click.BadOptionUsage):
        return f"{error.option_name} needs a value"
    if isinstance(error, click.MissingParameter):
        return f"{_name_parameter(error)} is missing"
    if isinstance(error, click.BadParameter):
        # Where an argument takes several values, the message names the wrong one itself.
        is_one = error.param is None or error.param.nargs == 1
        name, message = _name_parameter(error) if is_one else "", error.message
        before = f"{name} " if name else ""
        if found := _MISSING_PATH.fullmatch(message):
            return f"{before}{found[1]}: no such file or folder"
        if found := _WRONG_PATH.fullmatch(message):
            kinds = {"a directory": "a folder, not a file", "a file": "a file, not a folder"}
            return f"{before}{found[1]}: it is {kinds[found[2]]}"
        return f"{name}: {_soften(message)}" if name else _soften(message)
    if found := re.match(r"No such command '(.*?)'\.", error.message):
        possibilities = getattr(error, "possibilities", None)
        return f"there is no command {found[1]}{_suggest(possibilities)}"
    return _soften(error.message)


def _name_parameter(error: click.BadParameter) -> str:
    if error.param is None:
        return ""
    return error.param.opts[0] if error.param.opts[0].startswith("-") else _metavar(error)


def _metavar(error: click.BadParameter) -> str:
    parameter = error.param
    if not isinstance(parameter, click.Argument):
        return ""
    shown = parameter.metavar or str(parameter.name).upper()
    # What has several parts is shown as the help shows it: a bracket of it belongs to one part.
    word = _WORD.fullmatch(shown)
    return word[1] if word else shown


def _suggest(possibilities: object) -> str:
    names = [str(name) for name in possibilities] if isinstance(possibilities, list | tuple) else []
    return f"; did you mean {' or '.join(names)}?" if names else ""


def _soften(message: str) -> str:
    """Makes a sentence of click's what stands behind a colon."""
    plain = message.removesuffix(".")
    for theirs, ours in _KINDS.items():
        plain = plain.replace(f"is not a valid {theirs}", f"is not a {ours}")
    return plain[:1].lower() + plain[1:] if plain[1:2].islower() else plain
