#!/usr/bin/env python
"""Sends hostile requests to a real `detflow serve`, and watches its memory and its answers.

    python tools/fuzz_serve.py exports/pets                     # 5,000 requests of seed 1
    python tools/fuzz_serve.py exports/pets --seed 7 --requests 500
    python tools/fuzz_serve.py exports/pets --first 4711 --requests 1 --keep request.bin

A request is a function of (seed, number). Four clients first send 200 sound forms of one to eight
pictures and up to two million pixels, as any day brings them, and then the hostile requests. These
things may not happen: an answer of 500, a sound picture that is refused, no answer within a minute,
a process that grows by more than `--max-memory-mb` and 64 MB at any moment, or that ends with 64 MB
more than it began with, a place or a byte of the queue that is not given back, and another answer
to eight sound pictures than before.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import queue
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.bodies import Attack, Bounds, build_attack, build_form
from fuzz.pictures import draw, encode

from detflow.text import count_noun

MAX_GROWTH_MB = 64
_MODEL = "fuzzed"
_WARM_UP = 200
_CLIENTS = 4
_TIMEOUT_S = 60.0
_START_S = 120.0
# The server's smallest options, which attacks reach fast.
_MAX_PIXELS = 4_000_000
_MAX_BODY_MB = 4
_MAX_MEMORY_MB = 256
_BODY_S = 5
# Connections that the server closes before it answers are an answer to what is no request.
_CLOSED = "closed"


@dataclass
class Server:
    """A running server and its port."""

    process: subprocess.Popen[str]
    port: int

    def memory_mb(self, entry: str) -> float:
        """Returns the process's memory: VmRSS is the present one, VmHWM the highest so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{entry}:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]

    def forget_peak(self) -> None:
        """Lets VmHWM begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def get(self, path: str) -> tuple[int, str]:
        """Returns the status and the text of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def is_idle(self) -> bool:
        """Tells whether nothing is held for any request."""
        text = self.get("/metrics")[1]
        found = re.findall(r"^detflow_(?:held_bytes|queue_images) (\S+)$", text, re.MULTILINE)
        return [float(value) for value in found] == [0.0, 0.0]


@dataclass
class Tally:
    """What came of the requests.

    Attributes:
        statuses: By kind of request: how many answers had which status.
        slowest: Seconds, kind and number of the slowest answer.
        failures: What may not happen.
        begun_mb: Memory of the process after the warm-up.
        peak_mb: The most that it had.
        ended_mb: What it had in the end.
    """

    statuses: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    slowest: tuple[float, str, int] = (0.0, "", -1)
    failures: list[str] = field(default_factory=list)
    begun_mb: float = 0.0
    peak_mb: float = 0.0
    ended_mb: float = 0.0

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return sum(counter.total() for counter in self.statuses.values())


@contextmanager
def start_server(export: Path, log: Path) -> Iterator[Server]:
    """Runs the command on a free port until the block ends."""
    command = [sys.executable, "-m", "detflow", "serve", str(export), "--port", "0", "--name"]
    options = {"--max-pixels": _MAX_PIXELS, "--max-body-mb": _MAX_BODY_MB, "--threads": 1}
    options["--max-memory-mb"] = _MAX_MEMORY_MB
    options["--body-s"] = _BODY_S
    words = [str(word) for option in options.items() for word in option]
    with (
        open(log, "w") as errors,
        subprocess.Popen(
            [*command, _MODEL, *words], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        watchdog = threading.Timer(_START_S, process.kill)
        watchdog.start()
        line = process.stdout.readline() if process.stdout else ""
        watchdog.cancel()
        if not line:
            raise SystemExit(f"the server did not start: {log.read_text()}")
        try:
            yield Server(process, int(line.rpartition(":")[2]))
        finally:
            process.terminate()
            process.wait(_TIMEOUT_S)


def send(server: Server, attack: Attack) -> tuple[str, bytes]:
    """Sends a request; returns the status of its answer and the answer's body.

    Raises:
        TimeoutError: There is none.
    """
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=_TIMEOUT_S) as connection:
        # It may be refused before it has been sent.
        with contextlib.suppress(ConnectionError):
            connection.sendall(attack.to_bytes())
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(1 << 16):
                answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
    return (found[1].decode() if found else _CLOSED), body


def run_attacks(
    export: Path,
    seed: int,
    first: int,
    count: int,
    log: Path,
    progress: Callable[[int], None] = lambda number: None,
) -> Tally:
    """Starts a server, warms it up, attacks it and judges it."""
    tally, lock = Tally(), threading.Lock()
    bounds = Bounds(_MODEL, _MAX_PIXELS, _MAX_BODY_MB << 20)
    with start_server(export, log) as server:
        _run_clients(lambda number: send(server, _build_form(number)), range(_WARM_UP))
        expected = [send(server, attack) for attack in _build_sound()]
        tally.begun_mb = server.memory_mb("VmRSS")
        server.forget_peak()

        def attack(number: int) -> None:
            request = build_attack(seed, number, bounds)
            start = time.perf_counter()
            try:
                status, body = send(server, request)
            except TimeoutError:
                status, body = "none", b""
            seconds = time.perf_counter() - start
            with lock:
                tally.statuses[request.kind][status] += 1
                tally.slowest = max(tally.slowest, (seconds, request.kind, number))
                if fault := _find_fault(request, status, body):
                    tally.failures.append(f"request {number}: {request.kind}: {fault}")
                progress(number + 1 - first)

        _run_clients(attack, range(first, first + count))
        _judge_server(server, expected, tally)
    return tally


def _run_clients(act: Callable[[int], object], numbers: Iterable[int]) -> None:
    """Lets the clients do something for each number, and waits for the last one."""
    waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    for number in (*numbers, *[None] * _CLIENTS):
        waiting.put(number)

    def work() -> None:
        while (number := waiting.get()) is not None:
            act(number)

    clients = [threading.Thread(target=work) for _ in range(_CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def _build_form(number: int) -> Attack:
    """Builds a sound form of up to eight pictures, which fill the network's largest batches."""
    rng = random.Random(number)  # noqa: S311
    count = rng.randint(1, 8)
    # Two million pixels go through the network together.
    side = rng.randint(16, int((2_000_000 / count) ** 0.5))
    content = encode(draw(rng, (side, side)), "JPEG")
    return build_form("sound", [content] * count)


def _build_sound() -> list[Attack]:
    rng = random.Random(0)  # noqa: S311
    return [
        Attack(
            "sound", headers=(("Content-Type", "image/png"),), body=encode(draw(rng, size), kind)
        )
        for size in ((64, 48), (300, 200), (640, 480), (1_600, 1_200))
        for kind in ("JPEG", "PNG")
    ]


def _compare(server: Server, expected: list[tuple[str, bytes]], tally: Tally) -> None:
    for attack, before in zip(_build_sound(), expected, strict=True):
        status, body = send(server, attack)
        if status != "200" or json.loads(body) != json.loads(before[1]):
            tally.failures.append(f"a sound picture is answered otherwise: {status}")


def _find_fault(request: Attack, status: str, body: bytes) -> str:
    if status == "none":
        return f"no answer within {_TIMEOUT_S:g} s"
    if status == _CLOSED:
        return "" if request.is_raw else "closed without an answer"
    if status == "500":
        return f"500: {body[:200]!r}"
    if request.is_sound and status not in ("200", "429", "503"):
        return f"sound, and answered with {status}: {body[:200]!r}"
    return ""


def _judge_server(server: Server, expected: list[tuple[str, bytes]], tally: Tally) -> None:
    tally.peak_mb = server.memory_mb("VmHWM")
    if server.process.poll() is not None:
        tally.failures.append(f"the server ended with {server.process.returncode}")
        return
    deadline = time.monotonic() + _TIMEOUT_S
    while not server.is_idle():
        if time.monotonic() > deadline:
            tally.failures.append("the server still holds something for requests that are over")
            break
        time.sleep(0.1)
    _compare(server, expected, tally)
    tally.ended_mb = server.memory_mb("VmRSS")
    if server.get("/readyz")[0] != 200:
        tally.failures.append("the server is not ready")
    if tally.peak_mb > tally.begun_mb + _MAX_MEMORY_MB + MAX_GROWTH_MB:
        tally.failures.append(
            f"it grew from {tally.begun_mb:.0f} to {tally.peak_mb:.0f} MB, "
            f"with --max-memory-mb {_MAX_MEMORY_MB}"
        )
    if tally.ended_mb > tally.begun_mb + MAX_GROWTH_MB:
        tally.failures.append(
            f"it began with {tally.begun_mb:.0f} MB and ended with {tally.ended_mb:.0f} MB"
        )


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", type=Path, help="an exported folder")
    parser.add_argument("--seed", type=int, default=1, help="seed of the requests (default 1)")
    parser.add_argument(
        "--requests", type=int, default=5_000, metavar="N", help="how many (default 5,000)"
    )
    parser.add_argument(
        "--first", type=int, default=0, metavar="NUMBER", help="number of the first one (default 0)"
    )
    parser.add_argument("--log", type=Path, default=Path("fuzz_serve.log"), help="the server's log")
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="write the first request there as it is sent"
    )
    options = parser.parse_args(arguments)
    if options.keep:
        bounds = Bounds(_MODEL, _MAX_PIXELS, _MAX_BODY_MB << 20)
        options.keep.write_bytes(build_attack(options.seed, options.first, bounds).to_bytes())

    def show(done: int) -> None:
        if sys.stderr.isatty() and done % 50 == 0:
            print(f"\r{done:,}/{options.requests:,}", end="", file=sys.stderr, flush=True)

    start = time.perf_counter()
    tally = run_attacks(
        options.export, options.seed, options.first, options.requests, options.log, show
    )
    seconds = time.perf_counter() - start
    for failure in tally.failures:
        print(failure)
    failures = count_noun(len(tally.failures), "failure")
    print(f"{tally.requests:,} requests of seed {options.seed} in {seconds:.0f} s: {failures}")
    for kind, statuses in sorted(tally.statuses.items()):
        counts = ", ".join(f"{status} {count:,}" for status, count in sorted(statuses.items()))
        print(f"  {kind}: {counts}")
    longest, kind, number = tally.slowest
    print(f"  slowest: request {number}, {kind}, {longest:.1f} s")
    print(
        f"  memory: {tally.begun_mb:.0f} MB after {_WARM_UP} sound forms, at most "
        f"{tally.peak_mb:.0f} MB, {tally.ended_mb:.0f} MB in the end; "
        f"--max-memory-mb {_MAX_MEMORY_MB}"
    )
    sys.exit(1 if tally.failures else 0)


if __name__ == "__main__":
    main()
