"""What one annotation testifies about the whole set, and how testimonies add up.

A single file often leaves open what its numbers mean, and others of the same tool or folder tell.
Each annotation that is judged with its image leaves a few counts; those of a batch are added where
it is judged, and those of all batches in the main process, in any order with the same sums.
`detflow.data.judging.rulings` decides from the sums. Nothing here depends on what was decided
before, so that the order of batches changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import NamedTuple

from detflow.data.images.decode import ImageFacts
from detflow.data.sources.source import RawAnnotation, RawObject
from detflow.types import CornerFrame, ImageSize

Sides = tuple[int, int]
"""Width and height in pixels."""

_MAX_GROUPS = 1_000
_MAX_SIZE_PAIRS = 2_000
_GROUP_FOLDERS = 2
# Fractions that a tool rounded, or of a box that reaches out of the picture, lie in this range.
_FRACTIONS = (-0.5, 1.5)
# An edge that a person drew a little too far, and one that lies on another picture.
_SLOPPY_PX = 2.0
_FAR_SHARE = 0.1


class Group(NamedTuple):
    """Annotations that are likely to have been written in the same way.

    Attributes:
        folder: The first two folders of the annotation's path.
        tool: What the file says about who wrote it; see `RawAnnotation.tool`.
    """

    folder: str
    tool: str

    @classmethod
    def of(cls, annotation: RawAnnotation) -> Group:
        """Returns an annotation's group."""
        folders = annotation.path.split("/")[:-1]
        return cls("/".join(folders[:_GROUP_FOLDERS]), annotation.tool)


NO_GROUP = Group("", "")


class Habit(StrEnum):
    """What a tool does with EXIF's orientation."""

    FOLLOW = "follow"
    """It shows the picture as EXIF turns it, and boxes lie on that."""

    IGNORE = "ignore"
    """It shows the pixels as they are stored."""


@dataclass(slots=True)
class SizeCount:
    """Annotations with one pair of a wrong `<size>` and a size in pixels.

    Attributes:
        annotations: How many there are.
        proven_stale: How many of them have boxes that leave the `<size>` but not the picture.
    """

    annotations: int = 0
    proven_stale: int = 0


@dataclass(slots=True)
class Tally:
    """The sums of testimonies. Boxes count where their corners are pixels.

    Attributes:
        annotations: Annotations with boxes.
        boxes: Their boxes.
        undecided: Boxes of which the dialect does not say whether they count from 0 or 1.
        begin_at_0: Minima in [0, 1) among those.
        begin_at_1: Minima in [1, 2) among those.
        fractional: Boxes among those with a corner that is no whole number.
        beyond: Boxes among those with an edge up to two pixels outside.
        inverted: Boxes with a minimum greater than its maximum.
        not_widths: Boxes that would leave the picture if their maxima were width and height.
        over_100: Boxes with a corner over 100 or under 0.
        percent_millibits: How unlikely it is that boxes on larger pictures have no corner over 100,
            in thousandths of a bit.
        largest: The largest corner.
        whole: Annotations whose `<size>` does not contradict the picture.
        far: Those of them with a box far outside of the picture.
        sizes_right: Annotations whose `<size>` is the picture's, turned or not.
        sizes: Those whose `<size>` is another one, by `<size>` and size in pixels.
        has_too_many_sizes: Whether there were too many of those to keep.
        turned: Annotations with boxes on a picture that EXIF turns.
        follow: Those of them whose boxes fit the turned picture only.
        ignore: Those whose boxes fit the stored one only.
        follow_by_size: Those whose boxes fit both, and whose `<size>` is the turned picture's.
        ignore_by_size: Those whose boxes fit both, and whose `<size>` is the stored one's.
        size_agrees: Those whose boxes and `<size>` tell the same.
        size_lies: Those whose boxes tell the one, and whose `<size>` tells the other.
    """

    annotations: int = 0
    boxes: int = 0
    undecided: int = 0
    begin_at_0: int = 0
    begin_at_1: int = 0
    fractional: int = 0
    beyond: int = 0
    inverted: int = 0
    not_widths: int = 0
    over_100: int = 0
    percent_millibits: int = 0
    largest: float = 0.0
    whole: int = 0
    far: int = 0
    sizes_right: int = 0
    sizes: dict[tuple[Sides, Sides], SizeCount] = field(default_factory=dict)
    has_too_many_sizes: bool = False
    turned: int = 0
    follow: int = 0
    ignore: int = 0
    follow_by_size: int = 0
    ignore_by_size: int = 0
    size_agrees: int = 0
    size_lies: int = 0

    def add(self, other: Tally) -> None:
        """Adds another tally."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = max(self.largest, other.largest)
        for pair, count in other.sizes.items():
            own = self.sizes.setdefault(pair, SizeCount())
            own.annotations += count.annotations
            own.proven_stale += count.proven_stale
        self.has_too_many_sizes |= other.has_too_many_sizes or len(self.sizes) > _MAX_SIZE_PAIRS
        if self.has_too_many_sizes:
            self.sizes.clear()


_SUMS = tuple(
    one.name for one in fields(Tally) if one.name not in ("largest", "sizes", "has_too_many_sizes")
)


def sum_tallies(tallies: Iterable[Tally]) -> Tally:
    """Returns the sum."""
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


def testify(tally: Tally, annotation: RawAnnotation, facts: ImageFacts) -> None:
    """Adds what an annotation with boxes tells.

    Args:
        tally: The tally of its group.
        annotation: The annotation, its objects readable.
        facts: What its image holds.
    """
    objects = annotation.objects
    if not objects:
        return
    if facts.orientation != 1:
        _testify_turn(tally, annotation, facts)
    if annotation.frame is CornerFrame.FRACTIONS or are_fractions(objects, facts.size):
        return
    tally.annotations += 1
    tally.boxes += len(objects)
    _testify_corners(tally, objects, facts, is_undecided=annotation.frame is None)
    _testify_size(tally, annotation, objects, facts)


def _testify_corners(
    tally: Tally, objects: Sequence[RawObject], facts: ImageFacts, *, is_undecided: bool
) -> None:
    # This loop sees every box of every set: it calls nothing that it can do without.
    width, height = _reach(facts)
    right, bottom = width + _SLOPPY_PX, height + _SLOPPY_PX
    largest = 0.0
    over_100 = 0
    for _, _, _, (xmin, ymin, xmax, ymax), *_ in objects:
        if xmin + xmax > right or ymin + ymax > bottom:
            tally.not_widths += 1
        low, high = xmin if xmin < ymin else ymin, xmax if xmax > ymax else ymax
        if xmin > xmax or ymin > ymax:
            tally.inverted += 1
            low, high = min(low, xmax, ymax), max(high, xmin, ymin)
        if high > largest:
            largest = high
        if high > 100.0 or low < 0.0:
            over_100 += 1
        if not is_undecided:
            continue
        if low < 2.0:
            tally.begin_at_0 += (0.0 <= xmin < 1.0) + (0.0 <= ymin < 1.0)
            tally.begin_at_1 += (1.0 <= xmin < 2.0) + (1.0 <= ymin < 2.0)
        if low < 0.0 or width < xmax <= right or height < ymax <= bottom:
            tally.beyond += 1
        if xmin % 1.0 or xmax % 1.0 or ymin % 1.0 or ymax % 1.0:
            tally.fractional += 1
    tally.largest = max(tally.largest, largest)
    tally.over_100 += over_100
    if is_undecided:
        tally.undecided += len(objects)
    if not over_100:
        share = min(1.0, 100.0 / width) * min(1.0, 100.0 / height)
        tally.percent_millibits += len(objects) * int(-1000.0 * math.log2(share))


def _testify_size(
    tally: Tally, annotation: RawAnnotation, objects: Sequence[RawObject], facts: ImageFacts
) -> None:
    written, stored, turned = annotation.size, facts.size, facts.turned_size
    if written is None or 0 in written or is_size(written, stored) or is_size(written, turned):
        tally.whole += 1
        width, height = _reach(facts)
        tally.far += count_far_outside(objects, width, height) > 0
        tally.sizes_right += written is not None and 0 not in written
        return
    count = tally.sizes.setdefault((written, (stored.width, stored.height)), SizeCount())
    count.annotations += 1
    count.proven_stale += is_proven_stale(objects, written, stored)


def _reach(facts: ImageFacts) -> tuple[int, int]:
    """Returns the sides that boxes have room in, whether or not EXIF's turn is followed."""
    if facts.orientation < 5:
        return facts.size.width, facts.size.height
    side = max(facts.size.width, facts.size.height)
    return side, side


def _testify_turn(tally: Tally, annotation: RawAnnotation, facts: ImageFacts) -> None:
    by_size, by_boxes = vote_by_size(annotation, facts), vote_by_boxes(annotation, facts)
    tally.turned += 1
    if by_boxes is None:
        tally.follow_by_size += by_size is Habit.FOLLOW
        tally.ignore_by_size += by_size is Habit.IGNORE
        return
    tally.follow += by_boxes is Habit.FOLLOW
    tally.ignore += by_boxes is Habit.IGNORE
    if by_size is not None:
        tally.size_agrees += by_size is by_boxes
        tally.size_lies += by_size is not by_boxes


def vote_by_size(annotation: RawAnnotation, facts: ImageFacts) -> Habit | None:
    """Returns what an annotation's `<size>` tells about its tool's habit with EXIF."""
    written, stored, turned = annotation.size, facts.size, facts.turned_size
    if written is None or turned == stored:
        return None
    if is_size(written, turned):
        return Habit.FOLLOW
    return Habit.IGNORE if is_size(written, stored) else None


def vote_by_boxes(annotation: RawAnnotation, facts: ImageFacts) -> Habit | None:
    """Returns what an annotation's boxes tell: whether they fit one of the two pictures only."""
    stored, turned = facts.size, facts.turned_size
    if turned == stored or annotation.frame is CornerFrame.FRACTIONS:
        return None
    objects = annotation.objects or ()
    fits_stored, fits_turned = fit(objects, stored, 0.01), fit(objects, turned, 0.01)
    if fits_stored is fits_turned:
        return None
    return Habit.FOLLOW if fits_turned else Habit.IGNORE


def is_size(written: Sides, size: ImageSize) -> bool:
    """Whether a `<size>` is an image's."""
    return written == (size.width, size.height)


def fit(objects: Iterable[RawObject], size: ImageSize, slack: float) -> bool:
    """Whether all boxes lie in an image, but for a share of its sides and a pixel."""
    right, bottom = size.width * (1 + slack) + 1, size.height * (1 + slack) + 1
    return all(
        xmin <= right and xmax <= right and ymin <= bottom and ymax <= bottom
        for _, _, _, (xmin, ymin, xmax, ymax), *_ in objects
    )


def are_fractions(objects: Sequence[RawObject], size: ImageSize) -> bool:
    """Whether all corners are fractions of the sides.

    As pixels they would be specks in the picture's corner.
    """
    low, high = _FRACTIONS
    return (
        min(size.width, size.height) > high
        and all(low <= corner <= high for raw in objects for corner in raw.corners)
        and any(xmin != xmax and ymin != ymax for _, _, _, (xmin, ymin, xmax, ymax), *_ in objects)
    )


def is_proven_stale(objects: Sequence[RawObject], written: Sides, size: ImageSize) -> bool:
    """Whether boxes leave a `<size>`, and fit the picture: then they were drawn on the picture."""
    return fit(objects, size, 0.01) and not fit(objects, ImageSize(*written), 0.01)


def count_far_outside(objects: Sequence[RawObject], width: float, height: float) -> int:
    """Returns how many boxes reach so far out of an image that they were drawn on a larger one.

    What lies left or above of the image is no sign of another one: all begin at 0.
    """
    right, bottom = width * (1 + _FAR_SHARE) + 1, height * (1 + _FAR_SHARE) + 1
    count = 0
    for _, _, _, (xmin, ymin, xmax, ymax), *_ in objects:
        if xmax > right or ymax > bottom or xmin > right or ymin > bottom:
            count += 1
    return count


class Evidence:
    """The tallies of all groups.

    Attributes:
        tallies: Each group's. Beyond a thousand groups all of them are one, without a name: so many
            are no tools and folders, and each would hold too little.
        is_one: Whether that is so.
    """

    def __init__(self) -> None:
        self.tallies: dict[Group, Tally] = {}
        self.is_one = False

    def add(self, tallies: Mapping[Group, Tally]) -> None:
        """Adds the tallies of a batch."""
        for group, tally in tallies.items():
            self.tallies.setdefault(NO_GROUP if self.is_one else group, Tally()).add(tally)
        if len(self.tallies) > _MAX_GROUPS:
            self.is_one = True
            self.tallies = {NO_GROUP: sum_tallies(self.tallies.values())}
