"""The command line. Each command is a few lines; heavy imports stay inside the bodies, so that help is instant."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from detflow import __version__
from detflow.errors import ArtifactError, DetflowError
from detflow.process.ending import immediate_exit

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from detflow.data.convert import ConversionOptions
    from detflow.data.workers.processes import OrderedMap
    from detflow.storage.location import Location

__all__ = ["cli", "main"]


class _LocationType(click.ParamType[Any]):
    """A path, or a URL of an object store; of a path that has to exist, click tells."""

    name = "path"

    def __init__(self, path_type: click.Path) -> None:
        self._path_type = path_type

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        from detflow.storage.location import Url, is_url

        return (
            Url.parse(value)
            if is_url(value)
            else Path(os.fsdecode(self._path_type.convert(value, param, ctx)))
        )


_PATH = click.Path(path_type=Path)
_EXISTING = click.Path(exists=True, path_type=Path)
_LOCATION = _LocationType(_PATH)
_EXISTING_LOCATION = _LocationType(_EXISTING)
_EXISTING_FOLDER = _LocationType(click.Path(exists=True, file_okay=False, path_type=Path))
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="detflow")
@click.option("--debug", is_flag=True, help="Show the Python traceback of an error.")
def cli(debug: bool) -> None:
    """Train and deploy object detectors from a folder of images and VOC XML.

    \b
    Exit codes: 0 ok, 2 config or usage, 3 bad input, 4 corrupt artifact or failed gate,
    5 environment (disk, permission, memory), 6 locked, 130/143 interrupted/terminated.
    """  # noqa: D301 (click's paragraph mark)


_AUDIT_OPTIONS = (
    click.option(
        "--classes",
        metavar="A,B,…",
        help="Class names in the order of their ids; no other may occur. Default: all, sorted.",
    ),
    click.option(
        "--split-by",
        type=click.Choice(["auto", "lists", "folders", "seed"]),
        default="auto",
        show_default=True,
        help="Where the splits come from; auto takes lists, else folders, else the seed.",
    ),
    click.option(
        "--split",
        default="train=0.8,val=0.1,test=0.1",
        show_default=True,
        help="Fractions of a seeded split.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Of the seeded split and the records' order.",
    ),
    click.option("--allow-leaks", is_flag=True, help="Let the same image stand in two splits."),
    click.option(
        "--strict", is_flag=True, help="Mend nothing: any repair or quarantine fails the run."
    ),
    click.option(
        "--max-bad",
        metavar="N|P%",
        help="How many annotations may be unusable. Default: all but one.",
    ),
    click.option(
        "--max-pixels",
        type=click.IntRange(1),
        default=50_000_000,
        show_default=True,
        help="Larger images are refused.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(1),
        help="Number of processes; the result never depends on it. Default: by size.",
    ),
)


def _audit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds what make-records and check have in common; `_read_audit_options` takes it."""
    for option in reversed(_AUDIT_OPTIONS):
        command = option(command)
    return command


def _read_audit_options(choices: Mapping[str, Any]) -> ConversionOptions:
    from detflow.data.convert import BadLimit, ConversionOptions
    from detflow.data.judging.audit import AuditOptions
    from detflow.data.sources.splits import SplitBy, parse_fractions

    return ConversionOptions(
        audit=AuditOptions(
            classes=tuple(name.strip() for name in choices["classes"].split(","))
            if choices["classes"]
            else None,
            max_pixels=choices["max_pixels"],
            split_by=SplitBy(choices["split_by"]),
            fractions=parse_fractions(choices["split"]),
            seed=choices["seed"],
            allow_leaks=choices["allow_leaks"],
        ),
        strict=choices["strict"],
        max_bad=BadLimit.parse(choices["max_bad"]) if choices["max_bad"] else None,
        jobs=choices["jobs"],
        report=choices.get("report", False),
    )


@cli.command("make-records")
@click.argument("dataset", type=_EXISTING_FOLDER)
@click.option(
    "--output",
    required=True,
    type=_LOCATION,
    help="The records directory, a path or URL; replaced as a whole.",
)
@_audit_options
@click.option(
    "--runner",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where the work is done: processes of this machine, or a Ray cluster (docs/cluster.md). The result is the same.",
)
@click.option(
    "--ray-address",
    metavar="HOST:PORT",
    help="Head of the Ray cluster.  [default: RAY_ADDRESS, or one here]",
)
@click.option(
    "--report/--no-report",
    default=True,
    help="Write report.html, a page with pictures of what was found.  [default: report]",
)
@click.option(
    "--keep-splits",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Earlier records of this dataset; what they hold stays in its split.",
)
@click.option(
    "--write-fixed", metavar="DIR", type=_PATH, help="Also write the mended dataset as VOC."
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest on stdout.")
def make_records(
    dataset: Location,
    output: Location,
    keep_splits: Path | None,
    write_fixed: Path | None,
    runner: str,
    ray_address: str | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Check DATASET, a folder or URL of images and VOC XML, and convert it to TFRecord shards.

    Originals are never touched. Every repair and every file that was set aside stands in OUTPUT's
    ledger.jsonl.
    """
    from dataclasses import replace

    if ray_address is not None and runner != "ray":
        raise click.UsageError("--ray-address goes with --runner ray")
    # The other processes start, and import what they need, while this one does.
    with _open_runner(runner, ray_address, dataset, output, choices["jobs"]) as workers:
        from detflow.data.convert import convert_dataset
        from detflow.data.terminal import format_summary
        from detflow.progress import show_progress

        options = replace(
            _read_audit_options(choices), keep_splits=keep_splits, write_fixed=write_fixed
        )
        with show_progress() as progress:
            manifest = convert_dataset(dataset, output, options, progress, _announce, workers)
    print(
        json.dumps(manifest, indent=2)
        if as_json
        else f"{format_summary(manifest)}\nrecords       {output}"
    )


def _open_runner(
    runner: str, ray_address: str | None, dataset: Location, output: Location, jobs: int | None
) -> AbstractContextManager[OrderedMap]:
    if runner == "ray":
        from detflow.data.workers.ray import open_cluster

        output_dir = output.absolute().parent if isinstance(output, Path) else output
        if isinstance(output_dir, Path):
            output_dir.mkdir(parents=True, exist_ok=True)
        shared = [place for place in (dataset, output_dir) if isinstance(place, Path)]
        return open_cluster(ray_address, jobs, [path.resolve() for path in shared])
    from detflow.data.workers.processes import choose_jobs, open_workers

    return open_workers(jobs or choose_jobs(dataset), "detflow.data.convert")


@cli.command()
@click.argument("path", type=_EXISTING_LOCATION)
@_audit_options
@click.option(
    "--report",
    "report_path",
    type=_PATH,
    metavar="FILE",
    help="Write a page with pictures of what was found (datasets).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def check(path: Location, report_path: Path | None, as_json: bool, **choices: Any) -> None:
    """Judge PATH and change nothing: a dataset folder, or TFRecord files, ours or foreign.

    A dataset is judged as make-records would judge it. TFRecord files (one, or a folder of them)
    are judged record by record:
    checksums, fields, boxes, classes, images, names; and which readers could use them. The options
    are for datasets.
    """
    from detflow.data.check import check_dataset, check_records, is_record_set
    from detflow.progress import show_progress

    with show_progress() as progress:
        if is_record_set(path):
            found = check_records(path, choices["jobs"], progress)
        else:
            found = check_dataset(
                path, _read_audit_options(choices), _announce, report_path, progress
            )
    print(json.dumps(found.content, indent=2) if as_json else found.text)
    if found.refusal is not None:
        raise found.refusal


def _anywhere(location: Location) -> Location:
    """Returns a location as it reads from any working directory."""
    return location.absolute() if isinstance(location, Path) else location


def _announce(line: str) -> None:
    print(line, file=sys.stderr)


@cli.command()
@click.argument("source", type=_EXISTING, metavar="DATASET_OR_RECORDS")
@click.option(
    "--output",
    type=_PATH,
    help="Configuration file to write; it must not exist.  [default: stdout]",
)
def init(source: Path, output: Path | None) -> None:
    """Write a configuration that is fitted to the data, with the reason for each value.

    Input size, anchors, split names and length follow from the images and boxes. A dataset folder
    is judged as make-records does it by default; the configuration then expects its records in
    records/NAME.
    """
    from detflow.publish import publish_file
    from detflow.training.fit import fit_source

    text = fit_source(source)
    if output is None:
        click.echo(text, nl=False)
    elif output.exists():
        raise click.UsageError(f"{output} exists; name another file")
    else:
        publish_file(output, text)


@cli.command()
@click.option(
    "--config",
    "config_path",
    type=_PATH,
    required=True,
    help="YAML file; see configs/ and `detflow config --explain`.",
)
@click.option(
    "--records", type=_LOCATION, help="Records folder, instead of the file's data.records."
)
@click.option(
    "--model-dir",
    type=_LOCATION,
    help="Where checkpoints and logs go.  [default: runs/ and the config's name]",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Overrides a setting, as in train.steps=600.",
)
@click.option(
    "--time-budget",
    metavar="12m",
    help="Train for this long instead of train.steps; evaluations count.",
)
@click.option(
    "--overfit",
    type=click.IntRange(1),
    metavar="N",
    help="Fit N images only: shows whether the path can learn.",
)
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Resume although data, config or machine differ; the changes are recorded.",
)
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that train."
)
@click.option(
    "--parameter-servers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Hold the weights; workers wait for nobody.",
)
@click.option(
    "--max-restarts",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="After a process was lost.",
)
@click.option(
    "--runner",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Workers here, or on a Ray cluster.",
)
@click.option(
    "--ray-address",
    metavar="HOST:PORT",
    help="Head of the Ray cluster.  [default: RAY_ADDRESS, or one here]",
)
def train(
    config_path: Path,
    records: Location | None,
    model_dir: Location | None,
    overrides: tuple[str, ...],
    time_budget: str | None,
    overfit: int | None,
    accept_changes: bool,
    workers: int,
    parameter_servers: int,
    max_restarts: int,
    runner: str,
    ray_address: str | None,
) -> None:
    """Train a detector; run it again to resume.

    The newest good checkpoint of the model directory is continued, to the same weights as if
    nothing had happened. The first Ctrl-C or SIGTERM saves and stops, a second one stops at once.
    Where TF_CONFIG describes a cluster, this process is one of it.
    """
    from detflow.config.reading import read_config

    named = [f"data.records={json.dumps(str(records))}"] if records else []
    named += [f"train.time_budget={json.dumps(time_budget)}"] if time_budget else []
    named += [f"data.overfit={overfit}"] if overfit else []
    config = read_config(config_path, (*named, *overrides))

    from detflow.distributed.topology import read_topology, require_divisible

    target, topology = model_dir or Path("runs") / config_path.stem, read_topology()
    if ray_address is not None and runner != "ray":
        raise click.UsageError("--ray-address goes with --runner ray")
    if parameter_servers and runner == "ray":
        raise click.UsageError("--parameter-servers goes with --runner local, or with TF_CONFIG")
    if workers > 1 or parameter_servers or runner == "ray":
        if topology is not None:
            raise click.UsageError(
                "TF_CONFIG says that this process is one of a cluster; "
                "leave out --workers, --parameter-servers and --runner, or unset it"
            )
        if not parameter_servers:
            require_divisible(config.train.batch_size, workers)
        options = [
            f"--model-dir={_anywhere(target)}",
            *(["--accept-changes"] if accept_changes else []),
        ]
        if runner == "ray":
            from detflow.distributed.ray import run_on_ray
            from detflow.storage.location import parse_location

            placed = config.data.model_copy(
                update={"records": str(_anywhere(parse_location(config.data.records)))}
            )
            sys.exit(
                run_on_ray(
                    config.model_copy(update={"data": placed}),
                    options,
                    num_workers=workers,
                    max_restarts=max_restarts,
                    address=ray_address,
                    announce=_announce,
                )
            )

        from detflow.distributed.launcher import run_workers

        options += [
            f"--config={config_path}",
            *(f"--set={override}" for override in (*named, *overrides)),
        ]
        debug = ["--debug"] if click.get_current_context().find_root().params["debug"] else []
        command = [sys.executable, "-m", "detflow", *debug, "train", *options]
        sys.exit(
            run_workers(
                command, workers, max_restarts, _announce, num_parameter_servers=parameter_servers
            )
        )
    if topology is not None and topology.has_parameter_servers and not topology.is_chief:
        from detflow.distributed.parameter_servers.server import serve_task

        signum = serve_task(topology, config.runtime.threads)
        sys.exit(0 if signum is None else 128 + signum)

    from detflow.runs.run_dir import RunDir
    from detflow.training.preflight import prepare_start

    run = RunDir(target)
    with run.locked() if topology is None or topology.is_chief else nullcontext():
        start = prepare_start(config, run, accept_changes=accept_changes, topology=topology)

        from detflow.training.recipe import train as run_training

        result = run_training(run, start)
    if topology is not None and not topology.is_chief:
        sys.exit(128 + result.stopped_by if result.stopped_by is not None else 0)
    if result.state and result.state.best_step is not None:
        from detflow.tables import format_metric

        best = f"{target}/ckpt-{result.state.best_step}"
        click.echo(
            f"best checkpoint: {best} ({config.evaluate.metric} {format_metric(result.state.best_value)})"
        )
    if result.stopped_by is not None:
        saved = f"at step {result.state.step:,}" if result.state else "before the first step"
        click.echo(f"stopped {saved}; the same command resumes", err=True)
        sys.exit(128 + result.stopped_by)


@cli.command()
@click.option(
    "--model",
    type=_LOCATION,
    required=True,
    help="Model directory (its best checkpoint), checkpoint, or exported artifact.",
)
@click.option("--records", type=_LOCATION, required=True, help="Folder that make-records wrote.")
@click.option(
    "--split", default="test", show_default=True, help="Split to judge on; train+val joins two."
)
@click.option(
    "--output",
    type=_LOCATION,
    help="Folder to publish: evaluation.html, plots, numbers; an evaluation there is replaced.",
)
@click.option(
    "--score-threshold",
    type=click.FloatRange(0, 1),
    help="For precision, confusion and errors.  [default: the best F1's]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout instead of a table.")
def evaluate(
    model: Location,
    records: Location,
    split: str,
    output: Location | None,
    score_threshold: float | None,
    as_json: bool,
) -> None:
    """Judge a model on a split: COCO and VOC metrics, per class, and what each kind of error costs.

    Objects that VOC marks as difficult count neither as hits nor as misses.
    """
    from detflow.evaluation.analysis import describe_analysis, print_analysis
    from detflow.evaluation.run import MARKER_NAME, evaluate_model

    analysis = evaluate_model(model, records, split, output=output, score_threshold=score_threshold)
    if as_json:
        click.echo(json.dumps(describe_analysis(analysis), indent=2))
    else:
        print_analysis(analysis)
    if output is not None:
        click.echo(f"report: {output / MARKER_NAME}", err=True)


@cli.command()
@click.argument(
    "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default="runs"
)
def runs(folder: Path) -> None:
    """List the model directories in FOLDER and their checkpoints: step, metric, size."""
    from detflow.runs.states import CheckpointState, list_checkpoints, list_runs
    from detflow.tables import format_metric, print_rows

    rows = []
    for run in list_runs(folder):
        config = run.read_config()
        rows.append((str(run.path), f"of {config.train.steps:,}", config.evaluate.metric, "", ""))
        states = list(list_checkpoints(run))
        best = next(
            (
                state.best_step
                for _, state in reversed(states)
                if isinstance(state, CheckpointState)
            ),
            None,
        )
        for path, state in states:
            if isinstance(state, CheckpointState):
                size = sum(digest["bytes"] for digest in state.files.values()) / 1e6
                metric = (
                    format_metric(state.metrics[config.evaluate.metric]) if state.metrics else ""
                )
                note = "best" if state.step == best else ""
                rows.append((f"  {path.name}", f"{state.step:,}", metric, f"{size:.1f} MB", note))
            else:
                rows.append((f"  {path.name}", "", "", "", "damaged"))
    if not rows:
        raise ArtifactError("no model directory here", path=folder)
    print_rows(("run", "step", "metric", "size", ""), rows)


@cli.command()
@click.argument("config_path", type=_PATH, required=False, metavar="[FILE]")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Overrides a setting, as in train.steps=600.",
)
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
        click.echo(format_config(read_config(config_path, overrides)), nl=False)


@cli.command("export")
@click.option(
    "--ckpt",
    required=True,
    metavar="PATH",
    help="Model directory (its best checkpoint), DIR/ckpt-N, or best|last.",
)
@click.option(
    "--model-dir", type=_EXISTING_LOCATION, help="Model directory that best and last are about."
)
@click.option(
    "--output",
    required=True,
    type=_LOCATION,
    help="Folder to publish; an export there is replaced.",
)
@click.option(
    "--formats",
    default="frozen,saved_model",
    show_default=True,
    metavar="NAMES",
    help="Formats with commas between, or all; docs/export.md lists them.",
)
@click.option(
    "--images",
    type=_EXISTING,
    help="Images or records for the proof.  [default: the run's records]",
)
@click.option(
    "--split", help="Split of the records for the proof.  [default: the run's evaluation split]"
)
@click.option(
    "--score-threshold",
    type=click.FloatRange(0, 1),
    help="Drop detections below.  [default: the run's]",
)
@click.option(
    "--max-detections",
    type=click.IntRange(1),
    help="Most detections of one image.  [default: the run's]",
)
@click.option(
    "--max-ap-drop",
    type=click.FloatRange(0, 1),
    help="AP that a format may lose.  [default: 0.005, int8: 0.02]",
)
@click.option("--json", "as_json", is_flag=True, help="Print model.json instead of a summary.")
def export_command(
    ckpt: str,
    model_dir: Location | None,
    output: Location,
    formats: str,
    images: Path | None,
    split: str | None,
    score_threshold: float | None,
    max_detections: int | None,
    max_ap_drop: float | None,
    as_json: bool,
) -> None:
    """Export a checkpoint as a frozen graph, a SavedModel, or in other formats.

    Each format is run in a fresh process and compared with the checkpoint. One that disagrees is
    not published, and the exit code is 4; if none passes, nothing is published.
    """
    from detflow.exporting.run import describe_card, export_model, find_failure

    card = export_model(
        ckpt,
        output,
        model_dir=model_dir,
        formats=formats,
        images=images,
        split=split,
        score_threshold=score_threshold,
        max_detections=max_detections,
        max_ap_drop=max_ap_drop,
    )
    click.echo(json.dumps(card, indent=2) if as_json else describe_card(card, output))
    if failure := find_failure(card, output):
        raise failure


@cli.command("predict")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--model",
    required=True,
    type=_EXISTING_LOCATION,
    help="Export, one of its files (model.onnx, …), SavedModel, model directory or checkpoint; or such a folder's URL.",
)
@click.option(
    "--output", required=True, type=_PATH, help="Folder to publish; predictions there are replaced."
)
@click.option(
    "--score-threshold",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Leave detections below out.",
)
@click.option(
    "--overlays/--no-overlays", default=True, show_default=True, help="Draw the detections."
)
@click.option(
    "--formats",
    default="coco",
    show_default=True,
    metavar="NAMES",
    help="Further files, with commas between: coco, csv, voc (images with VOC XML, for a labelling tool or make-records).",
)
@click.option(
    "--every",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Of a video, every Nth frame.",
)
def predict_command(
    sources: tuple[str, ...],
    model: Location,
    output: Path,
    score_threshold: float,
    overlays: bool,
    formats: str,
    every: int,
) -> None:
    """Detect objects in images, videos, folders and patterns.

    Writes predictions.json, coco_results.json and overlays/; of videos each frame has its own.
    Files that cannot be read are named and passed over; if none can be read, nothing is written. An
    exported folder with ONNX or TFLite inside predicts without TensorFlow.
    """
    from detflow.prediction.files import parse_formats
    from detflow.prediction.run import predict

    result = predict(
        sources,
        model,
        output,
        score_threshold=score_threshold,
        overlays=overlays,
        formats=parse_formats(formats),
        every=every,
    )
    for _, reason in result.failed:
        click.echo(f"detflow: passed over: {reason}", err=True)
    passed_over = f", {len(result.failed):,} passed over" if result.failed else ""
    click.echo(
        f"{result.num_detections:,} detections on {result.num_images:,} images{passed_over} → {output}"
    )


@cli.command("benchmark")
@click.argument("artifacts", nargs=-1, required=True, type=_EXISTING, metavar="EXPORT...")
@click.option(
    "--records",
    type=_PATH,
    help="Folder that make-records wrote, to detect on.  [default: drawn pictures]",
)
@click.option("--split", default="test", show_default=True, help="Split of the records.")
@click.option(
    "--threads",
    metavar="1,2",
    help="Numbers of threads to measure with.  [default: 1 and one a core]",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Images together, for the throughput.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1),
    default=3.0,
    show_default=True,
    help="For each measurement.",
)
@click.option(
    "--output",
    type=_PATH,
    help="Folder to publish: benchmark.json and benchmark.png; a benchmark there is replaced.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout instead of a table.")
def benchmark_command(
    artifacts: tuple[Path, ...],
    records: Path | None,
    split: str,
    threads: str | None,
    batch: int,
    seconds: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure every format of exported folders: start, latency, throughput, memory, size and AP.

    Latency is from a JPEG file's bytes to its detections; the bare network's time in the same
    runtime stands beside it, and their ratio. Each format runs in processes of its own.
    """
    from dataclasses import replace

    from detflow.benchmarking.run import (
        TABLE_KEY,
        BenchmarkOptions,
        benchmark_artifacts,
        describe_benchmark,
        parse_threads,
        print_benchmark,
    )

    options = BenchmarkOptions(records=records, split=split, batch=batch, seconds=seconds)
    if threads is not None:
        options = replace(options, threads=parse_threads(threads))
    found = benchmark_artifacts(artifacts, options, output)
    if as_json:
        click.echo(json.dumps(describe_benchmark(found, options), indent=2))
    else:
        print_benchmark(found)
        click.echo(TABLE_KEY)


@cli.command("serve")
@click.argument("artifact", metavar="DIR", type=_EXISTING)
@click.option("--name", help="What clients call the model.  [default: the folder's name]")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 for all of this machine's.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8501,
    show_default=True,
    help="0 takes any free one.",
)
@click.option(
    "--token-file",
    type=_EXISTING,
    help="Clients must send its content as Authorization: Bearer.  [default: the variable DETFLOW_TOKEN, else no token]",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Serve requests whose Host header is NAME.",
)
@click.option(
    "--threads",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Cores for one batch; 0 takes all.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Most pictures in one batch.",
)
@click.option(
    "--max-delay-ms",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    help="Longest wait for others on their way.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="Pictures in work; beyond → 429.",
)
@click.option(
    "--max-instances",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Pictures of one request; more → 413.",
)
@click.option(
    "--max-body-mb",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="MiB of one request; more → 413.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=25_000_000,
    show_default=True,
    help="Of one picture; more → 413.",
)
@click.option(
    "--max-memory-mb",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="MiB of all requests; beyond → 429.",
)
@click.option(
    "--body-s",
    type=click.FloatRange(0.1),
    default=30.0,
    show_default=True,
    help="Seconds to send a body; more → 408.",
)
@click.option(
    "--deadline-s",
    type=click.FloatRange(0.1),
    default=30.0,
    show_default=True,
    help="Seconds to detect; more → 504.",
)
@click.option(
    "--drain-s",
    type=click.FloatRange(1),
    default=20.0,
    show_default=True,
    help="Seconds that a shutdown waits.",
)
def serve_command(
    artifact: Path,
    name: str | None,
    host: str,
    port: int,
    token_file: Path | None,
    allowed_hosts: tuple[str, ...],
    threads: int,
    max_body_mb: int,
    max_memory_mb: int,
    max_delay_ms: float,
    **bounds: Any,
) -> None:
    """Serve an export over HTTP: TF Serving's REST calls, uploads, metrics, and a page to try it with.

    A new export that is published at DIR replaces the old one without a pause, if it is sound.
    SIGTERM or Ctrl-C ends the server when the requests in flight are answered; a second one ends it
    at once.
    """
    from detflow.serving.limits import Limits
    from detflow.serving.server import ServerOptions, read_token, serve

    limits = Limits(
        max_body_bytes=max_body_mb << 20,
        max_held_bytes=max_memory_mb << 20,
        max_delay_s=max_delay_ms / 1000,
        **bounds,
    )
    serve(
        artifact,
        ServerOptions(
            name=name if name is not None else artifact.resolve().name,
            host=host,
            port=port,
            token=read_token(token_file),
            allowed_hosts=allowed_hosts,
            threads=threads,
            limits=limits,
        ),
        click.echo,
    )


def main() -> None:
    """Runs the command line; turns a `DetflowError` into one line on stderr and its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    debug = "--debug" in sys.argv[1:]
    with immediate_exit():
        try:
            sys.exit(cli.main(standalone_mode=False) or 0)
        except click.ClickException as error:
            error.show()
            sys.exit(2)
        except click.exceptions.Exit as error:
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            print("detflow: interrupted", file=sys.stderr)
            sys.exit(130)
        except DetflowError as error:
            if debug:
                raise
            print(f"detflow: error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)


def _terminate(signum: int, frame: FrameType | None) -> None:
    # SystemExit unwinds the stack, so that temporary folders are removed on the way out.
    sys.exit(128 + signum)
