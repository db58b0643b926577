"""From a checkpoint to a folder that other programs run: one serving contract, several formats, each proved in a fresh process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detflow.artifact import ArtifactDir
from detflow.engine.states import find_checkpoint
from detflow.errors import ConfigError
from detflow.publish import publish_directory, require_replaceable

__all__ = ["describe_card", "export_model"]

_WORDS = ("best", "last")


def export_model(
    ckpt: str,
    output: Path,
    *,
    model_dir: Path | None = None,
    images: Path | None = None,
    score_threshold: float | None = None,
    max_detections: int | None = None,
) -> dict[str, Any]:
    """Exports a checkpoint; the folder appears only when every format in it has been proved.

    Args:
        ckpt: A model directory (its best checkpoint), a checkpoint `DIR/ckpt-N`, or `best` or `last` of `model_dir`.
        output: The folder to publish; an exported folder that stands there is replaced as a whole.
        model_dir: The model directory that the words `best` and `last` are about.
        images: Folder of images, or of records, that the proof runs on; None for the run's own evaluation split.
        score_threshold: Detections below are dropped; None for the run's own.
        max_detections: Most detections of one image; None for the run's own.

    Returns:
        The published `model.json`.

    Raises:
        ConfigError: The arguments contradict each other, or the output folder is something else than an exported folder.
        ArtifactError: The checkpoint is damaged, or a format does not detect what the checkpoint detects.
        EnvironmentFault: The disk refuses.
    """
    _, checkpoint = find_checkpoint(*_resolve(ckpt, model_dir))
    require_replaceable(output, ArtifactDir(output).manifest_path.name)
    # The destination is opened first: what it refuses, it refuses before TensorFlow is imported.
    with publish_directory(output) as staging:
        from detflow.export.build import build_artifact

        return build_artifact(
            ArtifactDir(staging), checkpoint, images=images, score_threshold=score_threshold, max_detections=max_detections
        )


def describe_card(card: dict[str, Any], output: Path) -> str:
    """Returns what a person wants to know of a published `model.json`: what it is, where, and how well it was proved."""
    checkpoint, parity = card["checkpoint"], card["parity"]
    lines = [f"{checkpoint['name']} → {output}: {len(card['classes'])} classes, {', '.join(card['classes'][:8])}"]
    for name, found in parity["formats"].items():
        # A folder with several inputs is proved with each: `saved_model`, `saved_model tf_example`.
        path, _, variant = name.partition(" ")
        size = sum(digest["bytes"] for file, digest in card["files"].items() if file == path or file.startswith(f"{path}/"))
        differences = found["max_differences"]
        lines.append(
            f"{output / path}{f' ({variant})' if variant else f', {size / 1e6:.1f} MB'}: boxes within "
            f"{differences['detection_boxes']:.1g}, scores within {differences['detection_scores']:.1g} of the checkpoint's, "
            f"{found['num_detections']:,} detections on {found['num_images']} images"
        )
    if parity["images"] == "synthetic":
        lines.append("The run's records are not there: the proof ran on synthetic pictures. Name real ones with --images.")
    return "\n".join(lines)


def _resolve(ckpt: str, model_dir: Path | None) -> tuple[Path, str]:
    """Returns the path of a model directory or checkpoint, and which checkpoint of a model directory is meant."""
    if model_dir is None:
        if ckpt in _WORDS and not Path(ckpt).exists():
            raise ConfigError(f"--ckpt {ckpt} does not say of which run", remedy="add --model-dir DIR")
        return Path(ckpt), "best"
    if ckpt not in _WORDS:
        raise ConfigError(
            f"--ckpt {ckpt} together with --model-dir", remedy="with --model-dir it is best or last; or leave that out"
        )
    return model_dir, ckpt
