"""Exports a checkpoint as a folder that other programs run.

The folder holds one detector in several formats, each proved in a fresh process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detflow.artifact import MANIFEST_NAME, PAGE_NAME, README_NAME, ArtifactDir
from detflow.errors import ArtifactError, ConfigError
from detflow.exporting.choice import DEFAULT_FORMATS, choose_formats, parse_formats
from detflow.exporting.facts import describe_quality, describe_threshold, list_warnings
from detflow.exporting.layouts import choose_layouts
from detflow.exporting.recorded import describe_recorded
from detflow.inference.load import local_model
from detflow.process.libraries import require_library
from detflow.runs.run_dir import RunDir
from detflow.runs.states import find_checkpoint, read_state
from detflow.storage.location import Location, parse_location
from detflow.storage.publishing import publish_folder, require_replaceable
from detflow.tables import format_change, format_metric
from detflow.text import count_noun
from detflow.training.trackers.choice import track_export

if TYPE_CHECKING:
    from detflow.exporting.proof.latency import Timing

_WORDS = ("best", "last")


def export_model(
    ckpt: str,
    output: Location,
    *,
    model_dir: Location | None = None,
    formats: str = DEFAULT_FORMATS,
    images: Path | None = None,
    split: str | None = None,
    score_threshold: float | None = None,
    max_detections: int | None = None,
    max_ap_drop: float | None = None,
    layouts: Sequence[str] = (),
    timing: Timing | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Exports a checkpoint; the folder holds the formats that passed their gate.

    If none passed no folder appears.

    Args:
        ckpt: A model directory, whose best checkpoint is meant; a checkpoint `DIR/ckpt-N`; or the
            word `best` or `last`, which is about `model_dir`.
        output: The folder to publish; an exported folder that stands there is replaced as a whole.
        model_dir: The model directory that the words `best` and `last` are about.
        formats: Names of formats with commas between, or `all` that the checkpoint's architecture
            can become.
        images: Folder of images, or of records, that the proof runs on; None for the run's own
            records.
        split: Split of the records; None for the one that the run was evaluated on.
        score_threshold: Least score of a detection; None for the run's own.
        max_detections: Most detections of one image; None for the run's own.
        max_ap_drop: How much of the checkpoint's AP a format may lose; None for the formats' own
            limits.
        layouts: Names of servers whose layouts of folders are written too; see `layouts`.
        timing: How long each format is timed; None for as long as a good median takes.
        announce: Told what the run's trackers say.

    Returns:
        The content of the published `model.json`. Formats that did not pass stand under `failed`;
        see `find_failure`.

    Raises:
        ConfigError: The arguments contradict each other, the checkpoint's architecture has no such
            format, or the output folder is something else than an exported folder.
        DataError: There is no image to prove the export on.
        ArtifactError: The checkpoint is damaged, or no format passed.
        EnvironmentFault: The disk refuses.
    """
    require_library("tensorflow", "an export")
    parse_formats(formats)
    location, word = _resolve(ckpt, model_dir)
    with local_model(location) as path:
        _, checkpoint = find_checkpoint(path, word)
        chosen = choose_formats(formats, read_state(checkpoint).record.config.model.architecture)
        servers = choose_layouts(layouts, chosen)
        require_replaceable(output, MANIFEST_NAME)
        # The destination is opened first, so that what it refuses is refused before TensorFlow is
        # imported.
        with publish_folder(output, MANIFEST_NAME) as staging:
            from detflow.exporting.build import ExportOptions, build_artifact
            from detflow.exporting.proof.latency import Timing

            options = ExportOptions(
                chosen,
                images,
                split,
                score_threshold,
                max_detections,
                max_ap_drop,
                timing or Timing(),
                servers,
                announce,
            )
            card = build_artifact(ArtifactDir(staging.path), checkpoint, options)
            tracking = read_state(checkpoint).record.config.tracking
            track_export(RunDir(checkpoint.parent), tracking, staging.path, announce)
            return card


def find_failure(card: dict[str, Any], output: Location) -> ArtifactError | None:
    """Returns the error that a published `model.json` tells of; None if every format passed."""
    if not card["failed"]:
        return None
    reasons = "; ".join(failed["reason"] for failed in card["failed"].values())
    return ArtifactError(
        f"not published: {', '.join(card['failed'])}: {reasons}",
        path=str(output),
        remedy=f"published: {', '.join(card['formats'])}",
    )


def describe_card(card: dict[str, Any], output: Location) -> str:
    """Describes a published export for a person: what it is, where it is, how it was proved."""
    checkpoint, parity = card["checkpoint"], card["parity"]
    named, rest = card["classes"][:8], len(card["classes"]) - 8
    lines = [
        f"{checkpoint['name']} → {output}; classes: {', '.join(named)}"
        + (f" and {rest:,} more" if rest > 0 else "")
    ]
    for described in card["formats"].values():
        # Metrics are measured on the first entry; the time is that of all entries together.
        measures = "".join(
            f"; {name} {_with_change(value, described['change'][name])}"
            for name, value in (described["metrics"] or {}).items()
        )
        measures += f"; {described['seconds']:.0f} s"
        for name, entry in described["entries"].items():
            # The name of a folder's further entries has their signature: `saved_model tf_example`.
            path, _, signature = name.partition(" ")
            size = sum(
                digest["bytes"]
                for file, digest in card["files"].items()
                if file == path or file.startswith(f"{path}/")
            )
            what = f" ({signature})" if signature else f", {size / 1e6:.1f} MB"
            lines.append(f"{output / path}{what}: {_describe_agreement(entry)}{measures}")
            measures = ""
    for name, models in card["layouts"].items():
        lines.append(f"{output / name}: {', '.join(models)}")
    lines.append(describe_quality(card["quality"]))
    lines += list_warnings(card)
    lines.append(describe_threshold(card))
    lines.append(describe_recorded(parity["recorded"]))
    if parity["images"] == "synthetic":
        lines.append(
            "The run's records are not there: the proof ran on synthetic pictures. "
            "Name real ones with --images."
        )
    lines.append(f"card: {output / PAGE_NAME}, {output / README_NAME}")
    return "\n".join(lines)


def _describe_agreement(entry: dict[str, Any]) -> str:
    images = count_noun(entry["num_images"], "image")
    if differences := entry["max_differences"]:
        return (
            f"boxes within {differences['detection_boxes']:.1g}, "
            f"scores within {differences['detection_scores']:.1g} of the checkpoint's, "
            f"{count_noun(entry['num_detections'], 'detection')} on {images}"
        )
    if entry["share_found"] is None:
        return f"the checkpoint detects nothing on {images} that had to be found again"
    return (
        f"{entry['share_found']:.1%} of the checkpoint's "
        f"{count_noun(entry['num_detections'], 'detection')} found again on {images}"
    )


def _with_change(value: float | None, change: float | None) -> str:
    return (
        format_metric(value)
        if change is None
        else f"{format_metric(value)} ({format_change(change)})"
    )


def _resolve(ckpt: str, model_dir: Location | None) -> tuple[Location, str]:
    """Returns the place of a model directory or checkpoint, and the word for the checkpoint.

    The word chooses among the checkpoints of a model directory.
    """
    if model_dir is None:
        if ckpt in _WORDS and not Path(ckpt).exists():
            raise ConfigError(
                f"--ckpt {ckpt} does not say of which run", remedy="add --model-dir DIR"
            )
        return parse_location(ckpt), "best"
    if ckpt not in _WORDS:
        raise ConfigError(
            f"--ckpt {ckpt} together with --model-dir",
            remedy="with --model-dir it is best or last; or leave that out",
        )
    return model_dir, ckpt
