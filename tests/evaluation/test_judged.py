from dataclasses import replace

import numpy as np
import pytest

from detflow.evaluation.cards import build_cards, choose_images
from detflow.evaluation.gallery import BadImage, describe_errors, worst_images
from detflow.evaluation.judged import Steps
from detflow.metrics.errors import ErrorType, find_errors


@pytest.fixture(scope="module")
def drawn(case):
    """Every fourth object is difficult; scores repeat."""
    drawn = case(["cat", "dog", "owl"], num_images=12, objects=6, seed=3)
    drawn.images = [
        replace(
            image,
            objects=[
                replace(item, difficult=place % 4 == 3) for place, item in enumerate(image.objects)
            ],
            detections=[replace(one, score=round(one.score, 1)) for one in image.detections],
        )
        for image in drawn.images
    ]
    return drawn


@pytest.fixture(scope="module")
def analysis(drawn):
    return drawn.analyse(0.355)


def test_steps_hold_the_hundredths_and_the_own_threshold(analysis):
    steps = Steps(analysis)
    assert steps.thresholds[steps.at] == 0.355
    assert len(steps.thresholds) == 102
    assert set(np.arange(101) / 100) < set(steps.thresholds.tolist())


def total(pairs, counts):
    return sum(n for step, n in zip(pairs[::2], pairs[1::2], strict=True) if counts(step))


@pytest.mark.parametrize("step", [0, 10, 30, 35, 36, 37, 50, 90, 101])
def test_the_counts_of_a_step_are_those_of_its_threshold(drawn, analysis, step):
    """The page adds them up as it is done here."""
    steps = Steps(analysis)
    splits = ["val" if index % 3 else "train" for index in range(len(drawn.images))]
    described = steps.describe_counts(splits)
    threshold = float(steps.thresholds[step])
    kinds = dict.fromkeys(ErrorType, 0)
    right = objects = 0
    for split, class_id, num_objects, hits, *by_kind in described["counts"]:
        assert split in ("train", "val")
        assert class_id in (1, 2, 3)
        objects += num_objects
        right += total(hits, lambda until: until >= step)
        for kind, pairs in zip(described["kinds"], by_kind, strict=True):
            covers = (lambda near: near < step) if kind == "missed" else lambda until: until >= step
            kinds[ErrorType(kind)] += total(pairs, covers)
    errors = find_errors(analysis.matches, analysis.images, threshold)
    assert kinds == {kind: sum(error.type is kind for error in errors) for kind in ErrorType}
    point = analysis.overall.at(threshold)
    wrong = sum(number for kind, number in kinds.items() if kind is not ErrorType.MISSED)
    assert (right / (right + wrong) if right + wrong else None) == point.precision
    assert right / objects == point.recall


def test_classes_beyond_the_limit_are_summed_up(drawn, analysis, monkeypatch):
    monkeypatch.setattr("detflow.evaluation.judged.MAX_CLASSES", 1)
    counts = Steps(analysis).describe_counts(["all"] * len(drawn.images))["counts"]
    assert [(split, class_id) for split, class_id, *_ in counts] == [("all", 0), ("all", 1)]
    assert sum(objects for _, _, objects, *_ in counts) == analysis.num_counted


def test_cards_say_what_the_errors_are(drawn, analysis):
    steps = Steps(analysis)
    pictures = drawn.pictures(choose_images(analysis))
    cards = build_cards(analysis, steps, drawn.samples(), {}, pictures)
    bad = {image.index: image for image in worst_images(analysis)}
    assert [int(card.filename.split("/")[1][:-4]) for card in cards] == [
        *bad,
        *(index for index in range(len(drawn.images)) if index not in bad),
    ]
    for card in cards:
        index = int(card.filename.split("/")[1][:-4])
        errors = describe_errors(analysis, bad.get(index, BadImage(index, 0.0, [])))
        # Phrases that are as frequent and as costly have no order.
        assert sorted(card.words.split(", ")) == sorted((errors or "all right").split(", "))
    matches = analysis.matches
    kept = matches.scores >= 0.355
    sums = [sum(int(card.outcome.split(", ")[i].split()[0]) for card in cards) for i in range(3)]
    right = int((matches.hits & kept).sum())
    assert sums == [right, int((matches.misses & kept).sum()), analysis.num_counted - right]


def test_a_card_names_file_and_line(drawn, analysis):
    from detflow.data.records.places import SamplePlace

    places = {
        100 + index: SamplePlace(f"xml/{index}.xml", [10 * n for n in range(1, 7)], "val")
        for index in range(len(drawn.images))
    }
    pictures = drawn.pictures(choose_images(analysis))
    cards = build_cards(analysis, Steps(analysis), drawn.samples(), places, pictures)
    for card in cards:
        assert card.split == "val"
        titles = [shape.title for shape in card.picture.shapes if "truth" in shape.kind]
        assert len(titles) == 6
        assert all(
            title.endswith(f"{card.annotation}:{10 * n}") for n, title in enumerate(titles, 1)
        )
    # Without an index of the records an object is named by its place.
    [card, *_] = build_cards(analysis, Steps(analysis), drawn.samples(), {}, pictures)
    assert card.picture.shapes[1].title.endswith(f"{card.annotation}, object 2")


def test_boxes_beyond_the_limit_are_counted(case, monkeypatch):
    monkeypatch.setattr("detflow.evaluation.cards.MAX_OBJECTS", 2)
    monkeypatch.setattr("detflow.evaluation.cards.MAX_DETECTIONS", 1)
    drawn = case(["cat"], num_images=1, objects=9, seed=1)
    analysis = drawn.analyse()
    number = len(drawn.images[0].detections)
    [card] = build_cards(analysis, Steps(analysis), drawn.samples(), {}, drawn.pictures([0]))
    assert list(card.facts) == [
        "the first 2 of 9 objects",
        f"the best 1 of {number} detections",
    ]
    assert len(card.picture.shapes) == 3
    best = max(drawn.images[0].detections, key=lambda one: one.score)
    assert card.picture.shapes[-1].title.startswith(f"cat {best.score:.2f}")


def test_a_place_where_a_photo_was_taken_is_not_passed_on(case):
    import io

    from PIL import Image

    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    exif[0x010E] = "a secret garden"
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "JPEG", exif=exif)
    assert b"secret" in buffer.getvalue()
    drawn = case(["cat"], num_images=1)
    analysis = drawn.analyse()
    [card] = build_cards(analysis, Steps(analysis), drawn.samples(), {}, {0: buffer.getvalue()})
    assert b"secret" not in card.picture.jpeg
