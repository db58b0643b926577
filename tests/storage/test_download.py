import http.server
import io
import json
import tarfile
import threading

import pytest

from detflow import publish
from detflow.digests import digest_file
from detflow.errors import ArtifactError, ConfigError, EnvironmentFault
from detflow.storage import download
from detflow.storage.cache import cache_directory
from detflow.storage.download import DownloadLimits, unpack_file
from detflow.storage.download import fetch_files as fetch_files_patiently

CONTENT = bytes(range(256)) * 4096


WITHOUT_PAUSES = DownloadLimits(pause_seconds=0.0)


def fetch_files(urls, sha256=None, limits=WITHOUT_PAUSES):
    return fetch_files_patiently(urls, sha256, limits)


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `breaks` connections end early, and what was asked for is remembered."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/weights.bin": CONTENT}
        self.breaks = 0
        self.etag = '"one"'
        self.ranges = []
        self.after_break = lambda: None
        self.hides_length = False

    def url(self, name="weights.bin"):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        if self.path == "/moved.bin":
            self.send_response(302)
            self.send_header("Location", "/weights.bin")
            self.end_headers()
            return
        if self.path == "/stolen.bin":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/weights.bin")
            self.end_headers()
            return
        if self.path == "/busy.bin":
            self.send_error(503)
            return
        body = server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = 0
        if self.headers.get("Range") and self.headers.get("If-Range") == server.etag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        if not server.hides_length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            self.wfile.write(body[start : start + 300_000])
            server.after_break()
        else:
            self.wfile.write(body[start:])


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DETFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def leftovers(cache):
    return [
        path
        for path in cache.rglob("*")
        if ".tmp-" in path.name or path.suffix in {".part", ".etag"}
    ]


def write_tar(path, *members):
    """Writes a .tar.gz of (name, content) pairs, or of TarInfos."""
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def test_the_cache_lies_where_it_is_asked_to(monkeypatch, tmp_path):
    assert cache_directory() == tmp_path / "cache"
    monkeypatch.delenv("DETFLOW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "detflow"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_directory() == tmp_path / "home" / ".cache" / "detflow"


def test_a_file_is_downloaded_once_and_pinned(server, cache):
    fetched = fetch_files([server.url()])
    assert (fetched.path / "weights.bin").read_bytes() == CONTENT
    assert fetch_files([server.url()]) == fetched
    assert server.ranges == [None]
    pin = json.loads(next(cache.glob("weights/*.json")).read_text())
    assert pin == {"urls": {server.url(): digest_file(fetched.path / "weights.bin")}}
    assert not leftovers(cache)


def test_a_redirect_is_followed_within_http_only(server):
    assert (fetch_files([server.url("moved.bin")]).path / "moved.bin").read_bytes() == CONTENT
    with pytest.raises(ConfigError, match="which is not followed"):
        fetch_files([server.url("stolen.bin")])


def test_a_broken_connection_is_taken_up_where_it_broke(server, cache):
    server.breaks = 3
    assert (fetch_files([server.url()]).path / "weights.bin").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]
    assert not leftovers(cache)


def test_a_file_that_changed_meanwhile_is_taken_anew(server):
    def change():
        server.etag = '"two"'
        server.files["/weights.bin"] = CONTENT[::-1]

    server.breaks, server.after_break = 1, change
    assert (fetch_files([server.url()]).path / "weights.bin").read_bytes() == CONTENT[::-1]


def test_a_server_that_cannot_resume_sends_all_again(server):
    server.etag, server.breaks = None, 1
    assert (fetch_files([server.url()]).path / "weights.bin").read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_a_killed_download_is_continued_by_the_next_process(server, cache, monkeypatch):
    class Killed(BaseException):
        pass

    def die(seconds):
        raise Killed

    server.breaks = 1
    with monkeypatch.context() as patch:
        patch.setattr(download.time, "sleep", die)
        # A dead process removes nothing.
        patch.setattr(publish.shutil, "rmtree", lambda *args, **kwargs: None)
        with pytest.raises(Killed):
            fetch_files([server.url()])
    assert leftovers(cache)
    assert not list(cache.glob("weights/weights.bin-*"))
    assert (fetch_files([server.url()]).path / "weights.bin").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]
    assert not leftovers(cache)


@pytest.mark.parametrize(
    ("name", "breaks", "error", "message"),
    [
        ("nothing.bin", 0, ConfigError, "the server answers 404"),
        ("busy.bin", 0, EnvironmentFault, "after 4 attempts without progress: 503"),
        ("weights.bin", 9, EnvironmentFault, "after 4 attempts without progress: IncompleteRead"),
        ("manifest.json", 0, ConfigError, "does not end in a plain file name"),
    ],
)
def test_what_cannot_be_had_is_said_and_leaves_nothing(server, cache, name, breaks, error, message):
    server.breaks, server.etag = breaks, None
    with pytest.raises(error, match=message):
        fetch_files([server.url(name)])
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("hides_length", [False, True])
def test_a_file_above_the_cap_is_refused(server, cache, hides_length):
    server.hides_length = hides_length
    with pytest.raises(ArtifactError, match=r"more than 1,048,575 bytes"):
        fetch_files([server.url()], limits=DownloadLimits(max_bytes=len(CONTENT) - 1))
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_checksum_that_is_given_holds_for_downloads_and_for_the_cache(server, cache):
    with pytest.raises(ConfigError, match=r"the SHA-256 is not 0000"):
        fetch_files([server.url()], "0" * 64)
    assert not [path for path in cache.rglob("*") if path.is_file()]
    right = fetch_files([server.url()]).digests[server.url()]["sha256"]
    assert fetch_files([server.url()], right.upper())
    with pytest.raises(ConfigError, match=r"the SHA-256 is not 0000"):
        fetch_files([server.url()], "0" * 64)


def test_other_bytes_than_the_first_time_are_refused(server, cache):
    fetched = fetch_files([server.url()])
    download.shutil.rmtree(fetched.path)
    server.files["/weights.bin"] = CONTENT[::-1]
    with pytest.raises(
        ArtifactError, match=r"not what it was at the first download; .*remove this file"
    ) as caught:
        fetch_files([server.url()])
    assert not fetched.path.exists()
    download.os.unlink(caught.value.path)
    assert (fetch_files([server.url()]).path / "weights.bin").read_bytes() == CONTENT[::-1]


def test_a_damaged_cache_is_named(server):
    fetched = fetch_files([server.url()])
    (fetched.path / "weights.bin").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(ArtifactError, match=r"differs from the manifest.*remove the folder"):
        fetch_files([server.url()])


def test_archives_are_unpacked_and_not_kept(server, tmp_path):
    archive = write_tar(
        tmp_path / "a.tar.gz", ("deep/ckpt-1.index", b"index"), ("deep/manifest.json", b"{}")
    )
    server.files["/a.tar.gz"] = archive.read_bytes()
    for fetched in (fetch_files([server.url("a.tar.gz")]), unpack_file(archive)):
        names = sorted(
            path.relative_to(fetched.path).as_posix()
            for path in fetched.path.rglob("*")
            if path.is_file()
        )
        assert names == [
            "manifest.json",
            "unpacked/deep/ckpt-1.index",
            "unpacked/deep/manifest.json",
        ]
        assert list(fetched.digests.values()) == [digest_file(archive)]


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../outside", b"x")], "leaves its folder"),
        ([("deep/../../outside", b"x")], "leaves its folder"),
        ([("/tmp/outside", b"x")], "leaves its folder"),
        (
            [special("link", tarfile.SYMTYPE, "/etc"), ("link/outside", b"x")],
            "neither a plain file nor a folder",
        ),
        (
            [("file", b"x"), special("hard", tarfile.LNKTYPE, "file")],
            "neither a plain file nor a folder",
        ),
        ([special("device", tarfile.CHRTYPE)], "neither a plain file nor a folder"),
        ([special("pipe", tarfile.FIFOTYPE)], "neither a plain file nor a folder"),
        ([("twice", b"x"), ("twice", b"y")], "one file twice"),
        ([("file", b"x"), ("file/inside", b"y")], "one file twice, or a file as a folder"),
        ([(f"file{n}", b"") for n in range(11)], "more than 10 members"),
        ([("file", bytes(1001))], "more than 1,000 bytes"),
        ([("n" * 2_000_000, b"x")], "a header is too large"),
    ],
)
def test_a_hostile_archive_touches_nothing(tmp_path, cache, members, message):
    archive = write_tar(tmp_path / "a.tar.gz", *members)
    limits = DownloadLimits(max_members=10, max_unpacked_bytes=1000)
    with pytest.raises(ArtifactError, match=message):
        unpack_file(archive, limits=limits)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.tar.gz"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"no archive",
        lambda data: data[:40] + b"?" * 9 + data[49:],
    ],
)
def test_a_damaged_archive_is_named(tmp_path, cache, damage):
    archive = write_tar(tmp_path / "a.tar.gz", ("file", CONTENT[:5000]))
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(ArtifactError, match=r"a\.tar\.gz: not a whole \.tar\.gz"):
        unpack_file(archive)
