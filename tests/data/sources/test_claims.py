import pytest

from detflow.data.sources.claims import claim_image
from detflow.data.sources.entries import find_file, name_entries


@pytest.mark.parametrize(
    ("written", "filename", "source_path"),
    [
        ("a.jpg", "a.jpg", None),
        ("images/a.jpg", "images/a.jpg", None),
        # Dots lead from the file's own folder.
        ("../images/a.jpg", "images/a.jpg", None),
        # What leaves the dataset stays as it is, and pairing refuses it.
        ("../../a.jpg", "../../a.jpg", None),
        ("/home/me/images/a.jpg", "a.jpg", "/home/me/images/a.jpg"),
        ("C:\\data\\a.jpg", "a.jpg", "C:\\data\\a.jpg"),
        ("http://host/x/a.jpg", "a.jpg", "http://host/x/a.jpg"),
        (None, None, None),
    ],
)
def test_a_claim_is_what_the_file_means(written, filename, source_path):
    assert claim_image(written, "annotations/x.json") == (filename, source_path, None)


def test_entries_are_unique_as_keys_are():
    names = ["a.jpg", "a.png", "A.JPG", "x/a.jpg", "x\\a.jpg", "", "7", "7"]
    entries = name_entries(names)
    assert entries == ["a.jpg", "a~2.png", "A~3.JPG", "x|a.jpg", "x|a~2.jpg", "_", "7", "7~2"]


def test_an_entrys_file_is_found_whatever_their_names_hold():
    paths = frozenset({"a#b.json", "a"})
    assert find_file("a#b.json#c#d", frozenset({"a#b.json"})) == "a#b.json"
    assert find_file("a#1", paths) == "a"
    assert find_file("b#1", paths) == "b#1"
