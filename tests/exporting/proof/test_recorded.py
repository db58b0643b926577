"""AP of a checkpoint beside the one that its state has."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from detflow.config.reading import parse_config
from detflow.errors import ArtifactError
from detflow.exporting.proof.gate import Reference
from detflow.exporting.proof.images import ProofImages
from detflow.exporting.proof.recorded import RecordedAp, compare_with_state
from detflow.exporting.recorded import describe_recorded
from detflow.runs.states import CheckpointState

pytestmark = pytest.mark.tf

CONFIG = parse_config("data: {records: x}")
PROOF = ProofImages("records", "x val", [], "val", "0" * 64)


def compare(run_record, now, *, then=0.562, proof=PROOF, config=CONFIG, **serving):
    record = run_record(config)
    first = {} if then is None else {"AP": then, "AP50": 0.9}
    state = CheckpointState(8, first_images=first, run=record.to_json())
    trained = SimpleNamespace(
        state=state,
        serving=SimpleNamespace(config=config.evaluate.model_copy(update=serving)),
        checkpoint_path=Path("run/ckpt-8"),
    )
    reference = Reference("ckpt-8", [{}] * 40, {"AP": 0.3}, {"AP": now, "AP50": now})
    return compare_with_state(trained, proof, reference)


def test_a_checkpoint_that_finds_what_it_found_is_as_recorded(run_record):
    found = compare(run_record, 0.558)
    assert found == RecordedAp(32, 0.558, 0.562)
    assert describe_recorded(dataclasses.asdict(found)) == (
        "It is the checkpoint that was evaluated in training: on the first 32 images of the "
        "evaluation split AP is 0.558, and 0.562 was recorded."
    )


@pytest.mark.parametrize("now", [0.054, 0.9, None])
def test_a_checkpoint_that_finds_something_else_is_not_exported(run_record, now):
    with pytest.raises(
        ArtifactError, match=r"ckpt-8 has AP .* on the first images of val, .*says 0\.562"
    ) as caught:
        compare(run_record, now)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"then": None}, "was not evaluated"),
        ({"proof": ProofImages("folder", "photos", [])}, "other images"),
        ({"proof": dataclasses.replace(PROOF, split="test")}, "other images"),
        ({"proof": dataclasses.replace(PROOF, fingerprint="1" * 64)}, "the records are not those"),
        ({"score_threshold": 0.5}, "another threshold"),
        ({"max_detections": 7}, "another threshold"),
    ],
)
def test_what_cannot_be_compared_is_said(run_record, settings, why):
    found = compare(run_record, 0.054, **settings)
    assert why in found.why_not
    assert describe_recorded(dataclasses.asdict(found)) == (
        f"The AP recorded in training is not compared: {found.why_not}."
    )
