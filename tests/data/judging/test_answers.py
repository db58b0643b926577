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
    assert "questions     image 1: a person can answer them; see --decisions" in out
    [row] = read_table(table.read_text())
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

    filled = answer(tmp_path / "filled.csv", [row], image="b/open.jpg")
    code, out, err = run(
        "make-records", open_set.root, "--output", records, "--decisions", filled, "--strict"
    )
    assert (code, err) == (0, "")
    assert find_image(records, "annotations/open") == "b/open.jpg"
    assert not (records / "questions.csv").exists()
    manifest = json.loads((records / "manifest.json").read_text())
    assert manifest["decisions"] == {
        "counts": {"image": 1},
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
