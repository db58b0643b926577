import random

import pytest

from detflow.training.curves import append_rows, mend_losses, mend_results

LOSSES = ("step", "loss", "box", "learning_rate")
RESULTS = ("step", "AP", "AP50")
EVALUATIONS = ((4, {"AP": 0.1, "AP50": 0.25}), (8, {"AP": None, "AP50": 1 / 3}))


def row(step):
    return (step, 1 / step, 0.1 * step, 0.002)


@pytest.fixture
def losses(tmp_path):
    """losses.csv of 12 steps."""
    path = tmp_path / "losses.csv"
    mend_losses(path, LOSSES, 0, dict)
    append_rows(path, [row(step) for step in range(1, 13)])
    return path


def lines(path):
    return path.read_text().splitlines()


def events(*known):
    return lambda steps: {step: row(step)[1:] for step in known if step in steps}


def test_steps_after_the_checkpoint_are_cut_off_and_nothing_is_said(losses):
    before = lines(losses)
    assert mend_losses(losses, LOSSES, 8, events()) == []
    assert lines(losses) == before[:9]
    assert mend_losses(losses, LOSSES, 0, events()) == []
    assert lines(losses) == before[:1]


def test_a_whole_file_is_not_written_again(losses):
    before = losses.stat().st_mtime_ns
    assert mend_losses(losses, LOSSES, 12, events()) == []
    assert losses.stat().st_mtime_ns == before


def test_a_missing_file_is_made_of_events_and_marked_gaps(losses):
    before = lines(losses)
    losses.unlink()
    assert mend_losses(losses, LOSSES, 4, events(2, 4)) == [
        "losses.csv lacked 4 steps of 4: 2 come from TensorBoard's events, 2 stay empty"
    ]
    assert lines(losses) == [before[0], "1,,,", before[2], "3,,,", before[4]]
    # A gap that is marked is not told of again.
    assert mend_losses(losses, LOSSES, 4, events(1, 3)) == []


def test_a_file_cut_anywhere_comes_back_but_for_what_events_do_not_know(losses):
    whole, content = lines(losses), losses.read_bytes()
    for size in range(0, len(content), 9):
        losses.write_bytes(content[:size])
        notes = mend_losses(losses, LOSSES, 12, events(6, 12))
        found = lines(losses)
        assert found[0] == whole[0]
        assert [line.split(",")[0] for line in found[1:]] == [str(step) for step in range(1, 13)]
        for line, before in zip(found, whole, strict=True):
            assert line == before or (
                line.endswith(",,,") and line.split(",")[0] not in ("6", "12")
            )
        assert any("losses.csv lacked" in note for note in notes)


def test_damaged_lines_are_gaps_and_never_a_crash(losses):
    content, chance = losses.read_bytes(), random.Random(0)
    for _ in range(40):
        damaged = bytearray(content)
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        losses.write_bytes(damaged)
        mend_losses(losses, LOSSES, 12, events())
        steps = [line.split(",")[0] for line in lines(losses)[1:]]
        assert steps == [str(step) for step in range(1, 13)]


def test_a_file_of_other_columns_is_kept_beside_the_new_one(losses):
    losses.write_text("epoch,loss\n1,0.5\n")
    notes = mend_losses(losses, LOSSES, 2, events(1, 2))
    assert notes[0] == (
        "losses.csv has other columns than this run, and is kept as losses.csv.damaged-1"
    )
    assert (losses.parent / "losses.csv.damaged-1").read_text() == "epoch,loss\n1,0.5\n"
    assert len(lines(losses)) == 3


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_evaluations_come_back_from_the_checkpoint_bit_by_bit(tmp_path, kept):
    path = tmp_path / "results.csv"
    assert mend_results(path, RESULTS, ()) == []
    append_rows(path, [(4, 0.1, 0.25), (8, None, 1 / 3)])
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:kept]))
    notes = mend_results(path, RESULTS, EVALUATIONS)
    assert path.read_text() == whole
    lost = 3 - max(kept, 1)
    expected = f"lacked {lost} evaluation{'s' if lost > 1 else ''} of 2: the newest checkpoint"
    assert all(expected in note for note in notes)
    assert len(notes) == (lost > 0)


def test_an_evaluation_that_was_not_saved_is_made_again(tmp_path):
    path = tmp_path / "results.csv"
    mend_results(path, RESULTS, EVALUATIONS[:1])
    append_rows(path, [(8, 0.5, 0.5)])
    assert mend_results(path, RESULTS, EVALUATIONS[:1]) == []
    assert path.read_text().splitlines() == ["step,AP,AP50", "4,0.1,0.25"]
