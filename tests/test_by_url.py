"""Every command takes URLs: for the dataset, the records, the model directory and its results."""

import json
import shutil
import subprocess
import sys

import pytest

from detflow.config.reading import format_config, parse_config
from detflow.data.check import check_location
from detflow.data.making import RecordOptions, publish_records
from detflow.data.records.manifest import read_manifest
from detflow.data.records.mirror import mirror_records
from detflow.digests import digest_files
from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.runs.run_dir import RunDir
from detflow.storage.folders import open_folder
from detflow.storage.location import Url

TINY = {
    "model.input_size": [32, 32],
    "model.width_multiplier": 0.25,
    "model.num_filters": 8,
    "model.num_head_convs": 1,
    "model.max_level": 4,
    "train.steps": 1,
    "train.batch_size": 2,
    "train.warmup_steps": 1,
    "data.eval_split": None,
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where mirrors and working copies lie."""
    monkeypatch.setenv("DETFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def upload(source, url):
    folder = open_folder(url)
    for path in sorted(source.rglob("*")):
        if path.is_file():
            folder.write(path.relative_to(source).as_posix(), path.read_bytes())


def names(url):
    return {entry.path for entry in open_folder(url).walk(lambda name: False)}


def find_digests(url):
    return {name: open_folder(url).digest(name) for name in names(url)}


@pytest.fixture
def memory(tmp_path):
    """A prefix of the store inside this process."""
    return Url("memory", f"bucket/{tmp_path.name}")


@pytest.fixture
def voc_url(pictures_dir, memory):
    upload(pictures_dir, memory / "set")
    return memory / "set"


def test_the_bytes_are_those_of_a_local_conversion(pictures_dir, voc_url, memory, tmp_path):
    shutil.copytree(pictures_dir, tmp_path / "set")
    publish_records(tmp_path / "set", tmp_path / "local", RecordOptions(jobs=1))
    seen = []

    def look(what, done, total):
        if what == "writing records":
            with pytest.raises(ArtifactError, match="no records directory"):
                mirror_records(memory / "records")
            seen.append(done)

    publish_records(voc_url, memory / "records", RecordOptions(jobs=1), look)
    assert seen
    assert find_digests(memory / "records") == digest_files(tmp_path / "local")
    assert (mirror_records(memory / "records") / "index.jsonl").read_bytes() == (
        tmp_path / "local" / "index.jsonl"
    ).read_bytes()


def test_a_run_that_broke_off_is_resumed_at_its_finished_shards(voc_url, memory, monkeypatch):
    publish_records(voc_url, memory / "whole", RecordOptions(jobs=1))
    output = memory / "records"

    def break_off(what, done, total):
        if what == "writing records":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish_records(voc_url, output, RecordOptions(jobs=1), break_off)
    (shard,) = (name for name in names(output) if name.endswith(".tfrecord"))
    built = []
    monkeypatch.setattr("detflow.data.shards.frame_record", lambda data: built.append(data))
    with pytest.raises(TypeError):
        # What is built anew breaks: the first shard is not.
        publish_records(voc_url, output, RecordOptions(jobs=1))
    monkeypatch.undo()
    assert len(built) == 1
    open_folder(output).write(shard, b"damaged")
    publish_records(voc_url, output, RecordOptions(jobs=1))
    assert find_digests(output) == find_digests(memory / "whole")


def test_what_must_not_be_replaced(voc_url, memory):
    for output in (voc_url, memory):
        with pytest.raises(ConfigError, match="would replace the dataset"):
            publish_records(voc_url, output, RecordOptions(jobs=1))


def test_a_mirror_is_what_the_manifest_says(voc_url, memory):
    records = memory / "records"
    publish_records(voc_url, records, RecordOptions(jobs=1))
    mirror = mirror_records(records, ["val"])
    assert {path.name for path in mirror.glob("*.tfrecord")} == {
        s.name for s in read_manifest(mirror).splits["val"].shards
    }
    (shard,) = (path for path in mirror.glob("val-*.tfrecord"))
    shard.write_bytes(b"damaged here")
    assert mirror_records(records, ["val"]) == mirror
    assert shard.read_bytes() != b"damaged here"
    (train,) = (name for name in names(records) if name.startswith("train-"))
    open_folder(records).write(train, open_folder(records).read(train, 1 << 20)[:-1])
    with pytest.raises(ArtifactError, match="not the one that its manifest lists"):
        mirror_records(records)
    open_folder(records).remove(train)
    with pytest.raises(ArtifactError, match="the shard is missing"):
        mirror_records(records)


def test_check_judges_urls(voc_url, memory):
    found = check_location(voc_url, RecordOptions(jobs=1))
    assert (found.refusal, found.content["annotations_found"]) == (None, 24)
    publish_records(voc_url, memory / "records", RecordOptions(jobs=1))
    found = check_location(memory / "records", RecordOptions(jobs=1))
    assert (found.refusal, found.content["images"]) == (None, 24)
    open_folder(voc_url).write("broken.xml", b"<annotation>")
    with pytest.raises(DataError, match="--strict"):
        raise check_location(voc_url, RecordOptions(jobs=1, strict=True)).refusal


def test_a_model_directory_at_a_url_is_brought_back_and_forth(memory, cache):
    url = memory / "run"
    with RunDir(url).locked() as run:
        for step in (1, 2):
            run.checkpoint_path(step).mkdir()
            for name in ("ckpt.index", "state.json"):
                (run.checkpoint_path(step) / name).write_text(f"{step}")
        (run.path / "losses.csv").write_text("1")
        run.share()
        assert {"ckpt-1/state.json", "ckpt-2/ckpt.index", "losses.csv", ".lease.json"} <= names(url)
        run.remove_checkpoint(1)
        (run.path / "losses.csv").write_text("1\n2")
    assert names(url) == {"ckpt-2/ckpt.index", "ckpt-2/state.json", "losses.csv"}
    # Cut short while it was uploaded: it never was.
    open_folder(url).write("ckpt-3/ckpt.index", b"half")
    (run.path / "ckpt-9").mkdir()
    with RunDir(url).locked() as again:
        assert again.path == run.path
        assert again.checkpoint_steps() == [2]
        assert (again.path / "losses.csv").read_text() == "1\n2"
    assert not any(name.startswith("ckpt-3") for name in names(url))


@pytest.fixture(scope="module")
def run_at_url(pictures_dir, s3_url, tmp_path_factory):
    """Dataset, records and a run of one step in a store, made by URL alone."""
    from detflow.training.preflight import prepare_start
    from detflow.training.recipe import train

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DETFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        upload(pictures_dir, s3_url / "set")
        publish_records(s3_url / "set", s3_url / "records", RecordOptions(jobs=1))
        settings = {**TINY, "data.records": str(s3_url / "records")}
        config = parse_config(
            "", [f"{name}={json.dumps(value)}" for name, value in settings.items()]
        )
        with RunDir(s3_url / "run").locked() as run:
            assert train(run, prepare_start(config, run)).state.step == 1
    return s3_url / "run", config


@pytest.mark.tf
@pytest.mark.slow
def test_each_command_takes_urls(run_at_url, model_dir, pictures_dir, s3_url, tmp_path):
    from detflow.evaluation.run import evaluate_model
    from detflow.exporting.run import export_model
    from detflow.prediction.run import predict

    run_url, _ = run_at_url
    assert {"config.yaml", "losses.csv", "ckpt-1/state.json"} <= names(run_url)
    shutil.copytree(pictures_dir, tmp_path / "set")
    publish_records(tmp_path / "set", tmp_path / "local", RecordOptions(jobs=1))
    assert find_digests(s3_url / "records") == digest_files(tmp_path / "local")

    analysis = evaluate_model(run_url, s3_url / "records", "val", output=s3_url / "evaluation")
    assert analysis.subject.source == str(run_url / "ckpt-1")
    assert "evaluation.html" in names(s3_url / "evaluation")
    # Of the step above no detection is likely enough to prove a file by.
    upload(model_dir, s3_url / "model")
    card = export_model(str(s3_url / "model" / "ckpt-10"), s3_url / "export", formats="onnx")
    assert card["failed"] == {}
    assert card["parity"]["images"] == "records"
    assert card["checkpoint"]["name"] == "ckpt-10"
    assert names(s3_url / "export") == {*card["files"], "model.json"}
    predictions = predict(
        [str(pictures_dir)],
        s3_url / "export",
        tmp_path / "found",
        score_threshold=0.0,
        overlays=False,
    )
    assert predictions.num_images > 0
    assert json.loads((tmp_path / "found" / "predictions.json").read_text())["model"] == str(
        s3_url / "export"
    )


@pytest.mark.tf
@pytest.mark.soak
def test_two_processes_go_on_with_a_run_at_a_url(run_at_url, tmp_path):
    """Only the first process looks at the model directory."""
    run_url, config = run_at_url
    (tmp_path / "config.yaml").write_text(format_config(config))
    command = [
        "train",
        f"--config={tmp_path / 'config.yaml'}",
        f"--model-dir={run_url}",
        "--workers=2",
        "--accept-changes",
        "--set=train.steps=2",
    ]
    again = subprocess.run(
        [sys.executable, "-m", "detflow", *command], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "resuming at step 1 of 2" in again.stderr
    assert "2 workers ended with equal weights" in again.stderr
    assert {"ckpt-1/state.json", "ckpt-2/state.json"} <= names(run_url)
