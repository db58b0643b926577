"""One export from top to bottom: load, write each format, prove and time it, write the card."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from detflow.artifact import ArtifactDir
from detflow.config.reading import format_config
from detflow.digests import digest_file, digest_files, seal
from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.exporting.card import FormatResult, Measured, Rung, build_card
from detflow.exporting.effort import count_minutes
from detflow.exporting.formats.base import FormatWriter, Job, find_writer
from detflow.exporting.layouts import Layout, Served, to_model_name, write_layouts
from detflow.exporting.page import NUM_EXAMPLES, draw_example, render_card
from detflow.exporting.proof.gate import Reference, list_candidates
from detflow.exporting.proof.images import (
    NUM_EXACT_IMAGES,
    NUM_MEASURED_IMAGES,
    ProofImages,
    find_proof_images,
    read_training_samples,
)
from detflow.exporting.proof.latency import Timing, measure_p50_ms
from detflow.exporting.proof.process import FreshProcess
from detflow.exporting.proof.recorded import RecordedAp, compare_with_state
from detflow.exporting.proof.references import measure_references
from detflow.exporting.proof.twin import examine_draft
from detflow.exporting.quality import find_training_records, measure_quality
from detflow.exporting.readme import render_readme
from detflow.exporting.training_data import describe_choice, describe_training_data
from detflow.inference.formats.base import Format
from detflow.inference.trained import TrainedModel, load_trained_model
from detflow.progress import tell_status
from detflow.publish import require_space

# Each file holds the weights once. Its graph, the card and the label map take no more than this.
_GRAPH_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and what it is held to; None takes the run's or the format's own value.

    Attributes:
        formats: The formats, in the order in which they are written.
        images: Folder of images or of records.
        split: Split of the records.
        score_threshold: Least score of a detection.
        max_detections: Most detections of one image.
        max_ap_drop: How much AP a format may lose.
        timing: How long each format is timed.
        layouts: What servers find in the folder.
        announce: Told of each format as it starts and as it passes or fails.
    """

    formats: Sequence[Format]
    images: Path | None = None
    split: str | None = None
    score_threshold: float | None = None
    max_detections: int | None = None
    max_ap_drop: float | None = None
    timing: Timing = field(default_factory=Timing)
    layouts: Sequence[Layout] = ()
    announce: Callable[[str], None] = lambda line: None


def build_artifact(
    artifact: ArtifactDir, checkpoint: Path, options: ExportOptions
) -> dict[str, Any]:
    """Fills an empty folder with the formats that pass their gates.

    Args:
        artifact: The folder to fill.
        checkpoint: The checkpoint's folder.
        options: What is exported.

    Returns:
        The content of `model.json`.

    Raises:
        ConfigError, DataError, ArtifactError, EnvironmentFault: As `export_model` says.
    """
    writers = [find_writer(written) for written in options.formats]
    with contextlib.ExitStack() as stack:
        # The processes import their runtimes while this one builds the network. There is one for
        # each runtime, so that one that dies takes no other runtime with it.
        fresh = {
            runtime: stack.enter_context(FreshProcess(runtime))
            for runtime in dict.fromkeys(written.runtime for written in options.formats)
        }
        tell_status("building the network")
        trained = load_trained_model(
            checkpoint,
            score_threshold=options.score_threshold,
            max_detections=options.max_detections,
        )
        data = trained.config.data
        exact = all(writer.gate.tolerance is None for writer in writers)
        limit = NUM_EXACT_IMAGES if exact else NUM_MEASURED_IMAGES
        label_map = trained.label_map
        proof = find_proof_images(
            options.images,
            options.split,
            data,
            limit,
            label_map,
            trained.serving.model.canvas_sizes,
        )
        num_files = sum(len(written.paths) for written in options.formats)
        require_space(artifact.path, num_files * (_weight_bytes(trained) + _GRAPH_BYTES))

        artifact.label_map_path.write_text(trained.label_map.to_pbtxt(), encoding="utf-8")
        artifact.config_path.write_text(format_config(trained.config), encoding="utf-8")
        tell_status("measuring the checkpoint")
        references = measure_references(trained, proof, options.formats)
        recorded = compare_with_state(trained, proof, references["all"])
        measured = _measure(trained, options.images, recorded)
        job = Job(trained, artifact, lambda: read_training_samples(options.images, data, label_map))
        results = [
            _export_format(
                writer,
                job,
                fresh[writer.format.runtime],
                proof,
                references[writer.format.canvas],
                options,
            )
            for writer in writers
        ]
    if all(result.failure is not None for result in results):
        raise _nothing_passed(results)
    served = Served(
        to_model_name(trained.run.path.resolve().name),
        trained.state.step,
        trained.label_map,
        trained.serving.config.max_detections,
    )
    passed = [result.format.name for result in results if result.failure is None]
    layouts = write_layouts(artifact, options.layouts, served, passed)
    return _write_card(artifact, trained, proof, references["all"], measured, results, layouts)


def _measure(trained: TrainedModel, chosen: Path | None, recorded: RecordedAp) -> Measured:
    """Finds what the card says of the checkpoint itself."""
    records = find_training_records(trained, chosen)
    return Measured(
        measure_quality(trained, records),
        describe_training_data(trained.state.record, records),
        describe_choice(trained.state, records),
        count_minutes(trained.run.tensorboard_dir, trained.state.step),
        recorded,
    )


def _export_format(
    writer: FormatWriter[Any],
    job: Job,
    fresh: FreshProcess,
    proof: ProofImages,
    reference: Reference,
    options: ExportOptions,
) -> FormatResult:
    """Writes and proves a format, again as long as it fails and its writer knows a better way."""
    written, gate = writer.format, writer.gate
    if options.max_ap_drop is not None:
        gate = dataclasses.replace(gate, max_ap_drop=options.max_ap_drop)
    options.announce(f"{written.name}: writing it, then proving it in a process of its own")
    tell_status(written.name)
    candidates = list_candidates(written, job.artifact)
    rungs: list[Rung] = []
    failure: ArtifactError | None = None
    began = time.monotonic()
    try:
        for draft in writer.write(job):
            outcome = examine_draft(
                candidates, draft.twin, gate, fresh, proof, reference, job.trained
            )
            failure = outcome.failure
            rungs.append(Rung(draft.notes, outcome))
            if failure is None:
                p50_ms = measure_p50_ms(fresh, candidates[0], proof.images, options.timing)
                seconds = time.monotonic() - began
                options.announce(f"{written.name}: passed, {seconds:.0f} s")
                return FormatResult(written, gate, rungs, None, seconds, p50_ms)
    except (ArtifactError, ConfigError, DataError) as error:
        failure = ArtifactError(str(error), path=written.name)
    options.announce(f"{written.name}: failed, {failure.cause if failure else 'nothing written'}")
    _remove(job.artifact, written.paths)
    return FormatResult(written, gate, rungs, failure, time.monotonic() - began)


def _remove(artifact: ArtifactDir, paths: Sequence[str]) -> None:
    for path in (artifact.path / name for name in paths):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _nothing_passed(results: Sequence[FormatResult]) -> ArtifactError:
    failures = {result.format.name: result.failure for result in results if result.failure}
    first, *others = failures
    more = f"; nor did {', '.join(others)} pass" if others else ""
    return ArtifactError(
        failures[first].cause, path=failures[first].path, remedy=f"nothing was published{more}"
    )


def _write_card(
    artifact: ArtifactDir,
    trained: TrainedModel,
    proof: ProofImages,
    reference: Reference,
    measured: Measured,
    results: Sequence[FormatResult],
    layouts: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Writes README.md, the page and `model.json`, whose content is returned."""
    digests = digest_files(artifact.path)
    card = build_card(trained, proof, reference, measured, results, layouts, digests)
    pictures = zip(proof.images, reference.outputs, strict=True)
    examples = [
        draw_example(image, outputs, trained.label_map)
        for image, outputs in itertools.islice(pictures, NUM_EXAMPLES)
    ]
    name = trained.run.path.resolve().name
    artifact.page_path.write_text(render_card(card, name, examples), encoding="utf-8")
    artifact.readme_path.write_text(render_readme(card, name), encoding="utf-8")
    for path in (artifact.page_path, artifact.readme_path):
        card["files"][path.name] = digest_file(path)
    card = seal(card)
    artifact.manifest_path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


def _weight_bytes(trained: TrainedModel) -> int:
    return sum(
        variable.dtype.size * variable.shape.num_elements()
        for variable in trained.serving.variables
    )
