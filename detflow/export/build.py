"""One export, from top to bottom: load, write every format, prove all of them in a fresh process, write the card."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from detflow.artifact import ENCODED_INPUT_NAME, EXAMPLE_INPUT_NAME, INPUT_NAME, ArtifactDir
from detflow.config import format_config
from detflow.engine.detector import eager_outputs
from detflow.engine.trained import TrainedModel, load_trained_model
from detflow.export.card import build_card
from detflow.export.frozen import write_frozen_graph
from detflow.export.images import find_proof_images
from detflow.export.saved_model import write_saved_model
from detflow.export.verify import Candidate, FreshProcess, prove
from detflow.publish import digest_files, require_space

__all__ = ["build_artifact"]

# Each format holds the weights once; its graph, the card and the label map fit in this.
_GRAPH_BYTES = 8 << 20


def build_artifact(
    artifact: ArtifactDir,
    checkpoint: Path,
    *,
    images: Path | None,
    score_threshold: float | None,
    max_detections: int | None,
) -> dict[str, Any]:
    """Fills an empty folder; for the arguments, errors and result see `export_model`.

    Args:
        artifact: The folder to fill.
        checkpoint: The checkpoint's folder.
        images: As in `export_model`.
        score_threshold: As in `export_model`.
        max_detections: As in `export_model`.
    """
    # It imports TensorFlow while this process builds the network.
    with FreshProcess() as fresh:
        trained = load_trained_model(checkpoint, score_threshold=score_threshold, max_detections=max_detections)
        proof = find_proof_images(images, trained.config.data)
        candidates = _candidates(artifact)
        num_files = len({candidate.path for candidate in candidates})
        require_space(artifact.path, num_files * (_weight_bytes(trained) + _GRAPH_BYTES))

        artifact.label_map_path.write_text(trained.label_map.to_pbtxt(), encoding="utf-8")
        artifact.config_path.write_text(format_config(trained.config), encoding="utf-8")
        serving = trained.serving
        pixels, files = serving.detect_traced.get_concrete_function(), serving.detect_encoded_traced.get_concrete_function()
        write_frozen_graph(pixels, trained.label_map, artifact.frozen_graph_path)
        write_frozen_graph(files, trained.label_map, artifact.encoded_graph_path)
        write_saved_model(serving, artifact.label_map_path, artifact.saved_model_path)

        for candidate in candidates:
            fresh.load(candidate)
        detect = eager_outputs(serving.detect_traced, trained.checkpoint_path)
        agreements = prove(
            lambda image: detect(image.as_input(INPUT_NAME)),
            {candidate.name: functools.partial(fresh.run, candidate) for candidate in candidates},
            proof.images,
            reference_name=trained.checkpoint_path.name,
        )
    card = build_card(trained, proof, agreements, digest_files(artifact.path))
    artifact.manifest_path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


def _candidates(artifact: ArtifactDir) -> tuple[Candidate, ...]:
    """Every format with every input that it takes."""
    graph, encoded_graph, saved_model = artifact.frozen_graph_path, artifact.encoded_graph_path, artifact.saved_model_path
    return (
        Candidate(graph.name, graph, INPUT_NAME),
        Candidate(encoded_graph.name, encoded_graph, ENCODED_INPUT_NAME),
        Candidate(saved_model.name, saved_model, INPUT_NAME),
        Candidate(f"{saved_model.name} image_bytes", saved_model, ENCODED_INPUT_NAME),
        Candidate(f"{saved_model.name} tf_example", saved_model, EXAMPLE_INPUT_NAME),
    )


def _weight_bytes(trained: TrainedModel) -> int:
    return sum(variable.dtype.size * variable.shape.num_elements() for variable in trained.serving.variables)
