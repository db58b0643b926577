import json

import pytest

from detflow.data.records.twins import count_twins
from detflow.errors import ArtifactError

IMAGES = {"a": "train", "b": "train", "c": "val", "d": "val", "e": "test"}


def finding(image, other, code="split_near_leak"):
    return {"code": code, "image": f"{image}.jpg", "related": [f"{other}.xml", f"{other}.jpg"]}


@pytest.fixture
def write(tmp_path):
    def write_files(*findings, entries=()):
        index = [*({"image": f"{name}.jpg", "split": s} for name, s in IMAGES.items()), *entries]
        for name, lines in {"ledger.jsonl": findings, "index.jsonl": index}.items():
            (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        return tmp_path

    return write_files


def test_an_image_counts_once_whichever_of_the_two_the_finding_is_about(write):
    records = write(finding("c", "a"), finding("b", "c"), finding("a", "d"))
    assert count_twins(records, ["val"], ["train"]) == 2
    assert count_twins(records, ["train"], ["val"]) == 2
    assert count_twins(records, ["test"], ["train"]) == 0
    assert count_twins(records, ["val", "test"], ["train"]) == 2


def test_other_findings_and_twins_within_a_split_do_not_count(write):
    records = write(
        finding("c", "d"),
        finding("c", "a", "image_near_duplicate"),
        {"code": "box_inverted", "image": "c.jpg", "value": "split_near_leak"},
    )
    assert count_twins(records, ["val"], ["train"]) == 0


def test_an_image_that_was_let_into_two_splits_is_its_own_twin(write):
    records = write(
        finding("a", "a", "split_leak_allowed"), entries=[{"image": "a.jpg", "split": "test"}]
    )
    assert count_twins(records, ["test"], ["train"]) == 1


def test_without_a_ledger_nobody_knows(write, tmp_path):
    write()
    (tmp_path / "ledger.jsonl").unlink()
    assert count_twins(tmp_path, ["val"], ["train"]) is None


@pytest.mark.parametrize("line", ['{"code": "split_near_leak"', '["split_near_leak"]'])
def test_a_damaged_ledger_is_refused(write, line):
    records = write()
    (records / "ledger.jsonl").write_text(line + "\n")
    with pytest.raises(ArtifactError, match=r"ledger\.jsonl.*run detflow make-records again"):
        count_twins(records, ["val"], ["train"])
