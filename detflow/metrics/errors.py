"""Why average precision is lost: the error types of TIDE, and what each of them costs.

TIDE is "A General Toolbox for Identifying Object Detection Errors" (Bolya et al. 2020,
arXiv:2008.08115).

A false positive is one of five; an object that was not found, and that correcting a class or a
place would not find, is missed:

    classification   IoU of at least .5 with an object of another class localisation     IoU from .1
    to .5 with an object of its class both             IoU from .1 to .5 with an object of another
    class only duplicate        IoU of at least .5 with an object of its class that a better
    detection has found background       IoU below .1 with every object

Where several fit, localisation goes before classification before duplicate, as in the authors'
program.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from detflow.label_map import LabelMap
from detflow.metrics.coco import Bools, EvaluatedImage, Ints, Matches, average_precision, overlaps

_FOREGROUND_IOU, _BACKGROUND_IOU = 0.5, 0.1


class ErrorType(StrEnum):
    """The kinds of error, in the order of the paper."""

    CLASSIFICATION = "classification"
    LOCALISATION = "localisation"
    BOTH = "both"
    DUPLICATE = "duplicate"
    BACKGROUND = "background"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class DetectionError:
    """One error.

    Attributes:
        type: Its kind.
        detection: Index in `Matches`' detections; None for a missed object.
        truth: Index in `Matches`' truth of the object that is meant: the missed one, the one whose
            class or place was not hit, the one that was found twice; None where no object is meant.
    """

    type: ErrorType
    detection: int | None
    truth: int | None


@dataclass(frozen=True, slots=True)
class ErrorCost:
    """How often an error occurs over all detections, and what mending it alone would gain.

    The gain is in AP50; it is None where AP50 cannot be measured.
    """

    count: int
    ap50: float | None


def find_errors(
    matches: Matches, images: Sequence[EvaluatedImage], score_threshold: float = 0.0
) -> list[DetectionError]:
    """Names every false positive and every object that is missed.

    Difficult objects are never missed; a detection that would be right on one is an error all the
    same where it is a second one or has the wrong class.

    Args:
        matches: The matches in the images.
        images: The images.
        score_threshold: Detections with a lower score are left out. What the others match does not
            depend on them.

    Returns:
        Image by image; within one false positives come first, from the highest score to the lowest.
    """
    errors: list[DetectionError] = []
    detections, truths = _by_image(matches.images), _by_image(matches.truth_images)
    for index, image in enumerate(images):
        of_image = np.array(detections.get(index, []), np.int64)
        kept = of_image[matches.scores[of_image] >= score_threshold]
        errors += _errors_of(
            matches,
            image,
            kept[np.argsort(-matches.scores[kept], kind="stable")],
            truths.get(index, []),
        )
    return errors


def _errors_of(
    matches: Matches, image: EvaluatedImage, kept: Ints, truths: Sequence[int]
) -> Iterator[DetectionError]:
    wrong = kept[matches.misses[kept]]
    boxes = [image.detections[place].box for place in matches.places[wrong].tolist()]
    iou = overlaps(boxes, [item.box for item in image.objects], image.size)
    class_ids = matches.truth_class_ids[truths]
    mendable: set[int] = set()
    for row, detection in enumerate(wrong.tolist()):
        type_, place = _name_error(iou[row], class_ids == matches.class_ids[detection])
        truth = None if place is None else truths[place]
        if truth is not None and type_ in (ErrorType.CLASSIFICATION, ErrorType.LOCALISATION):
            mendable.add(truth)
        yield DetectionError(type_, detection, truth)
    found = set(matches.objects[kept].tolist())
    for truth in truths:
        if (
            not matches.difficult[truth]
            and int(matches.truth_places[truth]) not in found
            and truth not in mendable
        ):
            yield DetectionError(ErrorType.MISSED, None, truth)


def _name_error(
    iou: np.ndarray[tuple[int], np.dtype[np.float64]], same: Bools
) -> tuple[ErrorType, int | None]:
    """Returns the kind of a false positive, and the place in the image of the object that it means.

    Args:
        iou: Its overlap with each object.
        same: Whether the object has its class.
    """
    if not len(iou):
        return ErrorType.BACKGROUND, None
    own, other = int(np.where(same, iou, -1.0).argmax()), int(np.where(same, -1.0, iou).argmax())
    own_iou, other_iou = (
        float(iou[own]) if same[own] else 0.0,
        float(iou[other]) if not same[other] else 0.0,
    )
    if _BACKGROUND_IOU <= own_iou < _FOREGROUND_IOU:
        return ErrorType.LOCALISATION, own
    if other_iou >= _FOREGROUND_IOU:
        return ErrorType.CLASSIFICATION, other
    if own_iou >= _FOREGROUND_IOU:
        return ErrorType.DUPLICATE, own
    if other_iou >= _BACKGROUND_IOU:
        return ErrorType.BOTH, other
    return ErrorType.BACKGROUND, None


def error_costs(
    matches: Matches, images: Sequence[EvaluatedImage], label_map: LabelMap
) -> dict[ErrorType, ErrorCost]:
    """Returns what each kind of error costs, over all detections.

    A kind is mended alone: a wrong class or place becomes right where the object is still free (of
    several detections the one with the highest score, the others go), the other false positives go,
    and missed objects are taken out of the count; a class of which every object was missed then
    counts as 1. The costs do not add up to what AP50 lacks.
    """
    errors: defaultdict[ErrorType, list[DetectionError]] = defaultdict(list)
    for error in find_errors(matches, images):
        errors[error.type].append(error)
    before = _mean_ap50(_Ranking(matches), label_map)
    costs = {}
    for type_ in ErrorType:
        ranking = _Ranking(matches)
        ranking.mend(type_, errors[type_])
        after = _mean_ap50(ranking, label_map)
        costs[type_] = ErrorCost(
            len(errors[type_]), None if before is None or after is None else after - before
        )
    return costs


class _Ranking:
    """What AP50 is computed from; a copy of the matches' that errors are mended in."""

    def __init__(self, matches: Matches) -> None:
        self._matches = matches
        self.class_ids = matches.class_ids.copy()
        self.hits = matches.hits.copy()
        self.counted = matches.hits | matches.misses
        self.missed: defaultdict[int, int] = defaultdict(int)

    def mend(self, type_: ErrorType, errors: Sequence[DetectionError]) -> None:
        """Mends errors of one kind."""
        if type_ is ErrorType.MISSED:
            for error in errors:
                self.missed[int(self._matches.truth_class_ids[error.truth])] += 1
            return
        pairs = [(error.detection, error.truth) for error in errors if error.detection is not None]
        self.counted[[detection for detection, _ in pairs]] = False
        if type_ not in (ErrorType.CLASSIFICATION, ErrorType.LOCALISATION):
            return
        taken: set[int] = set()
        for detection, truth in sorted(pairs, key=lambda pair: -self._matches.scores[pair[0]]):
            if (
                truth is None
                or truth in taken
                or self._matches.found[truth]
                or self._matches.difficult[truth]
            ):
                continue
            taken.add(truth)
            self.class_ids[detection] = self._matches.truth_class_ids[truth]
            self.hits[detection] = self.counted[detection] = True

    def ap50(self, class_id: int) -> float | None:
        """Average precision of a class."""
        num_truths = self._matches.num_truths(class_id)
        if num_truths and num_truths == self.missed[class_id]:
            return 1.0
        chosen = self.counted & (self.class_ids == class_id)
        # Detections stand in order of their own class; those that changed it have to be sorted in.
        order = np.argsort(-self._matches.scores[chosen], kind="stable")
        return average_precision(self.hits[chosen][order], num_truths - self.missed[class_id])


def _mean_ap50(ranking: _Ranking, label_map: LabelMap) -> float | None:
    values = [ranking.ap50(class_id) for class_id in label_map.ids]
    measured = [value for value in values if value is not None]
    return float(np.mean(measured)) if measured else None


def _by_image(images: Ints) -> dict[int, list[int]]:
    """Returns the entries of each image."""
    entries: defaultdict[int, list[int]] = defaultdict(list)
    for entry, image in enumerate(images.tolist()):
        entries[image].append(entry)
    return entries
