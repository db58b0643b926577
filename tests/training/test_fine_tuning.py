import dataclasses

import numpy as np
import pytest

from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples
from detflow.errors import ArtifactError, DataError
from detflow.inference.serving import ServingModel
from detflow.models.base import Losses
from detflow.training import fine_tuning
from detflow.training.fine_tuning import fine_tune

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def samples(records_dir):
    return list(read_samples(records_dir, read_manifest(records_dir), "train"))


@pytest.fixture(scope="module")
def trained(trained_canvases):
    return trained_canvases


@pytest.fixture(scope="module")
def canvases():
    squares = np.random.default_rng(2).integers(0, 256, (1, 8, 12, 3), np.uint8)
    return [squares.repeat(8, 1).repeat(8, 2)]


def weights(model):
    return [variable.numpy() for variable in model.network.variables]


def files_of(trained):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in trained.run.path.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def before(trained):
    """Files and weights of the run before anything is tuned."""
    return files_of(trained), weights(trained.serving.model)


@pytest.fixture(scope="module")
def tuned(before, trained, samples, canvases):
    return fine_tune(trained, samples, canvases, 3)


@pytest.mark.slow
def test_a_copy_is_trained_and_the_run_stays_as_it_is(before, trained, tuned):
    files, before = before
    for value, expected in zip(weights(trained.serving.model), before, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert files == files_of(trained)
    changed = [
        (value != expected).any()
        for value, expected in zip(weights(tuned.model), before, strict=True)
    ]
    assert np.mean(changed) > 0.9
    assert (tuned.steps, tuned.learning_rate, tuned.images) == (3, 2e-4, 3)
    assert 0 < tuned.seconds < 300


def test_a_batch_depends_on_the_seed_and_the_step_alone(trained, samples, canvases, monkeypatch):
    """Weights are not compared.

    Int8's rounding makes whole steps of a last bit, and last bits may differ in a process that has
    run other networks of the same shapes (docs/decisions/0003).
    """

    def take(*arrays):
        batches[-1].append([np.array(array) for array in arrays])
        return Losses(0.5, {})

    batches = []
    monkeypatch.setattr(fine_tuning, "build_step", lambda *_: take)
    for _ in range(2):
        batches.append([])
        fine_tune(trained, samples, canvases, 2)
    first, second = batches
    assert len(first) == len(second) == 2
    for one, other in zip(first, second, strict=True):
        for array, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(array, same)
    assert not np.array_equal(first[0][1], first[1][1])


@pytest.mark.slow
def test_the_result_takes_the_first_canvas_and_computes_in_floats(tuned, trained, canvases):
    assert trained.serving.model.canvas_sizes == ((64, 96), (96, 64))
    assert tuned.model.canvas_sizes == ((64, 96),)
    found = ServingModel(tuned.model, trained.serving.config).detect_traced(canvases[0])
    assert found["num_detections"].numpy() > 0
    assert not any(
        "FakeQuant" in operation.type
        for operation in ServingModel(tuned.model, trained.serving.config)
        .detect_traced.get_concrete_function()
        .graph.get_operations()
    )


def test_a_loss_that_is_no_number_ends_it(trained, samples, canvases, monkeypatch):
    losses = iter((0.5, np.nan))
    monkeypatch.setattr(fine_tuning, "build_step", lambda *_: lambda *_: Losses(next(losses), {}))
    with pytest.raises(ArtifactError, match="the loss of step 2 of the fine-tuning is nan"):
        fine_tune(trained, samples, canvases, 3)


def test_an_image_that_cannot_be_decoded_is_named(trained, samples, canvases):
    damaged = dataclasses.replace(samples[0], encoded=samples[0].encoded[:20])
    with pytest.raises(DataError, match=samples[0].filename):
        fine_tune(trained, [damaged], canvases, 3)
