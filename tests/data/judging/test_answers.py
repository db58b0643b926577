"""What a person decides goes into records, ledger and manifest; what no longer fits is refused."""

import csv
import hashlib
import io
import json

import pytest

from detflow.cli import main
from detflow.data.judging.decisions import COLUMNS
from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = main.run([*map(str, arguments), "--jobs", "1"])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def open_set(voc_set):
    """Eight sound images, and an annotation that two images fit."""
    for number in range(8):
        voc_set.add(f"image{number}")
    for seed, folder in enumerate(("a", "b")):
        voc_set.write(f"{folder}/open.jpg", voc_set.encode(voc_set.draw(seed=50 + seed)))
    voc_set.write("annotations/open.xml", voc_set.xml(voc_set.object("dog"), filename="open.jpg"))
    return voc_set


def read_table(text):
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def answer(path, rows, **answers):
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "answer": answers.get(row["question"], row["answer"])})
    return path


def find_image(records, key):
    manifest = read_manifest(records)
    samples = (one for name in manifest.splits for one in read_samples(records, manifest, name))
    return next((sample.filename for sample in samples if sample.key == key), None)


def test_an_image_is_asked_for_answered_and_written(open_set, run, tmp_path):
    table, records = tmp_path / "questions.csv", tmp_path / "records"
    code, out, _ = run("check", open_set.root, "--questions", table)
    assert code == 0
    assert "questions     image 1, corners 1: a person can answer them; see --decisions" in out
    row, corners = read_table(table.read_text())
    assert corners["question"] == "corners"
    assert row == {
        "question": "image",
        "about": "",
        "annotation": "annotations/open.xml",
        "line": "",
        "evidence": "several images fit the annotation: open.jpg",
        "candidates": "a/open.jpg | b/open.jpg | drop",
        "answer": "",
    }
    assert run("make-records", open_set.root, "--output", records)[0] == 0
    assert (records / "questions.csv").read_bytes() == table.read_bytes()
    assert find_image(records, "annotations/open") is None

    filled = answer(tmp_path / "filled.csv", [row, corners], image="b/open.jpg", corners="voc")
    code, out, err = run(
        "make-records", open_set.root, "--output", records, "--decisions", filled, "--strict"
    )
    assert (code, err) == (0, "")
    assert find_image(records, "annotations/open") == "b/open.jpg"
    assert not (records / "questions.csv").exists()
    manifest = json.loads((records / "manifest.json").read_text())
    assert manifest["decisions"] == {
        "counts": {"corners: voc": 1, "image": 1},
        "tables": [hashlib.sha256(filled.read_bytes()).hexdigest()],
    }
    assert manifest["questions"] == {}
    assert manifest["quarantined"] == {}
    ledger = [json.loads(line) for line in (records / "ledger.jsonl").read_text().splitlines()]
    [decided] = [line for line in ledger if line["code"] == "decided"]
    assert (decided["action"], decided["path"], decided["value"], decided["image"]) == (
        "noted",
        "annotations/open.xml",
        "image: b/open.jpg",
        "b/open.jpg",
    )


def test_what_is_dropped_is_in_no_count(open_set, run, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("question,annotation,answer\nimage,annotations/open.xml,drop\n")
    code, out, _ = run("check", open_set.root, "--decisions", table, "--strict")
    assert code == 0
    assert "annotations   8 found = 8 usable + 0 quarantined" in out
    assert "noted         1 × decided" in out


def test_an_image_may_be_named_that_nobody_thought_of(open_set, run, tmp_path):
    open_set.write("else/where.jpg", open_set.encode(open_set.draw(seed=70)))
    open_set.write("annotations/lost.xml", open_set.xml(open_set.object(), filename="gone.jpg"))
    table, records = tmp_path / "t.csv", tmp_path / "records"
    table.write_text("question,annotation,answer\nimage,annotations/lost.xml,else/where.jpg\n")
    code, _, _ = run("make-records", open_set.root, "--output", records, "--decisions", table)
    assert code == 0
    assert find_image(records, "annotations/lost") == "else/where.jpg"
    manifest = json.loads((records / "manifest.json").read_text())
    assert manifest["images_unlabelled"] == 0


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ("image,annotations/image0.xml,a/open.jpg", "nothing is open about its image"),
        ("image,annotations/open.xml,images/image0.jpg", "annotations/image0.xml has that image"),
        ("image,annotations/open.xml,c/open.jpg", "there is no such image"),
        ("image,annotations/gone.xml,drop", "there is no such annotation"),
        ("image,annotations/open.xml,", None),
    ],
)
def test_a_row_that_does_not_fit_is_refused(open_set, run, tmp_path, row, cause):
    table = tmp_path / "t.csv"
    table.write_text(f"question,annotation,answer\n{row}\n")
    code, _, err = run(
        "make-records", open_set.root, "--output", tmp_path / "out", "--decisions", table
    )
    if cause is None:
        assert (code, err) == (0, "")
        return
    assert code == 3
    assert err.startswith(f"detflow: error: {table}:2: the answer ")
    assert f": {cause}; remove the row, or answer what `detflow check --questions` asks now" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_same_set_gives_the_same_questions_with_any_number_of_processes(open_set, tmp_path):
    for number in ("1", "2"):
        table = tmp_path / f"{number}.csv"
        command = ["check", str(open_set.root), "--questions", str(table), "--jobs", number]
        assert main.run(command) == 0
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()


def test_a_class_that_looks_misspelt_is_asked_for_and_may_be_right(voc_set, run, tmp_path):
    for number in range(12):
        voc_set.add(f"image{number:02}", voc_set.object("it's a cat"))
    voc_set.add("rare", voc_set.object("it's a catt"))
    table = tmp_path / "questions.csv"
    assert run("check", voc_set.root, "--questions", table)[0] == 0
    [row] = [row for row in read_table(table.read_text()) if row["question"] == "class"]
    assert (row["about"], row["annotation"], row["line"]) == (
        "it's a catt",
        "annotations/rare.xml",
        "1",
    )
    assert row["candidates"] == "class it's a cat | class it's a catt"
    row["answer"] = "class it's a catt"
    filled = answer(tmp_path / "filled.csv", [row])
    code, out, _ = run("check", voc_set.root, "--decisions", filled)
    assert code == 0
    assert "class_near_miss" not in out
    assert "annotations/rare.xml: class \"it's a catt\": it's a catt" in out
    records = tmp_path / "records"
    filled = answer(tmp_path / "renamed.csv", [{**row, "answer": "class it's a cat"}])
    code, _, _ = run("make-records", voc_set.root, "--output", records, "--decisions", filled)
    assert code == 0
    manifest = json.loads((records / "manifest.json").read_text())
    assert manifest["classes"] == ["it's a cat"]
    assert manifest["noted"]["decided"] == 1
    for about, word, cause in (
        ("it's a cat", "it's a cat", "nothing is open about this class"),
        ("it's a dog", "it's a cat", "no usable annotation has this class"),
    ):
        filled = answer(
            tmp_path / "other.csv", [{**row, "about": about, "answer": f"class {word}"}]
        )
        code, _, err = run("check", voc_set.root, "--decisions", filled)
        assert code == 3
        assert cause in err


@pytest.fixture
def turned_set(voc_set):
    """Pictures that EXIF turns by a half, which neither sizes nor boxes can decide."""
    for number in range(4):
        voc_set.add(f"image{number}")
    exif = voc_set.draw().getexif()
    exif[0x0112] = 3
    for seed, name in enumerate(("one", "two", "three")):
        voc_set.add(name, image=voc_set.encode(voc_set.draw(seed=80 + seed), exif=exif))
    return voc_set


def find_box(records, key):
    manifest = read_manifest(records)
    samples = (one for name in manifest.splits for one in read_samples(records, manifest, name))
    return next(
        (
            tuple(round(value, 1) for value in sample.objects[0].box.to_voc(sample.size))
            for sample in samples
            if sample.key == f"annotations/{key}"
        ),
        None,
    )


def test_exif_is_followed_ignored_or_dropped_one_by_one(turned_set, run, tmp_path):
    table, records = tmp_path / "questions.csv", tmp_path / "records"
    assert run("check", turned_set.root, "--questions", table)[0] == 0
    rows = [row for row in read_table(table.read_text()) if row["question"] == "exif"]
    assert [row["annotation"] for row in rows] == [
        "annotations/one.xml",
        "annotations/three.xml",
        "annotations/two.xml",
    ]
    assert rows[0]["candidates"] == "follow | ignore | drop"
    for row, word in zip(rows, ("follow", "drop", "ignore"), strict=True):
        row["answer"] = word
    filled = answer(tmp_path / "filled.csv", rows)
    code, out, err = run(
        "make-records", turned_set.root, "--output", records, "--decisions", filled
    )
    assert (code, err) == (0, "")
    assert "annotations   6 found = 6 usable + 0 quarantined" in out
    ledger = [json.loads(line) for line in (records / "ledger.jsonl").read_text().splitlines()]
    found = {
        (line["path"].partition("/")[2], line["code"])
        for line in ledger
        if line["code"].startswith(("exif", "decided"))
    }
    assert found == {
        ("one.xml", "exif_applied"),
        ("one.xml", "decided"),
        ("two.xml", "exif_removed"),
        ("two.xml", "decided"),
        ("three.xml", "decided"),
    }
    assert find_box(records, "three") is None
    assert find_box(records, "one") == find_box(records, "two") == (10, 10, 30, 30)
    manifest = json.loads((records / "manifest.json").read_text())
    assert manifest["decisions"]["counts"] == {
        "exif: drop": 1,
        "exif: follow": 1,
        "exif: ignore": 1,
    }


def test_boxes_are_scaled_where_a_person_says_so(voc_set, run, tmp_path):
    for number in range(8):
        voc_set.add(f"image{number}")
    for name in ("big", "other"):
        voc_set.add(name, voc_set.object(box=(21, 21, 60, 60)), size=(128, 96))
    table, records = tmp_path / "t.csv", tmp_path / "records"
    table.write_text("question,annotation,answer\nboxes,annotations/big.xml,scale\n")
    code, _, err = run("make-records", voc_set.root, "--output", records, "--decisions", table)
    assert (code, err) == (0, "")
    assert find_box(records, "big") == (11, 11, 30, 30)
    assert find_box(records, "other") is None
    [row] = [
        row
        for row in read_table((records / "questions.csv").read_text())
        if row["question"] == "boxes"
    ]
    assert (row["annotation"], row["candidates"]) == ("annotations/other.xml", "scale | drop")


def test_corners_that_nothing_tells_are_asked_for_by_tool(open_set, run, tmp_path):
    table, records = tmp_path / "questions.csv", tmp_path / "records"
    assert run("check", open_set.root, "--questions", table)[0] == 0
    [row] = [row for row in read_table(table.read_text()) if row["question"] == "corners"]
    assert (row["about"], row["annotation"]) == ("", "")
    assert row["evidence"] == "8 boxes, nothing tells; taken as voc"
    filled = answer(tmp_path / "filled.csv", [row], corners="zero-based")
    assert run("make-records", open_set.root, "--output", records, "--decisions", filled)[0] == 0
    assert find_box(records, "image0") == (11, 11, 30, 30)
    assert (
        json.loads((records / "manifest.json").read_text())["decided"]["corners"][0]["by"]
        == "--decisions"
    )


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ("exif,,annotations/image0.xml,follow", "nothing of the kind is open about it"),
        ("boxes,,annotations/image0.xml,scale", "nothing of the kind is open about it"),
        ("boxes,,annotations/open.xml,drop", "nothing of the kind is open about it"),
        ("corners,labeltool,,voc", "nothing is open about the corners of this tool"),
    ],
)
def test_an_answer_to_what_is_not_asked_is_refused(open_set, run, tmp_path, row, cause):
    table = tmp_path / "t.csv"
    table.write_text(f"question,about,annotation,answer\n{row}\n")
    code, _, err = run("check", open_set.root, "--decisions", table)
    assert code == 3
    assert err.startswith(f"detflow: error: {table}:2: ")
    assert cause in err
