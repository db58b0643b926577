"""Several training processes on one machine: started together, told where the others are, restarted together. No TensorFlow.

The processes share one fate. Where one dies the others cannot go on without it, so all are ended, and started again from the last
checkpoint. Whatever happens to this process, none of them outlives it.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import IO

from detflow.engine.signals import stop_signals_handled
from detflow.engine.topology import TF_CONFIG, format_topology

__all__ = ["Requests", "die_with", "gather_requests", "run_workers", "split_cores"]

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
# What the others may take to notice that one is gone and to say so; then they are killed. A checkpoint stands that.
_SETTLE_SECONDS = 5.0
_TICK_SECONDS = 0.2


@dataclass
class _Worker:
    number: int
    process: subprocess.Popen[bytes]
    descriptor: int
    tail: bytes = b""

    @property
    def pipe(self) -> IO[bytes] | None:
        return self.process.stdout


@dataclass
class Requests:
    """The SIGTERMs and SIGINTs that this process got, in order."""

    signums: list[int] = field(default_factory=list)

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Is the handler."""
        self.signums.append(signum)


def run_workers(command: Sequence[str], num_workers: int, max_restarts: int, announce: Callable[[str], None]) -> int:
    """Runs a command as the workers of one training until all of them have ended.

    The first worker, the chief, writes to this process' terminal; the lines of the others are prefixed. SIGTERM and SIGINT are
    passed on, a second one kills.

    Args:
        command: Of each worker; which one it is it learns from TF_CONFIG.
        num_workers: How many.
        max_restarts: How often all of them are started again after one has died.
        announce: Takes a line for people.

    Returns:
        The exit code: 0, that of the worker which failed, or 128 and the number of the signal that ended the run.
    """
    with gather_requests() as requests:
        for restarts in range(max_restarts + 1):
            codes = _run_once(command, num_workers, requests.signums, announce)
            # The first failure is the cause, the others follow from it.
            cause = next((code for code in codes if code), 0)
            # A worker that ends by itself would end the same way again; one that was killed need not.
            if cause >= 0:
                return cause
            if requests.signums:
                return 128 + requests.signums[0]
            reason = f"a worker was killed by {signal.Signals(-cause).name}"
            if restarts < max_restarts:
                announce(f"{reason}: restart {restarts + 1} of {max_restarts} from the last checkpoint")
        announce(f"{reason}: given up after {max_restarts} restarts")
        return 128 - cause


def die_with(parent: int) -> None:
    """Called in a new process: however its parent ends, it ends as well."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def split_cores(cores: Sequence[int], num_workers: int) -> list[set[int]]:
    """Splits cores evenly; where there are fewer than workers, some share one."""
    if len(cores) < num_workers:
        return [{cores[number % len(cores)]} for number in range(num_workers)]
    bounds = [len(cores) * number // num_workers for number in range(num_workers + 1)]
    return [set(cores[first:last]) for first, last in itertools.pairwise(bounds)]


def _run_once(command: Sequence[str], num_workers: int, signums: Sequence[int], announce: Callable[[str], None]) -> list[int]:
    """Returns the exit codes in the order in which the workers ended; minus the number of a signal that killed one."""
    codes: list[int] = []
    handled = len(signums)
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        workers = list(_start(command, num_workers, stack))
        stack.callback(_kill, workers)
        for worker in workers:
            selector.register(worker.descriptor, selectors.EVENT_READ, worker)
            if worker.pipe is not None:
                selector.register(worker.pipe, selectors.EVENT_READ, worker)
        kill_at: float | None = None
        while len(codes) < num_workers:
            for key, _ in selector.select(_TICK_SECONDS):
                worker = key.data
                if key.fileobj is worker.pipe:
                    if not _pass_on(worker, announce):
                        selector.unregister(key.fileobj)
                    continue
                selector.unregister(worker.descriptor)
                codes.append(worker.process.wait())
                if codes[-1] and kill_at is None:
                    kill_at = time.monotonic() + _SETTLE_SECONDS
            for signum in signums[handled:]:
                _send(workers, signal.SIGKILL if handled else signum)
                handled += 1
            if kill_at is not None and time.monotonic() > kill_at:
                _kill(workers)
        for worker in workers:
            while _pass_on(worker, announce):
                pass
    return codes


def _start(command: Sequence[str], num_workers: int, stack: ExitStack) -> Iterator[_Worker]:
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(num_workers)]
    parent = os.getpid()
    for number, cores in enumerate(split_cores(sorted(os.sched_getaffinity(0)), num_workers)):

        def prepare(cores: set[int] = cores) -> None:
            die_with(parent)
            os.sched_setaffinity(0, cores)

        process = subprocess.Popen(  # noqa: S603  The command is our own.
            command,
            env={**os.environ, TF_CONFIG: format_topology({"worker": addresses}, "worker", number)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if number else None,
            stderr=subprocess.STDOUT if number else None,
            bufsize=0,
            preexec_fn=prepare,
            # Ctrl-C on the terminal reaches this process alone, which passes it on once.
            start_new_session=True,
        )
        stack.enter_context(process)
        descriptor = os.pidfd_open(process.pid)
        stack.callback(os.close, descriptor)
        yield _Worker(number, process, descriptor)


def _free_ports(number: int) -> list[int]:
    """Returns ports of the loopback address that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _pass_on(worker: _Worker, announce: Callable[[str], None]) -> bool:
    """Announces the whole lines of what a worker has written, each with its number; returns False at the end."""
    data = os.read(worker.pipe.fileno(), 1 << 16) if worker.pipe else b""
    *lines, worker.tail = (worker.tail + data).split(b"\n")
    if not data and worker.tail:
        lines.append(worker.tail)
        worker.tail = b""
    for line in lines:
        announce(f"[worker {worker.number}] {line.decode(errors='replace')}")
    return bool(data)


def _send(workers: Sequence[_Worker], signum: int) -> None:
    for worker in workers:
        # It does nothing to a process that has been waited for.
        worker.process.send_signal(signum)


def _kill(workers: Sequence[_Worker]) -> None:
    _send(workers, signal.SIGKILL)


@contextmanager
def gather_requests() -> Iterator[Requests]:
    """Gathers signals during the block."""
    requests = Requests()
    with stop_signals_handled(requests.handle):
        yield requests
