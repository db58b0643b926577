"""The command that serves an export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from detflow.cli.options import EXISTING, FieldOption, FiniteRange, given
from detflow.cli.output import print_text

_Command = TypeVar("_Command", bound=Callable[..., None])

_SERVER = "detflow.serving.server:ServerOptions"
_LIMITS = "detflow.serving.limits:Limits"
_COUNT = click.IntRange(1)
_SECONDS = FiniteRange(0.1)


def _server(option: str, **settings: Any) -> Callable[[_Command], _Command]:
    return click.option(option, cls=FieldOption, **settings)


def _limit(option: str, field: str, **settings: Any) -> Callable[[_Command], _Command]:
    return click.option(option, field, cls=FieldOption, field=f"{_LIMITS}.{field}", **settings)


@click.command(short_help="Serve an export over HTTP.")
@click.argument("artifact", metavar="DIR", type=EXISTING)
@click.option("--name", help="What clients call the model.  [default: the folder's name]")
@_server(
    "--host",
    field=f"{_SERVER}.host",
    help="Address to listen on; 0.0.0.0 is all addresses of this machine.",
)
@_server(
    "--port",
    field=f"{_SERVER}.port",
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes any free one.",
)
@click.option(
    "--token-file",
    type=EXISTING,
    help="File whose content clients must send as Authorization: Bearer.  "
    "[default: the variable DETFLOW_TOKEN, else no token]",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Serve requests whose Host header is NAME. May be repeated.",
)
@_server(
    "--threads",
    field=f"{_SERVER}.threads",
    type=click.IntRange(0),
    help="Cores for one batch; 0 takes all.",
)
@_limit("--max-batch", "max_batch", type=_COUNT, help="Most pictures in one batch.")
@_limit(
    "--max-delay-ms",
    "max_delay_s",
    unit=0.001,
    type=FiniteRange(0),
    help="Longest wait, in milliseconds, for other pictures of the same batch.",
)
@_limit(
    "--max-queue",
    "max_queue",
    type=_COUNT,
    help="Most pictures in work; a request beyond gets 429.",
)
@_limit(
    "--max-instances",
    "max_instances",
    type=_COUNT,
    help="Most pictures of one request; more get 413.",
)
@_limit(
    "--max-body-mb",
    "max_body_bytes",
    unit=1 << 20,
    type=_COUNT,
    help="Most MiB of one request; more get 413.",
)
@_limit("--max-pixels", "max_pixels", type=_COUNT, help="Most pixels of one picture; more get 413.")
@_limit(
    "--max-memory-mb",
    "max_held_bytes",
    unit=1 << 20,
    type=_COUNT,
    help="Most MiB of all requests together; a request beyond gets 429.",
)
@_limit("--body-s", "body_s", type=_SECONDS, help="Seconds to send a body; then 408.")
@_limit("--deadline-s", "deadline_s", type=_SECONDS, help="Seconds to detect; then 504.")
@_limit("--drain-s", "drain_s", type=FiniteRange(1), help="Seconds that a shutdown waits at most.")
def serve(
    artifact: Path,
    name: str | None,
    token_file: Path | None,
    allowed_hosts: tuple[str, ...],
    host: str | None,
    port: int | None,
    threads: int | None,
    **limits: Any,
) -> None:
    """Serve an export over HTTP.

    It answers TF Serving's REST calls and uploads, and has metrics and a page to try it with. A new
    export that is published at DIR replaces the old one without a pause, if it is sound. SIGTERM or
    Ctrl-C ends the server when the requests in flight are answered; a second one ends it at once.
    """
    from detflow.serving.limits import Limits
    from detflow.serving.server import ServerOptions, read_token
    from detflow.serving.server import serve as run_server

    options = ServerOptions(
        name=name if name is not None else artifact.resolve().name,
        token=read_token(token_file),
        allowed_hosts=allowed_hosts,
        limits=Limits(**given(limits)),
        **given({"host": host, "port": port, "threads": threads}),
    )
    run_server(artifact, options, print_text)
