import pytest

from detflow.data.judging.nearest import find_near_misses
from detflow.data.rules import Action
from detflow.data.sources.splits import SplitBy


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
    ("totals", "expected"),
    [
        ({"button": 100, "buton": 3}, [("buton", "button")]),
        ({"button": 100, "Button": 2}, [("Button", "button")]),
        ({"traffic light": 100, "traffic_light": 2}, [("traffic_light", "traffic light")]),
        ({"type1": 100, "type2": 2}, []),
        ({"cat": 100, "car": 2}, []),
        ({"button": 100, "buton": 60}, []),
        ({"left arrow": 100, "right arrow": 3}, []),
    ],
)
def test_near_misses(totals, expected):
    assert list(find_near_misses(totals)) == expected
