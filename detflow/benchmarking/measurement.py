"""The result of measuring one way into a format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One way into a format, measured.

    Attributes:
        artifact: The exported folder.
        format: The format's name.
        signature: The entry's signature, where the format has several entries; else empty.
        bytes: Size of the format's files.
        cold_start_s: Time from starting a process to its first detections.
        by_threads: What `probe` reports, by the number of threads.
        ap: AP; None where nobody could measure it.
        ap_interval: Where it lies for 90 % of a bootstrap over the images, where that is known; the
            checkpoint's, where the export's proof measured it.
        ap_objects: Objects that it is measured on.
    """

    artifact: str
    format: str
    signature: str
    bytes: int
    cold_start_s: float
    by_threads: Mapping[int, Mapping[str, Any]]
    ap: float | None
    ap_interval: tuple[float, float] | None = None
    ap_objects: int | None = None

    @property
    def name(self) -> str:
        """The name in tables and plots."""
        return f"{self.format} {self.signature}".rstrip()

    @property
    def first(self) -> Mapping[str, Any]:
        """What `probe` reports for the first of the thread numbers."""
        return next(iter(self.by_threads.values()))
