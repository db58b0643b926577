"""What clients may ask of the server, and the refusal that they get beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from detflow.data.images.cost import count_picture_bytes
from detflow.errors import ConfigError

_BODY_COPIES = 3
"""How many times a body lies in memory while it is received and taken apart: in pieces and whole,
then whole and as the parts of a form."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on everything that a client can make large or slow.

    Attributes:
        max_body_bytes: Most bytes of one request; more get 413.
        max_pixels: Most pixels of one picture, read from its header before anything is decoded;
            more get 413.
        max_aspect: Longest side of a picture over its shortest; more get 413. What is longer is a
            line on any canvas.
        max_instances: Most pictures of one request; more get 413.
        max_queue: Most pictures that are read, wait or are in the network; a request beyond gets
            429.
        max_held_bytes: Most bytes of bodies, of what they are read into, of decoded pictures and of
            what the work on them takes; a request beyond gets 429, and one that would never find
            room 413.
        max_batch: Most pictures that go through the network together.
        max_delay_s: Longest time that a picture waits for others that are being received.
        max_connections: Most connections; one more is closed at once.
        max_header_bytes: Most bytes of a request line with its headers; more get 400
            or 431.
        header_s: Time to send the headers; then the connection is closed.
        body_s: Time to send the body; then 408.
        deadline_s: Time from the complete body to the detections; then 504.
        drain_s: Time that a shutdown gives requests in flight; then 503.

    Raises:
        ConfigError: A bound is not positive, or a request may hold more pictures than the queue.
    """

    max_body_bytes: int = 16 << 20
    max_pixels: int = 25_000_000
    max_aspect: float = 500.0
    max_instances: int = 32
    max_queue: int = 128
    max_held_bytes: int = 1 << 30
    max_batch: int = 8
    max_delay_s: float = 0.005
    max_connections: int = 2048
    max_header_bytes: int = 16 << 10
    header_s: float = 10.0
    body_s: float = 30.0
    deadline_s: float = 30.0
    drain_s: float = 20.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 0 or (name != "max_delay_s" and not getattr(self, name)):
                raise ConfigError(f"{name} is {getattr(self, name)}; expected more than 0")
        if self.max_instances > self.max_queue:
            raise ConfigError(
                f"a queue of {self.max_queue} has no room "
                f"for a request of {self.max_instances} pictures",
                remedy="raise --max-queue or lower --max-instances",
            )
        needed = self.count_body_bytes(self.max_body_bytes) + count_picture_bytes([self.max_pixels])
        if needed > self.max_held_bytes:
            raise ConfigError(
                f"{self.max_held_bytes:,} bytes of memory have no room for a body of "
                f"{self.max_body_bytes:,} bytes and a picture of {self.max_pixels:,} pixels, which "
                f"take {needed:,}",
                remedy="raise --max-memory-mb, or lower --max-pixels or --max-body-mb",
            )

    @staticmethod
    def count_body_bytes(num_bytes: int) -> int:
        """Returns the memory for a body of so many bytes, or for a piece of one."""
        return _BODY_COPIES * num_bytes


class Refusal(Exception):
    """A request that is not served, and why.

    Attributes:
        status: The HTTP status.
        reason: One line for the client.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})

    @classmethod
    def busy(cls, reason: str) -> Refusal:
        """Returns the refusal of a server that has too much to do; the client may try again."""
        return cls(429, reason, {"Retry-After": "1"})

    @classmethod
    def unavailable(cls, reason: str) -> Refusal:
        """Returns the refusal of a server that cannot serve yet, or no longer."""
        return cls(503, reason, {"Retry-After": "5"})
