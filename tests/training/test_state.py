"""What changes with the steps of a training: saved by one process, and given to all others."""

from types import SimpleNamespace

import pytest
import tensorflow as tf

from detflow.config.schema import TrainConfig
from detflow.distributed.team import WorkersTeam
from detflow.distributed.topology import Topology
from detflow.training.optimizer import LearningRate, build_optimizer
from detflow.training.state import TrainingState

pytestmark = pytest.mark.tf


def build(precision, optimizer="adamw"):
    config = TrainConfig(optimizer=optimizer)
    network = tf.Module()
    network.variables_ = [tf.Variable([1.0, 2.0], name="kernel")]
    built = build_optimizer(config, LearningRate(config), network.variables_, precision)
    model = SimpleNamespace(network=SimpleNamespace(variables=network.variables_))
    return TrainingState(model, model, SimpleNamespace(averages=[]), None, built, None)


def variables_of(saved):
    view = tf.train.TrackableView(saved)
    return [one for one in view.descendants() if isinstance(one, tf.Variable)]


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_all_that_a_checkpoint_holds_of_the_optimizer_is_shared(precision, optimizer):
    state = build(precision, optimizer)
    shared = {id(variable) for variable in state.variables}
    saved = variables_of(state.saved["optimizer"])
    assert len(saved) >= (5 if precision == "float16" else 3)
    # The rate of the latest step comes from their number, anew in each.
    rest = {variable.name for variable in saved if id(variable) not in shared}
    assert rest <= {"current_learning_rate:0"}


def test_after_a_resume_all_processes_have_the_chief_s_loss_scale(monkeypatch):
    """The chief alone reads the checkpoint; what it gives away is carried by a stand-in."""
    cluster = {"worker": ("a:1", "b:1")}
    strategy = SimpleNamespace(num_replicas_in_sync=2)
    states, given = [], {}
    for number in range(2):
        team = WorkersTeam(strategy, Topology(cluster, "worker", number))

        def share(variables, team=team):
            for place, variable in enumerate(variables):
                if team.is_chief:
                    given[variable.dtype, place] = variable.numpy()
                else:
                    variable.assign(given[variable.dtype, place])

        monkeypatch.setattr(team, "_share_variables", share)
        states.append(build("float16"))
        if team.is_chief:
            scaler = states[0].optimizer
            scaler._loss_scale.current_loss_scale.assign(128.0)
            scaler.dynamic_counter.assign(77)
        team.share_variables(states[-1].variables)
    assert [float(state.optimizer.loss_scale) for state in states] == [128.0, 128.0]
    assert [int(state.optimizer.dynamic_counter) for state in states] == [77, 77]
