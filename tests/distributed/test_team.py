from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from detflow.distributed.steps import ImmediateSteps, TakenStep
from detflow.distributed.team import MirroredTeam, Team, WorkersTeam
from detflow.distributed.topology import Topology
from detflow.errors import ConfigError, EnvironmentFault
from detflow.runs.plan import Plan

pytestmark = pytest.mark.tf


def worker_team(worker, *, workers=3, local=1):
    topology = Topology(
        {"worker": tuple(f"host{number}:1" for number in range(workers))}, "worker", worker
    )
    return WorkersTeam(SimpleNamespace(num_replicas_in_sync=workers * local), topology)


def rows(worker, *, batch_size=6, num_batches=1, **settings):
    return worker_team(worker, **settings).rows(batch_size, num_batches).tolist()


def test_each_process_has_a_part_of_each_batch_and_all_rows_are_had():
    assert [rows(worker) for worker in range(3)] == [[0, 1], [2, 3], [4, 5]]
    assert [rows(worker, num_batches=2) for worker in range(3)] == [
        [0, 1, 6, 7],
        [2, 3, 8, 9],
        [4, 5, 10, 11],
    ]
    # Of two devices each: first the rows of one, over all batches, then those of the other.
    assert [
        rows(worker, batch_size=4, num_batches=2, workers=2, local=2) for worker in range(2)
    ] == [[0, 4, 1, 5], [2, 6, 3, 7]]


def test_the_devices_of_one_process_have_all_rows():
    team = MirroredTeam(SimpleNamespace(num_replicas_in_sync=2))
    assert team.rows(4, 2).tolist() == [0, 1, 4, 5, 2, 3, 6, 7]
    assert str(team) == "2 replicas, "


def test_a_chief_comes_before_the_workers():
    cluster = {"worker": ("a:1", "b:1"), "chief": ("c:1",)}
    strategy = SimpleNamespace(num_replicas_in_sync=3)
    parts = [
        WorkersTeam(strategy, Topology(cluster, *task))
        for task in (("chief", 0), ("worker", 0), ("worker", 1))
    ]
    assert [part.rows(3, 1).tolist() for part in parts] == [[0], [1], [2]]
    assert [part.is_chief for part in parts] == [True, False, False]
    assert str(parts[0]) == "3 replicas of 3 processes, "


def test_a_team_of_one_has_all_rows_and_agrees_with_itself():
    alone = Team()
    np.testing.assert_array_equal(alone.rows(4, 2), np.arange(8))
    assert (alone.share([3, 4]), alone.add_up([5]), alone.is_chief) == ([3, 4], [5], True)
    assert (str(alone), list(alone.notes()), alone.require_equal([])) == ("", [], "")


def test_a_batch_that_does_not_split_is_refused():
    with pytest.raises(
        ConfigError,
        match=r"train\.batch_size 7 cannot be split evenly over 3 replicas; set it to 6 or 9",
    ):
        rows(0, batch_size=7)


def test_a_lost_process_is_an_environment_fault_and_other_errors_are_not():
    team = worker_team(1)
    with (
        pytest.raises(EnvironmentFault, match=r"worker 1 has lost another worker: gone; start all"),
        team.losses_of_others(),
    ):
        raise tf.errors.UnavailableError(None, None, "gone\nwith details")
    with pytest.raises(tf.errors.InvalidArgumentError), team.losses_of_others():
        raise tf.errors.InvalidArgumentError(None, None, "shapes differ")


class FakeTrainee:
    """Counts its steps; the learning rate is a tenth of their number."""

    def __init__(self):
        self.calls, self.plans = [], []

    def compile_step(self, team):
        def take(step, images, boxes, classes):
            self.calls.append((step, images, boxes, classes))
            return step

        take.trace = lambda: None
        return take

    def read_losses(self, losses):
        return [float(losses)]

    def last_learning_rate(self):
        return len(self.calls) / 10

    def follow(self, plan):
        self.plans.append(plan)


def test_a_team_of_one_takes_each_step_at_once():
    trainee = FakeTrainee()
    steps = Team().build_steps(trainee, lambda team: pytest.fail("nothing is copied"))
    assert isinstance(steps, ImmediateSteps)
    batch = SimpleNamespace(images="i", boxes="b", classes="c")
    assert steps.take(7, batch) == [TakenStep(8, [7.0], 0.1)]
    assert (trainee.calls, steps.in_flight, steps.join()) == ([(7, "i", "b", "c")], 0, [])
    steps.follow(Plan.fixed(9))
    assert trainee.plans == [Plan.fixed(9)]
