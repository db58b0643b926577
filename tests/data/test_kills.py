"""make-records is killed, or told to stop, at any moment."""

import shutil
import signal
import subprocess
import sys
import time
from random import Random

import pytest

import detflow.data.shards as shards_module
from detflow.data.making import RecordOptions, publish_records
from detflow.digests import digest_files


def run_until(dataset, output, jobs, function, number):
    """Runs make-records in a process that sends itself a signal when a function has returned."""
    code = f"""
import functools, os, signal
import detflow.data.making
from detflow.cli.main import main
# A shell starts background jobs with SIGINT ignored, and a child inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
original = detflow.data.{function}
@functools.wraps(original)
def wrapper(*args):
    result = original(*args)
    os.kill(os.getpid(), {int(number)})
    return result
detflow.data.{function} = wrapper
main()
"""
    command = [
        sys.executable,
        "-c",
        code,
        "make-records",
        str(dataset),
        "--output",
        str(output),
        "--jobs",
        jobs,
    ]
    return subprocess.run(command, capture_output=True, text=True)


def start(dataset, output, *arguments):
    code = "from detflow.cli.main import main; main()"
    command = [
        sys.executable,
        "-c",
        code,
        "make-records",
        str(dataset),
        "--output",
        str(output),
        *arguments,
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def leftovers(folder):
    return [path for path in folder.iterdir() if ".tmp-" in path.name]


@pytest.fixture
def killed(voc_set, tmp_path):
    """A run that was killed after its first shard, beside what a whole run writes."""
    for index in range(140):
        voc_set.add(f"{index:03d}")
    publish_records(voc_set.root, tmp_path / "whole", RecordOptions(jobs=1))
    result = run_until(voc_set.root, tmp_path / "out", "1", "shards._write_shard", signal.SIGKILL)
    assert result.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    (staging,) = leftovers(tmp_path)
    return staging


def test_a_killed_run_is_resumed_at_its_last_shard(voc_set, tmp_path, monkeypatch, killed):
    first = killed / "train-00000-of-00004.tfrecord"
    kept = first.stat().st_ino
    (killed / "train-00009-of-00010.tfrecord").write_bytes(b"of another plan")
    built = []
    original = shards_module.encode_record
    monkeypatch.setattr(
        shards_module,
        "encode_record",
        lambda **parts: built.append(parts["key"]) or original(**parts),
    )
    output = tmp_path / "out"
    publish_records(voc_set.root, output, RecordOptions(jobs=1))
    assert 0 < len(built) < 140
    assert (output / first.name).stat().st_ino == kept
    assert digest_files(output) == digest_files(tmp_path / "whole")
    assert leftovers(tmp_path) == []


def test_a_damaged_leftover_is_not_used(voc_set, tmp_path, killed):
    shard = killed / "train-00000-of-00004.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\0")
    publish_records(voc_set.root, tmp_path / "out", RecordOptions(jobs=1))
    assert digest_files(tmp_path / "out") == digest_files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("jobs", "kills"),
    [
        pytest.param("2", 4, marks=pytest.mark.slow),
        pytest.param("1", 100, marks=pytest.mark.soak),
        pytest.param("2", 100, marks=pytest.mark.soak),
    ],
)
def test_kills_at_all_moments(voc_set, tmp_path, jobs, kills):
    """After a kill there is no published set, or the complete old one; a rerun gives the same."""
    for index in range(140):
        voc_set.add(f"{index:03d}")
    output = tmp_path / "out"
    began = time.monotonic()
    assert start(voc_set.root, output, "--jobs", jobs).wait() == 0
    duration = time.monotonic() - began
    whole = digest_files(output)
    random = Random(0)
    unpublished = 0
    for number in range(kills):
        if number % 4 == 0:
            shutil.rmtree(output, ignore_errors=True)
        process = start(voc_set.root, output, "--jobs", jobs)
        # From the start to a little behind the end, each kill in its part of the time.
        time.sleep(1.1 * duration * (number + random.random()) / kills)
        process.kill()
        process.wait()
        if output.exists():
            assert digest_files(output) == whole
        else:
            unpublished += 1
    assert unpublished
    assert start(voc_set.root, output, "--jobs", jobs).wait() == 0
    assert digest_files(output) == whole
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_and_leaves_nothing(voc_set, tmp_path, number, code):
    for index in range(70):
        voc_set.add(f"{index:03d}")
    # The workers of the audit are alive at that moment.
    result = run_until(voc_set.root, tmp_path / "out", "2", "making.require_acceptable", number)
    assert result.returncode == code
    assert "Traceback" not in result.stderr
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "out").exists()
