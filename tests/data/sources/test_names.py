import pytest

from detflow.data.sources.names import find_split_word, fold_name, split_extension


def test_only_known_extensions_are_split_off():
    assert split_extension("a.mp4#t=10.jpg") == ("a.mp4#t=10", ".jpg")
    assert split_extension("a.mp4#t=10") == ("a.mp4#t=10", "")
    assert split_extension("v1.2") == ("v1.2", "")
    assert split_extension(".jpg") == (".jpg", "")
    assert split_extension("d/a.XML") == ("d/a", ".XML")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("Train", "train"),
        ("TRAINSET", "train"),
        ("train_val", "trainval"),
        ("trainImages", "train"),
        ("val2017", "val"),
        ("Training Set", "training"),
        ("2007_test", "test"),
        ("testlist01", "test"),
        ("Validation_x", "validation"),
        ("train_test_split", None),
        ("constraint", None),
        ("latest", None),
        ("VOCdevkit", None),
        ("JPEGImages", None),
    ],
)
def test_the_split_in_a_name(name, word):
    assert find_split_word(name) == word


def test_names_are_the_same_in_any_case_and_form():
    assert fold_name("Café.JPG") == fold_name("cafe\u0301.jpg") == "café.jpg"
