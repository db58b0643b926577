#!/usr/bin/env python
"""Sabotages conversions of trained checkpoints, and tells which ones the export's proof catches.

    python tools/sabotage_exports.py runs/pets                               # every kind and format
    python tools/sabotage_exports.py runs/a runs/b --formats onnx,tflite_int8 --kinds noise_in_head
    python tools/sabotage_exports.py runs/pets --seeds 1,2,3 --output report.json
    python tools/sabotage_exports.py runs/pets --rehearse --seeds 1,2,3      # converts nothing

A case is a function of (checkpoint, format, kind, seed). Its file is written under the sabotage,
and held to the format's gate in a fresh process, against the honest checkpoint, as `detflow export`
does. Before that an honest file is written: it has to pass, and what it measures is the noise that
a sabotage has to stand out from. Of int8's ladder the first rung is tried: the gate is the same on
each. The exit code is 1 where an honest file is refused.

A conversion takes many seconds. `--rehearse` runs the sabotaged network here instead, as a faithful
conversion of it would, and holds that to the gates of the formats in floats, which are those of the
rounded formats' twins too. What is sabotaged in a conversion itself it does not see.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sabotage.kinds import KINDS, Sabotage
from sabotage.scene import Scene, Subject, load_subject, open_scene

import detflow.exporting  # noqa: F401  (sets TensorFlow's environment)
from detflow.errors import ArtifactError
from detflow.exporting.choice import choose_formats
from detflow.exporting.formats.base import Job, find_writer
from detflow.exporting.proof.compare import EXACT, SAME_NETWORK, Gate
from detflow.exporting.proof.gate import FURTHER_IMAGES, Proof, build_comparison, list_candidates
from detflow.exporting.proof.process import FreshProcess, ProofImage
from detflow.exporting.proof.references import detect_as_it_is, detect_on_bytes
from detflow.exporting.proof.twin import examine_draft
from detflow.inference.detector import Outputs
from detflow.inference.formats import find_format
from detflow.inference.formats.base import Canvas, Format
from detflow.inference.serving import ServingModel

Detect: TypeAlias = Callable[[ProofImage], Outputs]
"""A network as a function of an image."""

REHEARSED = {"frozen": EXACT, "onnx": SAME_NETWORK, "tflite": SAME_NETWORK}
"""Formats in floats with their gates. SavedModels are held to the frozen graph's, OpenVINO to
ONNX', and the twins of rounded TFLite files to TFLite's."""

FORMATS = "frozen,saved_model,onnx,openvino,tflite,tflite_float16,tflite_dynamic,tflite_int8"


@dataclass(frozen=True)
class Case:
    """What came of one conversion.

    Attributes:
        model: Name of the run.
        format: Name of the format.
        kind: Name of the sabotage; empty for an honest conversion.
        seed: Of what is random in the sabotage.
        failure: Why the gate refused the file; empty where it passed.
        measured: How the file agrees with the checkpoint; empty where it failed by that.
        ap_change: How much AP the file has more than the checkpoint; None where it is not known.
    """

    model: str
    format: str
    kind: str
    seed: int
    failure: str
    measured: dict[str, Any]
    ap_change: float | None


class Campaign:
    """Runs cases, each in a process of its runtime that all of them share."""

    def __init__(self, stack: contextlib.ExitStack, gates: dict[str, Gate] | None = None) -> None:
        self._stack = stack
        self._gates = gates or {}
        self._fresh: dict[str, FreshProcess] = {}

    def run(self, subject: Subject, known: Format, kind: Sabotage | None, seed: int) -> Case:
        """Writes a file, under a sabotage or honestly, and holds it to its gate."""
        name = kind.name if kind else ""
        with open_scene(subject, [seed, *name.encode()]) as scene:
            proof = self._write(scene, known, kind)
        ap, before = (
            (x or {}).get("AP") for x in (proof.metrics, subject.references["all"].metrics)
        )
        change = None if ap is None or before is None else ap - before
        measured = next(iter(proof.agreements.values()), None)
        return Case(
            subject.trained.run.path.name,
            known.name,
            name,
            seed,
            str(proof.failure or ""),
            asdict(measured) if measured else {},
            change,
        )

    def _write(self, scene: Scene, known: Format, kind: Sabotage | None) -> Proof:
        writer = find_writer(known)
        with kind.apply(scene) if kind else contextlib.nullcontext(scene.job) as job:
            draft = next(writer.write(job))
        if known.runtime not in self._fresh:
            self._fresh[known.runtime] = self._stack.enter_context(FreshProcess(known.runtime))
        return examine_draft(
            list_candidates(known, scene.job.artifact),
            draft.twin,
            self._gates.get(known.name, writer.gate),
            self._fresh[known.runtime],
            scene.subject.proof,
            scene.subject.references[known.canvas],
            scene.subject.trained,
        )


class Rehearsal:
    """Holds sabotaged networks to the gates as they are, without converting them."""

    def __init__(self) -> None:
        # A network whose weights alone are sabotaged is traced once.
        self._traced: dict[tuple[int, str], tuple[ServingModel, Detect]] = {}

    def run(self, subject: Subject, kind: Sabotage | None, seed: int) -> Iterator[Case]:
        """Yields a case for each gate of a format in floats."""
        name = kind.name if kind else ""
        canvases = {known: format_canvas(known) for known in REHEARSED}
        with (
            open_scene(subject, [seed, *name.encode()]) as scene,
            kind.apply(scene) if kind else contextlib.nullcontext(scene.job) as job,
        ):
            outputs = {
                canvas: self._detect(subject, job, canvas) for canvas in set(canvases.values())
            }
            for known, gate in REHEARSED.items():
                canvas = canvases[known]
                failure, measured = _judge(known, gate, subject, job, canvas, outputs[canvas])
                model = subject.trained.run.path.name
                yield Case(model, known, name, seed, failure, measured, None)

    def _detect(self, subject: Subject, job: Job, canvas: Canvas) -> list[Outputs]:
        key = (id(job.trained.serving), canvas)
        if key not in self._traced:
            detect = (
                detect_on_bytes(job.trained, job.trained.serving.model)
                if canvas == "first"
                else detect_as_it_is(job.trained)
            )
            # The model is kept, so that no other one gets its identity.
            self._traced[key] = (job.trained.serving, detect)
        images = itertools.islice(subject.proof.images, FURTHER_IMAGES)
        return [self._traced[key][1](image) for image in images]


def format_canvas(name: str) -> Canvas:
    """Returns what a format fits images into."""
    known = find_format(name)
    return known.canvas if known else "all"


def _judge(
    known: str, gate: Gate, subject: Subject, job: Job, canvas: Canvas, outputs: list[Outputs]
) -> tuple[str, dict[str, Any]]:
    """Returns why a gate refuses outputs, empty where it does not, and what was measured."""
    comparison = build_comparison(gate, known, subject.trained.checkpoint_path.name)
    expected = subject.references[canvas].outputs
    try:
        if job.trained.label_map != subject.trained.label_map:
            raise ArtifactError("its class names are not the checkpoint's", path=known)
        for image, wanted, found in zip(subject.proof.images, expected, outputs, strict=False):
            comparison.add(image.name, wanted, found)
        return "", asdict(comparison.conclude())
    except ArtifactError as error:
        return str(error), {}


def run_campaign(
    model_dirs: Sequence[Path], formats: str, kinds: Sequence[Sabotage], seeds: Sequence[int]
) -> Iterator[Case]:
    """Runs every case, an honest one of each model and format first.

    Args:
        model_dirs: Model directories, whose best checkpoints are converted.
        formats: Names of formats, with commas between.
        kinds: The kinds of sabotage.
        seeds: The seeds.
    """
    with contextlib.ExitStack() as stack:
        campaign = Campaign(stack)
        for model_dir in model_dirs:
            chosen = choose_formats(formats, "retinanet")
            subject = load_subject(model_dir, chosen)
            for known in chosen:
                yield campaign.run(subject, known, None, 0)
                for kind in kinds:
                    if kind.is_inside(known):
                        yield from (campaign.run(subject, known, kind, seed) for seed in seeds)


def rehearse_campaign(
    model_dirs: Sequence[Path], kinds: Sequence[Sabotage], seeds: Sequence[int]
) -> Iterator[Case]:
    """Does what `run_campaign` does, with nothing converted."""
    rehearsal = Rehearsal()
    chosen = tuple(choose_formats(",".join(REHEARSED), "retinanet"))
    for model_dir in model_dirs:
        subject = load_subject(model_dir, chosen)
        yield from rehearsal.run(subject, None, 0)
        for kind in kinds:
            if kind.is_rehearsed:
                for seed in seeds:
                    yield from rehearsal.run(subject, kind, seed)


def main() -> int:
    """Runs the campaign and prints a line for each case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model_dirs", type=Path, nargs="+", metavar="MODEL_DIR")
    parser.add_argument("--formats", default=FORMATS)
    parser.add_argument("--kinds", default="", help="names with commas between; all unless given")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--rehearse", action="store_true", help="convert nothing")
    parser.add_argument("--output", type=Path, help="a JSON file with all cases")
    arguments = parser.parse_args()
    wanted = set(filter(None, arguments.kinds.split(",")))
    if unknown := wanted - {kind.name for kind in KINDS}:
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    kinds = [kind for kind in KINDS if not wanted or kind.name in wanted]
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    cases = []
    if arguments.rehearse:
        run = rehearse_campaign(arguments.model_dirs, kinds, seeds)
    else:
        run = run_campaign(arguments.model_dirs, arguments.formats, kinds, seeds)
    for case in run:
        cases.append(case)
        print(describe(case), flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps([asdict(case) for case in cases], indent=1) + "\n")
    sabotaged = [case for case in cases if case.kind]
    print(f"caught {sum(bool(case.failure) for case in sabotaged)} of {len(sabotaged)}")
    return int(any(case.failure for case in cases if not case.kind))


def describe(case: Case) -> str:
    """Returns a line about a case."""
    verdict = case.failure or "passed"
    change = "" if case.ap_change is None else f"AP {case.ap_change:+.4f}; "
    return f"{case.model} {case.format} {case.kind or 'honest'} {case.seed}: {change}{verdict}"


if __name__ == "__main__":
    sys.exit(main())
