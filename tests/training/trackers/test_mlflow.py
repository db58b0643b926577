"""MLflow's own server on this machine hears what a run says, across a resume.

What needs no server is tested with a stand-in for MLflow.
"""

import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from contextlib import nullcontext
from importlib.util import find_spec, module_from_spec
from types import ModuleType, SimpleNamespace

import pytest

from detflow.config.schema import TrackingConfig
from detflow.training.trackers.choice import track_export


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


@pytest.mark.soak
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


HINT = "Any type hint is inferred as AnyType, and MLflow doesn't validate the data for this type."


@pytest.fixture
def build_with(monkeypatch):
    """Builds the tracker on an MLflow that warns of something when it takes a model."""

    def build(warning):
        logged = []

        def log_model(model, name, **options):
            warnings.warn(f"\x1b[33m{warning}", stacklevel=2)
            logged.append((model, name))

        class Client:
            def log_artifacts(self, run_id, folder, place):
                pass

        onnx = SimpleNamespace(log_model=log_model)
        entities = {"Metric": None, "Param": None, "Run": None, "RunStatus": None}
        for name, attributes in {
            "mlflow": {
                "MlflowClient": Client,
                "start_run": lambda run_id: nullcontext(),
                "onnx": onnx,
            },
            "mlflow.onnx": vars(onnx),
            "mlflow.entities": entities,
            "onnx": {"load": lambda path: path.name},
        }.items():
            module = ModuleType(name)
            vars(module).update(attributes)
            monkeypatch.setitem(sys.modules, name, module)
        # Others find the module with the real MLflow.
        spec = find_spec("detflow.training.trackers.mlflow")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.MlflowTracker(), logged

    return build


def test_mlflow_s_warnings_about_its_own_modules_do_not_keep_an_export_from_it(
    build_with, tmp_path
):
    (tmp_path / "model.onnx").touch()
    tracker, logged = build_with(HINT)
    # The tests turn warnings into errors, and so do some users.
    tracker.log_export(tmp_path)
    assert logged == [("model.onnx", "detector")]
    tracker, logged = build_with("the model has no signature")
    with pytest.raises(UserWarning, match="no signature"):
        tracker.log_export(tmp_path)
    assert logged == []
