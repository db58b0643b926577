"""The pictures of an evaluation's page: every box with what becomes of it at each threshold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from detflow.data.images.transcode import Treatment, encode_record_jpeg
from detflow.data.records.places import SamplePlace
from detflow.evaluation.analysis import Analysis
from detflow.evaluation.gallery import worst_images, worst_images_of
from detflow.evaluation.judged import JudgedDetection, JudgedImage, JudgedObject, Steps
from detflow.metrics.errors import ErrorType
from detflow.pages.embed import limit_jpeg
from detflow.pages.outlines import Outline, Picture, build_picture
from detflow.types import Sample

MAX_PICTURES: Final = 48
"""Pictures that a page has."""

MAX_PICTURE_KB: Final = 400
"""Size of a picture's file in 1,000 bytes; a larger one becomes smaller."""

MAX_OBJECTS, MAX_DETECTIONS = 300, 150
"""Boxes over a picture."""

_MAX_WORST, _MAX_OF_CLASS = 24, 6


@dataclass(frozen=True, slots=True)
class JudgedCard:
    """A picture with its boxes, and what is said below it.

    Attributes:
        picture: The image with its boxes; what a script needs to judge them stands in their data.
        filename: The image's name.
        annotation: The annotation's name.
        split: The split that the image is in.
        words: The errors in words, at the analysis' threshold.
        outcome: How many boxes are right, wrong and not found there.
        facts: What of the image the page does not show.
        num_objects: How many objects it has.
    """

    picture: Picture
    filename: str
    annotation: str
    split: str
    words: str
    outcome: str
    facts: Sequence[str]
    num_objects: int


def choose_images(analysis: Analysis) -> list[int]:
    """Returns the indices of the images that are shown, the worst first.

    They are the worst of all, then the worst of each class, from the class with the lowest AP on,
    and then, while there is room, further bad images and images without errors.
    """
    worst = [bad.index for bad in worst_images(analysis)]
    chosen = dict.fromkeys(worst[:_MAX_WORST])
    for name in sorted(analysis.label_map, key=lambda name: _rank_ap(analysis, name)):
        if len(chosen) >= MAX_PICTURES:
            break
        of_class = worst_images_of(analysis, analysis.label_map.id_of(name))[:_MAX_OF_CLASS]
        chosen |= dict.fromkeys(bad.index for bad in of_class)
    chosen |= dict.fromkeys([*worst, *range(len(analysis.images))])
    rank = {index: place for place, index in enumerate(worst)}
    return sorted(
        list(chosen)[:MAX_PICTURES], key=lambda index: (rank.get(index, len(rank)), index)
    )


def _rank_ap(analysis: Analysis, name: str) -> tuple[bool, float]:
    """Classes that cannot be measured stand last."""
    ap = analysis.class_metrics[name]["AP"]
    return ap is None, ap or 0.0


def build_cards(
    analysis: Analysis,
    steps: Steps,
    samples: Sequence[Sample],
    places: Mapping[int, SamplePlace],
    pictures: Mapping[int, bytes],
) -> list[JudgedCard]:
    """Returns the cards of the images that `choose_images` chooses, in its order.

    Args:
        analysis: What was measured.
        steps: The thresholds of its page.
        samples: The samples of the analysis' images.
        places: Where they come from, by their ids, as far as that is known.
        pictures: JPEG files of at least the chosen images, by the index of the image.
    """
    chosen = choose_images(analysis)
    judged = steps.judge_images(chosen)
    return [
        _build_card(
            analysis,
            steps.at,
            judged[index],
            index,
            samples[index],
            places.get(samples[index].source_id),
            pictures[index],
        )
        for index in chosen
    ]


def _build_card(
    analysis: Analysis,
    at: int,
    judged: JudgedImage,
    index: int,
    sample: Sample,
    place: SamplePlace | None,
    jpeg: bytes,
) -> JudgedCard:
    image = analysis.images[index]
    objects, detections = judged.objects[:MAX_OBJECTS], judged.detections[:MAX_DETECTIONS]
    # What is wrong lies on top, and of several the one with the highest score.
    ordered = [
        one
        for is_wrong in (False, True)
        for one in detections[::-1]
        if (one.outcome == "wrong") is is_wrong
    ]
    draw = _Outliner(analysis, index, sample, place, at)
    outlines = [*map(draw.outline_object, objects), *map(draw.outline_detection, ordered)]
    # A page is passed on, and needs no place where a photo was taken.
    plain = encode_record_jpeg(jpeg, Treatment(drop_exif=True))
    shown, size = limit_jpeg(plain, MAX_PICTURE_KB * 1000)
    facts = []
    if size.num_pixels < image.size.num_pixels:
        facts.append(f"shown with {size} of {image.size} pixels")
    if len(judged.objects) > len(objects):
        facts.append(f"the first {len(objects)} of {len(judged.objects):,} objects")
    if len(judged.detections) > len(detections):
        facts.append(f"the best {len(detections)} of {len(judged.detections):,} detections")
    right = sum(one.outcome == "right" and one.until >= at for one in detections)
    wrong = sum(one.outcome == "wrong" and one.until >= at for one in detections)
    lost = sum(one.until < at and not image.objects[one.place].difficult for one in objects)
    return JudgedCard(
        build_picture(shown, image.size, outlines, sample.filename, "; ".join(facts)),
        sample.filename,
        draw.annotation,
        place.split if place else analysis.subject.split,
        _describe_errors(analysis, index, objects, ordered, at),
        f"{right} right, {wrong} wrong, {lost} not found",
        facts,
        len(judged.objects),
    )


def _describe_errors(
    analysis: Analysis,
    index: int,
    objects: Sequence[JudgedObject],
    detections: Sequence[JudgedDetection],
    at: int,
) -> str:
    """Returns the errors at a step in words, as the page's script does at each step."""
    truths = analysis.images[index].objects
    errors: list[JudgedObject | JudgedDetection] = [
        one
        for one in objects
        if one.until < at and one.near < at and not truths[one.place].difficult
    ]
    errors += [one for one in detections if one.outcome == "wrong" and one.until >= at]
    errors.sort(key=lambda one: -float(_format_cost(one.cost)))
    phrases = Counter(one.words for one in errors)
    parts = (
        f"{count:,} × {words}" if count > 1 else words for words, count in phrases.most_common()
    )
    return ", ".join(parts) or "all right"


class _Outliner:
    """Turns the boxes of an image into outlines that say everything about them."""

    def __init__(
        self,
        analysis: Analysis,
        index: int,
        sample: Sample,
        place: SamplePlace | None,
        at: int,
    ) -> None:
        self._image = analysis.images[index]
        self._lines = place.lines if place else ()
        self._at = at
        self.annotation = place.annotation if place else sample.key

    def outline_object(self, judged: JudgedObject) -> Outline:
        """Returns the outline of an object."""
        item = self._image.objects[judged.place]
        is_found = item.difficult or judged.until >= self._at
        flag = " difficult" if item.difficult else ""
        data = {
            "until": f"{judged.until}",
            "near": f"{judged.near}",
            "kind": ErrorType.MISSED.value,
            "words": judged.words,
            "cost": _format_cost(judged.cost),
            "classes": f"{judged.class_id}",
            "label": f"not found: {item.name}",
        }
        title = f"{item.name}{',' if flag else ''}{flag}, {self._name_place(judged.place)}"
        kind = f"judged truth {'found' if is_found else 'missed'}{flag}"
        return Outline(item.box.to_pixels(self._image.size), kind, title, data)

    def outline_detection(self, judged: JudgedDetection) -> Outline:
        """Returns the outline of a detection."""
        one = self._image.detections[judged.place]
        data = {
            "until": f"{judged.until}",
            "classes": " ".join(map(str, judged.class_ids)),
            "label": f"{one.name} {one.score:.2f}",
        }
        title = f"{one.name} {one.score:.2f}, "
        if judged.outcome == "wrong":
            data |= {
                "kind": judged.kind,
                "words": judged.words,
                "cost": _format_cost(judged.cost),
                "label": f"× {one.name} {one.score:.2f}",
            }
            title += f"wrong: {judged.words}"
        else:
            title += "right" if judged.outcome == "right" else "on a difficult object"
        if judged.truth is not None:
            title += f" ({self._name_place(judged.truth)})"
        kind = f"judged {judged.outcome}{'' if judged.until >= self._at else ' off'}"
        return Outline(one.box.to_pixels(self._image.size), kind, title, data)

    def _name_place(self, place: int) -> str:
        """Returns the place of an object: the line, or else which object of the annotation."""
        if place < len(self._lines):
            return f"{self.annotation}:{self._lines[place]}"
        return f"{self.annotation}, object {place + 1}"


def _format_cost(cost: float) -> str:
    # Both the script and Python sort by these digits.
    return f"{cost:.6g}"


def list_splits(
    analysis: Analysis, samples: Sequence[Sample], places: Mapping[int, SamplePlace]
) -> Iterator[str]:
    """Yields the split of each image: a union of splits was judged as one."""
    for sample in samples:
        place = places.get(sample.source_id)
        yield place.split if place else analysis.subject.split
