import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.sources.csv.read import find_columns, read_head, read_table
from detflow.types import CornerFrame

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
ROW = "a.jpg,64,48,cat,1,2,30,20\n"


def read(text, encoding="utf-8"):
    return read_table(text.encode(encoding), "x.csv")


def codes(content):
    found = [*content.findings, *(one for raw in content.annotations for one in raw.findings)]
    return [(one.code, one.entry, one.line) for one in found]


def test_rows_of_an_image_are_gathered():
    content = read(HEADER + ROW + "b.jpg,64,48,dog,5,5,9,9\n" + "a.jpg,64,48,big  dog,3.5,4,9,9\n")
    first, second = content.annotations
    assert (first.entry, first.names.filename, first.size, first.frame) == (
        "a.jpg",
        "a.jpg",
        (64, 48),
        None,
    )
    assert [(one.number, one.line, one.name, one.corners) for one in first.objects] == [
        (1, 2, "cat", (1, 2, 30, 20)),
        (2, 4, "big dog", (3.5, 4, 9, 9)),
    ]
    assert second.entry == "b.jpg"
    assert codes(content) == []


@pytest.mark.parametrize(
    "text",
    [
        "class;ymin;xmin;ymax;xmax;FileName;extra\ncat;2;1;20;30;a.jpg;9\n",
        'image\tx1\ty1\tx2\ty2\tlabel\n"a.jpg"\t1\t2\t30\t20\t"cat"\n',
        "a.jpg,1,2,30,20,cat\n",
        "\n" + HEADER.upper() + "\n" + ROW,
    ],
)
def test_columns_are_found_by_their_names(text):
    [raw] = read(text).annotations
    assert [(one.name, one.corners) for one in raw.objects] == [("cat", (1, 2, 30, 20))]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings(encoding):
    [raw] = read(HEADER + "日本.jpg,64,48,貓,1,2,30,20\n", encoding).annotations
    assert (raw.names.filename, raw.objects[0].name) == ("日本.jpg", "貓")


def test_a_row_without_an_object_is_a_negative():
    content = read("a.jpg,,,,,\nb.jpg,1,2,3,4,cat\n")
    assert [len(raw.objects) for raw in content.annotations] == [0, 1]


def test_fractions_are_known_by_the_whole_file():
    header = "ImageID,LabelName,XMin,XMax,YMin,YMax\n"
    [raw] = read(header + "a,cat,0.1,0.5,0.2,1\n").annotations
    assert (raw.frame, raw.objects[0].corners) == (CornerFrame.FRACTIONS, (0.1, 0.2, 0.5, 1))
    first, _ = read(header + "a,cat,0.1,0.5,0.2,1\nb,cat,1,2,1,2\n").annotations
    assert first.frame is None


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("a.jpg,64,48,cat,1,2,x,20", "box_not_a_number"),
        ("a.jpg,64,48,cat,1,2,nan,20", "box_not_a_number"),
        ("a.jpg,64,48,cat,1,2,1e999,20", "box_not_a_number"),
        ("a.jpg,64,48,cat,1,2,,20", "box_missing"),
        ("a.jpg,64,48,cat,1,2", "box_missing"),
        ("a.jpg,64,48,,1,2,3,20", "name_missing"),
        ("a.jpg,65,48,cat,1,2,30,20", "entry_malformed"),
        ("a.jpg,,,cat,1,2,30,20", "entry_malformed"),
    ],
)
def test_an_unreadable_row_sets_its_image_aside_and_no_other(row, code):
    content = read(HEADER + ROW + row + "\nb.jpg,64,48,cat,1,2,30,20\n")
    assert codes(content) == [(code, "a.jpg", 3)]
    assert [raw.objects is None for raw in content.annotations] == [True, False]


def test_what_is_no_table_of_boxes_is_passed_over_or_malformed():
    assert codes(read("a,b,c\n1,2,3\n")) == [("file_passed_over", "", None)]
    assert codes(read("")) == [("file_passed_over", "", None)]
    assert codes(read(HEADER + ",64,48,cat,1,2,3,4\n")) == [("entry_malformed", "?line 2", 2)]
    content = read_table(HEADER.encode() + b"\xff.jpg,64,48,cat,1,2,3,4\n", "x.csv")
    assert codes(content) == [("file_malformed", "", 2)]
    content = read(HEADER + ROW + '"' + "x" * 200_000)
    assert codes(content) == [("file_malformed", "", None)]
    assert content.findings[0].value.startswith("line 3: field larger than")


def test_heads():
    assert read_head(HEADER.encode()[:40]) is None
    assert read_head(b"\xff\xfe") is None
    assert find_columns(["a.jpg", "1", "2", "3", "4", ""]) is None
    assert find_columns(["a.jpg", "1", "2", "3", "x", "cat"]) is None


@given(st.binary(max_size=200))
def test_no_bytes_are_a_crash(data):
    read_table(data, "x.csv")
    read_table(HEADER.encode() + data, "x.csv")


def test_what_is_read_is_bounded(monkeypatch):
    monkeypatch.setattr("detflow.data.sources.csv.read.MAX_OBJECTS", 2)
    content = read(HEADER + ROW * 4)
    assert codes(content) == [("too_many_objects", "a.jpg", 4)]
    assert content.annotations[0].objects is None
    monkeypatch.setattr("detflow.data.sources.csv.read.MAX_ROWS", 3)
    assert read(HEADER + ROW * 4).findings[0].value == "line 5: more than 3 rows"
    monkeypatch.setattr("detflow.data.sources.csv.read.MAX_CSV_BYTES", 3)
    assert codes(read(HEADER)) == [("file_too_large", "", None)]
