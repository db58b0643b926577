import pytest

from detflow.data.sources.folders import read_folders


def read(*annotations, **pairs):
    splits, told = read_folders(sorted(annotations), pairs)
    members = {name: list(paths) for name, paths in splits.members.items()}
    return members, [finding.path for finding in splits.findings], [one.path for one in told]


@pytest.mark.parametrize(
    ("train", "test", "names"),
    [
        ("train", "test", ("train", "test")),
        ("Train", "TEST", ("train", "test")),
        ("train_annotations", "test_annotations", ("train", "test")),
        ("annotations_train", "annotations_test", ("train", "test")),
        ("train2017", "val2017", ("train", "val")),
        ("Training Set", "Validation_x", ("training", "validation")),
        ("TrainXML", "ValidXML", ("train", "valid")),
        ("VOC2012_train_val", "VOC2012_test", ("trainval", "test")),
        ("train/train", "train/val", ("train", "val")),
    ],
)
def test_folders_that_say_a_split(train, test, names):
    members, outside, told = read(f"set/{train}/x/a.xml", f"set/{test}/x/b.xml")
    assert members == {names[0]: [f"set/{train}/x/a.xml"], names[1]: [f"set/{test}/x/b.xml"]}
    assert (outside, told) == ([], [])


def test_one_word_is_one_split():
    members, _, _ = read("VOC07/Train/a.xml", "VOC12/train/a.xml", "VOC12/val/b.xml")
    assert members == {
        "train": ["VOC07/Train/a.xml", "VOC12/train/a.xml"],
        "val": ["VOC12/val/b.xml"],
    }


def test_classes_that_are_named_like_splits_are_none():
    paths = ("bottle/a.xml", "test_tube/b.xml", "train_station/c.xml")
    members, outside, told = read(*paths)
    assert members == {}
    assert outside == list(paths)
    assert told == ["test_tube"]


def test_folders_that_are_named_like_splits_take_their_like_with_them():
    members, outside, _ = read("train/a.xml", "test/b.xml", "validation_set/c.xml", "more/d.xml")
    assert list(members) == ["train", "validation", "test"]
    assert outside == ["more/d.xml"]


def test_images_decide_where_annotations_lie_together():
    pairs = {"xml/a.xml": "img/train_images/a.jpg", "xml/b.xml": "img/val_images/b.jpg"}
    assert read(*pairs, **pairs)[0] == {"train": ["xml/a.xml"], "val": ["xml/b.xml"]}


def test_one_folder_that_holds_a_part_is_named():
    assert read("test/a.xml", "b.xml")[1:] == (["b.xml"], ["test"])
    assert read("train/a.xml", "train/b.xml")[2] == []
