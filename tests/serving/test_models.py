import json
import shutil
import threading

import pytest

from detflow.artifact import ArtifactDir
from detflow.errors import ArtifactError
from detflow.inference import load as runtimes
from detflow.serving.models import ArtifactSource, load_export


def shift(server, kit):
    answer = server.client.post("/predict", files={"f": kit.encode()}).json()
    return round(answer["images"][0]["detections"][0]["box"][1] - 0.1, 3)


def test_a_new_export_replaces_the_old_one(tmp_path, kit):
    path = kit.publish_export(tmp_path / "cells")
    with kit.running(path) as server:
        assert shift(server, kit) == 0.0
        before = server.client.get("/readyz").json()
        kit.publish_export(path, shift=0.2)
        kit.wait_until(lambda: shift(server, kit) == 0.2)
        after = server.client.get("/readyz").json()
        assert int(after["version"]) >= int(before["version"])
        assert after["newer_export_refused"] is None
        assert kit.metric(server.client, 'detflow_model_loads_total{result="loaded"}') == 2


def test_requests_in_flight_finish_on_the_model_that_they_came_for(tmp_path, kit):
    path = kit.publish_export(tmp_path / "cells")
    with kit.running(path) as server:
        (old,) = server.detectors
        old.gate.clear()
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(shift(server, kit))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        kit.wait_until(lambda: kit.metric(server.client, "detflow_queue_images") == 3)
        kit.publish_export(path, shift=0.2)
        kit.wait_until(
            lambda: kit.metric(server.client, 'detflow_model_loads_total{result="loaded"}') == 2
        )
        threads.append(threading.Thread(target=lambda: found.append(shift(server, kit))))
        threads[-1].start()
        kit.wait_until(lambda: kit.metric(server.client, "detflow_queue_images") == 4)
        old.gate.set()
        for thread in threads:
            thread.join()
        assert sorted(found) == [0.0, 0.0, 0.0, 0.2]


@pytest.mark.parametrize(
    "fault", ["flipped", "missing", "no manifest", "gone", "fewer names", "fails"]
)
def test_a_bad_export_is_refused_and_the_old_one_goes_on(fault, tmp_path, kit, caplog):
    path = kit.publish_export(tmp_path / "cells")
    with kit.running(path) as server:
        if fault == "flipped":
            (path / "weights.json").write_text(json.dumps({"shift": 0.1}))
        elif fault == "missing":
            (path / "weights.json").unlink()
        elif fault == "no manifest":
            (path / "model.json").write_text("{")
        elif fault == "gone":
            shutil.rmtree(path)
        elif fault == "fewer names":
            # As a person may: the names say nothing of a class that the network finds.
            shutil.rmtree(path)
            kit.publish_export(path, shift=0.1, names=kit.classes[:2])
        else:
            shutil.rmtree(path)
            kit.publish_export(path, shift="left")
        kit.wait_until(lambda: server.client.get("/readyz").json()["newer_export_refused"])
        ready = server.client.get("/readyz")
        assert ready.status_code == 200
        assert str(tmp_path) not in ready.text
        assert shift(server, kit) == 0.0
        assert "the new export is refused, the old one goes on serving" in caplog.text
        assert kit.metric(server.client, 'detflow_model_loads_total{result="refused"}') >= 1
        if fault == "gone":
            kit.publish_export(path, shift=0.3)
        else:
            shutil.rmtree(path)
            kit.publish_export(path, shift=0.3)
        kit.wait_until(lambda: shift(server, kit) == 0.3)
        assert server.client.get("/readyz").json()["newer_export_refused"] is None


def test_an_export_that_is_replaced_while_it_loads_is_not_mixed_with_the_next(tmp_path, kit):
    path = kit.publish_export(tmp_path / "cells")
    loads = []

    def load(folder):
        loads.append(json.loads((folder / "weights.json").read_text())["shift"])
        if len(loads) == 1:
            kit.publish_export(path, shift=0.3)
        return kit.detector(loads[-1])

    model = ArtifactSource(path, load).load()
    assert (loads, model.detector.shift) == ([0.0, 0.3], 0.3)

    def load_and_replace(folder):
        kit.publish_export(path, shift=0.3)
        return kit.detector(0.3)

    with pytest.raises(ArtifactError, match="was replaced 3 times while it was being loaded"):
        ArtifactSource(path, load_and_replace).load()


def test_an_export_is_read_whole_once_at_the_start_and_again_when_it_changes(
    tmp_path, monkeypatch, kit
):
    path = kit.publish_export(tmp_path / "cells")
    verified, verify = [], ArtifactDir.verify
    monkeypatch.setattr(
        ArtifactDir, "verify", lambda folder: verified.append(folder.path) or verify(folder)
    )
    source = ArtifactSource(path, lambda folder: kit.detector(0.0))
    assert source.verify()["checkpoint"] == {"step": 10}
    assert source.load().card["checkpoint"] == {"step": 10}
    assert verified == [path]
    kit.publish_export(path, step=20)
    assert source.load().card["checkpoint"] == {"step": 20}
    assert verified == [path, path]


def test_the_number_of_threads_reaches_the_runtime(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        runtimes, "load_verified", lambda folder, threads: asked.append((folder.path, threads))
    )
    load_export(tmp_path, threads=3)
    assert asked == [(tmp_path, 3)]
