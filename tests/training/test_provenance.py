import dataclasses

import pytest

from detflow.config.reading import parse_config
from detflow.label_map import LabelMap
from detflow.runs.plan import MAX_FITS, Fit, Plan
from detflow.training.augment import RANDOM_NUMBERS
from detflow.training.provenance import (
    Machine,
    accept,
    build_record,
    choose_plan,
    find_changes,
)

MACHINE = Machine(2, "float32", 1)
FINGERPRINT = "0" * 64
FITS = Plan().refit(40, 60).refit(46, 46)


def config(*settings):
    return parse_config("data: {records: x}", settings)


def start(settings, plan=None, before=None):
    plan = Plan.fixed(settings.train.steps) if plan is None else plan
    return build_record(before, settings, LabelMap(("a",)), FINGERPRINT, MACHINE, plan)


def changes(before, settings, **others):
    found = {"fingerprint": FINGERPRINT, "machine": MACHINE, "initial_files": None, **others}
    return find_changes(before, settings, **found)


@pytest.fixture
def timed():
    """A run whose time budget came to 46 steps."""
    return start(config("train.time_budget=1m"), Plan()).planned(FITS)


def test_a_plan_is_part_of_the_record_and_its_steps_of_the_configuration(timed):
    assert (timed.plan, timed.config.train.steps) == (FITS, 46)
    assert choose_plan(timed, config("train.time_budget=1m"), 42) == FITS


def test_without_a_budget_the_configuration_says_how_many_steps(timed):
    assert choose_plan(None, config("train.steps=9"), 0) == Plan.fixed(9)
    assert choose_plan(None, config("train.time_budget=1m"), 0) == Plan()


@pytest.mark.parametrize(("budget", "plan"), [("1m", FITS), ("2m", Plan())])
def test_another_time_budget_is_turned_into_steps_anew(timed, budget, plan):
    assert choose_plan(timed, config(f"train.time_budget={budget}"), 46) == plan


def test_other_steps_go_on_from_the_learning_rate_that_was_reached():
    before = start(config("train.steps=100"))
    plan = choose_plan(before, config("train.steps=200"), 60)
    assert plan == Plan.fixed(100).refit(60, 200)
    # The schedule begins at step 0 here: where it stood before, and half of the rest half-way.
    assert [plan.pieces(0)[-1].at(step) for step in (60, 130, 200)] == [0.6, 0.8, 1.0]
    again = dataclasses.replace(before, plan=plan)
    assert choose_plan(again, config("train.steps=200"), 130) == plan
    assert choose_plan(again, config("train.steps=150"), 130) == plan.refit(130, 150)


def test_other_steps_can_be_planned_as_if_they_had_been_known_from_the_start():
    replaced = config("train.steps=200", "train.resume_schedule=replace")
    before = start(config("train.steps=100"))
    assert choose_plan(before, replaced, 60) == Plan.fixed(200)
    assert changes(before, config("train.resume_schedule=replace", "train.steps=100")) == []
    # A run that has not saved yet has nothing to go on from.
    assert choose_plan(before, config("train.steps=200"), 0) == Plan.fixed(200)
    full = Plan(tuple(Fit(step, 100) for step in range(MAX_FITS)))
    before = dataclasses.replace(before, plan=full)
    assert choose_plan(before, config("train.steps=200"), 60) == Plan.fixed(200)


def test_a_budget_that_is_given_up_leaves_the_schedule_where_it_is(timed):
    assert choose_plan(timed, config("train.steps=46"), 46) == FITS
    assert choose_plan(timed, config("train.steps=80"), 46) == FITS.refit(46, 80)


def test_the_steps_of_one_and_the_same_budget_are_no_change(timed):
    assert changes(timed, config("train.time_budget=1m", "train.steps=60")) == []


def test_another_budget_is_a_change(timed):
    assert changes(timed, config("train.time_budget=2m", "train.steps=46")) == [
        "train.time_budget was 60.0, now 120.0"
    ]


def test_data_machine_and_initial_weights_are_compared():
    before = accept(start(config()), None, 0, (), {"files": {"ckpt.index": "a"}})
    assert changes(before, config(), fingerprint="1" * 64) == [
        f"data_fingerprint was {FINGERPRINT}, now {'1' * 64}"
    ]
    assert changes(before, config(), machine=Machine(3, "float32", 1)) == ["threads was 2, now 3"]
    (change,) = changes(before, config(), initial_files={"ckpt.index": "b"})
    assert change.startswith("the files of train.init_from were ")


def test_accepted_changes_are_added_to_those_of_before():
    first = accept(start(config()), None, 0, (), {"source": "there"})
    second = accept(first, first, 8, ["one", "two"], None)
    third = accept(start(config(), before=second), second, 9, ["three"], None)
    learnt = [first.data_fingerprint, first.config.data.train_split]
    assert third.accepted_changes == (
        {"step": 8, "changes": ["one", "two"], "learnt": learnt},
        {"step": 9, "changes": ["three"], "learnt": learnt},
    )
    assert third.initial_weights == {"source": "there"}
    assert first.is_earlier(second)
    assert second.is_earlier(third)
    assert not third.is_earlier(second)
    assert not first.is_of_one_run(second)
    assert first.is_of_one_run(first.planned(FITS))


@pytest.mark.parametrize("enabled", [True, False])
def test_other_random_numbers_are_another_run_where_images_are_augmented(enabled):
    settings = config(f"augment.enabled={enabled}")
    before = start(settings)
    assert changes(before, settings) == []
    older = dataclasses.replace(before, machine={**before.machine, "augmentation": None})
    changed = [f"augmentation was None, now {RANDOM_NUMBERS}"] if enabled else []
    assert changes(older, settings) == changed
