import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.judging.decisions import (
    COLUMNS,
    Topic,
    format_table,
    guard,
    read_decisions,
    resolve_decisions,
    show_name,
    unguard,
)
from detflow.errors import ConfigError, DataError

HEAD = "question,annotation,answer\n"


@pytest.fixture
def read(tmp_path):
    def read(text, *more):
        paths = []
        for number, content in enumerate((text, *more), start=1):
            path = tmp_path / f"{number}.csv"
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            paths.append(path)
        return read_decisions(paths)

    return read


def test_answers_are_read_and_what_is_blank_stays_open(read):
    decisions = read(
        "Question, About ,annotation,answer,notes\n"
        "image,,a.xml,images/a b.jpg,looked at it\n"
        "\n"
        "image,,b.xml,  ,\n"
        "image,,c.xml,Drop,\n"
        'boxes,,"d,\ne.xml",SCALE\n'
        "exif,,f.xml,follow,\n"
        "class,catt,a.xml,class  cat ,\n"
        "class,dogg,a.xml,class dogg,\n"
        "corners,,,zero-based,\n"
    )
    found = {
        (topic.value, about): (decision.answer, decision.line)
        for topic, known in decisions.by_topic.items()
        for about, decision in known.items()
    }
    assert found == {
        ("image", "a.xml"): ("images/a b.jpg", 2),
        ("image", "c.xml"): ("drop", 5),
        ("boxes", "d,\ne.xml"): ("scale", 6),
        ("exif", "f.xml"): ("follow", 8),
        ("class", "catt"): ("cat", 9),
        ("class", "dogg"): ("dogg", 10),
        ("corners", ""): ("zero-based", 11),
    }
    assert decisions.renames == {"catt": "cat"}
    assert {tool: frame.value for tool, frame in decisions.frames.items()} == {"": "zero-based"}
    described = decisions.describe()
    assert described["counts"] == {
        "boxes: scale": 1,
        "class": 2,
        "corners: zero-based": 1,
        "exif: follow": 1,
        "image": 1,
        "image: drop": 1,
    }
    assert [len(digest) for digest in described["tables"]] == [64]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_spreadsheets_write_is_read(read, delimiter):
    row = delimiter.join(("image", "a.xml", "a.jpg"))
    text = f"\ufeff{HEAD.strip().replace(',', delimiter)}\r\n{row}\r\n"
    (decision,) = read(text).by_topic[Topic.IMAGE].values()
    assert (decision.about, decision.answer, decision.line) == ("a.xml", "a.jpg", 2)


@pytest.mark.parametrize(
    ("text", "place", "cause"),
    [
        (b"", "1.csv:1:", "there is no column question or annotation or answer"),
        ("question,answer\n", "1.csv:1:", "there is no column annotation"),
        (HEAD.encode() + b"image,caf\xe9.xml,drop\n", "1.csv:2:", "not UTF-8 text"),
        (HEAD.encode("utf-16"), "1.csv:1:", "not UTF-8 text"),
        (HEAD + "picture,a.xml,drop\n", "1.csv:2:", "there is no question 'picture'"),
        (HEAD + "exif,a.xml,drop\nexif,b.xml,turn\n", "1.csv:3:", "'turn' is none of those"),
        (HEAD + "boxes,a.xml,a.jpg\n", "1.csv:2:", "write scale, drop"),
        (HEAD + "class,a.xml,cat\n", "1.csv:2:", "the column about is empty"),
        ("question,about,annotation,answer\nclass,cat,,dog\n", "1.csv:2:", "write class NAME"),
        (HEAD + "image,,drop\n", "1.csv:2:", "the column annotation is empty"),
        (HEAD + "image,a.xml,drop,more\n", "1.csv:2:", "4 cells, expected 3"),
        (HEAD + 'image,"a.xml,drop\n', "1.csv:2:", "not CSV"),
        (HEAD + "\nimage,a.xml,drop\nimage,a.xml,a.jpg\n", "1.csv:4:", "1.csv:3 answers the same"),
        (
            HEAD + "image,a.xml,a.jpg\nimage,b.xml,a.jpg\n",
            "1.csv:3:",
            "gives that image to 'a.xml'",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(read, text, place, cause):
    with pytest.raises(DataError, match=r"\.csv") as error:
        read(text)
    assert place in str(error.value)
    assert cause in str(error.value)
    assert "\n" not in str(error.value)


def test_two_tables_may_not_contradict_each_other(read, tmp_path):
    row = "image,a.xml,drop\n"
    assert len(read(HEAD + row, HEAD + "exif,a.xml,follow\n")) == 2
    with pytest.raises(DataError, match=r"2\.csv:2: .*1\.csv:2 answers the same question"):
        read(HEAD + row, HEAD + row)
    with pytest.raises(ConfigError, match="cannot read the decisions: No such file"):
        read_decisions([tmp_path / "none.csv"])


def test_names_are_the_datasets_own(read):
    table = format_table(
        [
            {"question": "image", "annotation": "caf\udce9\n\x1b.xml", "answer": "b/\udcff.jpg"},
            {"question": "image", "annotation": "=cmd.xml", "answer": " @x.jpg "},
            {"question": "exif", "annotation": "set.json#7", "answer": "ignore"},
        ]
    )
    files = ["caf\udce9\n\x1b.xml", "=cmd.xml", "set.json"]
    images = frozenset(["b/\udcff.jpg", "@x.jpg"])
    decisions = resolve_decisions(read(table), files, images)
    assert {name: one.answer for name, one in decisions.by_topic[Topic.IMAGE].items()} == {
        "caf\udce9\n\x1b.xml": "b/\udcff.jpg",
        "=cmd.xml": "@x.jpg",
    }
    assert list(decisions.judged) == ["set.json#7"]
    for row, cause in (
        ("image,gone.xml,drop", "there is no such annotation"),
        ("image,set.json,b.jpg", "there is no such image"),
        ("exif,gone.json#3,follow", "there is no such annotation"),
    ):
        with pytest.raises(DataError, match=f"1.csv:2: .*{cause}; remove the row"):
            resolve_decisions(read(HEAD + row), files, images)


cells = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(cells)
def test_no_cell_is_a_formula_and_each_comes_back(cell):
    shown = guard(cell)
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unguard(shown) == cell


@given(st.lists(st.tuples(cells, cells), max_size=4))
def test_a_table_of_any_names_is_read_as_it_was_written(rows):
    table = format_table(
        {"question": "image", "annotation": name, "evidence": value} for name, value in rows
    )
    assert table.startswith(f"\ufeff{','.join(COLUMNS)}\r\n")
    read = list(csv.reader(io.StringIO(table.removeprefix("\ufeff"), newline="")))[1:]
    shown = [tuple(map(show_name, row)) for row in rows]
    assert [(unguard(row[2]), unguard(row[4])) for row in read] == shown
