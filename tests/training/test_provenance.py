import json

import pytest

from detflow.config.reading import parse_config
from detflow.data.records.manifest import RecordsManifest
from detflow.label_map import LabelMap
from detflow.runs.plan import Plan
from detflow.runs.run_dir import RunDir
from detflow.training.augment import RANDOM_NUMBERS
from detflow.training.provenance import (
    Machine,
    find_changes,
    read_plan,
    record_plan,
    record_start,
    with_steps,
)

MACHINE = Machine(2, "float32", 1)
MANIFEST = RecordsManifest(label_map=LabelMap(("a",)), splits={}, unions={}, fingerprint="0" * 64)
PLAN = Plan().refit(40, 60).refit(46, 46)


def config(*settings):
    return parse_config("data: {records: x}", settings)


def start(run, settings, *changes):
    record_start(run, settings, MANIFEST, MACHINE, 0, changes, None)


@pytest.fixture
def timed(tmp_path):
    """A run whose time budget came to 46 steps."""
    run = RunDir(tmp_path)
    start(run, config("train.time_budget=1m"))
    record_plan(run, with_steps(config("train.time_budget=1m"), 46), PLAN)
    return run


def test_a_plan_is_written_down_and_read_back(timed):
    assert read_plan(timed, config("train.time_budget=1m")) == PLAN
    assert json.loads(timed.provenance_path.read_text())["steps_by_time_budget"] == [
        [40, 60],
        [46, 46],
    ]
    assert timed.read_config().train.steps == 46


def test_without_a_budget_the_configuration_says_how_many_steps(timed):
    assert read_plan(timed, config("train.steps=9")) == Plan.fixed(9)


@pytest.mark.parametrize(("budget", "plan"), [("1m", PLAN), ("2m", Plan())])
def test_another_time_budget_is_turned_into_steps_anew(timed, budget, plan):
    settings = config(f"train.time_budget={budget}")
    assert read_plan(timed, settings) == plan
    start(timed, settings, "changed")
    assert read_plan(timed, settings) == plan


def test_a_run_killed_between_its_plan_and_its_configuration_goes_on(timed):
    timed.write_config(config("train.time_budget=1m", "train.steps=60"))
    settings = with_steps(config("train.time_budget=1m"), 46)
    assert find_changes(timed, settings, MANIFEST.fingerprint, MACHINE, None) == []


def test_another_budget_and_a_budget_where_there_was_none_are_changes(timed, tmp_path):
    (change,) = find_changes(
        timed,
        with_steps(config("train.time_budget=2m"), 46),
        MANIFEST.fingerprint,
        MACHINE,
        None,
    )
    assert change == "train.time_budget was 60.0, now 120.0"


@pytest.mark.parametrize("enabled", [True, False])
def test_other_random_numbers_are_another_run_where_images_are_augmented(tmp_path, enabled):
    run, settings = RunDir(tmp_path), config(f"augment.enabled={enabled}")
    start(run, settings)
    assert find_changes(run, settings, "0" * 64, MACHINE, None) == []
    # The first version of the numbers was not written down.
    before = run.read_provenance()
    del before["augmentation"]
    run.write_provenance(before)
    changed = [f"augmentation was None, now {RANDOM_NUMBERS}"] if enabled else []
    assert find_changes(run, settings, "0" * 64, MACHINE, None) == changed
