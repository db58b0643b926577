"""Decides whether an image is turned as EXIF asks: were the boxes drawn on the turned picture?"""

from __future__ import annotations

from detflow.data.images.decode import ImageFacts
from detflow.data.judging.case import Case
from detflow.data.judging.rulings import Ruling
from detflow.data.judging.testimony import Habit, vote_by_boxes, vote_by_size

_VERBS = {Habit.FOLLOW: "exif_applied", Habit.IGNORE: "exif_removed"}


def decide_turn(case: Case, facts: ImageFacts, ruling: Ruling) -> int | None:
    """Returns the EXIF orientation to apply, 1 for none; None where nothing tells.

    Args:
        case: Where it is noted.
        facts: What the image holds.
        ruling: What the set has decided.
    """
    if facts.orientation == 1:
        return 1
    habit, grounds = _find_habit(case, facts, ruling)
    value = f"EXIF orientation {facts.orientation}, stored {facts.size}; {grounds}"
    line = case.annotation.size_line
    if habit is None:
        if case.annotation.objects:
            case.note("exif_undecided", line=line, value=value)
            return None
        # An image without boxes is the same negative either way up.
        habit = Habit.IGNORE
    case.note(_VERBS[habit], line=line, value=value)
    return facts.orientation if habit is Habit.FOLLOW else 1


def _find_habit(case: Case, facts: ImageFacts, ruling: Ruling) -> tuple[Habit | None, str]:
    """Returns whether EXIF is followed, and what tells it."""
    if ruling.is_habit_ordered:
        return ruling.habit, "by --exif"
    by_size = vote_by_size(case.annotation, facts)
    by_boxes = vote_by_boxes(case.annotation, facts)
    if by_boxes is not None and by_size is not None and by_boxes is not by_size:
        if ruling.habit is by_boxes:
            return by_boxes, "by its boxes, as in the rest of the set; <size> says otherwise"
        return None, "its boxes fit one of the two pictures, <size> the other"
    if by_boxes is not None:
        return by_boxes, "by its boxes"
    if by_size is not None and ruling.trusts_size:
        return by_size, "by <size>"
    if ruling.habit is not None:
        return ruling.habit, "as in the rest of the set"
    return None, "neither <size> nor the boxes nor the rest of the set tell"
