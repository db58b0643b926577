"""Pictures of many requests → batches → each request's detections, within a bounded queue.

Everything but the network itself happens on the event loop's thread, so that the counts need no
locks. The network runs on one thread of its own: it uses all cores by itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detflow.process.platform import return_free_pages
from detflow.serving.limits import Limits, Refusal
from detflow.serving.metrics import Metrics
from detflow.serving.models import ServedModel
from detflow.types import Detection

Pixels = npt.NDArray[np.uint8]
Job = concurrent.futures.Future[Any]

# Values of all pictures of a batch, three a pixel; a single picture may have more.
_MAX_BATCH_VALUES = 3 * 2_000_000

# After a request that held more, what the allocator keeps of it is returned.
_MAX_KEPT_BYTES = 16 << 20
_LAST_USE_S = 0.05


@dataclass(eq=False, slots=True)
class _Entry:
    model: ServedModel
    pixels: Pixels
    arrived: float
    found: asyncio.Future[list[Detection]]
    job: Job | None = None


class Batcher:
    """Runs what is queued, in the order of arrival, up to `max_batch` images at a time.

    A batch waits for further images only while another request is being received, and never longer
    than `max_delay_s`; so a single client does not wait at all. While the network is busy, the next
    batch fills by itself.

    Args:
        limits: Bounds of the queue and of a batch.
        metrics: Where sizes and lengths are counted.

    Attributes:
        busy: Whether the network's thread is at work. The thread goes on when `run` is cancelled.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._queue: deque[_Entry] = deque()
        self._changed = asyncio.Event()
        self._places = 0
        self._held_bytes = 0
        self._approaching = 0
        self._thread = ThreadPoolExecutor(1, "detect")
        self.busy = False

    @property
    def is_full(self) -> bool:
        """Tells whether a request would be refused now."""
        return self._places >= self._limits.max_queue

    @contextmanager
    def admit(self) -> Iterator[Ticket]:
        """Yields a request's ticket; whatever it took is given back when the block ends."""
        ticket = Ticket(self)
        self._approaching += 1
        try:
            yield ticket
        finally:
            self._arrive(ticket)
            self._take(-ticket.places, 0)
            # A thread goes on with what it has begun, although nobody waits for it any more.
            held = ticket.held_bytes
            going = [asyncio.wrap_future(job) for job in ticket.jobs if not job.done()]
            ticket.jobs.clear()
            if going:
                ends = asyncio.gather(*going, return_exceptions=True)
                ends.add_done_callback(lambda _: self._give_back(held))
            else:
                self._give_back(held)

    async def run(self) -> None:
        """Serves the queue until it is cancelled; may be called once."""
        try:
            while True:
                while not self._queue:
                    self._changed.clear()
                    await self._changed.wait()
                await self._wait_for_more()
                if batch := self._next_batch():
                    await self._detect(batch)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _take(self, places: int, held_bytes: int) -> None:
        self._places += places
        self._held_bytes += held_bytes
        self._metrics.queue.set(self._places)
        self._metrics.held.set(self._held_bytes)

    def _give_back(self, held_bytes: int) -> None:
        self._take(0, -held_bytes)
        if held_bytes > _MAX_KEPT_BYTES:
            # The request's last references end with its answer.
            loop = asyncio.get_running_loop()
            loop.call_later(_LAST_USE_S, loop.run_in_executor, None, _return_memory)

    def _arrive(self, ticket: Ticket) -> None:
        if ticket.approaching:
            ticket.approaching = False
            self._approaching -= 1
            self._changed.set()

    async def _wait_for_more(self) -> None:
        loop = asyncio.get_running_loop()
        end = self._queue[0].arrived + self._limits.max_delay_s
        while self._queue and self._approaching and len(self._queue) < self._limits.max_batch:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), end - loop.time())
            except TimeoutError:
                return

    def _next_batch(self) -> list[_Entry]:
        """Takes the oldest entries of one model: after a reload, the old model's come first.

        Large pictures go alone: the memory for the work on them was accounted for one by one.
        """
        batch: list[_Entry] = []
        pixels = 0
        while (
            self._queue
            and len(batch) < self._limits.max_batch
            and (not batch or self._queue[0].model is batch[0].model)
        ):
            pixels += self._queue[0].pixels.size
            if batch and pixels > _MAX_BATCH_VALUES:
                break
            batch.append(self._queue.popleft())
        # The detector runs images of one size together only where they follow each other.
        return sorted(batch, key=lambda entry: entry.pixels.shape)

    async def _detect(self, batch: Sequence[_Entry]) -> None:
        self._metrics.batches.observe(len(batch))
        self.busy = True
        images = [entry.pixels for entry in batch]
        job = self._thread.submit(_detect_each, batch[0].model, images)
        for entry in batch:
            entry.job = job
        results = await asyncio.wrap_future(job)
        self.busy = False
        for entry, found in zip(batch, results, strict=True):
            if entry.found.done():  # The client has left.
                continue
            if isinstance(found, Exception):
                entry.found.set_exception(found)
            else:
                entry.found.set_result(found)


class Ticket:
    """What one request has taken of the queue and of the memory. `Batcher.admit` makes it.

    Attributes:
        places: Places in the queue.
        held_bytes: Bytes of memory.
        approaching: Whether its images have still to be queued.
        jobs: Work of threads on it. Until that is over its memory counts, even if the client has
            left.
    """

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self.places = 0
        self.held_bytes = 0
        self.approaching = True
        self.jobs: list[Job] = []

    def take_places(self, count: int) -> None:
        """Takes places in the queue.

        Raises:
            Refusal: Fewer places are free.
        """
        batcher = self._batcher
        if batcher._places + count > batcher._limits.max_queue:
            raise Refusal.busy(f"the queue is full: {batcher._limits.max_queue} images")
        batcher._take(count, 0)
        self.places += count

    def hold(self, num_bytes: int) -> None:
        """Accounts for memory.

        Raises:
            Refusal: Less memory is free, or there never is so much.
        """
        batcher = self._batcher
        most = batcher._limits.max_held_bytes
        if self.held_bytes + num_bytes > most:
            raise Refusal(
                413,
                f"the request needs {self.held_bytes + num_bytes:,} bytes of memory, "
                f"and {most:,} are allowed",
            )
        if batcher._held_bytes + num_bytes > most:
            raise Refusal.busy(f"the memory for requests is full: {most:,} bytes")
        batcher._take(0, num_bytes)
        self.held_bytes += num_bytes

    async def detect(self, model: ServedModel, images: Sequence[Pixels]) -> list[list[Detection]]:
        """Queues images and returns the detections of each.

        When this is cancelled, the images that still wait leave the queue.

        Args:
            model: The model for all of them.
            images: [height, width, 3] uint8, RGB.

        Raises:
            DetflowError: The network failed on one of them.
        """
        batcher, loop = self._batcher, asyncio.get_running_loop()
        entries = [_Entry(model, pixels, loop.time(), loop.create_future()) for pixels in images]
        batcher._queue.extend(entries)
        batcher._arrive(self)
        try:
            return list(await asyncio.gather(*(entry.found for entry in entries)))
        finally:
            self.jobs += [entry.job for entry in entries if entry.job is not None]
            for entry in entries:
                entry.found.cancel()
                if entry in batcher._queue:
                    batcher._queue.remove(entry)
                elif entry.found.done() and not entry.found.cancelled():
                    # Another image of the request failed first and was reported. Asking for this
                    # error keeps asyncio from logging that nobody did.
                    entry.found.exception()
            batcher._changed.set()


def _return_memory() -> None:
    """Returns to the system what a large request has left behind, in circles too."""
    gc.collect()
    return_free_pages()


def _detect_each(model: ServedModel, images: Sequence[Pixels]) -> list[list[Detection] | Exception]:
    """Returns the detections of each image, or its error; an image that fails fails alone."""
    try:
        return list(model.detector.detect(images))
    except Exception as error:  # noqa: BLE001  The request of the image raises and logs it.
        if len(images) == 1:
            return [error]
    return [found for image in images for found in _detect_each(model, [image])]
