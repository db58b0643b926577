"""Whether EXIF is followed: by the annotation itself, else by the vote of the set, else unknown."""

import pytest
from PIL import Image

from detflow.data.judging.rulings import Orders
from detflow.data.judging.testimony import Habit

STORED, TURNED = (64, 48), (48, 64)


@pytest.fixture
def plant(voc_set):
    """Adds an annotation of a picture of 64x48 (or a square) that EXIF turns."""

    def add(name, orientation, size, box=(10, 10, 30, 30), side=None, tool="", **options):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = voc_set.draw(*((side, side) if side else STORED), seed=voc_set.count)
        extra = f"<source><database>{tool}</database></source>" if tool else ""
        voc_set.add(
            name,
            voc_set.object("cat", box),
            image=voc_set.encode(picture, exif=exif),
            size=size,
            extra=extra,
            **options,
        )

    return add


def turns(result):
    """The turn that each usable annotation's image gets, by the annotation's stem."""
    return {
        sample.annotation.rpartition("/")[2][:-4]: sample.treatment.turn
        for sample in result.read_samples()
    }


@pytest.mark.parametrize(
    ("size", "followed", "code"), [(TURNED, True, "exif_applied"), (STORED, False, "exif_removed")]
)
def test_half_turns_mirrors_and_squares_follow_the_vote_of_quarter_turns(
    plant, audit, size, followed, code
):
    for orientation in range(1, 9):
        plant(f"o{orientation}", orientation, size if orientation >= 5 else STORED)
    plant("square", 6, (48, 48), side=48)
    plant("unsized", 8, None)
    result = audit()
    expected = {f"o{one}": one for one in range(1, 9)} | {"square": 6, "unsized": 8}
    assert turns(result) == (expected if followed else dict.fromkeys(expected, 1))
    assert result.counts[code] == 9
    [row] = result.decided["exif"]
    votes = "4 follow, 0 ignore" if followed else "0 follow, 4 ignore"
    assert (row["habit"], row["by"]) == ("follow" if followed else "ignore", votes)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_without_a_vote_nobody_knows(plant, audit, orientation):
    plant("o1", 1, (48, 48), side=48)
    plant("a", orientation, (48, 48), side=48)
    result = audit()
    assert result.quarantined == {"annotations/a.xml": "exif_undecided"}
    [row] = result.decided["exif"]
    assert row["habit"] == "unknown"


@pytest.mark.parametrize(("habit", "turn"), [(Habit.FOLLOW, 6), (Habit.IGNORE, 1)])
@pytest.mark.parametrize("size", [STORED, TURNED, None])
def test_a_person_comes_before_the_evidence(plant, audit, size, habit, turn):
    plant("a", 6, size)
    result = audit(orders=Orders(exif=habit))
    assert turns(result) == {"a": turn}
    assert result.decided["exif"][0]["by"] == "--exif"
    assert "size_swapped" not in result.counts


def test_an_image_without_boxes_needs_no_vote(voc_set, audit):
    exif = Image.Exif()
    exif[0x0112] = 3
    voc_set.write("a.jpg", voc_set.encode(voc_set.draw(), exif=exif))
    voc_set.write("a.xml", voc_set.xml())
    assert dict(audit().counts) == {"exif_removed": 1, "no_objects": 1}


def test_boxes_that_fit_one_of_the_two_pictures_vote(plant, audit):
    plant("a", 6, None, box=(10, 10, 30, 60))
    plant("b", 3, None)
    assert turns(audit()) == {"a": 6, "b": 3}


def test_boxes_refute_the_sizes_of_their_tool(plant, audit):
    plant("liar", 6, STORED, box=(10, 10, 30, 60))
    plant("other", 6, STORED)
    plant("half", 3, STORED)
    result = audit()
    assert turns(result) == {"liar": 6, "other": 6, "half": 3}
    [row] = result.decided["exif"]
    assert (row["habit"], row["by"]) == ("follow", "1 follow, 0 ignore")


def test_a_sloppy_box_refutes_no_sizes(plant, audit):
    plant("sloppy", 6, STORED, box=(10, 10, 30, 60))
    plant("other", 6, STORED, box=(10, 10, 60, 30))
    plant("wide", 6, STORED, box=(10, 10, 61, 30))
    plant("half", 3, STORED)
    result = audit()
    # Two against one is no vote.
    assert turns(result) == {"other": 1, "wide": 1}
    assert set(result.quarantined.values()) == {"exif_undecided"}


def test_votes_that_contradict_are_counted_by_tool_and_then_by_folder(plant, audit):
    for tool, size in {"one": TURNED, "two": STORED}.items():
        plant(f"{tool}-quarter", 6, size, tool=tool)
        plant(f"{tool}-half", 3, STORED, tool=tool)
    for folder, size in {"p": TURNED, "q": STORED}.items():
        plant(f"{folder}-quarter", 6, size, tool="three", annotations=f"{folder}/xml")
        plant(f"{folder}-half", 3, STORED, tool="three", annotations=f"{folder}/xml")
    plant("r-half", 3, STORED, tool="four")
    result = audit()
    assert turns(result) == {
        "one-quarter": 6,
        "one-half": 3,
        "two-quarter": 1,
        "two-half": 1,
        "p-quarter": 6,
        "p-half": 3,
        "q-quarter": 1,
        "q-half": 1,
    }
    assert result.quarantined == {"annotations/r-half.xml": "exif_undecided"}
