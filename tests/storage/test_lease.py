import contextlib
import errno
import json
import threading

import pytest

from detflow.errors import EnvironmentFault, Locked
from detflow.storage import objects, publishing
from detflow.storage.folders import open_folder
from detflow.storage.lease import LEASE_NAME, Lease
from detflow.storage.location import Url
from detflow.storage.publishing import publish_folder, require_replaceable

FOREIGN = {"token": "t", "holder": "pid 1 on there", "written": 0}


@pytest.fixture
def url(tmp_path):
    """A prefix of the store inside this process."""
    return Url("memory", f"bucket/{tmp_path.name}/output")


def quick(url, watch_seconds=0.05, renew_seconds=0.004):
    return Lease(url, watch_seconds=watch_seconds, renew_seconds=renew_seconds)


def names(url):
    return {entry.path for entry in open_folder(url).walk(lambda name: False)}


def write_lease(url, content=json.dumps(FOREIGN)):  # noqa: B008  A text.
    open_folder(url).write(LEASE_NAME, content.encode())


def read_token(url):
    return json.loads(open_folder(url).read(LEASE_NAME, 999))["token"]


def test_one_that_is_renewed_keeps_others_out(url):
    with quick(url).held():
        held = "another process is at work here: pid"
        with pytest.raises(Locked, match=held), quick(url, watch_seconds=5.0).held():
            pass
    assert names(url) == set()


@pytest.mark.parametrize("content", [json.dumps(FOREIGN), "", "[" * 4_000, "{}"])
def test_one_that_nobody_renews_is_taken_over(url, content):
    write_lease(url, content)
    with quick(url).held():
        assert read_token(url) != FOREIGN["token"]
    assert names(url) == set()


def test_of_two_that_take_over_at_once_the_later_one_goes_on(url, monkeypatch):
    write_lease(url)
    late = quick(url)
    seconds = []

    def meet(pause):
        seconds.append(pause)
        if len(seconds) == 1:
            # The other one has seen the same dead lease, and writes its own now.
            write_lease(url, late._describe().decode())

    monkeypatch.setattr("detflow.storage.lease.time.sleep", meet)
    with (
        pytest.raises(Locked, match="taken over"),
        quick(url, watch_seconds=0.0, renew_seconds=60).held(),
    ):
        pytest.fail("both have it")  # pragma: no cover
    late.require()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.EIO])
def test_a_store_without_conditional_writes_is_looked_at_first(url, monkeypatch, code):
    store = objects._file_system("memory")
    write = store.pipe_file

    def refuse(key, content, mode="overwrite"):
        if mode == "create":
            raise OSError(code, "not known here")
        write(key, content)

    monkeypatch.setattr(store, "pipe_file", refuse)
    folder = open_folder(url)
    assert folder.create("a", b"1")
    assert not folder.create("a", b"2")
    assert folder.read("a", 9) == b"1"


def test_an_answer_that_was_lost_is_no_other_process(url, monkeypatch):
    store = objects._file_system("memory")
    create = store.pipe_file

    def lose(key, content, mode="overwrite"):
        create(key, content)
        if mode == "create":
            # The client tried again.
            raise FileExistsError

    monkeypatch.setattr(store, "pipe_file", lose)
    with quick(url).held():
        pass


def test_what_a_store_refuses_is_told(url, monkeypatch):
    store = objects._file_system("memory")
    monkeypatch.setattr(
        store, "pipe_file", lambda *_, **__: (_ for _ in ()).throw(OSError(5, "no"))
    )
    with pytest.raises(EnvironmentFault, match="cannot be used"), quick(url).held():
        pass


def test_s3_lets_one_of_many_through(s3_url):
    folder = open_folder(s3_url / "lease")
    assert [folder.create("a", b"%d" % i) for i in range(3)] == [True, False, False]
    assert folder.read("a", 9) == b"0"


@pytest.fixture
def quick_leases(monkeypatch):
    """Leases that are as quick as a test wants them."""
    monkeypatch.setattr(publishing, "Lease", quick)


def fill(staging, word):
    for name in ("a", "manifest.json", word):
        (staging.path / name).write_text(word)


def publish(url, word):
    with publish_folder(url, "manifest.json") as staging:
        fill(staging, word)


def test_a_second_writer_is_refused_and_the_first_publishes(url, quick_leases):
    publish(url, "old")
    with publish_folder(url, "manifest.json") as staging:
        fill(staging, "first")
        with pytest.raises(Locked, match="at work here"):
            publish(url, "second")
        require_replaceable(url, "manifest.json")
        assert open_folder(url).read("manifest.json", 99) == b"old"
    assert names(url) == {"a", "manifest.json", "first"}
    assert open_folder(url).read("a", 99) == b"first"


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_whoever_lost_the_lease_changes_nothing_more(url, quick_leases, monkeypatch, after):
    """A process that slept while another one took over wakes before any of its uploads."""
    publish(url, "old")
    open_folder(url).write("rest", b"of the old one")
    folder = open_folder(url)
    uploaded = []
    build = objects.ObjectFolder.build

    @contextlib.contextmanager
    def note(self, path):
        with build(self, path) as file:
            yield file
        uploaded.append(path)
        if len(uploaded) == after:
            write_lease(url)

    monkeypatch.setattr(publishing, "Lease", lambda url: quick(url, renew_seconds=60))
    monkeypatch.setattr(objects.ObjectFolder, "build", note)
    lost = pytest.raises(Locked, match="taken over: pid 1 on there")
    with (
        # Behind the manifest there is nothing left to change.
        contextlib.nullcontext() if after == 3 else lost,
        publish_folder(url, "manifest.json") as staging,
    ):
        fill(staging, "new")
        if after == 0:
            write_lease(url)
    assert uploaded == ["a", "new", "manifest.json"][:after]
    assert read_token(url) == "t"
    if after == 0:
        assert folder.read("manifest.json", 99) == b"old"
    else:
        # Without a manifest there is nothing for a reader.
        assert ("manifest.json" in names(url)) == (after == 3)
    assert ("rest" in names(url)) == (after < 3)


def test_many_writers_leave_a_whole_folder(url, quick_leases):
    together = threading.Barrier(4)
    results = []

    def work(word):
        together.wait()
        try:
            publish(url, word)
            results.append(word)
        except Locked:
            results.append(None)

    threads = [threading.Thread(target=work, args=(f"word{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    word = open_folder(url).read("manifest.json", 99).decode()
    assert word in results
    assert names(url) == {"a", "manifest.json", word}
    assert open_folder(url).read("a", 99).decode() == word
