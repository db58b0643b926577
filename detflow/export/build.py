"""One export, from top to bottom: load, write every format, prove all of them in a fresh process, write the card."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from detflow.artifact import ArtifactDir
from detflow.config import format_config
from detflow.engine.detector import eager_outputs
from detflow.engine.trained import TrainedModel, load_trained_model
from detflow.export.card import build_card
from detflow.export.frozen import write_frozen_graph
from detflow.export.images import find_proof_images
from detflow.export.saved_model import write_saved_model
from detflow.export.verify import FreshProcess, prove
from detflow.publish import digest_files, require_space

__all__ = ["build_artifact"]

# Each format holds the weights once; its graph, the card and the label map fit in this.
_GRAPH_BYTES = 8 << 20


def build_artifact(
    artifact: ArtifactDir,
    ckpt: Path,
    word: str,
    *,
    images: Path | None,
    score_threshold: float | None,
    max_detections: int | None,
) -> dict[str, Any]:
    """Fills an empty folder; for the arguments, errors and result see `export_model`.

    Args:
        artifact: The folder to fill.
        ckpt: A model directory or a checkpoint in one.
        word: `best` or `last`: which checkpoint of a model directory.
        images: As in `export_model`.
        score_threshold: As in `export_model`.
        max_detections: As in `export_model`.
    """
    # It imports TensorFlow while this process builds the network.
    with FreshProcess() as fresh:
        trained = load_trained_model(ckpt, word, score_threshold=score_threshold, max_detections=max_detections)
        proof = find_proof_images(images, trained.config.data)
        formats = (artifact.frozen_graph_path, artifact.saved_model_path)
        require_space(artifact.path, len(formats) * (_weight_bytes(trained) + _GRAPH_BYTES))

        artifact.label_map_path.write_text(trained.label_map.to_pbtxt(), encoding="utf-8")
        artifact.config_path.write_text(format_config(trained.config), encoding="utf-8")
        write_frozen_graph(trained.serving, trained.label_map, artifact.frozen_graph_path)
        write_saved_model(trained.serving, artifact.label_map_path, artifact.saved_model_path)

        for path in formats:
            fresh.load(path.name, path)
        agreements = prove(
            eager_outputs(trained.serving.detect_traced),
            {path.name: functools.partial(fresh.run, path.name) for path in formats},
            proof.images,
            reference_name=trained.checkpoint_path.name,
        )
    card = build_card(trained, proof, agreements, digest_files(artifact.path))
    artifact.manifest_path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


def _weight_bytes(trained: TrainedModel) -> int:
    return sum(variable.dtype.size * variable.shape.num_elements() for variable in trained.serving.variables)
