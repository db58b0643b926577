"""tf.Example messages without TensorFlow: the same bytes from the same values, every time.

The message is declared as in TensorFlow's `tensorflow/core/example/feature.proto`, in a descriptor
pool of its own, so that it can live in one process with TensorFlow's.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from detflow.data.records.wire import read_parts

Feature = Sequence[bytes] | Sequence[float] | Sequence[int]
"""The values of one feature: bytes, floats (stored as float32) or integers (int64)."""

_ENCODED_NAME = b"image/encoded"
_KINDS = {bytes: "bytes_list", float: "float_list", int: "int64_list"}
_TYPES = {kind: python_type for python_type, kind in _KINDS.items()}


def encode_example(features: Mapping[str, tuple[type, Feature]]) -> bytes:
    """Returns a serialised tf.Example, features sorted by name.

    Args:
        features: The type and the values of each feature by its name. The type (`bytes`, `float`
            or `int`) says what an empty list is a list of.
    """
    message = _Example()
    target = message.features.feature
    for name, (kind, values) in features.items():
        getattr(target[name], _KINDS[kind]).value.extend(values)
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def decode_example(data: bytes) -> dict[str, Feature]:
    """Reads a serialised tf.Example; a feature without values is an empty tuple.

    Raises:
        ValueError: The bytes are no tf.Example.
    """
    return {name: values for name, (_, values) in decode_typed_example(data).items()}


def decode_typed_example(data: bytes) -> dict[str, tuple[type | None, Feature]]:
    """Reads a serialised tf.Example with the type of each feature; None where it has none.

    Raises:
        ValueError: The bytes are no tf.Example.
    """
    message = _Example()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ValueError(f"not a tf.Example: {error}") from None
    features: dict[str, tuple[type | None, Feature]] = {}
    for name, feature in message.features.feature.items():
        kind = feature.WhichOneof("kind")
        features[name] = (
            (None, ()) if kind is None else (_TYPES[kind], tuple(getattr(feature, kind).value))
        )
    return features


def find_encoded_images(data: bytes) -> list[bytes]:
    """Returns the values of the feature `image/encoded` of a serialised tf.Example.

    Nothing else is unpacked: a hostile message of a few bytes for each value would take many times
    its size.

    Raises:
        ValueError: The bytes are no tf.Example, or hold more than 100,000 fields.
    """
    budget = itertools.count()
    found: list[bytes] = []
    try:
        for features in read_parts(memoryview(data), 1, budget):
            for entry in read_parts(features, 1, budget):
                names = list(read_parts(entry, 1, budget))
                if not names or names[-1] != _ENCODED_NAME:
                    continue
                # Where two entries have one name, the last one counts.
                found = [
                    bytes(value)
                    for feature in read_parts(entry, 2, budget)
                    for values in read_parts(feature, 1, budget)
                    for value in read_parts(values, 1, budget)
                ]
    except ValueError as error:
        raise ValueError(f"not a tf.Example: {error}") from None
    return found


def _build_message() -> Any:
    types = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="detflow/example.proto", package="tensorflow", syntax="proto3"
    )

    def add(
        message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: int, **more: Any
    ) -> None:
        more.setdefault("label", types.LABEL_OPTIONAL)
        message.field.add(name=name, number=number, type=kind, **more)

    for name, kind in (
        ("BytesList", types.TYPE_BYTES),
        ("FloatList", types.TYPE_FLOAT),
        ("Int64List", types.TYPE_INT64),
    ):
        add(file.message_type.add(name=name), "value", 1, kind, label=types.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind) in enumerate(
        (("bytes_list", "Bytes"), ("float_list", "Float"), ("int64_list", "Int64")), start=1
    ):
        add(
            feature,
            name,
            number,
            types.TYPE_MESSAGE,
            type_name=f".tensorflow.{kind}List",
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry", options={"map_entry": True})
    add(entry, "key", 1, types.TYPE_STRING)
    add(entry, "value", 2, types.TYPE_MESSAGE, type_name=".tensorflow.Feature")
    add(
        features,
        "feature",
        1,
        types.TYPE_MESSAGE,
        type_name=".tensorflow.Features.FeatureEntry",
        label=types.LABEL_REPEATED,
    )
    add(
        file.message_type.add(name="Example"),
        "features",
        1,
        types.TYPE_MESSAGE,
        type_name=".tensorflow.Features",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


_Example = _build_message()
