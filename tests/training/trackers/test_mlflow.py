"""MLflow's own server on this machine hears what a run says, across a resume."""

import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from detflow.config.schema import TrackingConfig
from detflow.training.trackers.choice import track_export

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1",
                "--backend-store-uri", f"sqlite:///{folder}/runs.db",
                "--artifacts-destination", str(folder / "artifacts"),
            ],
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        while not answers(f"{address}/health"):
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


def answers(address):
    try:
        with urllib.request.urlopen(address, timeout=60):
            return True
    except OSError:
        return False


def test_a_resumed_run_is_one_run_of_the_server(server, track, run, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    (note,) = track("mlflow", last=20)
    (again,) = track("mlflow", first=20)
    assert note == again
    assert note.startswith(f"MLflow: {server}/#/experiments/")

    from mlflow import MlflowClient

    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("detflow")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "pets"
    assert found.info.status == "FINISHED"
    assert found.data.params["train.steps"] == "2400"
    assert found.data.metrics["evaluation/AP"] == 0.4
    assert found.data.metrics["evaluation/AP/Ringe _ _sen"] == 0.5
    history = client.get_metric_history(found.info.run_id, "loss/total")
    assert [(point.step, point.value) for point in history] == [(20, 10.0), (40, 20.0)]
    assert [file.path for file in client.list_artifacts(found.info.run_id)] == ["losses.csv"]

    import onnx

    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["image"], ["boxes"])],
        "detector",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [2])],
        [onnx.helper.make_tensor_value_info("boxes", onnx.TensorProto.FLOAT, [2])],
    )
    folder, notes = tmp_path / "export", []
    folder.mkdir()
    onnx.save(onnx.helper.make_model(graph, ir_version=10), folder / "model.onnx")
    (folder / "card.html").write_text("<p>")
    track_export(run, TrackingConfig(trackers=("mlflow",)), folder, notes.append)
    assert [note.partition(" http")[0] for note in notes] == ["MLflow: the export is in"]
    uploaded = client.list_artifacts(found.info.run_id, "export")
    assert [file.path for file in uploaded] == ["export/card.html", "export/model.onnx"]
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert model.name == "detector"
    assert model.source_run_id == found.info.run_id
