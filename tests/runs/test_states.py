import dataclasses
import json
import logging

import pytest

from detflow.config.reading import parse_config
from detflow.config.schema import EvaluateConfig, TrainConfig
from detflow.digests import seal
from detflow.errors import ArtifactError
from detflow.label_map import LabelMap
from detflow.metrics.intervals import Interval
from detflow.runs.run_dir import RunDir
from detflow.runs.states import (
    CheckpointState,
    find_checkpoint,
    find_newest,
    read_state,
    resolve_checkpoint,
)

BY_AP50 = EvaluateConfig(metric="AP50")


def walk(values, *, mode="max", min_delta=0.0):
    state = CheckpointState(0)
    for step, value in enumerate(values, start=1):
        state = state.after(
            step, {"AP": value}, EvaluateConfig(mode=mode), TrainConfig(min_delta=min_delta)
        )
    return state


@pytest.mark.parametrize(
    ("values", "mode", "best", "stale"),
    [
        ([0.1, 0.3, 0.2], "max", 2, 1),
        ([0.1, 0.3, 0.2], "min", 1, 2),
        ([0.5, 0.5], "max", 2, 1),
        # Where nothing could be measured, nothing is known: neither a best step nor a lack of gain.
        ([None, None], "max", None, 0),
        ([None, 0.0, None], "max", 2, 0),
        ([0.3, None, 0.2, None], "min", 3, 0),
    ],
)
def test_best_and_patience(values, mode, best, stale):
    state = walk(values, mode=mode)
    assert (state.best_step, state.stale_evaluations) == (best, stale)


def test_a_state_keeps_where_its_values_lie(save_state, record_of, tmp_path):
    run, intervals = RunDir(tmp_path), {"AP": Interval(0.25, 0.5)}
    save_state(run, record_of(), intervals=intervals)
    found = read_state(run.checkpoint_path(8)).intervals
    assert found == intervals
    assert found["AP"].high == 0.5


def test_a_gain_is_measured_from_the_last_gain_so_that_small_steps_add_up():
    assert walk([0.10, 0.14, 0.18, 0.22], min_delta=0.05).stale_evaluations == 1
    assert walk([0.10, 0.14, 0.16], min_delta=0.05).stale_evaluations == 0
    assert walk([0.10, 0.14], min_delta=0.05).best_step == 2


def test_a_step_without_evaluation_changes_nothing_but_the_step():
    before = walk([0.1, 0.3, 0.2])
    after = before.after(9, {}, EvaluateConfig(), TrainConfig())
    assert (after.step, after.metrics) == (9, {})
    assert (after.best_step, after.best_value, after.stale_evaluations) == (2, 0.3, 1)


def evaluated(*values):
    """A state after evaluations of AP and AP50, ranked by AP."""
    state = CheckpointState(0)
    for step, (ap, ap50) in enumerate(values, start=1):
        state = state.after(step, {"AP": ap, "AP50": ap50}, EvaluateConfig(), TrainConfig())
    return state


def test_a_state_remembers_every_evaluation_and_what_its_values_are_values_of():
    state = evaluated((0.2, 0.6), (None, None), (0.1, 0.7))
    assert (state.metric, state.mode) == ("AP", "max")
    assert state.evaluations == (
        (1, {"AP": 0.2, "AP50": 0.6}),
        (2, {"AP": None, "AP50": None}),
        (3, {"AP": 0.1, "AP50": 0.7}),
    )
    # A step that is evaluated again stands there once.
    again = state.after(3, {"AP": 0.3}, EvaluateConfig(), TrainConfig())
    assert [step for step, _ in again.evaluations] == [1, 2, 3]


def test_another_metric_is_never_compared_with_the_one_before():
    state = evaluated((0.56, 0.8), (0.3, 0.9), (0.2, 0.7))
    assert (state.best_step, state.best_value, state.stale_evaluations) == (1, 0.56, 2)
    assert state.ranked_by(EvaluateConfig(), (1, 2, 3)) is state
    ranked = state.ranked_by(BY_AP50, (1, 2, 3))
    assert (ranked.metric, ranked.best_step, ranked.best_value) == ("AP50", 2, 0.9)
    assert (ranked.patience_value, ranked.stale_evaluations) == (0.9, 0)
    # .85 is more than AP .56, and less than AP50 .9.
    later = ranked.after(4, {"AP": 0.6, "AP50": 0.85}, BY_AP50, TrainConfig())
    assert (later.best_step, later.best_value, later.stale_evaluations) == (2, 0.9, 1)


def test_the_best_by_another_metric_is_a_checkpoint_that_is_still_there():
    state = evaluated((0.56, 0.8), (0.3, 0.9), (0.2, 0.7))
    assert state.ranked_by(BY_AP50, (1, 3)).best_step == 1
    lowest = EvaluateConfig(metric="AP50", mode="min")
    assert state.ranked_by(lowest, (1, 2, 3)).best_step == 3
    nothing = state.ranked_by(EvaluateConfig(metric="AR1"), (1, 2, 3))
    assert (nothing.best_step, nothing.best_value, nothing.patience_value) == (None, None, None)
    assert CheckpointState(7).ranked_by(BY_AP50, (7,)) == CheckpointState(7)


@pytest.fixture
def run(tmp_path, run_record, save_state):
    """A run of two checkpoints, the first of which is the better one."""
    run = RunDir(tmp_path / "run")
    record = run_record(parse_config("data: {records: x}"))
    run.write_record(record)
    state = evaluated((0.5, 0.6), (0.4, 0.7))
    for step, (_, metrics) in enumerate(state.evaluations, start=1):
        entries = {
            field.name: getattr(state, field.name)
            for field in dataclasses.fields(state)
            if field.name not in ("step", "files", "run", "metrics")
        }
        save_state(run, record, step, metrics=metrics, **entries)
    return run


def test_a_checkpoint_says_by_itself_what_it_belongs_to(run):
    state = read_state(run.checkpoint_path(2))
    assert state.record == run.read_record()
    content = json.loads((run.checkpoint_path(2) / "state.json").read_text())
    assert content["run"]["classes"] == ["disc", "Ringe & Ösen", "it's"]
    assert content["run"]["data_fingerprint"] == "0" * 64
    assert (content["metric"], content["mode"]) == ("AP", "max")


def test_every_flipped_bit_of_a_state_is_noticed_or_changes_nothing(run, flip_bits):
    path = run.checkpoint_path(2)
    expected = read_state(path)
    for read in flip_bits(path / "state.json", lambda: read_state(path)):
        assert read == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": -1}, "step: Input should be greater than or equal to 0"),
        ({"step": 3}, "it is of step 3, and the folder is called ckpt-2"),
        ({"best_step": -4}, "best_step: "),
        ({"mode": "most"}, "mode: "),
        ({"run": {}}, "not the record of a run: KeyError 'config'"),
        ({"evaluations": [[1]]}, "evaluations.0"),
        ({"files": {}}, "it lists"),
    ],
)
def test_a_state_that_contradicts_itself_is_refused_whoever_wrote_it(run, changes, message):
    path = run.checkpoint_path(2)
    content = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(content | changes))
    with pytest.raises(ArtifactError, match=r"state\.json: its content is not what was written"):
        read_state(path)
    (path / "state.json").write_text(json.dumps(seal(content | changes)))
    with pytest.raises(ArtifactError, match=message):
        read_state(path)


def test_a_configuration_of_another_version_is_named(run):
    path = run.checkpoint_path(2)
    content = json.loads((path / "state.json").read_text())
    content["run"]["config"]["train"]["speed"] = 9
    (path / "state.json").write_text(json.dumps(seal(content)))
    with pytest.raises(ArtifactError, match=r"not one of this version: train\.speed"):
        read_state(path)


def test_best_is_by_the_metric_of_the_newest_checkpoint(run, save_state):
    assert resolve_checkpoint("best", run).name == "ckpt-1"
    state = evaluated((0.5, 0.6), (0.4, 0.7)).ranked_by(BY_AP50, (1, 2))
    save_state(run, run.read_record(), 3, metric="AP50", evaluations=state.evaluations)
    assert resolve_checkpoint("best", run).name == "ckpt-2"
    assert resolve_checkpoint("last", run).name == "ckpt-3"


def test_where_nothing_could_be_measured_the_last_is_taken(tmp_path, run_record, save_state):
    run = RunDir(tmp_path / "run")
    record = run_record(parse_config("data: {records: x}"))
    for step in (1, 2):
        save_state(run, record, step, metric="AP", metrics={"AP": None})
    save_state(run, record, 3)
    assert resolve_checkpoint("best", run).name == "ckpt-3"


def test_a_damaged_newest_checkpoint_is_passed_over_and_told_of(run, caplog):
    (run.checkpoint_path(2) / "ckpt.index").write_text("damaged")
    assert find_newest(run).step == 1
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint(run.path, "last")[1].name == "ckpt-1"
    assert "ckpt-2 is passed over" in caplog.text


def test_the_classes_never_come_from_beside_a_checkpoint(run):
    run.label_map_path.write_text(LabelMap(("a", "b", "c")).to_pbtxt())
    assert read_state(run.checkpoint_path(1)).record.label_map.names[0] == "disc"
