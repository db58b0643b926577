"""The commands for data: check, make-records, init, config."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detflow.cli.dataset_options import RECORDS, conversion_options, dataset_options, read_choices
from detflow.cli.options import (
    EXISTING,
    EXISTING_LOCATION,
    FOLDER,
    LOCATION,
    PATH,
    FieldOption,
    announce,
    require_ray,
    runner_options,
    set_option,
)
from detflow.cli.output import print_data, print_text

if TYPE_CHECKING:
    from detflow.data.check import CheckResult
    from detflow.storage.location import Location


@click.command(short_help="Judge a dataset or TFRecord files and change nothing.")
@click.argument("path", type=EXISTING_LOCATION)
@dataset_options
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
    from detflow.api.choices import build_options
    from detflow.data.check import open_check
    from detflow.progress import show_progress

    if as_json and document not in ("text", "json"):
        raise click.UsageError(f"--json goes with --format json, not with {document}")
    options = build_options(**read_choices(choices))
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
@dataset_options
@runner_options(
    "Where the work is done: processes of this machine, or a Ray cluster. The result is the same."
)
@click.option(
    "--report/--no-report",
    cls=FieldOption,
    field=f"{RECORDS}.report",
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
        from detflow.api.choices import build_options
        from detflow.data.making import publish_records
        from detflow.data.terminal import format_summary
        from detflow.progress import show_progress

        options = build_options(**read_choices(choices))
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
@conversion_options
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON on stdout.")
def convert(source: Location, to: str, output: Path, as_json: bool, **choices: Any) -> None:
    """Write SOURCE in the dialect of another tool: a dataset, records, or predictions.

    A dataset is judged and mended as make-records does it; the options are for datasets. Images are
    passed on byte for byte, but for those that decoders read differently or that EXIF turns.
    Splits, classes and flags go with them; what the dialect has no place for is counted.
    """
    from detflow.api.choices import build_options
    from detflow.api.data import run_conversion
    from detflow.data.conversion import ALL_IN_ONE_SPLIT

    options = build_options(**{"split": ALL_IN_ONE_SPLIT, **read_choices(choices)})
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
@conversion_options
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
    from detflow.api.choices import build_options
    from detflow.api.difference import run_diff
    from detflow.data.conversion import ALL_IN_ONE_SPLIT

    if len(sets) != (2 if model is None else 1):
        raise click.UsageError("name OLD and NEW, or --model and NEW")
    options = build_options(**{"split": ALL_IN_ONE_SPLIT, **read_choices(choices)})
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
@click.option(
    "--time-budget",
    metavar="5m",
    help="How long the training may take, from the start of its command to its end.",
)
@click.option(
    "--from",
    "start_from",
    metavar="WEIGHTS",
    help="Start from these: scratch, a name of `detflow weights`, or a file or run.  [default: the "
    "best that can be had]",
)
@click.option("--offline", is_flag=True, help="Fetch no weights; DETFLOW_OFFLINE=1 does the same.")
@click.option(
    "--probe/--no-probe",
    default=True,
    help="Measure this machine's speed for some seconds, or write what follows from the data alone."
    "  [default: probe]",
)
def init(
    source: Path,
    output: Path | None,
    val_from: str | None,
    time_budget: str | None,
    start_from: str | None,
    offline: bool,
    probe: bool,
) -> None:
    """Write a configuration that is fitted to the data, with the reason for each value.

    Input size, anchors, split names, initial weights, frozen parts, augmentation and length follow
    from the images and boxes, the weights that can be had, and the speed of this machine. A dataset
    folder is judged as make-records does it by default; the configuration then expects its records
    in records/NAME.
    """
    from detflow.api.choices import build_options
    from detflow.config.reading import parse_config
    from detflow.process.platform import keep_freed_memory
    from detflow.publish import publish_new_file, require_new_file
    from detflow.training.fit import FitOptions, fit_source, read_time_budget

    folder = None if output is None else output.parent
    fit = FitOptions(read_time_budget(time_budget), start_from, offline, probe, folder)
    if output is not None:
        require_new_file(output)
    if probe:
        # The probe measures how fast a training is, and a training does this too.
        keep_freed_memory()
    text = fit_source(source, build_options(val_from=val_from, report=False), fit)
    if parse_config(text).data.eval_split is None:
        announce(
            "there is no validation split with objects, so that no checkpoint can be the best: "
            f"{_propose_validation(source)}"
        )
    if output is None:
        print_data(text, end="")
    else:
        publish_new_file(output, text)
        announce(f"wrote {output}; next: detflow train --config {output}")


def _propose_validation(source: Path) -> str:
    """Returns the command that takes a validation split from the training."""
    from detflow.data.records.manifest import MANIFEST_NAME

    if (source / MANIFEST_NAME).is_file():
        return "make the records again with --val-from train=0.1"
    return f"detflow init {source} --val-from train=0.1, and make-records with the same option"


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
