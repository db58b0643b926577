import pytest

from detflow.config.reading import parse_config
from detflow.data.records.manifest import RecordsManifest
from detflow.label_map import LabelMap
from detflow.runs.run_dir import RunDir
from detflow.training.augment import RANDOM_NUMBERS
from detflow.training.provenance import (
    Machine,
    find_changes,
    record_fixed_steps,
    record_start,
    with_steps,
)


@pytest.mark.parametrize(("budget", "kept"), [("1m", True), ("2m", False)])
def test_another_time_budget_is_turned_into_steps_anew(tmp_path, budget, kept):
    run = RunDir(tmp_path)
    manifest = RecordsManifest(
        label_map=LabelMap(("a",)), splits={}, unions={}, fingerprint="0" * 64
    )
    config = parse_config("data: {records: x}", ["train.time_budget=1m"])
    machine = Machine(2, "float32", 1)
    record_start(run, config, manifest, machine, 0, [], None)
    record_fixed_steps(run, with_steps(config, 46))
    record_start(
        run,
        parse_config("data: {records: x}", [f"train.time_budget={budget}"]),
        manifest,
        machine,
        8,
        ["changed"],
        None,
    )
    assert run.has_fixed_steps() == kept


@pytest.mark.parametrize("enabled", [True, False])
def test_other_random_numbers_are_another_run_where_images_are_augmented(tmp_path, enabled):
    run = RunDir(tmp_path)
    manifest = RecordsManifest(
        label_map=LabelMap(("a",)), splits={}, unions={}, fingerprint="0" * 64
    )
    config = parse_config("data: {records: x}", [f"augment.enabled={enabled}"])
    machine = Machine(2, "float32", 1)
    record_start(run, config, manifest, machine, 0, [], None)
    assert find_changes(run, config, "0" * 64, machine, None) == []
    # The first version of the numbers was not written down.
    before = run.read_provenance()
    del before["augmentation"]
    run.write_provenance(before)
    changed = [f"augmentation was None, now {RANDOM_NUMBERS}"] if enabled else []
    assert find_changes(run, config, "0" * 64, machine, None) == changed
