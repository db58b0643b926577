"""One record: a sample as tf.Example with the TF Object Detection API's fields, written and read.

`docs/records.md` describes the fields.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from detflow.data.records.example import Feature, decode_example, encode_example
from detflow.label_map import LabelMap
from detflow.types import Box, ImageSize, ObjectAnnotation, Sample

_BOX_FEATURES = (
    "image/object/bbox/ymin",
    "image/object/bbox/xmin",
    "image/object/bbox/ymax",
    "image/object/bbox/xmax",
)


class ObjectColumns(NamedTuple):
    """An image's objects as a record has them: a column for each property, all equally long.

    Attributes:
        names: The class names.
        boxes_yxyx: The boxes [ymin, xmin, ymax, xmax], normalised and rounded to float32 (see
            `round_to_record`).
        difficult: VOC's flag of each object, 0 or 1.
        truncated: VOC's flag of each object, 0 or 1.
        poses: VOC's free text of each object.
        crowds: COCO's flag of each object, 0 or 1.
    """

    names: Sequence[str]
    boxes_yxyx: Sequence[tuple[float, float, float, float]]
    difficult: Sequence[int]
    truncated: Sequence[int]
    poses: Sequence[str]
    crowds: Sequence[int]

    @classmethod
    def of(cls, objects: Sequence[ObjectAnnotation]) -> ObjectColumns:
        """Returns the columns of objects.

        Raises:
            ValueError: A box is not rounded to float32.
        """
        boxes = [
            (entry.box.ymin, entry.box.xmin, entry.box.ymax, entry.box.xmax) for entry in objects
        ]
        for box, rounded in zip(boxes, round_to_record(boxes), strict=True):
            if box != rounded:
                raise ValueError(f"box {box} is not rounded to float32")
        return cls(
            names=[entry.name for entry in objects],
            boxes_yxyx=boxes,
            difficult=[int(entry.difficult) for entry in objects],
            truncated=[int(entry.truncated) for entry in objects],
            poses=[entry.pose for entry in objects],
            crowds=[int(entry.crowd) for entry in objects],
        )

    def to_objects(self) -> tuple[ObjectAnnotation, ...]:
        """Returns the objects."""
        return tuple(
            ObjectAnnotation(name, Box(*box), bool(difficult), bool(truncated), pose, bool(crowd))
            for name, box, difficult, truncated, pose, crowd in zip(*self, strict=True)
        )


def round_to_record(
    boxes: Sequence[tuple[float, float, float, float]],
) -> list[tuple[float, float, float, float]]:
    """Rounds boxes to float32, as tf.Example stores them, so that they are read as written."""
    floats = iter(array("f", chain.from_iterable(boxes)))
    return list(zip(floats, floats, floats, floats, strict=True))


def to_record_box(box: Box) -> Box:
    """Rounds a box (see `round_to_record`).

    Raises:
        ValueError: Rounding leaves no area.
    """
    return Box(*round_to_record([(box.ymin, box.xmin, box.ymax, box.xmax)])[0])


def encode_sample(sample: Sample, label_map: LabelMap) -> bytes:
    """Returns a sample as a tf.Example with the TF Object Detection API's fields.

    Raises:
        ValueError: A box is not rounded to float32 (see `to_record_box`).
        KeyError: A class is not in the label map.
    """
    return encode_record(
        key=sample.key,
        source_id=sample.source_id,
        filename=sample.filename,
        size=sample.size,
        encoded=sample.encoded,
        encoded_sha256=hashlib.sha256(sample.encoded).hexdigest(),
        columns=ObjectColumns.of(sample.objects),
        class_ids=to_class_ids(label_map),
    )


def encode_record(
    *,
    key: str,
    source_id: int,
    filename: str,
    size: ImageSize,
    encoded: bytes,
    encoded_sha256: str,
    columns: ObjectColumns,
    class_ids: Mapping[str, int],
) -> bytes:
    """Returns what `encode_sample` returns, from a sample's parts and their digest.

    Args:
        key: The sample's unique name: the annotation's path without its suffix.
        source_id: The sample's number from 1, which evaluators know it by.
        filename: The image's path inside the dataset.
        size: The size of the encoded image.
        encoded: The image as a JPEG.
        encoded_sha256: The SHA-256 of `encoded` in hexadecimal.
        columns: The objects.
        class_ids: The 1-based id of each class by its name.

    Raises:
        KeyError: A class has no id.
    """
    names, boxes, difficult, truncated, poses, crowds = columns
    ymin, xmin, ymax, xmax = zip(*boxes, strict=True) if boxes else ((), (), (), ())
    # Areas are in square pixels, as in COCO's annotations.
    areas = [
        (bottom - top) * (right - left) * size.num_pixels for top, left, bottom, right in boxes
    ]
    features: dict[str, tuple[type, Feature]] = {
        "image/encoded": (bytes, (encoded,)),
        "image/format": (bytes, (b"jpeg",)),
        "image/height": (int, (size.height,)),
        "image/width": (int, (size.width,)),
        "image/filename": (bytes, (_to_bytes(filename),)),
        "image/source_id": (bytes, (b"%d" % source_id,)),
        "image/key": (bytes, (_to_bytes(key),)),
        "image/key/sha256": (bytes, (encoded_sha256.encode(),)),
        "image/object/bbox/ymin": (float, ymin),
        "image/object/bbox/xmin": (float, xmin),
        "image/object/bbox/ymax": (float, ymax),
        "image/object/bbox/xmax": (float, xmax),
        "image/object/class/text": (bytes, [_to_bytes(name) for name in names]),
        "image/object/class/label": (int, [class_ids[name] for name in names]),
        "image/object/difficult": (int, difficult),
        "image/object/truncated": (int, truncated),
        "image/object/view": (bytes, [_to_bytes(pose) for pose in poses]),
        "image/object/is_crowd": (int, crowds),
        "image/object/area": (float, areas),
    }
    return encode_example(features)


def to_class_ids(label_map: LabelMap) -> dict[str, int]:
    """Returns the 1-based ids by name."""
    return {name: class_id for class_id, name in enumerate(label_map, start=1)}


def decode_sample(data: bytes, label_map: LabelMap) -> Sample:
    """Reads `encode_sample`'s bytes.

    Raises:
        ValueError: They are not a sample, or do not agree with the label map.
    """
    features: dict[str, Any] = dict(decode_example(data))
    try:
        names = [_to_text(text) for text in features["image/object/class/text"]]
        # tuple.index would look at every class for every object; the ids say where to look.
        if [
            label_map.name_of(class_id) for class_id in features["image/object/class/label"]
        ] != names:
            raise ValueError("class names and ids do not agree with the label map")
        columns = (
            names,
            list(zip(*(features[name] for name in _BOX_FEATURES), strict=True)),
            features["image/object/difficult"],
            features["image/object/truncated"],
            features["image/object/view"],
            features["image/object/is_crowd"],
        )
        objects = tuple(
            ObjectAnnotation(
                name,
                Box(*box),
                difficult=bool(difficult),
                truncated=bool(truncated),
                pose=_to_text(view),
                crowd=bool(crowd),
            )
            for name, box, difficult, truncated, view, crowd in zip(*columns, strict=True)
        )
        (encoded,), (height,), (width,) = (
            features["image/encoded"],
            features["image/height"],
            features["image/width"],
        )
        (key,), (filename,), (source_id,) = (
            features["image/key"],
            features["image/filename"],
            features["image/source_id"],
        )
        return Sample(
            key=_to_text(key),
            source_id=int(source_id),
            filename=_to_text(filename),
            size=ImageSize(width, height),
            encoded=encoded,
            objects=objects,
        )
    except KeyError as error:
        raise ValueError(f"field or class id {error} is missing") from None


def _to_bytes(text: str) -> bytes:
    # Names of files need not be UTF-8; Python carries such bytes as lone surrogates.
    return text.encode("utf-8", "surrogateescape")


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
