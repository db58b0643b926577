"""Trainings on a clock that the test turns, by what steps, evaluations and checkpoints take.

The machine's speed changes while it does any of them.
"""

import math
import random

import pytest
from fakes import CONFIG, FakeCheckpoints, FakeSteps, Listener, evaluation

from detflow.runs.plan import MAX_FITS, Plan
from detflow.training.actions import Checkpointer, Evaluator
from detflow.training.budget import Intervals, Stopwatch
from detflow.training.loop import Course, run_loop
from detflow.training.time_budget import TimeBudget

# What the run's images are, for an evaluation that can be given up between two of them.
IMAGES = range(50)


class Machine(FakeSteps):
    """Its clock; `pace` returns how much longer everything takes at a moment."""

    def __init__(self, pace, step):
        super().__init__()
        self.now, self._pace, self._step = 0.0, pace, step

    def spend(self, seconds):
        # In parts, so that the pace changes within an evaluation as well.
        parts = max(1, round(seconds / 0.25))
        for _ in range(parts):
            self.now += seconds / parts * self._pace(self.now)

    def take(self, step, batch):
        self.spend(self._step)
        return super().take(step, batch)


class SlowCheckpoints(FakeCheckpoints):
    def __init__(self, machine):
        super().__init__()
        self._machine = machine

    def save(self, step, metrics, first_images=None, intervals=None):
        self._machine.spend(0.3)
        super().save(step, metrics)


class Run:
    """A training for a budget in seconds.

    Attributes:
        seconds: Of the whole command.
    """

    def __init__(
        self, pace, budget, *, step=None, evaluation_seconds=1.0, every=300, start=8.0, first=0
    ):
        # About 500 steps, whatever the budget is.
        self.machine = Machine(pace, step or budget / 500)
        self.machine.spend(start)
        self.checkpoints, self.recorded = SlowCheckpoints(self.machine), []
        self.evaluation_seconds = evaluation_seconds
        stopwatch = Stopwatch(0.0, lambda: self.machine.now)
        self.budget = TimeBudget(
            budget,
            Intervals(every if evaluation_seconds else None, 100),
            stopwatch,
            self._rehearse,
            lambda course: self.recorded.append(course.plan),
        )
        self.evaluator = Evaluator(
            self._evaluate,
            lambda: IMAGES,
            every,
            is_evaluated=lambda step: False,
            stopwatch=stopwatch,
            is_late=lambda: self.budget.is_late,
        )
        self.listener = Listener()
        actions = [
            self.budget,
            *([self.evaluator] if evaluation_seconds else []),
            Checkpointer(self.checkpoints, 100, flush=lambda: None, stopwatch=stopwatch),
            self.listener,
        ]
        self.course = Course(CONFIG, None, Plan(), first, first)
        run_loop(self.machine, lambda step: None, actions, self.course)
        # What the process still does behind the loop.
        self.seconds = self.machine.now + 0.7

    def _evaluate(self, samples):
        for _ in samples:
            self.machine.spend(self.evaluation_seconds / len(IMAGES))
        return evaluation({"AP": 0.5})

    def _rehearse(self):
        began = self.machine.now
        self.machine.spend(0.1 * self.evaluation_seconds)
        return (self.machine.now - began) / 0.1


def walk(seed):
    """A pace that changes every 2 seconds by up to a tenth, between 1 and 1.5."""
    chance, paces = random.Random(seed), [1.25]
    for _ in range(2000):
        paces.append(min(1.5, max(1.0, paces[-1] * chance.uniform(0.9, 1.1))))
    return lambda now: paces[int(now / 2)]


def sine(seconds):
    return lambda now: 1.25 + 0.25 * math.sin(2 * math.pi * now / seconds)


# Each makes the pace for a budget.
SWINGS = {
    "even": lambda budget: lambda now: 1.0,
    "fast sine": lambda budget: sine(0.02 * budget),
    "sine": lambda budget: sine(0.1 * budget),
    "slow sine": lambda budget: sine(0.4 * budget),
    "one sine": lambda budget: sine(budget),
    "a third of a sine": lambda budget: sine(3 * budget),
    "slow first": lambda budget: lambda now: 1.5 if now < 0.4 * budget else 1.0,
    "slow at the end": lambda budget: lambda now: 1.0 if now < 0.8 * budget else 1.5,
    "fast at the end": lambda budget: lambda now: 1.5 if now < 0.9 * budget else 1.0,
    "fast while it is timed": lambda budget: lambda now: 1.0 if now < 13 else 1.5,
    "slow while it is timed": lambda budget: lambda now: 1.5 if now < 13 else 1.0,
    "by turns": lambda budget: lambda now: 1.0 if now % 40 < 20 else 1.5,
    **{f"walk {seed}": lambda budget, seed=seed: walk(seed) for seed in range(4)},
}


@pytest.mark.parametrize("budget", [60, 120, 720])
@pytest.mark.parametrize("swing", SWINGS)
def test_a_run_ends_on_time_on_a_machine_whose_speed_swings(swing, budget):
    run = Run(SWINGS[swing](budget), budget)
    assert 0.97 * budget <= run.seconds <= 1.03 * budget
    # All of it is evaluated and saved, and the plan says what was done.
    assert run.checkpoints.saved[-1] == (run.course.step, {"AP": 0.5})
    assert run.course.plan.total == run.course.step


@pytest.mark.parametrize("share", [0.0002, 0.002, 0.02])
@pytest.mark.parametrize("evaluation_seconds", [0, 1, 6, 15])
def test_whatever_steps_and_evaluations_take_no_run_is_late(evaluation_seconds, share):
    for swing in ("even", "sine", "slow at the end", "by turns", "walk 0"):
        run = Run(
            SWINGS[swing](60),
            60,
            step=60 * share,
            evaluation_seconds=evaluation_seconds,
            every=100,
        )
        assert run.seconds <= 1.05 * 60
        assert run.checkpoints.state.step == run.course.step


def test_each_fit_is_written_down_and_followed():
    run = Run(SWINGS["walk 0"](120), 120)
    assert run.recorded[-1] == run.course.plan == run.machine.plans[-1]
    assert 5 < len(run.course.plan.fits) <= MAX_FITS
    assert run.course.plan.fits[0].step == 40
    steps = [fit.step for fit in run.course.plan.fits]
    assert steps == sorted(set(steps))


def test_the_first_fit_does_not_wait_for_forty_slow_steps():
    run = Run(SWINGS["even"](60), 60, step=1.0)
    assert 9 < run.course.plan.fits[0].step < 20


def test_a_resumed_run_that_has_no_plan_times_its_own_first_steps():
    run = Run(SWINGS["even"](60), 60, first=1000)
    assert run.course.plan.fits[0].step == 1040
    assert 0.97 * 60 <= run.seconds <= 1.03 * 60


@pytest.mark.parametrize("budget", [1, 8, 9])
def test_a_budget_too_short_for_an_evaluation_saves_at_its_end_and_says_so(budget):
    run = Run(SWINGS["even"](budget), budget, step=0.2, evaluation_seconds=5)
    assert run.checkpoints.saved == [(run.course.step, {})]
    assert run.course.step >= 1
    assert "no time to evaluate; the same command makes up for it" in run.course.reason


def test_a_machine_that_stalls_gives_up_the_evaluation_but_not_the_checkpoint():
    run = Run(lambda now: 1.0 if now < 54 else 30.0, 60, evaluation_seconds=5, every=1000)
    assert run.checkpoints.saved[-1] == (run.course.step, {})
    assert run.listener.heard[-2:] == [("end", run.course.step), ("close",)]
