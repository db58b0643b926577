"""Writes the frozen graph as text."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf import text_format
from typing_extensions import override

from detflow.exporting.formats.base import Draft, FormatWriter, Job
from detflow.exporting.formats.frozen import build_frozen_graph
from detflow.exporting.proof.compare import EXACT
from detflow.inference.formats.frozen_text import FrozenText


class Writer(FormatWriter[FrozenText]):
    """Writes the graph for pixels."""

    own_gate = EXACT

    @override
    def write(self, job: Job) -> Iterator[Draft]:
        path = job.artifact.path / self.format.entries[0].path
        function = job.trained.serving.detect_traced.get_concrete_function()
        graph = build_frozen_graph(function, job.trained.label_map)
        # This is what `tf.io.write_graph` calls; it asks for an option that protobuf 6 has dropped.
        path.write_text(text_format.MessageToString(graph), encoding="utf-8")
        yield Draft()
