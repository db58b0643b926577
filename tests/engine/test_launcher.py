"""The launcher with workers that are a few lines of Python: what it does when they end, die, or are told to stop."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from detflow.engine.launcher import run_workers, split_cores

# What every worker knows, then what it does.
PRELUDE = """
import json, os, pathlib, signal, sys, time
task = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
folder = pathlib.Path(sys.argv[1])
start = len(list(folder.glob(f"{task}-*")))
(folder / f"{task}-{start}").write_text(str(os.getpid()))
"""


@pytest.fixture
def launch(tmp_path, monkeypatch):
    monkeypatch.setattr("detflow.engine.launcher._SETTLE_SECONDS", 0.5)

    def run(body, num_workers=2, max_restarts=2):
        lines = []
        code = run_workers([sys.executable, "-c", PRELUDE + body, str(tmp_path)], num_workers, max_restarts, lines.append)
        assert not any(is_alive(int(path.read_text())) for path in tmp_path.iterdir())
        return code, lines, sorted(path.name for path in tmp_path.iterdir())

    return run


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            # A zombie that nobody has waited for is gone, too.
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition):
    end = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_workers_know_each_other_and_only_the_chief_speaks_plainly(launch, capfd):
    code, lines, started = launch(
        """
config = json.loads(os.environ["TF_CONFIG"])
print(config["task"], len(set(config["cluster"]["worker"])), end="")
"""
    )
    assert (code, started) == (0, ["0-0", "1-0"])
    assert lines == ["[worker 1] {'type': 'worker', 'index': 1} 2"]
    assert capfd.readouterr().out == "{'type': 'worker', 'index': 0} 2"


def test_a_killed_worker_ends_the_others_and_all_start_again(launch):
    code, lines, started = launch(
        """
if start == 0:
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
"""
    )
    assert (code, started) == (0, ["0-0", "0-1", "1-0", "1-1"])
    assert lines == ["a worker was killed by SIGKILL: restart 1 of 2 from the last checkpoint"]


def test_restarts_are_bounded(launch):
    code, lines, started = launch("if task == 0: os.abort()", max_restarts=1)
    assert (code, len(started)) == (128 + signal.SIGABRT, 4)
    assert lines[-1] == "a worker was killed by SIGABRT: given up after 1 restarts"


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 143])
def test_a_worker_that_gives_up_by_itself_is_not_started_again(launch, code):
    ended, lines, started = launch(f"if task == 0: sys.exit({code})\ntime.sleep(60)")
    assert (ended, lines, started) == (code, [], ["0-0", "1-0"])


# A launcher of its own: signals go to a process, not to the test.
LAUNCHER = """
import sys
from detflow.engine.launcher import run_workers
sys.exit(run_workers([sys.executable, "-c", *sys.argv[1:]], 2, 3, print))
"""


@contextlib.contextmanager
def launcher(body, folder):
    process = subprocess.Popen([sys.executable, "-c", LAUNCHER, PRELUDE + body, str(folder)], stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: len([path for path in folder.glob("*-*") if path.read_text()]) == 2)
        yield process, [int(path.read_text()) for path in folder.glob("*-*")]
    finally:
        process.kill()
        process.wait()


OBEDIENT = """
def stop(signum, frame):
    (folder / f"stopped{task}").write_text(str(signum))
    sys.exit(128 + signum)
signal.signal(signal.SIGTERM, stop); signal.signal(signal.SIGINT, stop)
(folder / f"ready{task}").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_every_worker_once_and_ends_the_run(tmp_path, signum):
    with launcher(OBEDIENT, tmp_path) as (process, pids):
        wait_for(lambda: len(list(tmp_path.glob("ready*"))) == 2)
        process.send_signal(signum)
        assert process.wait(20) == 128 + signum
        assert [path.read_text() for path in tmp_path.glob("stopped*")] == [str(int(signum))] * 2
        assert not any(map(is_alive, pids))


def test_a_second_signal_kills(tmp_path):
    deaf = """
signal.signal(signal.SIGTERM, lambda signum, frame: (folder / f"heard{task}").touch())
(folder / f"ready{task}").touch()
end = time.monotonic() + 60
while time.monotonic() < end: time.sleep(1)
"""
    with launcher(deaf, tmp_path) as (process, pids):
        wait_for(lambda: len(list(tmp_path.glob("ready*"))) == 2)
        process.terminate()
        wait_for(lambda: len(list(tmp_path.glob("heard*"))) == 2)
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
        assert not any(map(is_alive, pids))


def test_a_killed_launcher_leaves_no_orphans(tmp_path):
    with launcher("time.sleep(60)", tmp_path) as (process, pids):
        process.kill()
        wait_for(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize(
    ("cores", "workers", "parts"),
    [
        ([0, 1, 2, 3], 2, [{0, 1}, {2, 3}]),
        ([0, 1, 4, 5, 6], 2, [{0, 1}, {4, 5, 6}]),
        ([3, 7], 3, [{3}, {7}, {3}]),
        ([2], 1, [{2}]),
    ],
)
def test_cores_are_split_between_the_workers(cores, workers, parts):
    assert split_cores(cores, workers) == parts


def test_a_worker_runs_on_its_cores_alone(launch):
    cores = sorted(os.sched_getaffinity(0))
    _, lines, _ = launch('print(json.dumps(sorted(os.sched_getaffinity(0))) if task else "")')
    assert set(json.loads(lines[0].removeprefix("[worker 1] "))) == split_cores(cores, 2)[1]
