import hashlib
import shutil
import tarfile

import pytest

from detflow.config.schema import TrainConfig
from detflow.errors import ArtifactError, ConfigError
from detflow.models.weights import sources as weight_sources
from detflow.models.weights.published import PUBLISHED, PublishedWeights
from detflow.models.weights.sources import find_initial_weights
from detflow.runs.run_dir import RunDir


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DETFLOW_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """A folder of two checkpoints, whose pointer names another one."""
    folder = tmp_path / "published [1]"
    folder.mkdir()
    for number in (9, 277200):
        (folder / f"ckpt-{number}.index").write_bytes(b"index%d" % number)
        (folder / f"ckpt-{number}.data-00000-of-00001").write_bytes(b"data%d" % number)
    (folder / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/ckpt-1"\n')
    return folder


def find(source, **settings):
    return find_initial_weights(TrainConfig(init_from=str(source), **settings))


def test_without_a_source_training_starts_from_scratch():
    assert find_initial_weights(TrainConfig()) is None


def test_a_licence_is_stated_where_none_is_known_and_nowhere_else(folder):
    assert find(folder, init_licence="MIT").terms == {}
    with pytest.raises(ConfigError, match=r"train.init_licence is MIT, and .* is known: .*Apache"):
        find("efficientnet-lite0-imagenet", init_licence="MIT")
    with pytest.raises(ConfigError, match=r"train.init_licence .* there is no train.init_from"):
        find_initial_weights(TrainConfig(init_licence="MIT"))


def test_a_licence_is_stated_of_what_a_run_began_with_unless_it_is_known(
    record_of, save_state, tmp_path
):
    def train_from(terms, *settings):
        initial = {"source": "weights.pth", "files": {}, "terms": terms}
        run = RunDir(tmp_path)
        shutil.rmtree(run.checkpoint_path(8), ignore_errors=True)
        save_state(run, record_of(*settings, initial_weights=initial))
        return run.checkpoint_path(8)

    first = find(train_from({})).terms
    assert first["begun_with"] == {}
    # A run of detflow stands between the weights that nobody knows and what is stated of them.
    checkpoint = train_from(first)
    assert find(checkpoint, init_licence="MIT").terms == {**first, "begun_with": first}
    licensed = find(train_from(first, "train.init_from=there", "train.init_licence=MIT")).terms
    stated = {**first, "begun_with": {"stated_licence": "MIT"}}
    assert licensed["begun_with"] == stated
    published = {"name": "lite0", "data": "ImageNet", "licence": "Apache-2.0"}
    for terms, known in (
        (stated, "stated licence MIT"),
        (published, "licence of the weights Apache-2.0"),
        ({**first, "begun_with": None}, "scratch"),
    ):
        with pytest.raises(ConfigError, match=f"train.init_licence is BSD, .* is known: .*{known}"):
            find(train_from(terms), init_licence="BSD")


def test_a_folder_a_prefix_and_an_index_file_are_checkpoints(folder):
    newest = folder / "ckpt-277200"
    for source in (folder, newest, f"{newest}.index", f"file://{newest}"):
        found = find(source)
        assert (found.path, found.kind) == (newest, "checkpoint")
        assert (
            found.digests["ckpt-277200.data-00000-of-00001"]["sha256"]
            == hashlib.sha256(b"data277200").hexdigest()
        )
        assert list(found.digests) == ["ckpt-277200.index", "ckpt-277200.data-00000-of-00001"]
    assert find(folder / "ckpt-9").path == folder / "ckpt-9"


def test_an_archive_is_unpacked_into_the_cache(folder, tmp_path):
    archive = tmp_path / "weights.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "deep")
    found = find(archive)
    assert found.path.relative_to(tmp_path / "cache").parts[-3:] == (
        "unpacked",
        "deep",
        "ckpt-277200",
    )
    assert list(found.digests) == [str(archive)]


def test_a_checksum_may_be_that_of_any_file_of_the_checkpoint(folder):
    assert find(folder, init_sha256=hashlib.sha256(b"data277200").hexdigest())
    with pytest.raises(ConfigError, match="the SHA-256 is not"):
        find(folder, init_sha256=hashlib.sha256(b"data9").hexdigest())


def test_a_published_name_is_its_addresses(folder, monkeypatch):
    fetched = []

    def fetch(urls, sha256):
        fetched.append((tuple(urls), sha256))
        return weight_sources.Fetched(folder, {})

    monkeypatch.setattr(weight_sources, "fetch_files", fetch)
    monkeypatch.setitem(
        PUBLISHED,
        "tiny",
        PublishedWeights(
            "all",
            (),
            "data",
            "licence",
            "none",
            ("https://example.org/a.index", "https://example.org/a.data"),
        ),
    )
    assert find("tiny").path == folder / "ckpt-277200"
    find("http://example.org/b.tar.gz", init_sha256="0" * 64)
    assert fetched == [(PUBLISHED["tiny"].urls, None), (("http://example.org/b.tar.gz",), "0" * 64)]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (
            "resnet50-imagnet",
            ConfigError,
            "is not a name, an address, a run, a checkpoint, a .pth or a .tflite; "
            "did you mean resnet50-imagenet",
        ),
        ("zzz", ConfigError, "published weights: efficientnet-lite0-imagenet, "),
        ("ftp://example.org/x", ConfigError, "is not a name, an address"),
        (".", ArtifactError, r"no file ends in \.index"),
    ],
)
def test_what_is_no_source_is_refused(source, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        find(source)
