import threading

import pytest
from fakes import At

from detflow.config.reading import parse_config
from detflow.errors import ArtifactError, ConfigError, EnvironmentFault
from detflow.training.trackers import choice
from detflow.training.trackers.base import Messenger, Tracked
from detflow.training.trackers.choice import read_id, require_trackers, track_export


class FakeTracker:
    def __init__(self, failing=None):
        self.heard, self.failing = [], failing

    def _hear(self, *what):
        if self.failing == what[0]:
            raise OSError(f"no route to host\n{what[0]}")
        self.heard.append(what)

    def start(self, run):
        steps = run.parameters.get("train.steps")
        self._hear("start", run.project, run.name, run.known_id, steps)
        return Tracked("run-7", "http://here")

    def log(self, step, values):
        self._hear("log", step, dict(values))

    def log_files(self, paths):
        self._hear("files", [path.name for path in paths])

    def log_export(self, folder):
        self._hear("export", folder.name)

    def end(self, *, is_whole):
        self._hear("end", is_whole)


def test_a_tracker_hears_settings_losses_evaluations_and_files_in_order(track, run):
    tracker = FakeTracker()
    notes = track("mlflow", build=lambda name: tracker)
    assert tracker.heard == [
        ("start", "detflow", "pets", None, "2400"),
        ("log", 20, {"loss/total": 10.0, "loss/box": 5.0, "learning_rate": 0.1}),
        ("log", 20, {"evaluation/AP": 0.2, "evaluation/AP/Ringe & Ösen": 0.5}),
        ("log", 40, {"loss/total": 20.0, "loss/box": 10.0, "learning_rate": 0.1}),
        ("log", 40, {"evaluation/AP": 0.4, "evaluation/AP/Ringe & Ösen": 0.5}),
        ("files", ["losses.csv"]),
        ("end", True),
    ]
    assert notes == ["MLflow: http://here"]
    assert read_id(run, "mlflow") == "run-7"
    assert read_id(run, "wandb") is None


def test_a_resumed_run_goes_on_under_the_same_name(track):
    track("mlflow", last=20, build=lambda name: FakeTracker())
    again = FakeTracker()
    track("mlflow", first=20, build=lambda name: again)
    assert again.heard[0] == ("start", "detflow", "pets", "run-7", "2400")


def test_an_export_is_added_to_the_run_that_it_came_from(track, run, tmp_path):
    tracking = parse_config("data: {records: x}", ["tracking.trackers=[mlflow, wandb]"]).tracking
    track("mlflow", build=lambda name: FakeTracker())
    tracker, notes = FakeTracker(), []
    # W&B does not know the run.
    track_export(run, tracking, tmp_path / "exports", notes.append, lambda name: tracker)
    assert [heard[0] for heard in tracker.heard] == ["start", "export", "end"]
    assert tracker.heard[0][3] == "run-7"
    assert notes == ["MLflow: the export is in http://here"]
    track_export(run, tracking, tmp_path, notes.append, lambda name: FakeTracker("export"))
    assert notes[-1] == "MLflow failed: no route to host; all else goes on without it"


def test_what_was_interrupted_is_not_whole(track):
    tracker = FakeTracker()

    def interrupt(course):
        course.stop.signum = 2

    track("mlflow", actions=[At(3, interrupt)], build=lambda name: tracker)
    assert tracker.heard[-1] == ("end", False)


@pytest.mark.parametrize("failing", ["start", "log", "files", "end"])
def test_a_failing_tracker_is_said_once_and_stops_nothing(track, failing):
    tracker = FakeTracker(failing)
    notes = track("mlflow", build=lambda name: tracker)
    assert notes[-1] == "MLflow failed: no route to host; all else goes on without it"
    assert sum("failed" in note for note in notes) == 1
    assert all(heard[0] != "end" for heard in tracker.heard)


def test_a_tracker_that_never_answers_does_not_keep_the_training(track, monkeypatch):
    monkeypatch.setattr(choice, "_SECONDS_TO_END", 0.05)
    answer = threading.Event()
    notes = track("mlflow", build=lambda name: answer.wait(60))
    assert notes == ["MLflow did not answer within 0.05 s and lacks the end"]
    answer.set()


def test_messages_beyond_the_bound_are_counted(monkeypatch):
    monkeypatch.setattr("detflow.training.trackers.base._MAX_WAITING", 2)
    began, answer, notes = threading.Event(), threading.Event(), []
    messenger = Messenger("MLflow", notes.append)

    def hang():
        began.set()
        answer.wait(60)

    messenger.send(hang)
    assert began.wait(60)
    for _ in range(5):
        messenger.send(lambda: None)
    threading.Timer(0.05, answer.set).start()
    messenger.finish(60.0)
    assert notes == ["MLflow was too slow and lacks 3 messages"]


def test_a_tracker_that_cannot_be_told_is_refused_before_the_run(monkeypatch):
    tracking = parse_config("data: {records: x}", ["tracking.trackers=[mlflow]"]).tracking
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI does not say where MLflow is"):
        require_trackers(tracking)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    require_trackers(tracking)
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="MLflow is not installed") as caught:
        require_trackers(tracking)
    assert "'.[mlflow]'" in caught.value.remedy


def test_an_id_that_is_none_is_refused(run):
    run.tracker_path("mlflow").write_text('{"id": 7}')
    with pytest.raises(ArtifactError, match="id is 7, which names no run of MLflow"):
        read_id(run, "mlflow")
