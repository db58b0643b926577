"""Writes OpenVINO's IR, which is converted from the ONNX model, so that both compute the same."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from typing_extensions import override

from detflow.errors import ArtifactError, EnvironmentFault
from detflow.exporting.formats.base import Draft, FormatWriter, Job
from detflow.exporting.formats.onnx import write_onnx
from detflow.exporting.proof.compare import SAME_NETWORK
from detflow.inference.formats.openvino import NAMES_KEY, OpenVino
from detflow.inference.serving import ServingModel
from detflow.label_map import LabelMap
from detflow.text import first_line


class Writer(FormatWriter[OpenVino]):
    """Writes the two files."""

    own_gate = SAME_NETWORK

    @override
    def write(self, job: Job) -> Iterator[Draft]:
        path = job.artifact.path / self.format.entries[0].path
        write_openvino(job.trained.serving, job.trained.label_map, path)
        yield Draft()


def write_openvino(serving: ServingModel, label_map: LabelMap, path: Path) -> None:
    """Writes the model as IR.

    Args:
        serving: The model, with its weights.
        label_map: The classes. The file's model_info holds their names twice: with blanks between,
            as OpenVINO's own tools write them, and as they are, in a JSON list.
        path: The `.xml` file; the weights go into a `.bin` beside it. Its folder is made.

    Raises:
        ArtifactError: OpenVINO cannot convert it.
        EnvironmentFault, OSError: The disk refuses.
    """
    import openvino

    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source = Path(folder, "model.onnx")
        write_onnx(serving, label_map, source)
        try:
            # What this reads is what `convert_model` makes of it, which also reports its use to
            # OpenVINO's makers.
            model = openvino.Core().read_model(os.fspath(source))
        except RuntimeError as error:
            raise ArtifactError(
                f"OpenVINO cannot convert it: {first_line(error)}", path=path.name
            ) from None
    # Blanks separate the labels, so those inside a name become underscores.
    labels = " ".join(name.replace(" ", "_") for name in label_map)
    model.set_rt_info(labels, ["model_info", "labels"])
    model.set_rt_info(json.dumps(list(label_map)), list(NAMES_KEY))
    try:
        openvino.save_model(model, os.fspath(path), compress_to_fp16=False)
    except RuntimeError as error:
        # OpenVINO does not pass on the system's error, but nothing else fails here.
        raise EnvironmentFault(f"the disk refuses: {first_line(error)}", path=path) from None
