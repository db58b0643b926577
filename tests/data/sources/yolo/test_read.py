import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.sources.source import ImageNames
from detflow.data.sources.yolo.read import read_labels
from detflow.types import CornerFrame

NAMES = {0: "cat", 2: "dog"}


def read(text, names=NAMES, keypoints=None):
    data = text if isinstance(text, bytes) else text.encode()
    [raw] = read_labels(data, "labels/a.txt", names, keypoints).annotations
    return raw


def test_a_line_is_a_box_in_fractions():
    raw = read("\ufeff0 0.5 0.5 0.25 0.5\r\n\n2.0 .25 2.5e-1 .5 .5\n")
    assert raw.frame is CornerFrame.FRACTIONS
    assert (raw.size, raw.names) == (None, ImageNames(None, None))
    assert [(one.number, one.line, one.name, one.corners) for one in raw.objects] == [
        (1, 1, "cat", (0.375, 0.25, 0.625, 0.75)),
        (2, 3, "dog", (0.0, 0.0, 0.5, 0.5)),
    ]
    assert read("").objects == ()
    assert read("7 .5 .5 .5 .5", names={}).objects[0].name == "7"


def test_an_outline_is_boxed_with_one_finding_a_file():
    raw = read("0 .1 .2 .5 .1 .4 .9\n0 .5 .5 .2 .2\n2 .1 .1 .2 .1 .2 .2 .1 .2\n")
    assert [one.corners for one in raw.objects][::2] == [(0.1, 0.1, 0.5, 0.9), (0.1, 0.1, 0.2, 0.2)]
    [finding] = raw.findings
    assert (finding.code, finding.line, finding.value) == ("outline_boxed", 1, "2 of 3 objects")


def test_a_pose_is_its_box_where_data_yaml_says_so():
    line = "0 .5 .5 .5 .5 .1 .1 2 .2 .2 1\n"
    assert read(line, keypoints=6).objects[0].corners == (0.25, 0.25, 0.75, 0.75)
    assert read("0 .5 .5 .5 .5 .1", keypoints=6).objects is None


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("1 .5 .5 .5 .5", "class_id_unknown"),
        ("-1 .5 .5 .5 .5", "entry_malformed"),
        ("0.5 .5 .5 .5 .5", "entry_malformed"),
        ("cat .5 .5 .5 .5", "box_not_a_number"),
        ("0 .5 .5 .5", "entry_malformed"),
        ("0", "entry_malformed"),
        ("0 .5 .5 .5 .5 .9", "entry_malformed"),
        ("0 .5 .5 .5 .5 .9 .9 .9", "entry_malformed"),
        ("0 .5 .5 nan .5", "box_not_a_number"),
        ("0 .5 .5 1_0 .5", "box_not_a_number"),
        ("0 .5 .5 １ .5", "box_not_a_number"),
        ("0 .5 .5 0,5 .5", "box_not_a_number"),
        ("0 32 24 10 10", "box_not_normalised"),
        ("0 .1 .1 .2 .1 64 .2", "box_not_normalised"),
    ],
)
def test_a_line_that_cannot_be_read_sets_the_file_aside(line, code):
    raw = read(f"0 .5 .5 .5 .5\n{line}\n")
    assert raw.objects is None
    [finding] = raw.findings
    assert (finding.code, finding.line, finding.object_index) == (code, 2, 2)


@given(st.binary(max_size=300))
def test_no_bytes_are_a_crash(data):
    read(data)
