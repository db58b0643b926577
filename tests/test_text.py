import pytest

from detflow.text import count_noun, find_nearest, first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one \ntwo"), "one"),
        (ValueError(""), "ValueError"),
        (ValueError(" \n "), "ValueError"),
        ("one\ntwo", "one"),
    ],
)
def test_the_first_line_is_never_missing(error, line):
    assert first_line(error) == line


def test_the_nearest_name_is_found_or_none():
    assert find_nearest("trian", ["val", "train"]) == "train"
    assert find_nearest("trian", ["val"]) is None
    assert find_nearest("trian", ["val"], cutoff=0.0) == "val"
    assert find_nearest("trian", []) is None


def test_counts_agree_with_their_noun():
    assert count_noun(1, "thread") == "1 thread"
    assert count_noun(0, "thread") == "0 threads"
    assert count_noun(1204, "class", "classes") == "1,204 classes"
