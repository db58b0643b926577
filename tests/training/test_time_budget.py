"""Trainings on a clock that the test turns: each step, evaluation and checkpoint takes what a machine of changing speed takes."""

import math
import random
from types import SimpleNamespace

import pytest

from detflow.config.reading import parse_config
from detflow.distributed.steps import TakenStep
from detflow.runs.plan import Plan
from detflow.training.actions import Checkpointer, Evaluator
from detflow.training.budget import Intervals, Stopwatch
from detflow.training.loop import Course, run_loop
from detflow.training.time_budget import TimeBudget

CONFIG = parse_config("data: {records: x}", ["train.time_budget=1m"])


class Machine:
    """Its clock, and steps that take time on it; `pace` says how much longer everything takes at a moment."""

    def __init__(self, pace, step=0.1):
        self.now, self._pace, self._step = 0.0, pace, step

    in_flight = 0

    def spend(self, seconds):
        # In small parts, so that the pace changes within an evaluation as well.
        parts = max(1, round(seconds / 0.05))
        for _ in range(parts):
            self.now += seconds / parts * self._pace(self.now)

    def take(self, step, batch):
        self.spend(self._step)
        return [TakenStep(step + 1, [1.0], 0.1)]

    def join(self):
        return []

    def follow(self, plan):
        self.plan = plan


class Checkpoints:
    """Notes what is saved."""

    def __init__(self, machine, seconds):
        self._machine, self._seconds, self.saved = machine, seconds, []

    def save(self, step, metrics):
        self._machine.spend(self._seconds)
        self.saved.append((step, dict(metrics)))


def run(machine, budget, *, start=8.0, evaluation=2.0, every=300, checkpoint=0.3, more=()):
    """Trains for a budget; returns course, checkpoints and the seconds of the whole command."""
    stopwatch = Stopwatch(0.0, lambda: machine.now)
    machine.spend(start)
    checkpoints = Checkpoints(machine, checkpoint)

    def evaluate(samples):
        count = 0
        for _ in samples:
            machine.spend(evaluation / 20)
            count += 1
        assert count == 20
        return SimpleNamespace(metrics={"AP": 0.5}, images=[])

    def rehearse():
        began = machine.now
        machine.spend(0.1 * evaluation)
        return (machine.now - began) / 0.1

    every_steps = every if evaluation else None
    time_budget = TimeBudget(
        budget, Intervals(every_steps, 100), stopwatch, rehearse, lambda course: None
    )
    actions = [time_budget]
    if evaluation:
        actions.append(
            Evaluator(
                evaluate,
                lambda: range(20),
                every,
                is_evaluated=lambda step: False,
                stopwatch=stopwatch,
                is_late=lambda: time_budget.is_late,
            )
        )
    actions += [
        Checkpointer(checkpoints, 100, flush=lambda: None, stopwatch=stopwatch),
        *more,
    ]
    course = Course(CONFIG, None, Plan())
    run_loop(machine, lambda step: None, actions, course)
    # What comes behind the loop.
    return course, checkpoints, machine.now + 0.5


def walk(seed):
    """A speed that changes every 2 seconds by up to a tenth, between 1 and 1.5."""
    chance, paces = random.Random(seed), [1.25]
    for _ in range(5000):
        paces.append(min(1.5, max(1.0, paces[-1] * chance.uniform(0.9, 1.1))))
    return lambda now: paces[int(now / 2)]


SWINGS = {
    "even": lambda budget: lambda now: 1.0,
    **{
        f"sine of {share} budgets": lambda budget, share=share: (
            lambda now: 1.25 + 0.25 * math.sin(2 * math.pi * now / (share * budget))
        )
        for share in (0.02, 0.1, 0.4, 1.0, 3.0)
    },
    "slow first": lambda budget: lambda now: 1.5 if now < 0.4 * budget else 1.0,
    "slow at the end": lambda budget: lambda now: 1.0 if now < 0.8 * budget else 1.5,
    "fast at the end": lambda budget: lambda now: 1.5 if now < 0.9 * budget else 1.0,
    "fast while it is timed": lambda budget: lambda now: 1.0 if now < 13 else 1.5,
    "slow while it is timed": lambda budget: lambda now: 1.5 if now < 13 else 1.0,
    "by turns": lambda budget: lambda now: 1.0 if now % 40 < 20 else 1.5,
    **{f"walk {seed}": lambda budget, seed=seed: walk(seed) for seed in range(8)},
}


@pytest.mark.parametrize(("budget", "evaluation"), [(60, 0.8), (120, 2), (300, 4), (720, 6)])
@pytest.mark.parametrize("swing", SWINGS)
def test_a_run_ends_on_time_on_a_machine_whose_speed_swings(swing, budget, evaluation):
    machine = Machine(SWINGS[swing](budget))
    course, checkpoints, seconds = run(machine, budget, evaluation=evaluation)
    assert 0.97 * budget <= seconds <= 1.03 * budget
    assert checkpoints.saved[-1] == (course.step, {"AP": 0.5})
    assert course.plan.total == course.step


@pytest.mark.parametrize("step", [0.02, 0.1, 1.0])
@pytest.mark.parametrize("evaluation", [0, 1, 6, 15])
@pytest.mark.parametrize("budget", [60, 120, 720])
def test_whatever_steps_and_evaluations_take_no_run_is_late(budget, evaluation, step):
    for swing in SWINGS.values():
        _, checkpoints, seconds = run(
            Machine(swing(budget), step), budget, evaluation=evaluation, every=100
        )
        assert seconds <= 1.05 * budget
        assert checkpoints.saved
