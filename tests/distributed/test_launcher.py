"""The launcher with workers that are a few lines of Python.

What does it do when they end, die, or are told to stop?
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from detflow.distributed.launcher import run_workers, split_cores

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
    monkeypatch.setattr("detflow.distributed.launcher._SETTLE_SECONDS", 0.5)

    def run(body, num_workers=2, max_restarts=2, **options):
        lines = []
        command = [sys.executable, "-c", PRELUDE + body, str(tmp_path)]
        code = run_workers(command, num_workers, max_restarts, lines.append, **options)
        assert not any(
            is_alive(int(path.read_text())) for path in tmp_path.iterdir() if path.stat().st_size
        )
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
    end = time.monotonic() + 300.0
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
    assert lines == ["worker 1 was killed by SIGKILL: restart 1 of 2 from the last checkpoint"]


def test_restarts_are_bounded(launch):
    code, lines, started = launch("if task == 0: os.abort()", max_restarts=1)
    assert (code, len(started)) == (128 + signal.SIGABRT, 4)
    assert lines[-1] == "worker 0 was killed by SIGABRT: given up after 1 restarts"


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 143])
def test_a_worker_that_gives_up_by_itself_is_not_started_again(launch, code):
    ended, lines, started = launch(f"if task == 0: sys.exit({code})\ntime.sleep(60)")
    assert (ended, lines, started) == (code, [], ["0-0", "1-0"])


# What every process of a cluster with parameter servers knows, then what it does.
SERVERS = """
task = "{type}{index}".format(**json.loads(os.environ["TF_CONFIG"])["task"])
(folder / f"up-{task}-{os.getpid()}").write_text(str(os.getpid()))
def find(name):
    end = time.monotonic() + 300
    while not (found := sorted(folder.glob(f"up-{name}-*"))):
        assert time.monotonic() < end
        time.sleep(0.02)
    return [int(path.name.rpartition("-")[2]) for path in found]
"""


def names_up(started):
    return sorted(name.split("-")[1] for name in started if name.startswith("up-"))


def test_the_chief_of_parameter_servers_ends_the_run(launch):
    body = 'find("ps0"), find("ps1"), find("worker0")\nif task == "chief0": sys.exit(4)\n'
    body += "time.sleep(60)"
    code, lines, started = launch(SERVERS + body, num_workers=1, num_parameter_servers=2)
    assert (code, lines, names_up(started)) == (4, [], ["chief0", "ps0", "ps1", "worker0"])


def test_a_killed_worker_of_parameter_servers_is_started_again_alone(launch):
    body = """
if task == "chief0":
    os.kill(find("worker1")[0], signal.SIGKILL)
    while len(find("worker1")) < 2: time.sleep(0.02)
    sys.exit(0)
time.sleep(60)
"""
    code, lines, started = launch(SERVERS + body, num_parameter_servers=1)
    assert (code, names_up(started)) == (0, ["chief0", "ps0", "worker0", "worker1", "worker1"])
    assert lines == [
        "worker 1 was killed by SIGKILL: restart 1 of 2 alone: its steps are taken again"
    ]


def test_a_killed_parameter_server_starts_all_again(launch):
    body = """
if task == "chief0":
    if len(find("chief0")) == 1:
        server = find("ps0")[0]
        os.kill(server, signal.SIGKILL)
        # Until the launcher has waited for it, and so has seen its end first.
        while os.path.exists(f"/proc/{server}"):
            time.sleep(0.02)
        sys.exit(5)
    while len(find("ps0")) == 1:
        time.sleep(0.02)
    sys.exit(0)
find("chief0")
time.sleep(60)
"""
    code, lines, started = launch(SERVERS + body, num_workers=1, num_parameter_servers=1)
    assert (code, names_up(started).count("chief0"), names_up(started).count("ps0")) == (0, 2, 2)
    assert lines == ["ps 0 was killed by SIGKILL: restart 1 of 2 from the last checkpoint"]


def test_workers_of_parameter_servers_that_die_too_often_end_the_run(launch):
    body = 'if task == "worker0": os.abort()\ntime.sleep(60)'
    code, lines, _ = launch(SERVERS + body, num_workers=1, max_restarts=1, num_parameter_servers=1)
    assert code == 128 + signal.SIGABRT
    reason = "worker 0 was killed by SIGABRT"
    assert lines == [
        f"{reason}: restart 1 of 1 alone: its steps are taken again",
        f"{reason}: given up after 1 restarts",
    ]


def test_only_the_chief_of_parameter_servers_is_told_to_stop(launch):
    body = """
heard = lambda signum, frame: (folder / f"heard-{task}").touch()
signal.signal(signal.SIGTERM, heard)
(folder / f"set-{task}").touch()
if task == "chief0":
    while len(list(folder.glob("set-*"))) < 3: time.sleep(0.02)
    os.kill(os.getppid(), signal.SIGTERM)
    while not list(folder.glob("heard-*")): time.sleep(0.02)
    time.sleep(0.3)
    sys.exit(143)
end = time.monotonic() + 60
while time.monotonic() < end: time.sleep(1)
"""
    code, lines, started = launch(SERVERS + body, num_workers=1, num_parameter_servers=1)
    assert (code, lines, [name for name in started if name.startswith("heard")]) == (
        143,
        [],
        ["heard-chief0"],
    )


# A launcher of its own: signals go to a process, not to the test.
LAUNCHER = """
import sys
from detflow.distributed.launcher import run_workers
sys.exit(run_workers([sys.executable, "-c", *sys.argv[1:]], 2, 3, print))
"""


@contextlib.contextmanager
def launcher(body, folder):
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, PRELUDE + body, str(folder)], stdout=subprocess.DEVNULL
    )
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
        assert process.wait(300) == 128 + signum
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
        assert process.wait(300) == 128 + signal.SIGTERM
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
