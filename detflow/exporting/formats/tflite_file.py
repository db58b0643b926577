"""Edits TFLite files: two models become one, and metadata and class names go in."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any, Final

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

_IDENTIFIER: Final = b"TFL3"
_SIGNATURE: Final = "serving_default"


def join_models(
    first: bytes, second: bytes, tensor_names: Mapping[str, str], metadata: Mapping[str, bytes]
) -> bytes:
    """Feeds a model's outputs to another one's inputs.

    Args:
        first: A TFLite file with one signature.
        second: Another TFLite file, whose inputs are called as the first one's outputs.
        tensor_names: From names in the signatures, of the first model's inputs and the second
            model's outputs in the order that the joined model will have, to names of the tensors.
        metadata: Content of buffers that the model is to hold, by their names.

    Returns:
        A TFLite file with one signature.
    """
    model, tail = (schema.ModelT.InitFromPackedBuf(content, 0) for content in (first, second))
    graph, tail_graph = model.subgraphs[0], tail.subgraphs[0]
    inputs, joints = _places(model.signatureDefs[0].inputs), _places(model.signatureDefs[0].outputs)
    tail_inputs, tail_outputs = (
        _places(tail.signatureDefs[0].inputs),
        _places(tail.signatureDefs[0].outputs),
    )

    # The tail's inputs are the first model's outputs; its other tensors come after those of the
    # first model.
    places = {place: joints[name] for name, place in tail_inputs.items()}
    for place, tensor in enumerate(tail_graph.tensors):
        if place not in places:
            places[place] = len(graph.tensors)
            tensor.buffer += len(model.buffers)
            graph.tensors.append(tensor)
    # -1 marks an optional input that is not given.
    places[-1] = -1
    for operator in tail_graph.operators:
        operator.opcodeIndex += len(model.operatorCodes)
        operator.inputs, operator.outputs = (
            [places[int(i)] for i in tensors] for tensors in (operator.inputs, operator.outputs)
        )
        graph.operators.append(operator)
    model.operatorCodes += tail.operatorCodes
    model.buffers += tail.buffers

    graph.inputs = [inputs[name] for name in tensor_names if name in inputs]
    graph.outputs = [places[tail_outputs[name]] for name in tensor_names if name in tail_outputs]
    for place, name in zip((*graph.inputs, *graph.outputs), tensor_names.values(), strict=True):
        graph.tensors[place].name = name
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = _SIGNATURE, 0
    signature.inputs = [
        _tensor_map(name, place) for name, place in zip(inputs, graph.inputs, strict=True)
    ]
    outputs = [name for name in tensor_names if name in tail_outputs]
    signature.outputs = [
        _tensor_map(name, place) for name, place in zip(outputs, graph.outputs, strict=True)
    ]
    model.signatureDefs = [signature]
    for name, content in metadata.items():
        _add_metadata(model, name, content)
    builder = flatbuffers.Builder(len(first) + len(second))
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def pack_file(model: bytes, name: str, text: str) -> bytes:
    """Appends a ZIP archive with one file to a model.

    An archive is read from its end, so the file is a model for LiteRT and an archive for zipfile.
    """
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        # The entry has no date, so that the same checkpoint gives the same bytes.
        archive.writestr(zipfile.ZipInfo(name), text.encode())
    return file.getvalue()


def _places(entries: Any) -> dict[str, int]:
    return {entry.name.decode(): int(entry.tensorIndex) for entry in entries}


def _tensor_map(name: str, place: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, place
    return entry


def _add_metadata(model: Any, name: str, content: bytes) -> None:
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(content)
    entry.name, entry.buffer = name, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata.append(entry)
