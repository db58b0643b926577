#!/usr/bin/env python
"""Measures `detflow serve` with clients on the loopback interface.

    tools/bench_serve.py exports/bccd bccd/JPEGImages

Each client sends its next picture when the last one is answered. For batches of one picture and of
up to eight, the script measures throughput and latency at 1, 8 and 64 clients; then it starts more
clients than a short queue has places for. It ends with 1 if a request got no answer or a wrong one,
if the server counts other numbers of answers, if requests took more memory than was granted to
them, or if the server does not recover from the overload. It takes about two minutes.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from detflow.data.images.pictures import find_pictures

CLIENTS = (1, 8, 64)
MAX_PICTURES = 64
MEMORY_MIB = 768
TIMEOUT_S = 60
# Longer than it takes to import TensorFlow and load a graph on a slow machine.
START_S = 120


@dataclass
class Server:
    """A running server and its port."""

    process: subprocess.Popen[str]
    port: int

    def get(self, path: str) -> tuple[int, str]:
        """Returns the status and the text of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def count_answers(self) -> dict[int, int]:
        """Returns how many uploads the server says it has answered, by status."""
        pattern = r'^detflow_requests_total\{route="predict",status="(\d+)"\} (\S+)$'
        return {
            int(status): int(float(count))
            for status, count in re.findall(pattern, self.get("/metrics")[1], re.MULTILINE)
        }

    def memory_mib(self, entry: str) -> float:
        """Returns the process's memory: VmRSS is the present one, VmHWM the highest so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", status, re.MULTILINE))
        return int(sizes[entry]) / 1024


@dataclass
class Load:
    """What clients saw."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int | str] = field(default_factory=Counter)

    def percentile(self, percent: int) -> float:
        """Returns a latency in milliseconds."""
        return 1000 * statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1]


@contextmanager
def start(artifact: Path, *options: object) -> Iterator[Server]:
    """Runs the command on a free port until the block ends."""
    command = [
        sys.executable,
        "-m",
        "detflow",
        "serve",
        str(artifact),
        "--port",
        "0",
        "--max-memory-mb",
        str(MEMORY_MIB),
    ]
    with subprocess.Popen(
        [*command, *map(str, options)], stdout=subprocess.PIPE, text=True
    ) as process:
        watchdog = threading.Timer(START_S, process.kill)
        watchdog.start()
        line = process.stdout.readline() if process.stdout else ""
        watchdog.cancel()
        if not line:
            raise SystemExit("the server did not start")
        try:
            yield Server(process, int(line.rpartition(":")[2]))
        finally:
            process.terminate()
            if process.wait(TIMEOUT_S):
                raise SystemExit(f"the server ended with {process.returncode}")


def run_clients(server: Server, pictures: Sequence[bytes], clients: int, seconds: float) -> Load:
    """Lets clients send pictures for so many seconds, and waits for the last answers."""
    load, lock, began = Load(), threading.Lock(), time.perf_counter()

    def run(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
        for picture in itertools.islice(itertools.cycle(pictures), first, None):
            sent = time.perf_counter()
            if sent - began >= seconds:
                break
            status: int | str
            try:
                connection.request("POST", "/predict", picture, {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
                connection.close()
            with lock:
                load.statuses[status] += 1
                if status == 200:
                    load.latencies.append(time.perf_counter() - sent)
            if status == 429:
                # Retry-After asks for a second; waiting a tenth of that keeps the pressure up.
                time.sleep(0.1)
        connection.close()

    threads = [
        threading.Thread(target=run, args=(number % len(pictures),)) for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.seconds = time.perf_counter() - began
    return load


def measure(artifact: Path, pictures: Sequence[bytes], max_batch: int, seconds: float) -> list[str]:
    """Prints a row for each number of clients; returns what went wrong."""
    faults = []
    with start(artifact, "--max-batch", max_batch) as server:
        run_clients(server, pictures, max_batch, 2.0)
        idle = server.memory_mib("VmRSS")
        for clients in CLIENTS:
            before = server.count_answers()
            load = run_clients(server, pictures, clients, seconds)
            answered = server.count_answers()[200] - before[200]
            peak = server.memory_mib("VmHWM")
            print(
                f"{max_batch:9}{clients:9}{len(load.latencies) / load.seconds:11.1f}"
                f"{load.percentile(50):9.0f}{load.percentile(99):9.0f}"
                f"{len(load.latencies):9}{peak:9.0f}",
                flush=True,
            )
            if set(load.statuses) != {200} or answered != load.statuses[200]:
                faults.append(
                    f"{clients} clients: sent {dict(load.statuses)}, the server answered {answered}"
                )
        if peak - idle > MEMORY_MIB:
            faults.append(
                f"requests took {peak - idle:.0f} MiB of memory, {MEMORY_MIB} were granted"
            )
    return faults


def overload(artifact: Path, pictures: Sequence[bytes], seconds: float) -> list[str]:
    """Sends more pictures than the queue holds, then single ones; returns what went wrong."""
    with start(artifact, "--max-queue", 8, "--max-instances", 8) as server:
        load = run_clients(server, pictures, max(CLIENTS), seconds)
        after = run_clients(server, pictures, 1, 1.0)
        print(
            f"overload: {max(CLIENTS)} clients, 8 places: {load.statuses[200]} were answered"
            f" within {load.percentile(99):.0f} ms (p99), {load.statuses[429]} were told to come"
            f" again; afterwards {after.statuses[200]} of {after.statuses.total()} were answered"
        )
        faults = []
        if set(load.statuses) != {200, 429}:
            faults.append(f"overload: expected answers 200 and 429, got {dict(load.statuses)}")
        if set(after.statuses) != {200} or server.get("/readyz")[0] != 200:
            faults.append(f"after the overload: {dict(after.statuses)}")
        return faults


def main() -> None:
    """Reads the command line, measures and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path, help="an exported folder")
    parser.add_argument("images", help="a folder of pictures to send")
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        help="how long each number of clients sends (default 10)",
    )
    arguments = parser.parse_args()
    pictures = [file.path.read_bytes() for file in find_pictures(arguments.images)[:MAX_PICTURES]]
    print(
        f"{len(pictures)} pictures, {sum(map(len, pictures)) / len(pictures) / 1e3:.0f} kB"
        f" on average; {arguments.seconds:g} s each"
    )
    print(
        f"{'max batch':>9}{'clients':>9}{'images/s':>11}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'answers':>9}{'peak MiB':>9}"
    )
    faults = [
        fault
        for max_batch in (1, 8)
        for fault in measure(arguments.artifact, pictures, max_batch, arguments.seconds)
    ]
    faults += overload(arguments.artifact, pictures, arguments.seconds / 2)
    for fault in faults:
        print(f"FAILED: {fault}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
