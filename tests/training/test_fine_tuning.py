import dataclasses

import numpy as np
import pytest

from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples
from detflow.errors import ArtifactError, DataError
from detflow.inference.serving import ServingModel
from detflow.inference.trained import load_trained_model
from detflow.models.base import Losses
from detflow.training import fine_tuning
from detflow.training.fine_tuning import fine_tune

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def samples(records_dir):
    return list(read_samples(records_dir, read_manifest(records_dir), "train"))


@pytest.fixture(scope="module")
def trained(canvases_dir):
    """Of two canvases."""
    return load_trained_model(canvases_dir)


@pytest.fixture(scope="module")
def canvases():
    return [np.random.default_rng(2).integers(0, 256, (1, 64, 96, 3), np.uint8)]


def weights(model):
    return [variable.numpy() for variable in model.network.variables]


@pytest.fixture(scope="module")
def tuned(trained, samples, canvases):
    return fine_tune(trained, samples, canvases, 3)


@pytest.mark.slow
def test_a_copy_is_trained_and_the_run_stays_as_it_is(trained, samples, canvases, tuned):
    files = {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in trained.run.path.rglob("*")
        if path.is_file()
    }
    before = weights(trained.serving.model)
    again = fine_tune(trained, samples, canvases, 3)
    for value, expected in zip(weights(trained.serving.model), before, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert files == {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in trained.run.path.rglob("*")
        if path.is_file()
    }
    # A batch depends on the seed and the step alone; with another one all weights would differ by
    # about the learning rate. The last bits of the measured ranges are not asked for: other tests
    # of this process have run networks of the same shapes, and oneDNN may take their primitives
    # (docs/decisions/0003). Where a gradient is no more than a rounding error, AdamW makes a step
    # of it all the same.
    close = [
        np.isclose(value, expected, rtol=0.0, atol=1e-6).ravel()
        for value, expected in zip(weights(again.model), weights(tuned.model), strict=True)
    ]
    assert np.mean(np.concatenate(close)) > 0.95
    changed = [
        (value != expected).any()
        for value, expected in zip(weights(tuned.model), before, strict=True)
    ]
    assert np.mean(changed) > 0.9
    assert (tuned.steps, tuned.learning_rate, tuned.images) == (3, 2e-4, 3)
    assert 0 < tuned.seconds < 300


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
