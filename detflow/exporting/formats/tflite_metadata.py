"""Builds TFLite metadata: what a mobile library reads of a detector and of its class names.

The tables are those of metadata_schema.fbs, version 1.1 (github.com/tensorflow/tflite-support,
tensorflow_lite_support/metadata), and the tensors are described as its object detectors are:
`location`, `category`, `score`, `number of detections`. The package that writes them,
tflite-support, has no build for the Pythons that detflow runs on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import flatbuffers

from detflow.geometry import MEAN_RGB
from detflow.inference.labels import LABELS_NAME

METADATA_NAME: Final = "TFLITE_METADATA"
"""The name of the buffer in a model that holds its metadata."""

_DESCRIPTION: Final = (
    "Detects objects. Normalisation and suppression are inside; so are the class names."
)
# The schema's identifier, and the version that has all the fields used here.
_SCHEMA_IDENTIFIER: Final = b"M001"
_PARSER_VERSION: Final = "1.0.0"
# Members of the schema's unions and enumerations.
_FEATURE, _IMAGE, _BOUNDING_BOX = 1, 2, 3
_NORMALIZATION = 1
_RGB = 1
_BOUNDARIES = 1
_RATIO = 0
_VALUE_LABELS = 3
# Places of left, top, right and bottom in [ymin, xmin, ymax, xmax].
_BOX_ORDER = (1, 0, 3, 2)


def build_metadata(name: str, canvas_size: tuple[int, int]) -> bytes:
    """Returns the metadata of a detector as the content of a buffer of its file.

    Args:
        name: The model's name.
        canvas_size: (height, width) in pixels.
    """
    height, width = canvas_size
    fill = ", ".join(str(round(value)) for value in MEAN_RGB)
    labels = _Table({0: LABELS_NAME, 1: "class names", 2: _Byte(_VALUE_LABELS)})
    each = _Table({0: _Int(2), 1: _Int(2)})
    image = _Table(
        {
            0: "image",
            1: (
                "RGB; an image is scaled to fit, put into the top left corner, "
                f"and the rest is filled with the colour {fill}"
            ),
            3: _content(
                _IMAGE, _Table({0: _Byte(_RGB), 1: _Table({0: _Int(width), 1: _Int(height)})})
            ),
            # A mean of 0 and a deviation of 1 say that the file normalises by itself.
            4: [
                _Table(
                    {0: _Byte(_NORMALIZATION), 1: _Table({0: _Floats((0.0,)), 1: _Floats((1.0,))})}
                )
            ],
            5: _Table({0: _Floats((255.0,)), 1: _Floats((0.0,))}),
        }
    )
    box = _Table({0: _Ints(_BOX_ORDER), 1: _Byte(_BOUNDARIES), 2: _Byte(_RATIO)})
    outputs = [
        _Table(
            {
                0: "location",
                1: "boxes [ymin, xmin, ymax, xmax] as shares of the input",
                3: _content(_BOUNDING_BOX, box, each),
            }
        ),
        _Table(
            {
                0: "category",
                1: "classes, counted from 0",
                3: _content(_FEATURE, _Table({}), each),
                6: [labels],
            }
        ),
        _Table(
            {0: "score", 1: "scores, from high to low", 3: _content(_FEATURE, _Table({}), each)}
        ),
        _Table(
            {
                0: "number of detections",
                1: "how many entries are valid",
                3: _content(_FEATURE, _Table({})),
            }
        ),
    ]
    graph = _Table({2: [image], 3: outputs})
    builder = flatbuffers.Builder(1024)
    root = _Table({0: name, 1: _DESCRIPTION, 3: [graph], 7: _PARSER_VERSION}).write(builder)
    builder.Finish(root, _SCHEMA_IDENTIFIER)
    return bytes(builder.Output())


def _content(kind: int, properties: _Table, dimensions: _Table | None = None) -> _Table:
    """Describes a tensor's content; `dimensions` are those that one value takes, None for all."""
    return _Table({0: _Byte(kind), 1: properties} | ({} if dimensions is None else {2: dimensions}))


class _Byte(int):
    """A member of an enumeration, or the kind of a union."""


class _Int(int):
    """A 32-bit number."""


class _Floats(tuple[float, ...]):
    """A vector of 32-bit floats."""


class _Ints(tuple[int, ...]):
    """A vector of 32-bit numbers."""


class _Table:
    """A table of the schema.

    Args:
        fields: Values by their numbers in the schema: text, a number, a table, or a vector of
            numbers or tables.
    """

    def __init__(self, fields: Mapping[int, Any]) -> None:
        self._fields = fields

    def write(self, builder: Any) -> int:
        """Writes the values that the table refers to, then the table; returns its offset."""
        references = {
            number: _write_reference(builder, value) for number, value in self._fields.items()
        }
        builder.StartObject(max(self._fields, default=-1) + 1)
        for number, value in self._fields.items():
            if isinstance(value, _Byte):
                builder.PrependInt8Slot(number, value, 0)
            elif isinstance(value, _Int):
                builder.PrependInt32Slot(number, value, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(number, references[number], 0)
        return int(builder.EndObject())


def _write_reference(builder: Any, value: Any) -> int:
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, _Table):
        return value.write(builder)
    if isinstance(value, (_Byte, _Int)):
        return 0
    if isinstance(value, (_Floats, _Ints)):
        prepend = builder.PrependFloat32 if isinstance(value, _Floats) else builder.PrependUint32
        return _write_vector(builder, value, prepend)
    return _write_vector(
        builder, [table.write(builder) for table in value], builder.PrependUOffsetTRelative
    )


def _write_vector(builder: Any, values: Sequence[Any], prepend: Any) -> int:
    builder.StartVector(4, len(values), 4)
    # A flatbuffer grows from its end, so the last value is written first.
    for value in reversed(values):
        prepend(value)
    return int(builder.EndVector())
