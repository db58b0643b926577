"""Several training processes on one machine. Does not import TensorFlow.

The processes are started together, told where the others are, and restarted together. They share
one fate. Where one dies the others cannot go on without it, so all are ended, and started again
from the last checkpoint; only a worker of parameter servers is started again alone. Whatever
happens to this process, none of them outlives it.
"""

from __future__ import annotations

import itertools
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import IO

from detflow.distributed.topology import TF_CONFIG, format_topology
from detflow.process.platform import die_with
from detflow.process.signals import gather_requests

# The other processes may take this long to notice that one is gone and to say so; then they are
# killed. A checkpoint that is being written survives that.
_SETTLE_SECONDS = 5.0
_TICK_SECONDS = 0.2


@dataclass(frozen=True)
class _Task:
    """A process of the cluster: its job, its number there, and the cores that it keeps to."""

    job: str
    index: int
    cores: frozenset[int]

    def __str__(self) -> str:
        return f"{self.job} {self.index}"


@dataclass
class _Process:
    task: _Task
    process: subprocess.Popen[bytes]
    descriptor: int
    tail: bytes = b""

    @property
    def pipe(self) -> IO[bytes] | None:
        return self.process.stdout


class _Restarts:
    """Counts the restarts, and says what each is for."""

    def __init__(self, limit: int, announce: Callable[[str], None]) -> None:
        self._limit, self._announce = limit, announce
        self._count = 0

    @property
    def are_left(self) -> bool:
        return self._count < self._limit

    def take(self, reason: str, manner: str) -> None:
        self._count += 1
        self._announce(f"{reason}: restart {self._count} of {self._limit} {manner}")

    def give_up(self, reason: str) -> None:
        self._announce(f"{reason}: given up after {self._limit} restarts")


def run_workers(
    command: Sequence[str],
    num_workers: int,
    max_restarts: int,
    announce: Callable[[str], None],
    *,
    num_parameter_servers: int = 0,
) -> int:
    """Runs a command as the processes of one training until all of them have ended.

    The chief, which is the first worker or with parameter servers a process of its own, writes to
    this process' terminal; the lines of the others are prefixed. SIGTERM and SIGINT are passed on,
    a second one kills.

    Args:
        command: Of each process; which one it is it learns from TF_CONFIG.
        num_workers: How many split each batch or, with parameter servers, take steps.
        max_restarts: How often processes are started again after one has died.
        announce: Takes a line for people.
        num_parameter_servers: How many hold the weights; 0 does without.

    Returns:
        The exit code: 0, that of the process which failed, or 128 and the number of the signal that
        ended the run.
    """
    tasks = _plan(num_workers, num_parameter_servers)
    restarts = _Restarts(max_restarts, announce)
    with gather_requests() as requests:
        while True:
            ended = _run_once(command, tasks, requests.signums, restarts, announce)
            # The first failure is the cause, the others follow from it.
            task, cause = next((one for one in ended if one[1]), ended[0])
            # A process that ends by itself would end the same way again; one that was killed need
            # not.
            if cause >= 0:
                return cause
            if requests.signums:
                return 128 + requests.signums[0]
            if not restarts.are_left:
                restarts.give_up(_describe(task, cause))
                return 128 - cause
            restarts.take(_describe(task, cause), "from the last checkpoint")


def split_cores(cores: Sequence[int], num_workers: int) -> list[set[int]]:
    """Splits cores evenly; where there are fewer than workers, some share one."""
    if len(cores) < num_workers:
        return [{cores[number % len(cores)]} for number in range(num_workers)]
    bounds = [len(cores) * number // num_workers for number in range(num_workers + 1)]
    return [set(cores[first:last]) for first, last in itertools.pairwise(bounds)]


def _describe(task: _Task, code: int) -> str:
    return f"{task} was killed by {signal.Signals(-code).name}"


def _plan(num_workers: int, num_parameter_servers: int) -> list[_Task]:
    """Names the processes, the chief first.

    The workers compute, and share the cores; the others mostly wait.
    """
    cores = sorted(os.sched_getaffinity(0))
    workers = [
        _Task("worker", number, frozenset(part))
        for number, part in enumerate(split_cores(cores, num_workers))
    ]
    if not num_parameter_servers:
        return workers
    servers = [_Task("ps", number, frozenset(cores)) for number in range(num_parameter_servers)]
    return [_Task("chief", 0, frozenset(cores)), *servers, *workers]


def _run_once(
    command: Sequence[str],
    tasks: Sequence[_Task],
    signums: Sequence[int],
    restarts: _Restarts,
    announce: Callable[[str], None],
) -> list[tuple[_Task, int]]:
    """Returns the exit codes in the order in which the processes ended.

    The code of one that a signal killed is minus the number of the signal.
    """
    chief = tasks[0]
    has_servers = chief.job == "chief"
    ended: list[tuple[_Task, int]] = []
    handled = len(signums)
    cluster: dict[str, list[str]] = {}
    for task, port in zip(tasks, _free_ports(len(tasks)), strict=True):
        cluster.setdefault(task.job, []).append(f"127.0.0.1:{port}")
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        running: dict[_Task, _Process] = {}

        def start(task: _Task) -> None:
            running[task] = process = _start(
                command, cluster, task, is_chief=task == chief, stack=stack
            )
            selector.register(process.descriptor, selectors.EVENT_READ, process)
            if process.pipe is not None:
                selector.register(process.pipe, selectors.EVENT_READ, process)

        for task in tasks:
            start(task)
        kill_at: float | None = None
        while running:
            for key, _ in selector.select(_TICK_SECONDS):
                process: _Process = key.data
                if process not in running.values():
                    continue
                if key.fileobj is process.pipe:
                    if not _pass_on(process, announce):
                        selector.unregister(key.fileobj)
                    continue
                code = process.process.wait()
                while _pass_on(process, announce):
                    pass
                for source in (process.descriptor, process.pipe):
                    if source is not None and source in selector.get_map():
                        selector.unregister(source)
                del running[process.task]
                if has_servers and process.task == chief:
                    # The idle servers and workers are stopped: they hold no state.
                    return [*ended, (chief, code)]
                is_spare = has_servers and process.task.job == "worker"
                if is_spare and code < 0 and kill_at is None and not signums and restarts.are_left:
                    restarts.take(_describe(process.task, code), "alone: its steps are taken again")
                    start(process.task)
                    continue
                ended.append((process.task, code))
                if code and kill_at is None:
                    kill_at = time.monotonic() + _SETTLE_SECONDS
            for signum in signums[handled:]:
                # The chief ends the run of its servers, which it needs until it has saved.
                obeys = [
                    one
                    for task, one in running.items()
                    if handled or not has_servers or task == chief
                ]
                _send(obeys, signal.SIGKILL if handled else signum)
                handled += 1
            if kill_at is not None and time.monotonic() > kill_at:
                _send(running.values(), signal.SIGKILL)
    return ended


def _start(
    command: Sequence[str],
    cluster: Mapping[str, Sequence[str]],
    task: _Task,
    *,
    is_chief: bool,
    stack: ExitStack,
) -> _Process:
    parent = os.getpid()

    def prepare() -> None:
        die_with(parent)
        os.sched_setaffinity(0, task.cores)

    process = subprocess.Popen(  # noqa: S603  The command is our own.
        command,
        env={**os.environ, TF_CONFIG: format_topology(cluster, task.job, task.index)},
        stdin=subprocess.DEVNULL,
        stdout=None if is_chief else subprocess.PIPE,
        stderr=None if is_chief else subprocess.STDOUT,
        bufsize=0,
        preexec_fn=prepare,
        # Ctrl-C on the terminal reaches this process alone, which passes it on once.
        start_new_session=True,
    )
    stack.enter_context(process)
    # The stack unwinds backwards: the process is killed before the line above waits for it.
    stack.callback(process.kill)
    descriptor = os.pidfd_open(process.pid)
    stack.callback(os.close, descriptor)
    return _Process(task, process, descriptor)


def _free_ports(number: int) -> list[int]:
    """Returns ports of the loopback address that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _pass_on(process: _Process, announce: Callable[[str], None]) -> bool:
    """Announces the whole lines that a process has written, each with its name.

    Returns:
        False once the process has closed its output.
    """
    data = os.read(process.pipe.fileno(), 1 << 16) if process.pipe else b""
    *lines, process.tail = (process.tail + data).split(b"\n")
    if not data and process.tail:
        lines.append(process.tail)
        process.tail = b""
    for line in lines:
        announce(f"[{process.task}] {line.decode(errors='replace')}")
    return bool(data)


def _send(processes: Iterable[_Process], signum: int) -> None:
    for process in processes:
        # This does nothing to a process that has been waited for.
        process.process.send_signal(signum)
