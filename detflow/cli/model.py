"""The commands for trained models: runs, evaluate, export, predict, benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detflow.cli.options import (
    EXISTING,
    EXISTING_LOCATION,
    FOLDER,
    LOCATION,
    PATH,
    SHARE,
    FieldOption,
    FiniteRange,
    announce,
    given,
)
from detflow.cli.output import print_data, print_text
from detflow.errors import ArtifactError

if TYPE_CHECKING:
    from detflow.storage.location import Location

_PREDICT = "detflow.api.model:predict"
_BENCHMARK = "detflow.benchmarking.run:BenchmarkOptions"


@click.command(short_help="List model directories and their checkpoints.")
@click.argument("folder", type=FOLDER, default="runs")
def runs(folder: Path) -> None:
    """List the model directories in FOLDER and their checkpoints: step, metric, size.

    Behind the metric stands its range, which holds 90 % of a bootstrap over the images.
    """
    from detflow.runs.states import CheckpointState, list_checkpoints, list_runs
    from detflow.tables import format_interval, format_metric, print_rows

    rows = []
    for run in list_runs(folder):
        states = list(list_checkpoints(run))
        good = [state for _, state in states if isinstance(state, CheckpointState)]
        record = good[-1].record if good else run.read_record()
        steps = f"of {record.config.train.steps:,}" if record else ""
        ranked_by = (good and good[-1].metric) or ""
        rows.append((str(run.path), steps, ranked_by, "", "", ""))
        best = good[-1].best_step if good else None
        for path, state in states:
            if isinstance(state, CheckpointState):
                size = sum(digest["bytes"] for digest in state.files.values()) / 1e6
                metric = format_metric(state.metrics.get(ranked_by)) if state.metrics else ""
                note = "best" if state.step == best else ""
                interval = state.intervals.get(ranked_by)
                between = format_interval(interval) if interval else ""
                step = f"{state.step:,}"
                rows.append((f"  {path.name}", step, metric, between, f"{size:.1f} MB", note))
            else:
                rows.append((f"  {path.name}", "", "", "", "", "damaged"))
    if not rows:
        raise ArtifactError("no model directory here", path=folder)
    print_rows(("run", "step", "metric", "range", "size", ""), rows)


@click.command(short_help="Judge a model on a split of records.")
@click.option(
    "--model",
    type=LOCATION,
    required=True,
    help="Model directory (its best checkpoint), checkpoint, or exported folder or file.",
)
@click.option("--records", type=LOCATION, required=True, help="Folder that make-records wrote.")
@click.option(
    "--split",
    cls=FieldOption,
    field="detflow.api.model:evaluate.split",
    help="Split to judge on; train+val joins two.",
)
@click.option(
    "--output",
    type=LOCATION,
    help="Folder to publish: evaluation.html, plots, numbers; an evaluation there is replaced.",
)
@click.option(
    "--score-threshold",
    type=SHARE,
    help="Threshold for precision, confusion and errors.  [default: the best F1's]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout instead of a table.")
def evaluate(
    model: Location,
    records: Location,
    split: str | None,
    output: Location | None,
    score_threshold: float | None,
    as_json: bool,
) -> None:
    """Judge a model on a split: COCO and VOC metrics, per class, and what each kind of error costs.

    Objects that VOC marks as difficult count neither as hits nor as misses.
    """
    from detflow.api.model import evaluate as evaluate_model
    from detflow.evaluation.analysis import describe_analysis, print_analysis
    from detflow.evaluation.run import MARKER_NAME

    analysis = evaluate_model(
        model,
        records,
        output=output,
        score_threshold=score_threshold,
        progress=True,
        **given({"split": split}),
    )
    if as_json:
        print_data(json.dumps(describe_analysis(analysis), indent=2, allow_nan=False))
    else:
        print_analysis(analysis)
    if output is not None:
        print_text(f"report: {output / MARKER_NAME}", err=True)


@click.command(short_help="Export a checkpoint to formats that other programs run.")
@click.option(
    "--ckpt",
    required=True,
    metavar="PATH",
    help="Model directory (its best checkpoint), DIR/ckpt-N, or best|last.",
)
@click.option(
    "--model-dir", type=EXISTING_LOCATION, help="Model directory whose best or last is meant."
)
@click.option(
    "--output",
    required=True,
    type=LOCATION,
    help="Folder to publish; an export there is replaced.",
)
@click.option(
    "--formats",
    cls=FieldOption,
    field="detflow.exporting.choice:DEFAULT_FORMATS",
    metavar="NAMES",
    help="Formats with commas between, or all: frozen, frozen_text, saved_model, onnx, tflite, "
    "tflite_float16, tflite_int8, tflite_dynamic, openvino, keras_h5.",
)
@click.option(
    "--images",
    type=EXISTING,
    help="Images or records for the proof.  [default: the run's records]",
)
@click.option(
    "--split", help="Split of the records for the proof.  [default: the run's evaluation split]"
)
@click.option(
    "--score-threshold",
    type=SHARE,
    help="Drop detections with a lower score.  [default: the run's]",
)
@click.option(
    "--max-detections",
    type=click.IntRange(1),
    help="Most detections of one image.  [default: the run's]",
)
@click.option(
    "--max-ap-drop",
    type=SHARE,
    help="How much AP a format may lose.  [default: 0.005, and 0.02 of "
    "tflite_int8 and tflite_dynamic]",
)
@click.option(
    "--layout",
    "layouts",
    multiple=True,
    metavar="triton|tfserving",
    help="Add a folder as that server wants it, versioned. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print model.json instead of a summary.")
def export(
    ckpt: str,
    model_dir: Location | None,
    output: Location,
    formats: str | None,
    images: Path | None,
    split: str | None,
    score_threshold: float | None,
    max_detections: int | None,
    max_ap_drop: float | None,
    layouts: tuple[str, ...],
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
        images=images,
        split=split,
        score_threshold=score_threshold,
        max_detections=max_detections,
        max_ap_drop=max_ap_drop,
        layouts=layouts,
        announce=announce,
        **given({"formats": formats}),
    )
    if as_json:
        print_data(json.dumps(card, indent=2))
    else:
        print_text(describe_card(card, output))
    if failure := find_failure(card, output):
        raise failure


@click.command(short_help="Detect objects in images, videos, folders, cameras and streams.")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--model",
    required=True,
    type=EXISTING_LOCATION,
    help="Export, one of its files (model.onnx, …), SavedModel, model directory or checkpoint; "
    "or such a folder's URL.",
)
@click.option(
    "--output", required=True, type=PATH, help="Folder to publish; predictions there are replaced."
)
@click.option(
    "--score-threshold",
    cls=FieldOption,
    field=f"{_PREDICT}.score_threshold",
    type=SHARE,
    help="Leave out detections with a lower score.",
)
@click.option(
    "--overlays/--no-overlays",
    default=True,
    show_default=True,
    help="Write pictures and frames with the detections drawn.",
)
@click.option(
    "--overlay-video",
    "overlay_videos",
    is_flag=True,
    help="Write each video as an MP4 with the detections drawn, too.",
)
@click.option(
    "--formats",
    cls=FieldOption,
    field=f"{_PREDICT}.formats",
    show=",".join,
    metavar="NAMES",
    help="Further files, with commas between: coco, csv, yolo (text with scores), voc (images with "
    "VOC XML, for a labelling tool or make-records).",
)
@click.option(
    "--every",
    cls=FieldOption,
    field=f"{_PREDICT}.every",
    type=click.IntRange(1),
    metavar="N",
    help="Detect on every Nth frame of a video.",
)
@click.option(
    "--max-memory-mb",
    cls=FieldOption,
    field=f"{_PREDICT}.max_memory_mb",
    type=click.IntRange(1),
    metavar="N",
    help="Pass over files that take more MiB while they are read and detected on.",
)
@click.option(
    "--max-frames",
    cls=FieldOption,
    field=f"{_PREDICT}.max_frames",
    type=click.IntRange(1),
    metavar="N",
    help="Take at most N frames of a video.",
)
def predict(
    sources: tuple[str, ...],
    model: Location,
    output: Path,
    score_threshold: float | None,
    overlays: bool,
    overlay_videos: bool,
    formats: str | None,
    every: int | None,
    max_memory_mb: int | None,
    max_frames: int | None,
) -> None:
    """Detect objects in images, videos, folders and patterns, cameras (0, 1, …) and streams.

    Writes predictions.json, coco_results.json and overlays/; of videos each frame has its own, at
    its presentation time. Whether a file is a picture or a video is seen from its content. Files
    that cannot be read, or not to their end, are named; if none can be read, nothing is written.
    Streams (rtsp:// and http://) that break off are opened again; Ctrl-C or --max-frames ends them
    and cameras. An
    exported folder with ONNX or TFLite inside predicts without TensorFlow.
    """
    from detflow.api.model import predict as predict_files
    from detflow.prediction.files import parse_formats
    from detflow.text import count_noun

    chosen: dict[str, Any] = {
        "score_threshold": score_threshold,
        "every": every,
        "max_memory_mb": max_memory_mb,
        "max_frames": max_frames,
    }
    if formats is not None:
        chosen["formats"] = parse_formats(formats)
    result = predict_files(
        sources,
        model,
        output,
        overlays=overlays,
        overlay_videos=overlay_videos,
        keep=False,
        progress=True,
        **given(chosen),
    )
    for name, reason in result.failed:
        what = "read in part" if name in result.cut else "passed over"
        print_text(f"detflow: {what}: {reason}", err=True)
    cut = len(result.cut)
    passed_over = "".join(
        f", {number:,} {what}"
        for number, what in ((len(result.failed) - cut, "passed over"), (cut, "read in part"))
        if number
    )
    print_text(
        f"{count_noun(result.num_detections, 'detection')} on "
        f"{count_noun(result.num_images, 'image')}{passed_over} → {output}"
    )


@click.command(short_help="Measure start, latency, throughput and memory of exports.")
@click.argument("artifacts", nargs=-1, required=True, type=EXISTING, metavar="EXPORT...")
@click.option(
    "--records",
    type=PATH,
    help="Folder that make-records wrote, to detect on.  [default: drawn pictures]",
)
@click.option("--split", cls=FieldOption, field=f"{_BENCHMARK}.split", help="Split of the records.")
@click.option(
    "--threads",
    metavar="1,2",
    help="Numbers of threads to measure with.  [default: 1, and one for each core]",
)
@click.option(
    "--batch",
    cls=FieldOption,
    field=f"{_BENCHMARK}.batch",
    type=click.IntRange(1),
    help="Number of images that go through together when throughput is measured.",
)
@click.option(
    "--seconds",
    cls=FieldOption,
    field=f"{_BENCHMARK}.seconds",
    type=FiniteRange(0.1),
    help="Length of each measurement.",
)
@click.option(
    "--output",
    type=PATH,
    help="Folder to publish: benchmark.json and benchmark.png; a benchmark there is replaced.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout instead of a table.")
def benchmark(
    artifacts: tuple[Path, ...],
    records: Path | None,
    split: str | None,
    threads: str | None,
    batch: int | None,
    seconds: float | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure every format of exported folders: start, latency, throughput, memory, size and AP.

    Latency is from a JPEG file's bytes to its detections; the bare network's time in the same
    runtime stands beside it, and their ratio. Each format runs in processes of its own.
    """
    from detflow.benchmarking.run import (
        TABLE_KEY,
        BenchmarkOptions,
        benchmark_artifacts,
        describe_benchmark,
        parse_threads,
        print_benchmark,
    )

    chosen: dict[str, Any] = {
        "records": records,
        "split": split,
        "batch": batch,
        "seconds": seconds,
    }
    if threads is not None:
        chosen["threads"] = parse_threads(threads)
    options = BenchmarkOptions(**given(chosen))
    found = benchmark_artifacts(artifacts, options, output)
    if as_json:
        print_data(json.dumps(describe_benchmark(found, options), indent=2))
    else:
        print_benchmark(found)
        print_text(TABLE_KEY)
