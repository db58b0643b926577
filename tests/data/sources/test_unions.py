import pytest

from detflow.data.sources.unions import describe_overlaps, find_unions


@pytest.mark.parametrize(
    ("lists", "unions"),
    [
        ({"train": "ab", "val": "c", "trainval": "abc"}, {"trainval": ("train", "val")}),
        # Overlaps and leftovers are told elsewhere; the name says what it is.
        ({"train": "abc", "val": "c", "trainval": "abd"}, {"trainval": ("train", "val")}),
        (
            {"train": "a", "val": "b", "test": "c", "trainval": "ab", "all": "abc"},
            {"trainval": ("train", "val"), "all": ("train", "val", "test")},
        ),
        (
            {"train": "a", "val": "b", "trainval": "ab", "All": "ab", "full": "abx"},
            {"trainval": ("train", "val"), "All": ("train", "val"), "full": ("train", "val")},
        ),
        ({"train": "a", "trainval": "a", "test": "b"}, {"trainval": ("train",)}),
        ({"one": "ab", "two": "bc", "both": "abc"}, {"both": ("one", "two")}),
        # A test list that holds train and val is a leak, and no union.
        ({"train": "a", "val": "b", "test": "ab"}, {}),
        ({"trainval": "ab", "test": "bc"}, {}),
        ({"train": "ab", "all": "abc"}, {}),
        ({}, {}),
    ],
)
def test_unions(lists, unions):
    assert find_unions({name: frozenset(members) for name, members in lists.items()}) == unions


def test_one_finding_a_pair_of_lists():
    sets = {name: frozenset(members) for name, members in {"test": "bcd", "train": "abc"}.items()}
    paths = {"train": "train.txt", "test": "test.txt"}
    (finding,) = describe_overlaps(sets, paths, {"b": "b.jpg"})
    assert (finding.code, finding.path, finding.related) == (
        "split_leak",
        "test.txt",
        ("train.txt",),
    )
    assert finding.value == "2 annotations in both train and test: b, …"
    assert finding.image == "b.jpg"
