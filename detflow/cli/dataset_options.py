"""The options of the commands that read a dataset, and what they mean to the front door."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from detflow.cli.options import PATH, FieldOption, given
from detflow.text import first_line

_AUDIT = "detflow.data.judging.audit:AuditOptions"
RECORDS = "detflow.data.making:RecordOptions"

_DATASET_OPTIONS = (
    click.option(
        "--dialect",
        type=click.Choice(["voc", "coco", "yolo", "csv", "cvat", "tfrecord"]),
        help="How the annotations are written.  [default: found by looking]",
    ),
    click.option(
        "--classes",
        metavar="A,B,…|@FILE",
        help="Class names in the order of their ids; no other may occur. One with a comma stands "
        "in quotes; a file has one a line.  [default: all, sorted]",
    ),
    click.option(
        "--rename",
        multiple=True,
        metavar="OLD=NEW",
        help="Rename a class, all at once; those that get one name become one. May be repeated.",
    ),
    click.option(
        "--decisions",
        type=PATH,
        metavar="FILE",
        multiple=True,
        help="Table of questions with a person's answers, as check --questions writes it. May be "
        "repeated.",
    ),
    click.option(
        "--split-by",
        cls=FieldOption,
        field=f"{_AUDIT}.split_by",
        show=lambda rule: rule.value,
        type=click.Choice(["auto", "lists", "folders", "seed"]),
        help="Where the splits come from; auto takes lists, else folders, else the seed.",
    ),
    click.option(
        "--seed",
        cls=FieldOption,
        field=f"{_AUDIT}.seed",
        type=click.IntRange(0),
        help="Seed of the random split and of the records' order.",
    ),
    click.option(
        "--val-from",
        metavar="SPLIT=SHARE",
        help="Take a validation split from another one, as train=0.1, where there is none.",
    ),
    click.option(
        "--allow-leaks",
        is_flag=True,
        default=None,
        help="Allow the same image in two splits.",
    ),
    click.option(
        "--strict",
        is_flag=True,
        default=None,
        help="Mend nothing: any repair or quarantine fails the run.",
    ),
    click.option(
        "--max-bad",
        metavar="N|P%",
        help="How many annotations may be unusable.  [default: half of them]",
    ),
    click.option(
        "--max-pixels",
        cls=FieldOption,
        field=f"{_AUDIT}.max_pixels",
        type=click.IntRange(1),
        help="Images with more pixels are refused.",
    ),
    click.option(
        "--max-side",
        metavar="PIXELS",
        type=click.IntRange(16),
        help="Make images with a longer side smaller; check proposes a value.",
    ),
    click.option(
        "--corners",
        type=click.Choice(["voc", "zero-based", "labelimg"]),
        help="What corners count: pixels from 1, edges from 0, or those with 1 written for 0.  "
        "[default: by the set]",
    ),
    click.option(
        "--exif",
        type=click.Choice(["follow", "ignore"]),
        help="Whether boxes lie on pictures as EXIF turns them.  [default: by the set]",
    ),
    click.option(
        "--scale-boxes",
        is_flag=True,
        default=None,
        help="Scale boxes drawn on another rendition or in other units, where the scale is known.",
    ),
    click.option(
        "--max-unpacked",
        cls=FieldOption,
        field=f"{RECORDS}.max_unpacked",
        type=click.IntRange(1),
        help="An archive whose files have more bytes together is refused.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(1),
        help="Number of processes; the result never depends on it.  [default: by size]",
    ),
)


def dataset_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds what make-records and check have in common; `read_choices` reads it."""
    return _add_options(command, f"{_AUDIT}.fractions")


def _add_options(command: Callable[..., None], fractions: str) -> Callable[..., None]:
    """Adds the options of a dataset.

    Args:
        command: What gets them.
        fractions: Where the default of `--split` stands, as `FieldOption` takes it.
    """
    split = click.option(
        "--split",
        cls=FieldOption,
        field=fractions,
        show=lambda shares: ",".join(f"{name}={share:g}" for name, share in shares.items()),
        help="Fractions of a random split.",
    )
    for option in reversed((*_DATASET_OPTIONS, split)):
        command = option(command)
    return command


def conversion_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of a dataset that is not divided unless that is asked for."""
    return _add_options(command, "detflow.data.conversion:ALL_IN_ONE_SPLIT")


def read_choices(choices: dict[str, Any]) -> dict[str, Any]:
    """Returns the options as the front door's functions take them."""
    found = given(choices)
    if not found.get("decisions"):
        found.pop("decisions", None)
    if "classes" in found:
        found["classes"] = _read_names(found["classes"])
    if "rename" in found:
        found["rename"] = [_read_rename(text) for text in found["rename"]]
    return found


def _read_names(text: str) -> list[str]:
    """Returns the names in a line of comma-separated values, or in the lines of an @file."""
    if text.startswith("@"):
        try:
            lines = Path(text[1:]).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(
                f"--classes {text}: the file cannot be read: {first_line(error)}"
            ) from None
        return [line for line in lines if line.strip()]
    try:
        return next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise click.UsageError(f"--classes {text!r}: {error}") from None


def _read_rename(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not equals or "=" in new:
        raise click.UsageError(f"--rename {text!r} is not OLD=NEW with one =")
    return old, new
