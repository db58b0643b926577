"""What `detflow runs` lists."""

import pytest
from click.testing import CliRunner

from detflow.cli.main import cli
from detflow.metrics.intervals import Interval
from detflow.runs.run_dir import RunDir


@pytest.mark.parametrize(
    ("intervals", "shown"),
    [
        ({"AP": Interval(0.4321, 0.6), "AP50": Interval(0.7, 0.8)}, "0.512 0.43–0.60 "),
        ({}, "0.512 "),
    ],
)
def test_a_metric_has_its_range_where_it_was_recorded(
    intervals, shown, tmp_path, record_of, save_state
):
    run = RunDir(tmp_path / "pets")
    run.path.mkdir()
    record = record_of()
    run.write_record(record)
    save_state(run, record, metrics={"AP": 0.512}, metric="AP", intervals=intervals)
    done = CliRunner().invoke(cli, ["runs", str(tmp_path)])
    (line,) = [
        " ".join(line.split()) for line in done.output.splitlines() if line.startswith("  ckpt-")
    ]
    step = run.checkpoint_steps()[0]
    assert line.startswith(f"ckpt-{step} {step} {shown}0.0 MB")
