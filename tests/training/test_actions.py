"""Each action in a loop with steps, evaluations and checkpoints that cost nothing."""

import json
import math
import signal

import pytest
from fakes import CONFIG, At, FakeCheckpoints, FakeSteps, course_of, evaluation

from detflow.config.reading import parse_config
from detflow.errors import ArtifactError
from detflow.runs.run_dir import RunDir
from detflow.runs.states import CheckpointState
from detflow.training.actions import (
    Checkpointer,
    EarlyStop,
    Evaluator,
    FiniteCheck,
    KeepJournal,
    ShowProgress,
    WeightCheck,
)
from detflow.training.budget import Stopwatch
from detflow.training.display import TrainingDisplay
from detflow.training.loop import run_loop


class FakeJournal:
    def __init__(self):
        self.rows, self.flushed, self.evaluations = [], [], []

    def configured(self, step, config):
        self.rows.append(("configured", step))

    def step(self, number, losses, learning_rate):
        self.rows.append((number, *losses, learning_rate))

    def evaluated(self, step, metrics, pictures):
        self.evaluations.append((step, metrics, list(pictures)))

    def flush(self):
        self.flushed.append(len(self.rows))


class Room:
    """Evaluator, checkpointer and early stop around fakes; `values` are the evaluations' APs."""

    def __init__(self, values=(0.1, 0.2, 0.3, 0.4), *, state=None, patience=0, config=CONFIG):
        self.checkpoints, self.journal = FakeCheckpoints(config, state), FakeJournal()
        self._values, self.read = iter(values), []
        self.during = lambda step: None
        stopwatch = Stopwatch()
        self.evaluator = Evaluator(
            self._evaluate,
            lambda: range(3),
            config.evaluate.every_steps,
            is_evaluated=self.checkpoints.is_evaluated,
            stopwatch=stopwatch,
        )
        self.actions = [
            self.evaluator,
            KeepJournal(self.journal, lambda images: [("name", image) for image in images]),
            Checkpointer(
                self.checkpoints,
                config.checkpoint.every_steps,
                flush=self.journal.flush,
                stopwatch=stopwatch,
                find_intervals=lambda step: {"AP": (0.0, step)},
            ),
        ]
        if patience:
            self.actions.append(EarlyStop(patience, lambda: self.checkpoints.state))

    def _evaluate(self, samples):
        for sample in samples:
            self.during(sample)
            self.read.append(sample)
        return evaluation({"AP": next(self._values)}, ["image"])

    def run(self, course, *more):
        run_loop(FakeSteps(), lambda step: None, [*self.actions, *more], course)
        return course


def test_a_run_saves_at_its_intervals_after_each_evaluation_and_at_its_end():
    room = Room()
    room.run(course_of(10))
    assert room.checkpoints.saved == [
        (3, {}),
        (4, {"AP": 0.1}),
        (6, {}),
        (8, {"AP": 0.2}),
        (9, {}),
        (10, {"AP": 0.3}),
    ]


def test_the_journal_has_every_step_and_reaches_the_disk_before_each_checkpoint():
    room = Room()
    room.run(course_of(4))
    assert room.journal.rows == [
        ("configured", 0),
        *((number, float(number), 0.1) for number in range(1, 5)),
    ]
    # The steps before checkpoints 3 and 4, and the line of the configuration.
    assert room.journal.flushed == [4, 5]
    assert room.journal.evaluations == [(4, {"AP": 0.1}, [("name", "image")])]


def test_a_checkpoint_has_the_range_of_its_own_evaluation():
    room = Room()
    room.run(course_of(6))
    assert room.checkpoints.intervals == {3: {}, 4: {"AP": (0.0, 4)}, 6: {}} | {
        step: {"AP": (0.0, step)} for step, metrics in room.checkpoints.saved if metrics
    }


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_signal_saves_the_step_at_work_once(number):
    room = Room()
    room.run(course_of(10), At(number, lambda course: course.stop.handle(signal.SIGTERM, None)))
    assert [step for step, _ in room.checkpoints.saved].count(number) == 1
    assert room.checkpoints.state.step == number


def test_a_run_that_is_stopped_before_its_first_step_saves_nothing():
    room, course = Room(), course_of(10)
    course.stop.signum = signal.SIGINT
    room.run(course)
    assert room.checkpoints.saved == []


def test_an_evaluation_that_a_signal_interrupts_is_made_up_for_by_the_resumed_run():
    room, course = Room(), course_of(8)
    room.during = lambda sample: sample == 1 and course.stop.handle(signal.SIGTERM, None)
    room.run(course)
    assert (room.read, room.checkpoints.saved[-1]) == ([0, 1], (4, {}))
    again = Room(state=room.checkpoints.state)
    again.run(course_of(8, first=4))
    assert again.checkpoints.saved == [(4, {"AP": 0.1}), (6, {}), (8, {"AP": 0.2})]


def test_a_resumed_run_does_not_evaluate_or_save_its_first_step_again():
    room = Room(state=CheckpointState(4, {"AP": 0.9}, 4, 0.9, 0.9))
    room.run(course_of(6, first=4))
    assert room.checkpoints.saved == [(6, {"AP": 0.1})]
    assert room.checkpoints.state.best_step == 4


def test_an_evaluation_that_would_be_late_is_given_up():
    room = Room()
    room.evaluator._is_late = lambda: len(room.read) >= 2
    room.run(course_of(4))
    assert (room.read, room.checkpoints.saved) == ([0, 1], [(3, {}), (4, {})])


@pytest.mark.parametrize(
    ("values", "ends_at", "reason"),
    [
        ((0.5, 0.4, 0.3, 0.9), 12, "stopped early: 2 evaluations without a gain"),
        ((0.5, 0.4, 0.6, 0.5, 0.4), 20, None),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 20, None),
    ],
)
def test_patience_ends_the_run_after_as_many_evaluations_without_a_gain(values, ends_at, reason):
    room = Room(values, patience=2)
    course = room.run(course_of(20))
    assert (course.step, course.reason) == (ends_at, reason)
    assert room.checkpoints.state.step == ends_at


def test_a_gain_must_be_larger_than_min_delta():
    config = parse_config("data: {records: x}", ["evaluate.every_steps=2", "train.min_delta=0.15"])
    room = Room((0.1, 0.2, 0.3, 0.3), patience=2, config=config)
    # From .1 to .2 is no gain, from .1 to .3 is one, and the last one is none.
    assert room.run(course_of(8, config=config)).step == 8
    assert room.checkpoints.state.stale_evaluations == 1


class Weights:
    """Names of variables that are not finite, by the step after which they are so."""

    def __init__(self, bad=()):
        self.bad, self.asked = dict(bad), 0

    def check(self, course):
        def find():
            self.asked += 1
            return self.bad.get(course.step, [])

        return WeightCheck(find, 40, lambda: "go on from ckpt-4 with --set x=1")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("saves", [True, False])
def test_a_loss_that_is_no_number_ends_the_run_before_the_step_is_saved(tmp_path, bad, saves):
    run, room, course = RunDir(tmp_path), Room(), course_of(10)
    weights = Weights().check(course) if saves else None
    room.actions.insert(0, FiniteCheck(run, lambda step: [f"image{step}.jpg"], weights))
    steps = FakeSteps(losses=lambda number: [0.5, bad] if number == 6 else [1.0, 1.0])
    remedy = "go on from ckpt-4 with --set x=1; failure.json" if saves else "the chief says what"
    with pytest.raises(
        ArtifactError,
        match=rf"the loss of step 6 is 0\.5 .*learning rate 0\.1, images image5\.jpg.*{remedy}",
    ):
        run_loop(steps, lambda step: None, room.actions, course)
    assert [step for step, _ in room.checkpoints.saved] == [3, 4]
    assert run.failure_path.exists() == saves
    if saves:
        assert json.loads(run.failure_path.read_text()) == {
            "step": 6,
            "learning_rate": 0.1,
            "losses": ["0.5", str(bad)],
            "images": ["image5.jpg"],
            "variables": [],
        }


@pytest.mark.parametrize(
    ("step", "saved"),
    [
        pytest.param(6, [3, 4], id="before a checkpoint"),
        pytest.param(8, [3, 4, 6], id="before an evaluation"),
        pytest.param(7, [3, 4, 6], id="before the checkpoint that a signal asks for"),
    ],
)
def test_weights_that_are_not_finite_are_neither_evaluated_nor_saved(tmp_path, step, saved):
    run, room, course = RunDir(tmp_path), Room(), course_of(10)
    bad = {number: ["kernel:0", "average_7:0"] for number in range(step, 11)}
    check = FiniteCheck(run, lambda number: ["a.jpg"], Weights(bad).check(course))
    room.actions.insert(0, check)
    stop = At(7, lambda course: course.stop.handle(signal.SIGTERM, None))
    with pytest.raises(
        ArtifactError,
        match=rf"after step {step} 2 of 40 variables hold numbers that are not finite, such as "
        r"kernel:0 \(learning rate 0\.1, images a\.jpg\); go on from ckpt-4 ",
    ):
        run_loop(
            FakeSteps(), lambda step: None, [*room.actions, *([stop] if step == 7 else [])], course
        )
    assert [number for number, _ in room.checkpoints.saved] == saved
    assert [number for number, _, _ in room.journal.evaluations] == [4]
    record = json.loads(run.failure_path.read_text())
    assert (record["step"], record["variables"]) == (step, ["kernel:0", "average_7:0"])


def test_finite_weights_are_looked_at_once_for_each_rest(tmp_path):
    room, course, weights = Room(), course_of(10), Weights()
    check = FiniteCheck(RunDir(tmp_path), lambda number: [], weights.check(course))
    room.actions.insert(0, check)
    room.run(course)
    # Steps 3, 4, 6, 8, 9, 10, and the end.
    assert weights.asked == 7


@pytest.mark.parametrize("fitted", [2, 4])
def test_people_see_steps_evaluations_memory_and_what_a_time_budget_comes_to(fitted, capfd):
    room, display = Room(), TrainingDisplay()
    shows = ShowProgress(display, 8, lambda evaluated: evaluated.step)
    room.actions.append(shows)
    room.during = lambda sample: None
    metrics = {"AP": 0.5, "AP50": 0.75, "AP75": None}
    room.evaluator._evaluate = lambda samples: evaluation(metrics, list(samples))
    course = course_of(4)
    course.plan = type(course.plan)()
    room.run(course, At(fitted, lambda course: course.refit(4)))
    shown = capfd.readouterr().err.splitlines()
    assert shown[0] == "compiling the first step"
    assert any(line.startswith("memory after the first step: ") for line in shown)
    assert "the time budget comes to 4 steps" in shown
    assert "step 4: AP 0.500  AP50 0.750  AP75 n/a  (best so far, 0 s)" in shown
