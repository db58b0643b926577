import pytest

from detflow.config.schema import parse_config
from detflow.data.records.manifest import RecordsManifest
from detflow.runs.run_dir import RunDir
from detflow.training.provenance import Machine, record_fixed_steps, record_start, with_steps
from detflow.types import LabelMap


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
