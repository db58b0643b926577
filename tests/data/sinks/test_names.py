import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.sinks.names import choose_names, choose_split_names, to_safe_name
from detflow.data.sources.names import split_extension

names = st.text(max_size=6) | st.sampled_from(["a", "A", "ä", "a\u0308", "x.jpg", "..", "nul"])


@given(
    st.lists(st.lists(names.map(lambda n: n.replace("/", "")), min_size=1, max_size=3), max_size=9)
)
def test_names_are_safe_and_unique_whatever_the_paths_are(parts):
    paths = [f"{'/'.join(path)}.jpg" for path in parts]
    chosen, shared = choose_names(paths)
    assert len({name.casefold() for name in chosen}) == len(paths)
    assert choose_names(paths) == (chosen, shared)
    for name in chosen:
        assert name == name.strip()
        assert not name.startswith(".")
        assert not {"/", "\\", "\0", "\n"} & set(name)
        assert split_extension(f"{name}.jpg") == (name, ".jpg")
        assert len(name.encode()) <= 210


def test_only_names_that_others_have_get_their_folders():
    paths = ["a/1.jpg", "b/1.png", "b/2.jpg", "B/1.JPG", "a_1.jpg"]
    names, shared = choose_names(paths)
    assert names == ["a_1_2", "b_1", "2", "B_1_2", "a_1"]
    assert [paths[place] for place in shared] == ["a/1.jpg", "b/1.png", "B/1.JPG"]


def test_many_images_of_one_name_take_no_longer_each():
    names, _ = choose_names(["same.jpg"] * 5_000)
    assert names[-1] == "same_5000"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("odd na&me", "odd na_me"),
        (".hidden", "_.hidden"),
        ("NUL", "_NUL"),
        ("", "_"),
        ("photo.jpg", "photo_jpg"),
        ("end.", "end_"),
        ("photo 1", "photo_1"),
        ("photo 1 of 2 -1", "photo 1 of 2_-1"),
        ("ż" * 300, "ż" * 100),
    ],
)
def test_what_readers_would_stumble_over_is_replaced(name, safe):
    assert to_safe_name(name) == safe


def test_splits_of_similar_names_stay_apart():
    assert choose_split_names(["train", "Train", "a/b", "a:b"]) == {
        "train": "train",
        "Train": "Train_2",
        "a/b": "a_b",
        "a:b": "a_b_2",
    }
