"""Makes `fakes` importable, and lets trainings share what takes them longest."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def _find_variables(state):
    """Whatever changes with the steps, also what the optimiser calls no variable of its own."""
    import tensorflow as tf

    scaler = state.optimizer
    parts = (
        scaler,
        getattr(scaler, "inner_optimizer", None),
        getattr(scaler, "_loss_scale", None),
    )
    more = [
        value
        for part in parts
        if part is not None
        for value in vars(part).values()
        if isinstance(value, tf.Variable)
    ]
    return [*state.variables, *more]


class Workshop:
    """Builds and compiles once for trainings of equal settings.

    Each of them gets the variables as they were built. What a training keeps for its successor is
    in its model directory alone; that it holds for another process too is shown by `test_kills`.
    """

    def __init__(self):
        from detflow.inference.serving import ServingModel
        from detflow.training.state import build_training_state
        from detflow.training.step import build_step

        self._build_state, self._build_step = build_training_state, build_step
        self._build_serving = ServingModel
        self._states, self._steps, self._serving = {}, {}, {}

    def build_training_state(
        self, config, label_map, precision, team, initial=None, read_photos=None, *, serves
    ):
        from detflow.models import retinanet
        from detflow.runs.plan import Plan

        arguments = (config, label_map, precision, team, initial, read_photos)
        if initial is not None:
            return self._build_state(*arguments, serves=serves)
        network = retinanet.build_retinanet_network
        key = (network, config.model_dump_json(), tuple(label_map), precision, serves)
        if key not in self._states:
            state = self._build_state(*arguments, serves=serves)
            self._states[key] = state, [variable.numpy() for variable in _find_variables(state)]
        state, values = self._states[key]
        for variable, value in zip(_find_variables(state), values, strict=True):
            variable.assign(value)
        state.schedule.follow(Plan.fixed(config.train.steps))
        return state

    def build_step(self, model, *arguments):
        # The settings and the team come with the model, and so do the others.
        if model not in self._steps:
            self._steps[model] = self._build_step(model, *arguments)
        return self._steps[model]

    def build_serving(self, model, config):
        if model not in self._serving:
            self._serving[model] = self._build_serving(model, config)
        return self._serving[model]


@pytest.fixture(scope="module")
def compiled_once():
    """Lets all trainings of a module use one `Workshop`."""
    workshop = Workshop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detflow.training.recipe.build_training_state", workshop.build_training_state)
        patch.setattr("detflow.training.recipe.ServingModel", workshop.build_serving)
        patch.setattr("detflow.training.steps.build_step", workshop.build_step)
        yield
