import json

import pytest

from detflow.errors import Locked
from detflow.storage.folders import open_folder
from detflow.storage.lease import Lease
from detflow.storage.location import Url
from detflow.storage.working_copy import WorkingCopy

FOREIGN = {"token": "t", "holder": "pid 1 on there", "written": 0}


@pytest.fixture
def url(tmp_path):
    """A prefix of the store inside this process."""
    return Url("memory", f"bucket/{tmp_path.name}/run")


@pytest.fixture
def copy(url, tmp_path):
    """Makes a working copy that is as quick as a test wants it."""

    def make(name, renew_seconds=0.05):
        (tmp_path / name).mkdir()
        lease = Lease(url, renew_seconds=renew_seconds, watch_seconds=1.0)
        return WorkingCopy(url, tmp_path / name, "state.json", lease)

    return make


def names(url):
    return {entry.path for entry in open_folder(url).walk(lambda name: False)}


def write_lease(url, lease):
    open_folder(url).write(".lease.json", json.dumps(lease).encode())


def test_who_has_lost_the_lease_changes_nothing(url, copy, tmp_path):
    """Two came at the same moment: the lease of the other one stands."""
    mine = copy("here", renew_seconds=60.0)
    with mine.leased():
        (tmp_path / "here" / "losses.csv").write_text("1")
        write_lease(url, FOREIGN)
        with pytest.raises(Locked, match="taken over: pid 1 on there"):
            mine.upload()
        assert names(url) == {".lease.json"}
    assert json.loads(open_folder(url).read(".lease.json", 999)) == FOREIGN


def test_what_has_changed_is_uploaded_and_the_marker_last(url, copy, tmp_path, monkeypatch):
    mine, folder = copy("here"), tmp_path / "here"
    built = []
    build = type(open_folder(url)).build

    def watch(self, path):
        built.append(path)
        return build(self, path)

    monkeypatch.setattr(type(open_folder(url)), "build", watch)
    (folder / "ckpt-1").mkdir()
    for name in ("state.json", "ckpt.index", "weights"):
        (folder / "ckpt-1" / name).write_text(name)
    with mine.leased():
        mine.upload()
        assert built == ["ckpt-1/ckpt.index", "ckpt-1/weights", "ckpt-1/state.json"]
        mine.upload()
        assert len(built) == 3
        (folder / "ckpt-1" / "weights").write_text("changed")
        (folder / "ckpt-1" / "ckpt.index").unlink()
        mine.upload()
        assert built[3:] == ["ckpt-1/weights"]
    assert names(url) == {"ckpt-1/weights", "ckpt-1/state.json"}
    other = copy("elsewhere")
    with other.leased():
        other.download()
    assert (tmp_path / "elsewhere" / "ckpt-1" / "weights").read_text() == "changed"
