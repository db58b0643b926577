import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import sys

import pytest

from detflow import publish
from detflow.errors import ConfigError, EnvironmentFault, Locked
from detflow.publish import (
    publish_directory,
    publish_file,
    publish_new_file,
    require_new_file,
    require_replaceable,
    require_space,
    require_writable,
    sweep,
)


def leftovers(folder):
    return [entry.name for entry in folder.iterdir() if ".tmp-" in entry.name]


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path):
    final = tmp_path / "deep" / "set"
    for content in ("old", "new"):
        with publish_directory(final) as staging:
            (staging / "a.txt").write_text(content)
            assert not (final / "a.txt").exists() or (final / "a.txt").read_text() == "old"
        assert (final / "a.txt").read_text() == content
    assert leftovers(final.parent) == []


def test_an_error_publishes_nothing_and_keeps_the_old_folder(tmp_path):
    final = tmp_path / "set"
    with publish_directory(final) as staging:
        (staging / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), publish_directory(final) as staging:  # noqa: PT012
        (staging / "a.txt").write_text("new")
        raise RuntimeError
    assert (final / "a.txt").read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_killed_writer_leaves_nothing_that_the_next_one_does_not_remove(tmp_path):
    final = tmp_path / "set"
    code = f"""
import time
from pathlib import Path
from detflow.publish import publish_directory
with publish_directory(Path({str(final)!r})) as staging:
    (staging / "a.txt").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        # A writer that lives is left alone, whatever else is to be written there.
        for request in (None, REQUEST):
            with pytest.raises(Locked, match="is writing there"), publish_directory(final, request):
                pass
        with publish_directory(tmp_path / "other") as staging:
            (staging / "a.txt").write_text("first")
        assert len(leftovers(tmp_path)) == 1
        child.send_signal(signal.SIGKILL)
        child.wait()
    with publish_directory(final) as staging:
        (staging / "a.txt").write_text("second")
    assert leftovers(tmp_path) == []
    assert (final / "a.txt").read_text() == "second"


def test_a_killed_writer_of_the_same_thing_is_resumed(tmp_path):
    final = tmp_path / "set"
    code = f"""
import time
from pathlib import Path
from detflow.publish import publish_directory
with publish_directory(Path({str(final)!r}), resume="0123456789ab") as staging:
    (staging / "a.txt").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        with (
            pytest.raises(Locked, match="another process is writing there"),
            publish_directory(final, resume="0123456789ab"),
        ):
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
    with publish_directory(final, resume="0123456789ab") as staging:
        assert (staging / "a.txt").read_text() == "half"
        (staging / "b.txt").write_text("whole")
    assert sorted(path.name for path in final.iterdir()) == ["a.txt", "b.txt"]
    assert leftovers(tmp_path) == []


FILES = ["a.txt", "b.txt"]
REQUEST = "0123456789ab"


def write_set(final, content, resume=REQUEST):
    with publish_directory(final, resume) as staging:
        for name in FILES:
            (staging / name).write_text(content)


def read_set(final):
    """Returns what the files of a set say; more than one word would be a mixture."""
    assert sorted(path.name for path in final.iterdir()) == FILES
    return {(final / name).read_text() for name in FILES}


def test_two_requests_of_one_destination_come_one_after_another(tmp_path):
    """One publishes, the other one is told to wait and disturbs nothing, not even the old set."""
    final = tmp_path / "set"
    write_set(final, "old")
    with publish_directory(final, "0" * 12) as staging:
        for name in FILES:
            (staging / name).write_text("first")
        with pytest.raises(Locked) as refused:
            write_set(final, "second", "1" * 12)
        assert refused.value.exit_code == 6
        assert read_set(final) == {"old"}
    assert read_set(final) == {"first"}
    write_set(final, "second", "1" * 12)
    assert read_set(final) == {"second"}
    assert os.listdir(tmp_path) == ["set"]


def test_a_leftover_that_is_being_removed_is_no_writer(tmp_path, monkeypatch):
    final, remove = tmp_path / "set", shutil.rmtree
    (tmp_path / ".set.tmp-0123456789ab").mkdir()

    def remove_beside_another_writer(path, **options):
        monkeypatch.setattr(shutil, "rmtree", remove)
        write_set(final, "other")
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", remove_beside_another_writer)
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["set"]


def test_the_same_may_be_built_again_while_the_old_set_is_removed(tmp_path, monkeypatch):
    final = tmp_path / "set"
    write_set(final, "old")
    remove, other = shutil.rmtree, contextlib.ExitStack()

    def remove_beside_another_writer(path, **options):
        monkeypatch.setattr(shutil, "rmtree", remove)
        staging = other.enter_context(publish_directory(final, REQUEST))
        assert list(staging.iterdir()) == []
        for name in FILES:
            (staging / name).write_text("second")
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", remove_beside_another_writer)
    write_set(final, "first")
    assert read_set(final) == {"first"}
    other.close()
    assert read_set(final) == {"second"}
    assert os.listdir(tmp_path) == ["set"]


def test_a_folder_that_was_published_while_it_was_waited_for_is_not_built_in(tmp_path, monkeypatch):
    final, lock = tmp_path / "set", fcntl.flock
    first = contextlib.ExitStack()
    (first.enter_context(publish_directory(final, REQUEST)) / "a.txt").write_text("first")

    def lock_late(descriptor, operation):
        monkeypatch.setattr(fcntl, "flock", lock)
        first.close()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    with publish_directory(final, REQUEST) as staging:
        assert list(staging.iterdir()) == []
        (staging / "a.txt").write_text("second")
        assert (final / "a.txt").read_text() == "first"
    assert (final / "a.txt").read_text() == "second"


def refuse_exchange(monkeypatch):
    class Libc:
        def renameat2(self, *names):
            ctypes.set_errno(errno.EINVAL)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: Libc())


def counted(function, counter, step, interrupt):
    def call(*args, **options):
        if next(counter) == step:
            interrupt()
        return function(*args, **options)

    return call


def interrupt_at(monkeypatch, step, interrupt):
    """Calls `interrupt` before the step-th of all calls that touch the disk."""
    counter = itertools.count()
    for module, name in [
        *((os, name) for name in ("mkdir", "open", "rename", "fsync", "listdir", "rmdir")),
        (publish, "_exchange"),
        (publish, "_settle"),
        (shutil, "rmtree"),
    ]:
        monkeypatch.setattr(module, name, counted(getattr(module, name), counter, step, interrupt))
    return counter


def count_steps(final, exchange):
    with pytest.MonkeyPatch.context() as patch:
        if not exchange:
            refuse_exchange(patch)
        counter = interrupt_at(patch, -1, lambda: None)
        write_set(final, "old")
        return next(counter)


@pytest.mark.parametrize("exchange", [True, False])
def test_the_old_set_survives_a_fault_at_any_step(tmp_path, monkeypatch, exchange):
    final = tmp_path / "set"
    write_set(final, "old")

    def fail():
        raise OSError(errno.EIO, "fault")

    for step in range(count_steps(final, exchange)):
        with monkeypatch.context() as patch, contextlib.suppress(EnvironmentFault, OSError):
            if not exchange:
                refuse_exchange(patch)
            interrupt_at(patch, step, fail)
            write_set(final, f"new {step}")
        content = read_set(final) if final.exists() else None
        with contextlib.suppress(RuntimeError), publish_directory(final):
            # What was moved aside is back before anything is built.
            assert read_set(final) in ({"old"}, {f"new {step}"})
            assert content in (None, read_set(final))
            raise RuntimeError
        write_set(final, "old")
        assert os.listdir(tmp_path) == ["set"]


@pytest.mark.slow
@pytest.mark.parametrize("exchange", [True, False])
def test_the_old_set_survives_a_kill_at_any_step(tmp_path, exchange):
    final = tmp_path / "set"
    write_set(final, "old")
    for step in range(count_steps(final, exchange)):
        child = os.fork()
        if child == 0:
            with pytest.MonkeyPatch.context() as patch:
                if not exchange:
                    refuse_exchange(patch)
                interrupt_at(patch, step, lambda: os._exit(9))
                with contextlib.suppress(BaseException):
                    write_set(final, "new")
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert not exchange or read_set(final) in ({"old"}, {"new"})
        with contextlib.suppress(RuntimeError), publish_directory(final, REQUEST):
            assert read_set(final) in ({"old"}, {"new"})
            raise RuntimeError
        write_set(final, "old")
        assert os.listdir(tmp_path) == ["set"]


@pytest.mark.parametrize("resume", [REQUEST, None])
@pytest.mark.parametrize("exchange", [True, False])
def test_processes_that_write_one_set_at_once_leave_it_whole(
    tmp_path, monkeypatch, resume, exchange
):
    if not exchange:
        refuse_exchange(monkeypatch)
    final = tmp_path / "set"
    write_set(final, "old")
    children = []
    for word in ("first", "second"):
        children.append(os.fork())
        if children[-1] == 0:
            code = 1
            with contextlib.suppress(BaseException):
                published = 0
                while published < 8:
                    with contextlib.suppress(Locked):
                        write_set(final, word, resume)
                        published += 1
                code = 0
            os._exit(code)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0, 0]
    assert read_set(final) in ({"first"}, {"second"})
    assert os.listdir(tmp_path) == ["set"]


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "set").write_text("mine")
    with (
        pytest.raises(EnvironmentFault, match="is not a folder"),
        publish_directory(tmp_path / "set"),
    ):
        pass
    assert (tmp_path / "set").read_text() == "mine"


def test_publish_file_replaces(tmp_path):
    publish_file(tmp_path / "a.json", "1")
    publish_file(tmp_path / "a.json", b"2")
    assert (tmp_path / "a.json").read_text() == "2"
    assert leftovers(tmp_path) == []


def refuse_links(monkeypatch, number):
    def refuse(source, target):
        raise OSError(number, os.strerror(number), str(source), None, str(target))

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("number", [None, errno.EPERM, errno.EOPNOTSUPP])
def test_a_new_file_replaces_nothing(tmp_path, monkeypatch, number):
    if number is not None:
        refuse_links(monkeypatch, number)
    final = tmp_path / "deep" / "a.yaml"
    require_new_file(final)
    publish_new_file(final, "first")
    assert final.stat().st_nlink == 1
    for refused in (lambda: publish_new_file(final, "second"), lambda: require_new_file(final)):
        with pytest.raises(ConfigError, match="the file exists; name another file"):
            refused()
    assert final.read_text() == "first"
    (tmp_path / "link.yaml").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="the file exists"):
        publish_new_file(tmp_path / "link.yaml", "second")
    assert os.listdir(final.parent) == ["a.yaml"]
    assert sorted(os.listdir(tmp_path)) == ["deep", "link.yaml"]


def test_a_new_file_that_the_disk_refuses_is_no_file_that_exists(tmp_path, monkeypatch):
    refuse_links(monkeypatch, errno.EIO)
    with pytest.raises(EnvironmentFault, match="input/output error"):
        publish_new_file(tmp_path / "a.yaml", "x")
    assert os.listdir(tmp_path) == []


def test_what_asks_whether_a_file_can_be_written_leaves_nothing(tmp_path):
    (tmp_path / "old.html").write_text("old")
    for place in ("new.html", "old.html", "deep/er/new.html"):
        require_writable(tmp_path / place)
    assert os.listdir(tmp_path) == ["old.html"]
    assert (tmp_path / "old.html").read_text() == "old"


@pytest.mark.parametrize(
    ("place", "cause"),
    [
        ("file/x.html", "a file of that name is in the way"),
        ("file/deep/x.html", "a part of the path is a file"),
        ("folder", "it is a folder, not a file"),
        (f"folder/new/{'n' * 300}", "the name is too long"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_as_writing_it_would_be(tmp_path, place, cause):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for refused in (require_writable, lambda path: publish_file(path, "x")):
        with pytest.raises(EnvironmentFault, match=cause):
            refused(tmp_path / place)
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / "folder" / "new").rmdir()
    require_writable(tmp_path / "folder" / "new" / "x")
    assert os.listdir(tmp_path / "folder") == []


def test_a_folder_that_another_process_removes_again_is_made_again(tmp_path, monkeypatch):
    """Another one asks for the same folder at the same time, and removes what it has made."""
    final, open_file = tmp_path / "new" / "a.html", open

    def open_late(path, mode):
        monkeypatch.setattr(publish, "open", open_file, raising=False)
        final.parent.rmdir()
        return open_file(path, mode)

    monkeypatch.setattr(publish, "open", open_late, raising=False)
    publish_file(final, "x")
    assert final.read_text() == "x"


def test_only_a_folder_of_the_same_kind_may_be_replaced(tmp_path):
    final = tmp_path / "set"
    require_replaceable(final, "manifest.json")
    final.mkdir()
    require_replaceable(final, "manifest.json")
    (final / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match=r"is not empty and holds no manifest\.json"):
        require_replaceable(final, "manifest.json")
    (final / "manifest.json").write_text("{}")
    require_replaceable(final, "manifest.json")
    with pytest.raises(ConfigError, match="is not a folder"):
        require_replaceable(final / "letter.txt", "manifest.json")


def test_space_is_asked_for_before_the_work(tmp_path):
    require_space(tmp_path / "not" / "there", 1)
    with pytest.raises(
        EnvironmentFault, match=r"1,000,000,000,000,000 bytes are needed and [\d,]+ are free"
    ):
        require_space(tmp_path, 10**15)


def test_umask_is_respected(tmp_path):
    mask = os.umask(0o022)
    try:
        publish_file(tmp_path / "a", "x")
    finally:
        os.umask(mask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_the_file_of_a_killed_writer_is_swept_and_that_of_a_living_one_is_not(tmp_path):
    dead, alive = tmp_path / ".a.json.tmp-0123456789ab", tmp_path / ".b.json.tmp-0123456789ab"
    dead.write_text("half")
    with open(alive, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sweep(tmp_path)
        assert [entry.name for entry in tmp_path.iterdir()] == [alive.name]
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
