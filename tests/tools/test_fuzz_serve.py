import importlib
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "fuzz_serve.py"


@pytest.fixture(scope="module")
def fuzz():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        yield importlib.import_module("fuzz_serve")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("fuzz", "fuzz_serve")]:
        del sys.modules[name]


def test_a_request_is_a_function_of_seed_and_number(fuzz):
    bounds = fuzz.Bounds("pets", 10_000, 20_000)
    attacks = [fuzz.build_attack(1, number, bounds) for number in range(60)]
    assert attacks[7] == fuzz.build_attack(1, 7, bounds)
    assert len({attack.to_bytes() for attack in attacks}) > 50
    assert len({attack.kind for attack in attacks}) >= 9


def test_what_may_not_happen_is_a_fault(fuzz):
    sound, hostile = fuzz.Attack("sound", is_sound=True), fuzz.Attack("bomb")
    assert "500" in fuzz._find_fault(hostile, "500", b"")
    assert "no answer" in fuzz._find_fault(hostile, "none", b"")
    assert "closed" in fuzz._find_fault(hostile, "closed", b"")
    assert "sound" in fuzz._find_fault(sound, "400", b"")
    assert not fuzz._find_fault(sound, "200", b"")
    assert not fuzz._find_fault(hostile, "413", b"")


@pytest.mark.tf
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(48, marks=pytest.mark.slow),
        pytest.param(1_000, marks=pytest.mark.soak),
    ],
)
def test_a_server_under_attack_answers_and_keeps_its_memory(fuzz, count, onnx_dir, tmp_path):
    tally = fuzz.run_attacks(onnx_dir, 1, 0, count, tmp_path / "log")
    assert tally.failures == []
    assert tally.requests == count
    # The campaign is worth something only while it reaches both outcomes.
    statuses = {status for kind in tally.statuses.values() for status in kind}
    assert {"200", "400", "413"} <= statuses
    assert tally.begun_mb < tally.peak_mb
