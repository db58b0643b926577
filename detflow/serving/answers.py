"""What answers look like: detections as TF Serving gives them, and as predict writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detflow.artifact import CONTRACT, OUTPUT_NAMES
from detflow.data.images.pictures import Picture
from detflow.inference.results import describe_detections
from detflow.serving.bodies import SIGNATURES, Item
from detflow.types import Detection

_DTYPES = {"uint8": "DT_UINT8", "float32": "DT_FLOAT", "string": "DT_STRING"}


def describe_image(
    item: Item, picture: Picture, found: Sequence[Detection], threshold: float
) -> dict[str, Any]:
    """Returns the answer for an uploaded picture, as `detflow predict` writes it."""
    size = picture.size
    kept = [detection for detection in found if detection.score >= threshold]
    return {
        "file": item.name,
        "width": size.width,
        "height": size.height,
        "exif_orientation": picture.orientation,
        "detections": describe_detections(kept, size),
    }


def to_row(found: Sequence[Detection]) -> dict[str, Any]:
    """Returns one image's detections in the serving contract's fields, without padding."""
    boxes = [[one.box.ymin, one.box.xmin, one.box.ymax, one.box.xmax] for one in found]
    values = (
        boxes,
        [one.score for one in found],
        [float(one.class_id) for one in found],
        float(len(found)),
    )
    return dict(zip(OUTPUT_NAMES, values, strict=True))


def to_columns(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns a list for each field; shorter rows are padded as the serving contract says."""
    boxes, scores, classes, count = OUTPUT_NAMES
    longest = max(len(row[scores]) for row in rows)
    return {
        **{
            name: [row[name] + [padding] * (longest - len(row[name])) for row in rows]
            for name, padding in ((boxes, [0.0] * 4), (scores, 0.0), (classes, 1.0))
        },
        count: [row[count] for row in rows],
    }


def describe_signatures() -> dict[str, Any]:
    """Returns the serving contract's signatures as TF Serving's metadata have them."""
    outputs = {name: _describe_tensor(name, CONTRACT["outputs"][name]) for name in OUTPUT_NAMES}
    return {
        signature: {
            "inputs": {name: _describe_tensor(name, CONTRACT["inputs"][name])},
            "outputs": outputs,
            "method_name": "tensorflow/serving/predict",
        }
        for signature, name in SIGNATURES.items()
    }


def _describe_tensor(name: str, tensor: dict[str, Any]) -> dict[str, Any]:
    sizes = [str(side) if isinstance(side, int) else "-1" for side in tensor["shape"]]
    return {
        "dtype": _DTYPES[tensor["dtype"]],
        "tensor_shape": {
            "dim": [{"size": size, "name": ""} for size in sizes],
            "unknown_rank": False,
        },
        "name": f"{name}:0",
    }
