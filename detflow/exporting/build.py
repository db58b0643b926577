"""One export, from top to bottom: load, write each format, prove it in a fresh process, write the card."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detflow.artifact import FORMATS, INPUT_NAME, ArtifactDir
from detflow.config.reading import format_config
from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.exporting.card import FormatResult, Rung, build_card
from detflow.exporting.formats import EXPORTS, Job
from detflow.exporting.images import (
    NUM_EXACT_IMAGES,
    NUM_MEASURED_IMAGES,
    ProofImages,
    find_proof_images,
    read_training_samples,
)
from detflow.exporting.page import NUM_EXAMPLES, draw_example, render_card
from detflow.exporting.proof import Reference, examine, measure_reference
from detflow.exporting.verify import FreshProcess
from detflow.inference.serving import ServingModel
from detflow.inference.tensorflow import eager_outputs
from detflow.inference.trained import TrainedModel, load_trained_model
from detflow.publish import digest_file, digest_files, require_space

__all__ = ["ExportOptions", "build_artifact"]

# Each file holds the weights once; its graph, and the card and the label map beside it, fit in
# this.
_GRAPH_BYTES = 8 << 20


@dataclass(frozen=True)
class ExportOptions:
    """What is exported and what it is held to; None stands for the run's or the format's own.

    Attributes:
        formats: Names of `formats.EXPORTS`.
        images: Folder of images or of records.
        split: Split of the records.
        score_threshold: Detections below are dropped.
        max_detections: Most detections of one image.
        max_ap_drop: How much AP a format may lose.
    """

    formats: Sequence[str]
    images: Path | None = None
    split: str | None = None
    score_threshold: float | None = None
    max_detections: int | None = None
    max_ap_drop: float | None = None


def build_artifact(
    artifact: ArtifactDir, checkpoint: Path, options: ExportOptions
) -> dict[str, Any]:
    """Fills an empty folder with the formats that pass their gates; for the errors and the result see `export_model`.

    Args:
        artifact: The folder to fill.
        checkpoint: The checkpoint's folder.
        options: What the user wants.
    """
    with contextlib.ExitStack() as stack:
        # They import their runtimes while this process builds the network. One that dies takes no
        # other runtime with it.
        fresh = {
            runtime: stack.enter_context(FreshProcess(runtime))
            for runtime in dict.fromkeys(FORMATS[name].runtime for name in options.formats)
        }
        trained = load_trained_model(
            checkpoint,
            score_threshold=options.score_threshold,
            max_detections=options.max_detections,
        )
        exact = all(EXPORTS[name].gate.tolerance is None for name in options.formats)
        limit = NUM_EXACT_IMAGES if exact else NUM_MEASURED_IMAGES
        data = trained.config.data
        proof = find_proof_images(options.images, options.split, data, limit)
        num_files = sum(len(FORMATS[name].paths) for name in options.formats)
        require_space(artifact.path, num_files * (_weight_bytes(trained) + _GRAPH_BYTES))

        artifact.label_map_path.write_text(trained.label_map.to_pbtxt(), encoding="utf-8")
        artifact.config_path.write_text(format_config(trained.config), encoding="utf-8")
        reference = _measure(trained.serving, proof, trained)
        on_first = reference
        if len(trained.config.model.canvas_sizes) > 1 and any(
            FORMATS[name].runtime == "litert" for name in options.formats
        ):
            # A TFLite file takes the first canvas alone. It has to detect what the checkpoint does
            # there; what its AP loses against the checkpoint on all canvases is held to the gate.
            first = ServingModel(
                trained.serving.model,
                trained.serving.config,
                trained.serving.model.canvas_sizes[:1],
            )
            on_first = dataclasses.replace(
                reference, outputs=_measure(first, proof, trained).outputs
            )
        job = Job(trained, artifact, lambda: read_training_samples(options.images, data))
        results = {
            name: _export_format(
                name,
                job,
                fresh[FORMATS[name].runtime],
                proof,
                on_first if FORMATS[name].runtime == "litert" else reference,
                options.max_ap_drop,
            )
            for name in options.formats
        }
    if all(result.failure is not None for result in results.values()):
        raise _nothing_passed(results)
    card = build_card(trained, proof, reference, results, digest_files(artifact.path))
    pictures = zip(proof.images, reference.outputs, strict=True)
    examples = [
        draw_example(image, outputs, trained.label_map)
        for image, outputs in itertools.islice(pictures, NUM_EXAMPLES)
    ]
    artifact.page_path.write_text(
        render_card(card, trained.run.path.resolve().name, examples), encoding="utf-8"
    )
    card["files"][artifact.page_path.name] = digest_file(artifact.page_path)
    artifact.manifest_path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


def _measure(serving: ServingModel, proof: ProofImages, trained: TrainedModel) -> Reference:
    detect = eager_outputs(serving.detect_traced, trained.checkpoint_path, has_variables=True)
    return measure_reference(lambda image: detect(image.as_input(INPUT_NAME)), proof, trained)


def _export_format(
    name: str,
    job: Job,
    fresh: FreshProcess,
    proof: ProofImages,
    reference: Reference,
    max_ap_drop: float | None,
) -> FormatResult:
    """Writes and proves a format, again and again as long as it fails and its writer knows a better way."""
    form, export = FORMATS[name], EXPORTS[name]
    gate = (
        export.gate
        if max_ap_drop is None
        else dataclasses.replace(export.gate, max_ap_drop=max_ap_drop)
    )
    rungs: list[Rung] = []
    failure: ArtifactError | None = None
    began = time.monotonic()
    try:
        for notes in export.write(job):
            outcome = examine(
                form, gate, job.artifact, fresh, proof, reference, job.trained.label_map
            )
            failure = outcome.failure
            rungs.append(Rung(notes, outcome))
            if failure is None:
                return FormatResult(gate, rungs, None, time.monotonic() - began)
    except (ArtifactError, ConfigError, DataError) as error:
        failure = ArtifactError(str(error), path=name)
    _remove(job.artifact, form.paths)
    return FormatResult(gate, rungs, failure, time.monotonic() - began)


def _remove(artifact: ArtifactDir, paths: Sequence[str]) -> None:
    for path in (artifact.path / name for name in paths):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _nothing_passed(results: dict[str, FormatResult]) -> ArtifactError:
    first = next(result.failure for result in results.values() if result.failure)
    others = [name for name, result in results.items() if result.failure is not first]
    more = f"; nor did {', '.join(others)} pass" if others else ""
    return ArtifactError(first.cause, path=first.path, remedy=f"nothing was published{more}")


def _weight_bytes(trained: TrainedModel) -> int:
    return sum(
        variable.dtype.size * variable.shape.num_elements()
        for variable in trained.serving.variables
    )
