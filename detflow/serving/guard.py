"""What every request passes first: who may ask, counting, and the answers to failures."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import Collection
from itertools import chain

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detflow.errors import DetflowError, EnvironmentFault
from detflow.serving.limits import Refusal
from detflow.serving.metrics import Metrics

_log = logging.getLogger(__name__)

# Orchestrators call these under any host name and have no token.
_PROBES = frozenset({"/healthz", "/readyz"})
# The page says nothing about the model; its script asks the reader for the token.
_OPEN = frozenset({"/", "/page.css", "/page.js"})

# How long the rest of a refused body is read and thrown away, so that the client gets to read the
# answer.
_LINGER_S = 2.0
_CLIENT_LEFT = 499  # nginx's number; it is only counted, nobody receives it.


class Guard:
    """Checks, counts and answers for an application.

    Args:
        app: Its routes' endpoints raise `Refusal`, `DetflowError` or `ClientDisconnect`.
        metrics: Where requests are counted.
        token: The token that clients have to send; None asks for none.
        hosts: Names that the Host header may have, in lower case and without a port; None allows
            all. Where the server listens on the loopback only, this keeps a web page from reaching
            it through a host name that resolves to the loopback (DNS rebinding).
        max_header_bytes: Most bytes of a request line with its headers; more get 431.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        token: str | None,
        hosts: Collection[str] | None,
        max_header_bytes: int,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._token = None if token is None else token.encode()
        self._hosts = hosts
        self._max_header_bytes = max_header_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; see the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), _CLIENT_LEFT

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._serve(scope, receive, send_noted)
        finally:
            # Labels are names of endpoints, not paths: clients could make up any number of paths.
            route = getattr(scope.get("endpoint"), "__name__", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.latency.labels(route).observe(time.perf_counter() - began)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # h11 bounds only headers that arrive in several pieces.
            lines = (scope["raw_path"], scope["query_string"], *chain(*scope["headers"]))
            if sum(map(len, lines)) > self._max_header_bytes:
                raise Refusal(431, f"the headers have more than {self._max_header_bytes:,} bytes")
            self._check(Headers(scope=scope), scope["path"])
            await self._app(scope, receive, send)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            # The shutdown waits no longer. This answer ends the request, so the cancellation goes
            # no further.
            await self._refuse(
                Refusal.unavailable("the server is shutting down"), scope, receive, send
            )
        except Exception as error:  # noqa: BLE001  Every failure is answered; defects are logged.
            await self._refuse(_to_refusal(error, scope), scope, receive, send)

    def _check(self, headers: Headers, path: str) -> None:
        if path in _PROBES:
            return
        if self._hosts is not None and _host_name(headers.get("host", "")) not in self._hosts:
            raise Refusal(421, "the Host header names another server; --allow-host adds a name")
        if headers.get("sec-fetch-site") == "cross-site" and path != "/":
            raise Refusal(403, "requests of other web sites are not served")
        if self._token is not None and path not in _OPEN:
            kind, _, given = headers.get("authorization", "").partition(" ")
            # compare_digest takes only ASCII text, but any bytes, and headers may be Latin-1.
            if kind.lower() != "bearer" or not hmac.compare_digest(
                given.strip().encode(), self._token
            ):
                raise Refusal(
                    401,
                    "expected Authorization: Bearer and the server's token",
                    {"WWW-Authenticate": "Bearer"},
                )

    async def _refuse(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        response = JSONResponse({"error": refusal.reason}, refusal.status, refusal.headers)
        lingers = refusal.status in (408, 413, 415, 431) and "expect" not in Headers(scope=scope)
        if not lingers:
            await response(scope, receive, send)
            return
        # The body was not read to its end, so the connection cannot be used again. Closed at once,
        # it would be reset while the client still sends, and the answer might never be seen.
        response.headers["Connection"] = "close"
        await send(
            {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": response.raw_headers,
            }
        )
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        with contextlib.suppress(asyncio.TimeoutError, ClientDisconnect):
            await asyncio.wait_for(_discard(Request(scope, receive)), _LINGER_S)
        await send({"type": "http.response.body", "body": b""})


async def _discard(request: Request) -> None:
    async for _ in request.stream():
        pass


def _to_refusal(error: Exception, scope: Scope) -> Refusal:
    if isinstance(error, Refusal):
        return error
    defect = None if isinstance(error, DetflowError) else error
    _log.error(
        "%s %s: %s", scope["method"], scope["path"], error or type(error).__name__, exc_info=defect
    )
    if isinstance(error, EnvironmentFault | MemoryError):
        return Refusal.unavailable("the machine's memory does not suffice")
    return Refusal(500, "the model failed on this request; the server's log says why")


def _host_name(host: str) -> str:
    """Returns a Host header in lower case, without its port and an IPv6 address's brackets."""
    name = (
        host.rpartition(":")[0]
        if host.rpartition(":")[2].isdecimal() and not host.endswith("]")
        else host
    )
    return name.strip("[]").rstrip(".").lower()
