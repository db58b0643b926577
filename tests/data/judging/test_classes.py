import pytest

from detflow.data.judging.classes import normalise_class, read_class_names, read_renames
from detflow.data.rules import Action
from detflow.errors import ConfigError

CAFE, CAFE_NFD = "café", "cafe\u0301"


@pytest.mark.parametrize(
    "written",
    [
        CAFE_NFD,
        "ca\u200bfé",
        "\ufeffcafé",
        "café\u200e",
        "caf\u00adé",
        "ca\u2060fé",
        "c\u200dafé",
        "caf\u200cé",
        "\u00a0café\u3000",
        "café \u200b",
    ],
)
def test_names_that_nobody_can_tell_apart_are_one(written):
    assert normalise_class(written) == CAFE


def test_white_space_of_any_kind_is_one_space():
    assert normalise_class("stop\u00a0\u2009 sign") == "stop sign"


@pytest.mark.parametrize("name", ["می\u200cخواهم", "क्\u200dष", "👩\u200d🚀", "C++", "a_b"])
def test_joiners_that_shape_letters_stay(name):
    assert normalise_class(name) == name


def test_forms_of_one_class_are_repaired_and_cases_noted(voc_set, audit):
    for index, name in enumerate((CAFE, CAFE_NFD, "ca\u200bfé", "caf\u00a0é")):
        boxes = ((1, 1, 9, 9), (20, 20, 30, 30))
        car = voc_set.object("Car" if index % 2 else "car", (40, 1, 50, 9))
        voc_set.add(str(index), *(voc_set.object(name, box) for box in boxes), car)
    result = audit()
    assert result.label_map.names == ("Car", "caf é", CAFE, "car")
    assert audit.found(result, Action.REPAIRED) == [
        ("name_unicode", "annotations/1.xml", 1, None),
        ("name_unicode", "annotations/2.xml", 1, None),
        ("name_whitespace", "annotations/3.xml", 1, 1),
        ("name_whitespace", "annotations/3.xml", 1, 2),
    ]
    finding = next(result.findings(Action.REPAIRED))
    assert (finding.value, finding.expected) == ("'cafe\\u0301', 2 objects", "'caf\\xe9'")
    notes = {one.value: one.expected for one in result.findings() if one.code == "class_near_miss"}
    assert notes == {"'car', 2 objects": "perhaps 'Car', 2 objects"}


def test_chosen_classes_match_after_normalisation(voc_set, audit):
    voc_set.add("a", voc_set.object(CAFE_NFD))
    result = audit(classes=read_class_names([f" {CAFE_NFD} "]))
    assert result.count(Action.REFUSED) == 0
    assert result.label_map.names == (CAFE,)


def test_a_name_of_nothing_that_can_be_seen_is_missing(voc_set, audit):
    voc_set.add("a", voc_set.object("\u200b"))
    assert audit.found(audit(), Action.QUARANTINED) == [
        ("name_missing", "annotations/a.xml", 1, None)
    ]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["red", "red"], "names 'red' twice"),
        ([CAFE, CAFE_NFD], "twice, the second time as 'cafe"),
        (["a", " a\u200b"], "names 'a' twice"),
        (["a", ""], "empty name"),
        (["\u200b"], "empty name"),
        ([], "names no class"),
        ("red", "one text"),
    ],
)
def test_what_are_no_classes_is_refused(names, reason):
    with pytest.raises(ConfigError, match=reason):
        read_class_names(names)


def test_renames_are_made_at_once_and_merge(voc_set, audit):
    for index, name in enumerate("abc"):
        voc_set.add(name, voc_set.object(name), voc_set.object("d", (1 + index, 1, 9, 9)))
    result = audit(renames=read_renames([("a", "b"), ("b", "c"), ("d", "c ")]))
    names = [result.read_sample(f"annotations/{name}.xml").columns.names for name in "abc"]
    assert names == [["b", "c"], ["c", "c"], ["c", "c"]]
    assert result.label_map.names == ("b", "c")
    assert result.counts["class_renamed"] == 5
    assert result.count(Action.REPAIRED) == result.count(Action.REFUSED) == 0


def test_two_objects_that_a_rename_makes_one_are_one(voc_set, audit):
    voc_set.add("a", voc_set.object("car"), voc_set.object("Car"))
    result = audit(renames={"Car": "car"})
    assert len(audit.boxes(result)) == 1
    assert result.counts["object_duplicate"] == 1


def test_a_rename_of_what_does_not_occur_is_refused(voc_set, audit):
    voc_set.add("a", voc_set.object("lorry"))
    (finding,) = audit(renames={"lory": "truck"}).findings()
    assert (finding.code, finding.action) == ("class_rename_unused", Action.REFUSED)
    assert (finding.value, finding.expected) == ("'lory'", "perhaps 'lorry'")


def test_a_renamed_class_is_matched_with_the_chosen_ones(voc_set, audit):
    voc_set.add("a", voc_set.object(CAFE_NFD))
    result = audit(classes=("bar",), renames=read_renames([(CAFE, "bar")]))
    assert (result.label_map.names, result.count(Action.REFUSED)) == (("bar",), 0)


@pytest.mark.parametrize(
    ("renames", "reason"),
    [
        ([("a", "a")], "has that name already"),
        ([(CAFE, CAFE_NFD)], "has that name already"),
        ([("a", "b"), (" a", "c")], "renames 'a' twice"),
        ([("", "b")], "empty name"),
        ([("a", " ")], "empty name"),
    ],
)
def test_what_are_no_renames_is_refused(renames, reason):
    with pytest.raises(ConfigError, match=reason):
        read_renames(renames)


def test_thousands_of_unknown_classes_are_named_without_a_search_for_each(voc_set, audit):
    voc_set.add("a", *(voc_set.object(f"x{index}") for index in range(100)))
    result = audit(classes=tuple(f"y{index}" for index in range(50)))
    findings = list(result.findings(Action.REFUSED))
    assert len(findings) == 100
    assert sum(bool(finding.expected) for finding in findings) == 20
