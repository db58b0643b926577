import pytest


@pytest.fixture
def config(tmp_path):
    (tmp_path / "ok.yaml").write_text("data:\n  records: nowhere\n")
    return tmp_path / "ok.yaml"


def test_a_model_directory_that_cannot_be_made_is_an_environment_fault(run, config):
    (config.parent / "file").write_text("")
    done = run("train", "--config", config, "--model-dir", config.parent / "file" / "run")
    assert done.code == 5
    assert "file/run: a part of the path is a file, not a folder" in done.err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--ray-address", "here:1"), "--ray-address goes with --runner ray"),
        (("--runner", "ray", "--parameter-servers", "1"), "--parameter-servers goes with"),
        (("--workers", "3", "--set", "train.batch_size=8"), "batch"),
        (("--set", "train.stepps=1"), "unknown setting train.stepps; did you mean steps?"),
        (("--time-budget", "soon"), "time_budget"),
    ],
)
def test_options_that_contradict_each_other_are_refused(run, config, options, reason):
    done = run("train", "--config", config, "--model-dir", config.parent / "run", *options)
    assert done.code == 2
    assert reason in done.err


def test_workers_are_not_started_inside_a_cluster(run, config, monkeypatch):
    cluster = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}'
    monkeypatch.setenv("TF_CONFIG", cluster)
    done = run("train", "--config", config, "--workers", "2")
    assert done.code == 2
    assert "TF_CONFIG says that this process is one of a cluster" in done.err
