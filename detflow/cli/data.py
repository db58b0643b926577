"""The commands for data: check, make-records, init, config."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detflow.cli.options import (
    EXISTING,
    EXISTING_LOCATION,
    FOLDER,
    LOCATION,
    PATH,
    FieldOption,
    announce,
    given,
    require_ray,
    runner_options,
    set_option,
)
from detflow.cli.output import print_data, print_text
from detflow.text import first_line

if TYPE_CHECKING:
    from detflow.data.check import CheckResult
    from detflow.storage.location import Location

_AUDIT = "detflow.data.judging.audit:AuditOptions"
_RECORDS = "detflow.data.making:RecordOptions"

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
        show="{:,}".format,
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
        field=f"{_RECORDS}.max_unpacked",
        show="{:,}".format,
        type=click.IntRange(1),
        help="An archive whose files have more bytes together is refused.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(1),
        help="Number of processes; the result never depends on it.  [default: by size]",
    ),
)


def _dataset_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds what make-records and check have in common; `_read_choices` reads it."""
    return _add_dataset_options(command, f"{_AUDIT}.fractions")


def _add_dataset_options(command: Callable[..., None], fractions: str) -> Callable[..., None]:
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


def _conversion_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of a dataset that is not divided unless that is asked for."""
    return _add_dataset_options(command, "detflow.data.conversion:ALL_IN_ONE_SPLIT")


def _read_choices(choices: dict[str, Any]) -> dict[str, Any]:
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


@click.command(short_help="Judge a dataset or TFRecord files and change nothing.")
@click.argument("path", type=EXISTING_LOCATION)
@_dataset_options
@click.option(
    "--report",
    type=PATH,
    metavar="FILE",
    help="Write a page with pictures of what was found in a dataset.",
)
@click.option(
    "--questions",
    type=PATH,
    metavar="FILE",
    help="Write a table of what the evidence leaves open in a dataset, for a person to answer.",
)
@click.option(
    "--format",
    "document",
    type=click.Choice(["text", "json", "sarif", "junit"]),
    default="text",
    show_default=True,
    help="How to print what was found: for people; as JSON with every finding; as SARIF 2.1.0, "
    "which code hosts show beside the lines of a pull request; as JUnit's XML.",
)
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
def check(
    path: Location,
    report: Path | None,
    questions: Path | None,
    document: str,
    as_json: bool,
    **choices: Any,
) -> None:
    """Judge PATH and change nothing: a dataset folder, a zip or tar file of one, or TFRecord files.

    A dataset is judged as make-records would judge it. TFRecord files (one, or a folder of them)
    are judged record by record: checksums, fields, boxes, classes, images, names, and which readers
    could use them. The options are for datasets. A folder may hold both, or several sets; then all
    are judged.

    Exits with 0 if the data can be used, whatever had to be mended or set aside (--strict and
    --max-bad set the bar higher); with 3 if a dataset cannot be used, 4 if TFRecord files cannot;
    with 2 if an option is wrong, 5 if the machine refuses.
    """
    from detflow.api.data import build_options
    from detflow.data.check import open_check
    from detflow.progress import show_progress

    if as_json and document not in ("text", "json"):
        raise click.UsageError(f"--json goes with --format json, not with {document}")
    options = build_options(**_read_choices(choices))
    with ExitStack() as stack:
        with show_progress() as progress:
            found = stack.enter_context(open_check(path, options, report, questions, progress))
        _print_check(found, "json" if as_json else document)
    if found.refusal is not None:
        raise found.refusal


def _print_check(found: CheckResult, document: str) -> None:
    if document == "text":
        print_text(found.text)
        return
    from detflow.data.documents import RENDERERS

    for piece in RENDERERS[document](found.parts):
        print_data(piece, end="")


@click.command("make-records", short_help="Convert a dataset to TFRecord shards.")
@click.argument("dataset", type=EXISTING_LOCATION)
@click.option(
    "--output",
    required=True,
    type=LOCATION,
    help="Records directory, a path or URL; it is replaced as a whole.",
)
@_dataset_options
@runner_options(
    "Where the work is done: processes of this machine, or a Ray cluster (docs/cluster.md). "
    "The result is the same."
)
@click.option(
    "--report/--no-report",
    cls=FieldOption,
    field=f"{_RECORDS}.report",
    show=lambda report: "report" if report else "no-report",
    help="Write report.html, a page with pictures of what was found.",
)
@click.option(
    "--keep-splits",
    metavar="DIR",
    type=FOLDER,
    help="Earlier records of this dataset; the images that they hold stay in their splits.",
)
@click.option(
    "--write-fixed", metavar="DIR", type=PATH, help="Also write the mended dataset as VOC."
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest on stdout.")
def make_records(
    dataset: Location,
    output: Location,
    runner: str,
    ray_address: str | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Check DATASET and convert it to TFRecord shards.

    DATASET is a folder, a URL, or a zip or tar file of images and annotations: VOC's XML, COCO's
    JSON, YOLO's text, CSV, CVAT's XML, or TFRecord files of another tool.
    Originals are never touched. OUTPUT's ledger.jsonl lists every repair and every file that was
    set aside.
    """
    from detflow.api.common import open_runner

    require_ray(runner, ray_address)
    # The other processes start, and import what they need, while this one does.
    with open_runner(runner, ray_address, dataset, output, choices["jobs"]) as workers:
        from detflow.api.data import build_options
        from detflow.data.making import publish_records
        from detflow.data.terminal import format_summary
        from detflow.progress import show_progress

        options = build_options(**_read_choices(choices))
        with show_progress() as progress:
            manifest = publish_records(dataset, output, options, progress, announce, workers)
    if as_json:
        print_data(json.dumps(manifest, indent=2))
    else:
        print_text(f"{format_summary(manifest)}\nrecords       {output}")


def _print_result(content: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_data(json.dumps(content, indent=2))
    else:
        print_text(text)


@click.command(short_help="Write a dataset, records or predictions for another tool.")
@click.argument("source", type=EXISTING_LOCATION)
@click.option(
    "--to",
    required=True,
    type=click.Choice(["voc", "coco", "yolo", "csv"]),
    help="The dialect to write.",
)
@click.option(
    "--output", required=True, type=PATH, metavar="DIR", help="A new or empty folder to write."
)
@_conversion_options
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON on stdout.")
def convert(source: Location, to: str, output: Path, as_json: bool, **choices: Any) -> None:
    """Write SOURCE in the dialect of another tool: a dataset, records, or predictions.

    A dataset is judged and mended as make-records does it; the options are for datasets. Images are
    passed on byte for byte, but for those that decoders read differently or that EXIF turns.
    Splits, classes and flags go with them; what the dialect has no place for is counted.
    """
    from detflow.api.data import build_options, run_conversion
    from detflow.data.conversion import ALL_IN_ONE_SPLIT

    options = build_options(**{"split": ALL_IN_ONE_SPLIT, **_read_choices(choices)})
    done = run_conversion(source, output, to, options, shows_progress=True)
    _print_result(done.content, done.text, as_json)


@click.command(short_help="Compare two datasets or record sets.")
@click.argument("sets", type=EXISTING_LOCATION, nargs=-1, required=True, metavar="[OLD] NEW")
@click.option(
    "--model",
    type=FOLDER,
    metavar="DIR",
    help="A model directory instead of OLD: the records that it was trained on.",
)
@_conversion_options
@click.option(
    "--page", type=PATH, metavar="FILE", help="Write a page with pictures of what changed."
)
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON on stdout.")
def diff(
    sets: tuple[Location, ...],
    model: Path | None,
    page: Path | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Compare OLD with NEW: datasets or records, in any combination.

    Images added, removed, renamed, in another split or with other pixels; objects added, removed,
    relabelled, moved by more than a pixel or with other flags. The exit code is 0 where the two are
    equal, 1 where they differ, and as always where something is wrong. The options are for
    datasets.
    """
    from detflow.api.data import build_options
    from detflow.api.difference import run_diff
    from detflow.data.conversion import ALL_IN_ONE_SPLIT

    if len(sets) != (2 if model is None else 1):
        raise click.UsageError("name OLD and NEW, or --model and NEW")
    options = build_options(**{"split": ALL_IN_ONE_SPLIT, **_read_choices(choices)})
    old = sets[0] if model is None else None
    found = run_diff(old, sets[-1], model, options, page, shows_progress=True)
    _print_result(found.content, found.text, as_json)
    if not found.is_equal:
        raise click.exceptions.Exit(1)


@click.command(short_help="Write a configuration that is fitted to the data.")
@click.argument("source", type=EXISTING, metavar="DATASET_OR_RECORDS")
@click.option(
    "--output",
    type=PATH,
    help="Configuration file to write; it must not exist.  [default: stdout]",
)
@click.option(
    "--val-from",
    metavar="SPLIT=SHARE",
    help="As in make-records, for a dataset folder.",
)
def init(source: Path, output: Path | None, val_from: str | None) -> None:
    """Write a configuration that is fitted to the data, with the reason for each value.

    Input size, anchors, split names and length follow from the images and boxes. A dataset folder
    is judged as make-records does it by default; the configuration then expects its records in
    records/NAME.
    """
    from detflow.api.data import build_options
    from detflow.publish import publish_file
    from detflow.training.fit import fit_source

    text = fit_source(source, build_options(val_from=val_from, report=False))
    if output is None:
        print_data(text, end="")
    elif output.exists():
        raise click.UsageError(f"{output} exists; name another file")
    else:
        publish_file(output, text)


@click.command(short_help="Print a configuration with every default filled in.")
@click.argument("config_path", type=PATH, required=False, metavar="[FILE]")
@set_option
@click.option(
    "--explain", is_flag=True, help="List every setting with its default and its meaning."
)
def config(config_path: Path | None, overrides: tuple[str, ...], explain: bool) -> None:
    """Check a configuration file and print it with every default filled in."""
    from detflow.config.reading import explain_config, format_config, read_config

    if explain:
        from detflow.tables import print_settings

        print_settings(explain_config())
    elif config_path is None:
        raise click.UsageError("name a configuration file, or pass --explain")
    else:
        print_data(format_config(read_config(config_path, overrides)), end="")
