"""The export's proof against sabotage: a part of the campaign, and, in the soak tier, all of it."""

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

from detflow.config.reading import parse_config
from detflow.data.making import RecordOptions, publish_records

pytestmark = [pytest.mark.tf, pytest.mark.slow]

SCRIPT = Path(__file__).parents[2] / "tools" / "sabotage_exports.py"
# Draws the pictures.
LADDER = Path(__file__).parents[1] / "exporting" / "formats" / "test_ladder.py"
# The checkpoints of the shared run have the same weights, averaged or not.
SAME_WEIGHTS = ("average_missing", "other_checkpoint")


@pytest.fixture(scope="module")
def sabotage():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        yield importlib.import_module("sabotage_exports")
    for name in [n for n in sys.modules if n.partition(".")[0] in ("sabotage", SCRIPT.stem)]:
        del sys.modules[name]


def test_the_kinds_are_what_they_are_called(sabotage):
    names = [kind.name for kind in sabotage.KINDS]
    assert len(set(names)) == len(names) >= 18
    assert all(kind.meaning for kind in sabotage.KINDS)


# One of each part of what is converted: weights, decoding, suppression, threshold, names.
A_FEW = ("noise_in_backbone", "box_coder_off", "duplicates_left", "threshold_off", "names_permuted")


@pytest.mark.parametrize(
    "names", [A_FEW, pytest.param(None, marks=pytest.mark.soak)], ids=["a few", "all"]
)
def test_every_gate_in_floats_catches_what_is_rehearsed(names, sabotage, model_dir):
    kinds = [
        kind
        for kind in sabotage.KINDS
        if kind.name not in SAME_WEIGHTS and (names is None or kind.name in names)
    ]
    cases = list(sabotage.rehearse_campaign([model_dir], kinds, [1]))
    honest, sabotaged = ([c for c in cases if bool(c.kind) is is_bad] for is_bad in (False, True))
    assert [case.failure for case in honest] == ["", "", ""]
    assert len(sabotaged) > (40 if names is None else 10)
    passed = [(case.kind, case.format) for case in sabotaged if not case.failure]
    # What a file is told to fit images into is not inside a TFLite file.
    assert set(passed) <= {("resize_without_filter", "tflite")}


@pytest.fixture
def trained_dir(tmp_path):
    """A detector that was trained for a minute, with two checkpoints."""
    from detflow.runs.run_dir import RunDir
    from detflow.training.preflight import prepare_start
    from detflow.training.recipe import train

    spec = importlib.util.spec_from_file_location("ladder", LADDER)
    ladder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ladder)
    ladder.draw_stripes(tmp_path / "voc", {"train": 96, "val": 64})
    publish_records(tmp_path / "voc", tmp_path / "records", RecordOptions(jobs=1, report=False))
    settings = {
        "data.records": str(tmp_path / "records"),
        "model.input_size": [64, 64],
        "model.width_multiplier": 0.25,
        "model.num_filters": 16,
        "model.num_head_convs": 1,
        "model.max_level": 4,
        "model.anchor_scale": 3,
        "train.steps": 240,
        "train.warmup_steps": 20,
        "train.ema_decay": 0.98,
        "evaluate.every_steps": 120,
        "checkpoint.every_steps": 120,
        "augment.scale": [0.9, 1.1],
        "augment.horizontal_flip": False,
    }
    config = parse_config("", [f"{name}={value}" for name, value in settings.items()])
    with RunDir(tmp_path / "run").locked() as run:
        train(run, prepare_start(config, run))
    return tmp_path / "run"


@pytest.mark.soak
@pytest.mark.whole_network
def test_every_format_catches_everything_that_its_file_holds(sabotage, trained_dir):
    # The pictures have the canvas' size, so that no resize can be told from another.
    kinds = [kind for kind in sabotage.KINDS if kind.name != "resize_without_filter"]
    cases = list(sabotage.run_campaign([trained_dir], sabotage.FORMATS, kinds, [1]))
    assert [case.failure for case in cases if not case.kind] == [""] * 8
    assert not [(case.kind, case.format) for case in cases if case.kind and not case.failure]
