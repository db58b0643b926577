"""OpenVINO's IR, converted from the ONNX model, so that both compute the same."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from detflow.errors import ArtifactError, EnvironmentFault
from detflow.exporting.onnx import write_onnx
from detflow.inference.serving import ServingModel
from detflow.label_map import LabelMap
from detflow.text import first_line

__all__ = ["write_openvino"]

# Where IR files keep what is told about a model.
_LABELS_KEY = ("model_info", "labels")


def write_openvino(serving: ServingModel, label_map: LabelMap, path: Path) -> None:
    """Writes the model as IR.

    Args:
        serving: With the weights.
        label_map: Stands in the file's model_info, one label after the other with blanks between,
            as OpenVINO's own tools have it.
        path: The `.xml` file; weights go into a `.bin` beside it. Its folder is made.

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
            model = openvino.convert_model(os.fspath(source))
        except RuntimeError as error:
            raise ArtifactError(
                f"OpenVINO cannot convert it: {first_line(error)}", path=path.name
            ) from None
    # Blanks separate the labels.
    model.set_rt_info(" ".join(name.replace(" ", "_") for name in label_map), list(_LABELS_KEY))
    try:
        openvino.save_model(model, os.fspath(path), compress_to_fp16=False)
    except RuntimeError as error:
        # It does not tell what the system said to it.
        raise EnvironmentFault(f"the disk refuses: {first_line(error)}", path=path) from None
