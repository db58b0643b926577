"""Graphs of other people, as bytes and as text."""

import time

import pytest
import tensorflow as tf
from google.protobuf import text_format

from detflow.errors import ArtifactError
from detflow.inference import graphs
from detflow.inference.graphs import read_graph

pytestmark = pytest.mark.tf


def draw_graph(shape=(2, 3)):
    graph = tf.compat.v1.GraphDef()
    node = graph.node.add(name="weights", op="Const")
    node.attr["dtype"].type = tf.float32.as_datatype_enum
    tensor = node.attr["value"].tensor
    tensor.dtype = tf.float32.as_datatype_enum
    tensor.float_val.append(0.1)
    for side in shape:
        tensor.tensor_shape.dim.add(size=side)
    return graph


def write(graph, folder, suffix):
    path = folder / f"graph{suffix}"
    if suffix == ".pbtxt":
        path.write_text(text_format.MessageToString(graph), encoding="utf-8")
    else:
        path.write_bytes(graph.SerializeToString())
    return path


@pytest.mark.parametrize("suffix", [".pb", ".pbtxt"])
def test_a_graph_comes_back(suffix, tmp_path):
    assert read_graph(write(draw_graph(), tmp_path, suffix)) == draw_graph()


@pytest.mark.parametrize("suffix", [".pb", ".pbtxt"])
def test_a_constant_that_says_that_it_is_enormous_is_refused(suffix, tmp_path):
    path = write(draw_graph((1 << 20, 1 << 20)), tmp_path, suffix)
    assert path.stat().st_size < 1000
    with pytest.raises(ArtifactError, match="its constants take 4,398,046,511,104 bytes") as caught:
        read_graph(path)
    assert caught.value.exit_code == 4


def test_a_file_that_is_longer_than_a_graph_can_be_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "_MAX_BYTES", 100)
    path = tmp_path / "graph.pbtxt"
    path.write_bytes(b"#" * 101)
    with pytest.raises(ArtifactError, match="larger than a graph can be"):
        read_graph(path)


DEEP = b'node { attr { key: "a" value { ' + b"func { attr { value { " * 20_000


@pytest.mark.parametrize(
    "content",
    [
        b"no graph",
        b'node { name: "a" op: "Const" attr { key: "value" value { tensor { dtype: 7777 } } } }',
        b"item { id: 1 name: 'disc' }",
        b"\xff\xfe\x00",
        DEEP,
        b'node { attr { key: "v" value { tensor { tensor_content: "\\777 } } } }',
    ],
    ids=["text", "dtype", "label map", "bytes", "deep", "open string"],
)
def test_what_is_no_graph_is_refused_in_one_line_and_soon(content, tmp_path):
    path = tmp_path / "graph.pbtxt"
    path.write_bytes(content)
    began = time.process_time()
    with pytest.raises(ArtifactError, match="not a graph") as caught:
        read_graph(path)
    assert "\n" not in str(caught.value)
    assert time.process_time() - began < 5
