"""What is judged again comes out as if the set had been known from the start."""

import pytest
from PIL import Image

from detflow.data.judging import sweep
from detflow.data.judging.audit import AuditOptions, audit_dataset
from detflow.data.sources.splits import SplitBy
from detflow.data.workers.processes import ProcessMap, open_workers
from detflow.storage.folders import LocalFolder


@pytest.fixture
def mixed_set(voc_set):
    """Each kind of evidence, in files that are read late, about files that are read early."""
    exif = Image.Exif()
    exif[0x0112] = 3
    voc_set.add("a-half", image=voc_set.encode(voc_set.draw(seed=90), exif=exif))
    voc_set.add("b-stale", voc_set.object("cat", (5, 5, 20, 20)), size=(32, 24))
    # Reaches out by a pixel, if corners count from 1; its image waits for pairing.
    voc_set.add("c-zero", voc_set.object("cat", (0, 5, 20, 20)), filename="C-ZERO.jpg")
    voc_set.add("d-plain", voc_set.object("cat", (5, 5, 20, 20)))
    voc_set.add("e-damaged", image=b"\xff\xd8\xff nothing")
    voc_set.add("f-text", voc_set.object("cat", (5, 5, 20, "nan")))
    voc_set.add("g-inverted", voc_set.object("cat", (20, 5, 5, 20)), images="twice/g")
    exif[0x0112] = 6
    image = voc_set.encode(voc_set.draw(seed=91), exif=exif)
    voc_set.add("y-quarter", image=image, size=(48, 64))
    voc_set.add("z-proof", voc_set.object("cat", (5, 5, 60, 20)), size=(32, 24))
    return voc_set


def run(voc_set, work_dir, workers):
    """Audits; returns the bytes of what was found and of the samples, and the sums."""
    work_dir.mkdir()
    result = audit_dataset(
        LocalFolder.of(voc_set.root),
        AuditOptions(split_by=SplitBy.SEED),
        work_dir,
        workers,
        lambda what, done, total: None,
    )
    found = (work_dir / "findings.jsonl").read_bytes()
    samples = (work_dir / "samples.jsonl").read_bytes()
    summaries = {name: result.read_sample(name) for name in result.samples}
    assert sorted(path.name for path in work_dir.iterdir()) == ["findings.jsonl", "samples.jsonl"]
    assert sum(1 for _ in result.read_samples()) == len(result.samples)
    return found, samples, summaries, result.counts, result.quarantined, result.decided


def all_at_once(function, items, chunk):
    """Hands out every batch before the first one has an answer."""
    return map(function, list(items))


def test_the_bytes_depend_neither_on_batches_nor_on_when_the_evidence_came(
    mixed_set, tmp_path, monkeypatch
):
    one = ProcessMap(None, 1)
    expected = run(mixed_set, tmp_path / "one", one)
    assert dict(expected[3]) == {
        "box_inverted": 1,
        "box_not_a_number": 1,
        "exif_applied": 2,
        "image_undecodable": 1,
        "paired_by_case": 1,
        "size_wrong": 2,
    }
    assert expected[4] == {
        "annotations/e-damaged.xml": "image_undecodable",
        "annotations/f-text.xml": "box_not_a_number",
    }
    assert len(expected[2]) == 7
    for size in (1, 2, 3):
        monkeypatch.setattr(sweep, "_BATCH_FILES", size)
        assert run(mixed_set, tmp_path / f"batches of {size}", one) == expected
        assert run(mixed_set, tmp_path / f"at once {size}", all_at_once) == expected


def test_no_image_is_read_twice(mixed_set, tmp_path, monkeypatch):
    read = []
    read_many = LocalFolder.read_many

    def spy(self, paths, limit):
        paths = list(paths)
        read.extend(paths)
        return read_many(self, paths, limit)

    monkeypatch.setattr(LocalFolder, "read_many", spy)
    run(mixed_set, tmp_path / "one", ProcessMap(None, 1))
    images = [path for path in read if path.endswith(".jpg")]
    assert len(images) == len(set(images))
    assert read.count("annotations/d-plain.xml") == 2


@pytest.mark.slow
def test_two_processes_write_the_same(mixed_set, tmp_path):
    expected = run(mixed_set, tmp_path / "one", ProcessMap(None, 1))
    with open_workers(2) as workers:
        assert run(mixed_set, tmp_path / "two", workers) == expected


def test_too_many_groups_are_one(voc_set, tmp_path, monkeypatch):
    from detflow.data.judging import testimony

    monkeypatch.setattr(testimony, "_MAX_GROUPS", 2)
    for number in range(4):
        extra = f"<source><database>{number}</database></source>"
        box = (0 if number == 3 else 5, 5, 20, 20)
        voc_set.add(f"a{number}", voc_set.object("cat", box), extra=extra)
    *_, decided = run(voc_set, tmp_path / "one", ProcessMap(None, 1))
    assert [(row["tool"], row["frame"]) for row in decided["corners"]] == [("", "zero-based")]
