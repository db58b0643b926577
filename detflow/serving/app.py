"""The routes: TF Serving's REST shape, uploads, probes, metrics and the page."""

from __future__ import annotations

import asyncio
import html
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar

import prometheus_client
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from detflow.data.images.cost import count_picture_bytes
from detflow.data.images.pictures import Picture
from detflow.inference.detector import place_detections
from detflow.inference.results import DEFAULT_SCORE_THRESHOLD, FRAME
from detflow.pages.colours import class_colour, format_css, to_hex
from detflow.serving.answers import describe_image, describe_signatures, to_columns, to_row
from detflow.serving.batching import Batcher, Ticket
from detflow.serving.bodies import (
    Item,
    count_header_bytes,
    count_json_bytes,
    count_pixels,
    decode_item,
    parse_instances,
    parse_upload,
    receive_body,
)
from detflow.serving.guard import Guard
from detflow.serving.limits import Limits, Refusal
from detflow.serving.metrics import Metrics
from detflow.serving.models import ModelStore, ServedModel
from detflow.types import Detection

_T = TypeVar("_T")

# Two pictures are decoded while the network runs; more would take cores away from it.
_NUM_DECODERS = 2
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# One after the other, in one scope.
_SCRIPTS = ("pictures.js", "drawing.js", "camera.js", "events.js")
_THRESHOLD = "score_threshold"


class Service:
    """The server without its socket.

    Args:
        store: The model.
        limits: What clients may ask for.
        metrics: Where everything is counted.
        token: The token that clients have to send; None asks for none.
        hosts: Names that the Host header may have; None allows all.

    Attributes:
        app: An ASGI application. Its lifespan loads the model and serves the queue.
        batcher: The queue.
    """

    def __init__(
        self,
        store: ModelStore,
        limits: Limits,
        metrics: Metrics,
        *,
        token: str | None = None,
        hosts: Collection[str] | None = None,
    ) -> None:
        self._store = store
        self._limits = limits
        self._metrics = metrics
        self._decoders = ThreadPoolExecutor(_NUM_DECODERS, "decode")
        self.batcher = Batcher(limits, metrics)
        model_path = f"/v1/models/{store.name}"
        routes = [
            Route("/", self.page),
            Route("/page.css", self.page_style),
            Route("/page.js", self.page_script),
            Route("/page.json", self.page_settings),
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.show_metrics),
            Route("/predict", self.predict, methods=["POST"]),
        ]
        for prefix in (model_path, f"{model_path}/versions/{{version:int}}"):
            routes += [
                Route(f"{prefix}:predict", self.tf_predict, methods=["POST"]),
                Route(f"{prefix}/metadata", self.tf_metadata),
                Route(prefix, self.tf_status),
            ]
        guard = Middleware(
            Guard,
            metrics=metrics,
            token=token,
            hosts=hosts,
            max_header_bytes=limits.max_header_bytes,
        )
        handlers = {HTTPException: _answer_http_exception}
        self.app = Starlette(
            routes=routes, middleware=[guard], exception_handlers=handlers, lifespan=self._lifespan
        )
        self.app.router.redirect_slashes = False

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(self._decoders.shutdown, wait=False, cancel_futures=True)
            for work in (self.batcher.run(), self._store.run()):
                stack.push_async_callback(_cancel, asyncio.ensure_future(work))
            yield

    async def healthz(self, request: Request) -> Response:
        """Answers that the process lives."""
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Answers whether a request would be served now; with 503 if it would not."""
        model = self._store.current
        if self.batcher.is_full:
            raise Refusal.unavailable("the queue is full")
        return JSONResponse(
            {
                "status": "ready",
                "name": self._store.name,
                "version": model.version,
                "newer_export_refused": self._store.fault,
            }
        )

    async def show_metrics(self, request: Request) -> Response:
        """Answers with the metrics in Prometheus' text format."""
        return Response(
            prometheus_client.generate_latest(self._metrics.registry),
            media_type=prometheus_client.CONTENT_TYPE_LATEST,
        )

    async def tf_status(self, request: Request) -> Response:
        """Answers with the model's status as TF Serving does."""
        model = self._model_of(request)
        status = {
            "version": model.version,
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        return JSONResponse({"model_version_status": [status]})

    async def tf_metadata(self, request: Request) -> Response:
        """Answers with the signatures as TF Serving does; the class names are an addition."""
        model = self._model_of(request)
        return JSONResponse(
            {
                "model_spec": {
                    "name": self._store.name,
                    "signature_name": "",
                    "version": model.version,
                },
                "metadata": {
                    "signature_def": {"signature_def": describe_signatures()},
                    "classes": list(model.detector.label_map),
                },
            }
        )

    async def tf_predict(self, request: Request) -> Response:
        """Answers TF Serving's predict call.

        As the exported graphs do, it does not apply EXIF's orientation.
        """
        model = self._model_of(request)
        with self.batcher.admit() as ticket:
            body = await self._receive(request, ticket)

            ticket.hold(count_json_bytes(body))

            async def work() -> tuple[bool, list[list[Detection]]]:
                instances = await self._in_thread(
                    ticket, lambda: parse_instances(body, self._limits)
                )
                _, found = await self._detect(model, instances.items, ticket, upright=False)
                return instances.columnar, found

            columnar, found = await self._finish(request, work())
            rows = [to_row(detections) for detections in found]
            return JSONResponse(
                {"outputs": to_columns(rows)} if columnar else {"predictions": rows}
            )

    async def predict(self, request: Request) -> Response:
        """Answers with the detections of uploaded files, as `detflow predict` writes them."""
        model = self._store.current
        _require_known(request.query_params.keys())
        with self.batcher.admit() as ticket:
            body = await self._receive(request, ticket)

            async def work() -> tuple[float, list[dict[str, Any]]]:
                kind = request.headers.get("content-type", "")
                upload = await self._in_thread(
                    ticket, lambda: parse_upload(body, kind, self._limits)
                )
                threshold = _choose_threshold(request.query_params, upload.fields)
                pictures, found = await self._detect(model, upload.items, ticket, upright=True)
                return threshold, [
                    describe_image(*one, threshold)
                    for one in zip(upload.items, pictures, found, strict=True)
                ]

            threshold, images = await self._finish(request, work())
            about = {"name": self._store.name, "version": model.version}
            return JSONResponse(
                {"model": about, "score_threshold": threshold, "frame": FRAME, "images": images}
            )

    async def page(self, request: Request) -> Response:
        """Answers with the page for people."""
        text = _read_asset("page.html").replace("{{threshold}}", f"{DEFAULT_SCORE_THRESHOLD:.2f}")
        text = text.replace("{{name}}", html.escape(self._store.name))
        return Response(
            text,
            media_type="text/html",
            headers={
                "Content-Security-Policy": _PAGE_POLICY,
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-cache",
            },
        )

    async def page_style(self, request: Request) -> Response:
        """Answers with the page's style sheet, behind the colours that it names."""
        return Response(
            format_css() + _read_asset("page.css"),
            media_type="text/css",
            headers={"Cache-Control": "no-cache"},
        )

    async def page_script(self, request: Request) -> Response:
        """Answers with the page's script."""
        return Response(
            "\n".join(map(_read_asset, _SCRIPTS)),
            media_type="text/javascript",
            headers={"Cache-Control": "no-cache"},
        )

    async def page_settings(self, request: Request) -> Response:
        """Answers with what the page's script needs: classes, colours and the size limit."""
        model = self._store.current
        classes = list(model.detector.label_map)
        return JSONResponse(
            {
                "version": model.version,
                "classes": [
                    {"name": name, "colour": to_hex(class_colour(i))}
                    for i, name in enumerate(classes, start=1)
                ],
                "max_body_bytes": self._limits.max_body_bytes,
            }
        )

    def _model_of(self, request: Request) -> ServedModel:
        model = self._store.current
        version = request.path_params.get("version")
        if version is not None and str(version) != model.version:
            raise Refusal(404, f"version {version} is not served; the one that is: {model.version}")
        return model

    async def _receive(self, request: Request, ticket: Ticket) -> bytes:
        body = await receive_body(request, self._limits, ticket.hold)
        # From here on the request costs time, so it takes a place. It takes one more for each
        # further picture, once the pictures are counted.
        ticket.take_places(1)
        return body

    async def _detect(
        self, model: ServedModel, items: Sequence[Item], ticket: Ticket, *, upright: bool
    ) -> tuple[list[Picture], list[list[Detection]]]:
        ticket.take_places(len(items) - 1)
        # All headers are judged, and the memory for their pictures is accounted for, before the
        # first picture is decoded.
        ticket.hold(max(map(count_header_bytes, items), default=0))
        pixels = await self._in_thread(
            ticket, lambda: [count_pixels(item, self._limits) for item in items]
        )
        ticket.hold(count_picture_bytes(pixels))
        pictures = [
            await self._in_thread(
                ticket,
                partial(
                    decode_item,
                    item,
                    self._limits,
                    upright=upright,
                    canvas_sizes=model.detector.canvas_sizes,
                ),
            )
            for item in items
        ]
        found = await ticket.detect(model, [picture.pixels for picture in pictures])
        placed = [
            list(place_detections(of_one, picture.size, picture.reduction))
            for picture, of_one in zip(pictures, found, strict=True)
        ]
        return pictures, placed

    async def _finish(self, request: Request, work: Awaitable[_T]) -> _T:
        """Returns what the work returns, unless the client leaves or the deadline passes first."""
        task = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(request.receive())
        try:
            await asyncio.wait(
                {task, leaving},
                timeout=self._limits.deadline_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if task.done():
                return task.result()
            # The whole body has been received, so the only message that can follow says that the
            # client has disconnected.
            if leaving.done():
                raise ClientDisconnect
            raise Refusal(504, f"no result within {self._limits.deadline_s:g} s")
        finally:
            await _cancel(task)
            await _cancel(leaving)
            del task, leaving

    async def _in_thread(self, ticket: Ticket, function: Callable[[], _T]) -> _T:
        job = self._decoders.submit(function)
        ticket.jobs.append(job)
        try:
            return await asyncio.wrap_future(job)
        finally:
            # An error holds its frames, and this one the error: such a circle would keep what the
            # decoder held until the collector comes round.
            del job


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    """Answers for a path or a method that does not exist."""
    assert isinstance(error, HTTPException)  # noqa: S101  Starlette calls this for no other error.
    return JSONResponse(
        {"error": f"{error.detail}: {request.method} {request.url.path}"},
        error.status_code,
        error.headers,
    )


async def _cancel(task: asyncio.Future[Any]) -> None:
    """Cancels a task, waits until it has cleaned up, and drops its result or error."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def _read_asset(name: str) -> str:
    return files("detflow.serving").joinpath("page", name).read_text(encoding="utf-8")


def _require_known(names: Iterable[str]) -> None:
    """Refuses fields that would have no effect, which a client would not notice."""
    for name in names:
        if name != _THRESHOLD:
            raise Refusal(400, f"there is no field {name[:50]!r}; expected {_THRESHOLD}")


def _choose_threshold(query: Mapping[str, str], fields: Mapping[str, str]) -> float:
    """Returns the threshold of the query or the form, else that of `detflow predict`."""
    _require_known(fields)
    if _THRESHOLD in query and _THRESHOLD in fields:
        raise Refusal(400, f"{_THRESHOLD} stands in the address and in the form; expected one")
    text = {**query, **fields}.get(_THRESHOLD)
    if text is None:
        return DEFAULT_SCORE_THRESHOLD
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0.0 <= threshold <= 1.0:
        raise Refusal(400, f"{_THRESHOLD} is {text[:50]!r}; expected a number from 0 to 1")
    return threshold
