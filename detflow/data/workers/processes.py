"""Maps a function over many items, in order, in one process or in several.

Results never depend on the number of processes. This process is one of them: it works on items as
long as the next result in order is not there, so that two processes cost the start of one. The
module `ray` beside this one does the same on a Ray cluster.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Protocol, TypeVar

from typing_extensions import override

from detflow.errors import EnvironmentFault
from detflow.process.platform import count_cores, die_with
from detflow.storage.location import Location, Url

Item = TypeVar("Item")
Result = TypeVar("Result")

# At most this many finished pieces a process are held back behind a slow one.
_PIECES_IN_FLIGHT = 8
# A dataset smaller than this is converted in less time than a second process takes to start.
_SERIAL_BYTES = 48 * 2**20
_SERIAL_FILES = 4_000


class OrderedMap(Protocol):
    """Maps in order, with a bounded number of items in flight.

    So the memory that it takes does not grow with the input.
    """

    def __call__(
        self, function: Callable[[Item], Result], items: Iterable[Item], chunk: int
    ) -> Iterator[Result]:
        """Yields `function(item)` for each item.

        Args:
            function: Importable by name (or a `functools.partial` of one that is), since it may run
                in another process.
            items: The function's arguments.
            chunk: How many items go to a process at a time.

        Raises:
            EnvironmentFault: A process died, and nothing stood in for it.
        """


class ProcessMap(OrderedMap):
    """An `OrderedMap` over processes of this machine."""

    def __init__(self, executor: ProcessPoolExecutor | None, jobs: int) -> None:
        self._executor = executor
        self._jobs = jobs

    @override
    def __call__(
        self, function: Callable[[Item], Result], items: Iterable[Item], chunk: int
    ) -> Iterator[Result]:
        if self._executor is None:
            yield from map(function, items)
            return
        remaining = iter(items)
        pending: deque[Future[list[Result]]] = deque()
        others = self._jobs - 1
        try:
            while True:
                while sum(not future.done() for future in pending) < 2 * others and (
                    piece := list(islice(remaining, chunk))
                ):
                    pending.append(self._executor.submit(_run, function, piece))
                if not pending:
                    return
                may_go_on = not pending[0].done() and len(pending) < _PIECES_IN_FLIGHT * self._jobs
                if may_go_on and (piece := list(islice(remaining, chunk))):
                    pending.append(_run_here(function, piece))
                else:
                    yield from pending.popleft().result()
        except BrokenProcessPool:
            raise EnvironmentFault(
                "a worker process died",
                remedy="look for an out-of-memory kill in the system's log, or use fewer --jobs",
            ) from None
        finally:
            for future in pending:
                future.cancel()


@contextmanager
def open_workers(jobs: int, module: str = __name__) -> Iterator[ProcessMap]:
    """Yields a map over `jobs` processes, this one among them.

    Args:
        jobs: The number of processes.
        module: The module that the others are to run; they import it while this one goes on.
    """
    if jobs == 1:
        yield ProcessMap(None, 1)
        return
    # "spawn" gives the same start on every platform and copies no lock or thread of this process.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        jobs - 1, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),)
    ) as executor:
        # The executor starts a process for a task that finds none idle: the others start, and
        # import, while this one goes on.
        for _ in range(jobs - 1):
            executor.submit(_import, module)
        try:
            yield ProcessMap(executor, jobs)
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise


def choose_jobs(dataset: Location) -> int:
    """Returns how many processes a dataset is worth.

    For a dataset at a URL, that is all cores: its size could be found only by listing all of it.
    """
    cores = count_cores()
    if cores == 1 or isinstance(dataset, Url):
        return cores
    if dataset.is_file():
        return cores if dataset.stat().st_size > _SERIAL_BYTES else 1
    num_files = num_bytes = 0
    for folder, _, names in os.walk(dataset):
        for name in names:
            num_files += 1
            with suppress(OSError):
                num_bytes += os.lstat(f"{folder}/{name}").st_size
            if num_bytes > _SERIAL_BYTES or num_files > _SERIAL_FILES:
                return cores
    return 1


def _import(module: str) -> None:
    importlib.import_module(module)


def _run_here(function: Callable[[Item], Result], items: Sequence[Item]) -> Future[list[Result]]:
    """Runs at once; keeps an error for the item's turn, as if another process had met it."""
    future: Future[list[Result]] = Future()
    try:
        future.set_result(_run(function, items))
    except Exception as error:  # noqa: BLE001  It is raised by `result`.
        future.set_exception(error)
    return future


def _run(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


def _start_worker(parent: int) -> None:
    # Ctrl-C reaches the whole process group; the parent alone decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A killed parent must not leave writers behind.
    die_with(parent)
