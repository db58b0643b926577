import pytest

from detflow.data.rules import Action
from detflow.data.sources.splits import SplitBy, ValidationShare


def test_an_image_in_two_splits_is_a_leak_unless_allowed(voc_set, audit):
    image = voc_set.encode(voc_set.draw(seed=5))
    near = voc_set.encode(voc_set.draw(seed=5), quality=60)
    voc_set.add("a", image=image, images="train/i", annotations="train/a")
    voc_set.add("b", image=image, images="val/i", annotations="val/a")
    voc_set.add("c", image=near, images="val/i", annotations="val/a")
    result = audit(split_by=SplitBy.AUTO)
    assert audit.found(result, Action.REFUSED) == [("split_leak", "val/a/b.xml", None, None)]
    assert audit.found(result, Action.NOTED) == [("split_near_leak", "val/a/c.xml", None, None)]
    leak = next(result.findings(Action.REFUSED))
    assert leak.related == ("train/a/a.xml", "train/i/a.jpg")
    allowed = audit(split_by=SplitBy.AUTO, allow_leaks=True)
    assert allowed.count(Action.REFUSED) == 0
    assert allowed.counts["split_leak_allowed"] == 1
    seeded = audit(fractions={"train": 0.5, "val": 0.5})
    assert seeded.count(Action.REFUSED) == 0
    assert {len(members) for members in seeded.splits.members.values()} == {0, 3}
    assert audit.found(seeded, Action.NOTED)[-1][0] == "split_empty"


def test_a_rare_class_that_resembles_another_is_named(voc_set, audit):
    for index in range(10):
        voc_set.add(f"a{index}", voc_set.object("button"))
    voc_set.add("b", "\n" + voc_set.object("buton"))
    result = audit()
    (finding,) = (one for one in result.findings() if one.code == "class_near_miss")
    assert (finding.path, finding.line) == ("annotations/b.xml", 2)
    assert (finding.value, finding.expected) == (
        "'buton', 1 object",
        "perhaps 'button', 10 objects",
    )
    assert "buton" in result.label_map.names


def test_a_class_that_a_split_lacks_is_named(voc_set, audit):
    voc_set.add("a", voc_set.object("cat"), images="train/i", annotations="train/a")
    voc_set.add("b", voc_set.object("dog"), images="val/i", annotations="val/a")
    result = audit(split_by=SplitBy.FOLDERS)
    assert [(one.code, one.path, one.value) for one in result.findings()] == [
        ("class_absent", "val/a/b.xml", "no 'dog' in train"),
        ("class_absent", "train/a/a.xml", "no 'cat' in val"),
    ]


@pytest.mark.parametrize(
    ("splits", "is_told"),
    [
        (("train", "test"), True),
        (("Training", "Testing"), True),
        (("trainval", "test"), True),
        (("train", "valid", "test"), False),
        (("train", "dev", "test"), False),
        (("train", "val"), False),
    ],
)
def test_a_set_without_a_validation_split_is_told_so(voc_set, audit, splits, is_told):
    for split in splits:
        voc_set.add(split, images=f"{split}/i", annotations=f"{split}/a")
    assert audit(split_by=SplitBy.AUTO).counts.get("split_no_validation", 0) == is_told


def test_a_validation_split_is_taken_from_train(voc_set, audit):
    for index in range(12):
        voc_set.add(f"a{index}", images="train/i", annotations="train/a")
    same = voc_set.encode(voc_set.draw(seed=99))
    for name in ("b", "c", "d"):
        voc_set.add(name, image=same, images="train/i", annotations="train/a")
    voc_set.add("e", images="test/i", annotations="test/a")
    result = audit(split_by=SplitBy.AUTO, val_from=ValidationShare("train", 0.3))
    assert {"split_no_validation", "split_leak"}.isdisjoint(result.counts)
    members = {name: set(paths) for name, paths in result.splits.members.items()}
    assert list(members) == ["train", "val", "test"]
    assert 1 < len(members["val"]) < 12
    twins = {f"train/a/{name}.xml" for name in "bcd"}
    assert twins <= members["val"] or twins <= members["train"]
    assert members["test"] == {"test/a/e.xml"}


def test_overlapping_lists_are_one_line_a_pair_and_allowed_leaks_are_noted(voc_set, audit):
    for name in "abcd":
        voc_set.add(name)
    voc_set.write("ImageSets/Main/train.txt", "a\nb\nc")
    voc_set.write("ImageSets/Main/val.txt", "b\nc\nd")
    result = audit(split_by=SplitBy.AUTO)
    assert audit.found(result) == [("split_leak", "ImageSets/Main/val.txt", None, None)]
    allowed = audit(split_by=SplitBy.AUTO, allow_leaks=True)
    assert audit.found(allowed) == [("split_leak_allowed", "ImageSets/Main/val.txt", None, None)]
    assert sum(map(len, allowed.splits.members.values())) == 6


def test_a_stale_list_leaves_nothing_to_the_seed(voc_set, audit):
    voc_set.add("a")
    voc_set.write("ImageSets/Main/train.txt", "gone")
    result = audit(split_by=SplitBy.AUTO)
    assert audit.found(result, Action.REFUSED) == [
        ("split_unusable", "ImageSets/Main/train.txt", None, None)
    ]
    assert audit(split_by=SplitBy.SEED).count(Action.REFUSED) == 0
