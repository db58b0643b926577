"""Frozen graphs as files: bytes or text, read within bounds."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import tensorflow as tf
from google.protobuf import text_format

from detflow.errors import ArtifactError
from detflow.text import first_line

# A message of protobuf has no more bytes. Text of the same length holds a network of 500 MB.
_MAX_BYTES: Final = 2 << 30
_TEXT_SUFFIX: Final = ".pbtxt"


def read_graph(path: Path) -> tf.compat.v1.GraphDef:
    """Reads a graph: text where the file is called `.pbtxt`, else bytes.

    A constant may be written as one value and a shape of any size. All constants together may take
    no more memory than a message of protobuf can hold, whatever they are written as.

    Raises:
        ArtifactError: It is no graph, or larger than one can be.
    """
    with _read_faults(path):
        if path.stat().st_size > _MAX_BYTES:
            raise ArtifactError("the file is larger than a graph can be", path=path)
        content = path.read_bytes()
        graph = tf.compat.v1.GraphDef()
        if path.suffix == _TEXT_SUFFIX:
            text_format.Parse(content, graph)
        else:
            graph.ParseFromString(content)
        num_bytes = sum(_count_bytes(node) for node in graph.node)
    if num_bytes > _MAX_BYTES:
        raise ArtifactError(
            f"its constants take {num_bytes:,} bytes; allowed are {_MAX_BYTES:,}", path=path
        )
    return graph


def _count_bytes(node: tf.compat.v1.NodeDef) -> int:
    """Returns the memory that a constant takes, by the shape that it declares."""
    if node.op != "Const":
        return 0
    tensor = node.attr["value"].tensor
    size: int = tf.as_dtype(tensor.dtype).size if tensor.dtype else 0
    sides: list[int] = [max(side.size, 0) for side in tensor.tensor_shape.dim]
    return size * math.prod(sides)


@contextlib.contextmanager
def _read_faults(path: Path) -> Iterator[None]:
    """Raises ArtifactError for what reading and parsing raise."""
    try:
        yield
    except (OSError, TypeError, ValueError, RecursionError, text_format.ParseError) as error:
        raise ArtifactError(f"not a graph: {first_line(error)}", path=path) from None
    except Exception as error:
        # protobuf's DecodeError is another class in each of its implementations.
        if type(error).__name__ != "DecodeError":
            raise
        raise ArtifactError(f"not a graph: {first_line(error)}", path=path) from None
