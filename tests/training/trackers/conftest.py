"""A short training of fakes that an action is told about."""

import pytest
from fakes import CONFIG, FakeSteps, course_of

from detflow.runs.run_dir import RunDir
from detflow.training.loop import Action, Evaluated, run_loop
from detflow.training.trackers.choice import Track


class Evaluate(Action):
    def is_due(self, course):
        return course.is_due(20)

    def at_rest(self, course):
        metrics = {"AP": course.step / 100, "AP75": None, "AP/Ringe & Ösen": 0.5}
        course.evaluation = Evaluated(course.step, metrics, [], 0.0)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "pets"
    folder.mkdir()
    return RunDir(folder)


@pytest.fixture
def track(run):
    """Trains with a tracker from one step to another, and returns what people are told."""

    def train(name, first=0, last=40, config=CONFIG, actions=(), **options):
        notes = []
        run.losses_path.write_text("step,loss\n1,2.0\n")
        course = course_of(last, first=first, config=config)
        course.model_dir = run.path
        action = Track(name, run, ["box"], lambda: [run.losses_path], notes.append, **options)
        steps = FakeSteps(losses=lambda number: [number / 2, number / 4])
        run_loop(steps, lambda step: None, [Evaluate(), action, *actions], course)
        return notes

    return train
