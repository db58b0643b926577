"""The list of dialects that are written."""

from __future__ import annotations

from detflow.data.sinks.coco import CocoSink
from detflow.data.sinks.csv import CsvSink
from detflow.data.sinks.sink import Sink
from detflow.data.sinks.voc import VocSink
from detflow.data.sinks.yolo import YoloSink
from detflow.errors import ConfigError

SINKS: tuple[Sink, ...] = (VocSink(), CocoSink(), YoloSink(), CsvSink())


def find_sink(name: str) -> Sink:
    """Returns the sink of a name.

    Raises:
        ConfigError: There is none.
    """
    for sink in SINKS:
        if sink.name == name:
            return sink
    known = ", ".join(sink.name for sink in SINKS)
    raise ConfigError(f"there is no dialect {name!r} to write", remedy=f"choose from {known}")
