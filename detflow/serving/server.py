"""The process around the application: its socket, its connections' time limits, signals, log."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import ipaddress
import json
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from detflow.errors import ConfigError, EnvironmentFault
from detflow.process.platform import raise_open_files, return_large_blocks
from detflow.serving.app import Service
from detflow.serving.limits import Limits
from detflow.serving.metrics import Metrics
from detflow.serving.models import ArtifactSource, ModelStore, load_export

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_TOKEN_VARIABLE = "DETFLOW_TOKEN"  # noqa: S105  The name of a variable.
_MIN_TOKEN_LENGTH = 16
# No header carries more.
_MAX_TOKEN_LETTERS = 1 << 12
# Open files beside the connections: the model's, the log's, and the event loop's own.
_SPARE_FILES = 64
_KEEP_ALIVE_S = 15
_BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How an export is served.

    Attributes:
        name: What clients call the model.
        host: Address to listen on.
        port: Port to listen on; 0 takes any free one.
        token: The token that clients have to send; None asks for none.
        allowed_hosts: Names that the Host header may have. Where it is empty, a server on the
            loopback takes the loopback's names, another server takes all.
        threads: Cores that the network uses for one batch; 0 takes all.
        poll_s: Seconds between two looks for a new export.
        limits: What clients may ask for.
    """

    name: str
    host: str = "127.0.0.1"
    port: int = 8501
    token: str | None = None
    allowed_hosts: Sequence[str] = ()
    threads: int = 0
    poll_s: float = 2.0
    limits: Limits = field(default_factory=Limits)


def serve(artifact: Path, options: ServerOptions, announce: Callable[[str], None]) -> None:
    """Serves an exported folder until SIGTERM or SIGINT; a second signal leaves at once.

    Args:
        artifact: The folder. An export that is published there later is served from then on.
        options: How it is served.
        announce: Told the address, once the model is loaded and requests are served.

    Raises:
        ArtifactError: The folder is no export, or is damaged.
        ConfigError: The name cannot be part of an address.
        EnvironmentFault: The address is taken or is not this machine's.
    """
    if not _NAME.fullmatch(options.name):
        raise ConfigError(
            f"the model's name {options.name!r} cannot be part of an address",
            remedy="pass --name with A-Z a-z 0-9 . _ -",
        )
    _log_to_stderr()
    return_large_blocks()
    source = ArtifactSource(artifact, functools.partial(load_export, threads=options.threads))
    # A damaged export is refused before anything listens or a runtime is imported.
    source.verify()
    limits = _fit_open_files(options.limits)
    listener = _listen(options.host, options.port)
    asyncio.run(_run(source, dataclasses.replace(options, limits=limits), listener, announce))


def read_token(path: Path | None) -> str | None:
    """Returns the bearer token: a file's content, else the variable DETFLOW_TOKEN, else None.

    Raises:
        ConfigError: It cannot be read, is short, or has characters that no HTTP header carries.
    """
    if path is not None:
        try:
            with open(path, encoding="ascii") as file:
                token = file.read(_MAX_TOKEN_LETTERS + 1).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the token: {error}", path=path) from None
    elif _TOKEN_VARIABLE in os.environ:
        token = os.environ[_TOKEN_VARIABLE].strip()
    else:
        return None
    if (
        not _MIN_TOKEN_LENGTH <= len(token) <= _MAX_TOKEN_LETTERS
        or not token.isascii()
        or not token.isprintable()
        or " " in token
    ):
        raise ConfigError(
            f"the token has {len(token)} characters; expected {_MIN_TOKEN_LENGTH} to "
            f"{_MAX_TOKEN_LETTERS:,} of printable ASCII without spaces",
            path=path,
            place=None if path else _TOKEN_VARIABLE,
        )
    return token


def build_server(service: Service, limits: Limits) -> uvicorn.Server:
    """Returns what serves the application on sockets that it is given."""
    config = uvicorn.Config(
        service.app,
        http=_connection_class(limits),
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=limits.max_header_bytes,
        timeout_keep_alive=_KEEP_ALIVE_S,
        # uvicorn takes whole seconds, and waits a few tenths longer than that.
        timeout_graceful_shutdown=max(1, round(limits.drain_s)),
    )
    return _Server(config)


async def _run(
    source: ArtifactSource,
    options: ServerOptions,
    listener: socket.socket,
    announce: Callable[[str], None],
) -> None:
    limits = options.limits
    metrics = Metrics(limits.max_batch)
    store = ModelStore(source, options.name, metrics, options.poll_s)
    service = Service(store, limits, metrics, token=options.token, hosts=_allowed_hosts(options))
    server = build_server(service, limits)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    loading = asyncio.ensure_future(store.wait_loaded())
    await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
    failure = loading.exception() if loading.done() else None
    if failure is not None:
        server.should_exit = True
    elif loading.done():
        host, port = listener.getsockname()[:2]
        announce(f"serving {options.name} on http://{f'[{host}]' if ':' in host else host}:{port}")
    await serving
    loading.cancel()
    if failure is not None:
        raise failure
    if service.batcher.busy or store.loading:
        # A thread inside TensorFlow cannot be stopped, and Python would wait for it, although no
        # client is left that it could answer.
        sys.stderr.flush()
        os._exit(0)


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends after the requests in flight at the first signal, at once at the second."""
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True


def _connection_class(limits: Limits) -> type[H11Protocol]:
    """Returns uvicorn's connection with bounds that uvicorn lacks.

    They are the time to send headers and to read answers, and the number of connections.
    """

    class Connection(H11Protocol):
        _patience: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # The head and the body of an answer are written one by one. asyncio does not recognise
            # a listener that was made outside of it as a TCP socket and leaves Nagle's algorithm
            # on, which holds the body back for the client's delayed acknowledgement, some 40 ms.
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self.connections) > limits.max_connections:
                transport.abort()
            else:
                self._patience = self.loop.call_later(limits.header_s, transport.abort)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._end_patience()
            elif self._patience is None:
                # These are the first bytes of another request on the same connection.
                self._patience = self.loop.call_later(limits.header_s, self.transport.abort)

        def timeout_keep_alive_handler(self) -> None:
            # A client that does not read its answer would keep the answer in memory.
            if self.transport.get_write_buffer_size():
                self.transport.abort()
            else:
                super().timeout_keep_alive_handler()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_patience()
            super().connection_lost(exc)

        def _end_patience(self) -> None:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

    return Connection


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        remedy = "pass another --host or --port"
        raise EnvironmentFault(
            f"cannot listen: {error.strerror or error}", path=f"{host}:{port}", remedy=remedy
        ) from None


def _allowed_hosts(options: ServerOptions) -> frozenset[str] | None:
    """Returns the names of the Host header that are served; None serves all.

    Only a server beyond the loopback serves all.
    """
    named = frozenset(name.lower() for name in options.allowed_hosts)
    if _is_loopback(options.host):
        return named | _LOOPBACK_NAMES | {options.host.lower()}
    return named | {options.host.lower()} if named else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _fit_open_files(limits: Limits) -> Limits:
    """Raises the process's limit of open files to what the connections need.

    Where that is not allowed, fewer connections are.
    """
    needed = limits.max_connections + _SPARE_FILES
    granted = raise_open_files(needed)
    if granted == needed:
        return limits
    return dataclasses.replace(limits, max_connections=max(1, granted - _SPARE_FILES))


class _JsonLines(logging.Formatter):
    """Writes an event as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    # uvicorn's warnings are about malformed requests: they fill a log without telling anything.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
