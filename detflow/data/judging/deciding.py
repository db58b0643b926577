"""What the evidence of the whole set decides, and on what grounds.

`docs/repairs.md` explains the rules to readers, and `docs/decisions/0008-corners.md` has the
reasons and the figures for where corners count from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from detflow.data.judging.rulings import Orders, Pattern, Rulings, find_default_frame
from detflow.data.judging.testimony import (
    Evidence,
    Group,
    Habit,
    Sides,
    SizeCount,
    Tally,
    sum_tallies,
)
from detflow.text import count_noun
from detflow.types import CornerFrame

NOTHING_TELLS = "nothing tells"
"""The grounds on which corners are taken for VOC's."""

BY_DECISION = "--decisions"
"""The grounds of what a person has decided."""

# A side wins if the other one has less than one vote in so many.
_OUTVOTED = 20
# A folder with fewer annotations is judged as the whole set is.
_MIN_ANNOTATIONS = 8
_MIN_BOXES = 5
_MIN_INVERTED = 3
_MIN_PERCENT_BITS = 10
_MIN_PERCENT_REACH = 80.0
_MIN_FAR = 3
_FAR_SHARE = 4
_MIN_PATTERN = 3


def guess(rulings: Rulings, evidence: Evidence, groups: Iterable[Group]) -> Rulings:
    """Returns rulings for the next batch, so that little has to be judged again in the end.

    What is decided in the end does not depend on it.

    Args:
        rulings: Those of the batch before.
        evidence: What is known until now.
        groups: The groups of which something is new.
    """
    frames = dict(rulings.frames)
    for group in groups:
        tally = evidence.tallies.get(group)
        if tally is not None and tally.undecided:
            frame, _ = decide_frame(group.tool, tally)
            if frame is not find_default_frame(group.tool):
                frames[group.tool] = frame
    return rulings if frames == rulings.frames else replace(rulings, frames=frames)


def decide(evidence: Evidence, orders: Orders) -> tuple[Rulings, dict[str, Any]]:
    """Decides over the whole set.

    Args:
        evidence: What all annotations testify.
        orders: What the user decides.

    Returns:
        The rulings, and for the manifest what was decided and by what evidence.
    """
    tallies = dict(sorted(evidence.tallies.items()))
    total = sum_tallies(tallies.values())
    frames, corners = _decide_frames(tallies, orders)
    habits, distrusted, exif = _decide_habits(tallies, orders)
    patterns, renditions = _decide_patterns(tallies, total, orders)
    stale_sizes, resized = _decide_sizes(total)
    rulings = Rulings(
        orders=orders,
        frames=frames,
        habits=habits,
        distrusted=distrusted,
        patterns=patterns,
        stale_sizes=stale_sizes,
        resized=resized,
        is_one=evidence.is_one,
    )
    return rulings, {"corners": corners, "exif": exif, "renditions": renditions}


def _decide_frames(
    tallies: Mapping[Group, Tally], orders: Orders
) -> tuple[dict[str, CornerFrame], list[dict[str, Any]]]:
    """Decides for each tool what its corners count."""
    frames: dict[str, CornerFrame] = {}
    described = []
    for tool, tally in _sum_by_tool(tallies).items():
        if not tally.undecided:
            continue
        if orders.corners is not None:
            frame, grounds = orders.corners, "--corners"
        else:
            frame, grounds = decide_frame(tool, tally)
            if grounds == NOTHING_TELLS and tool in orders.frames:
                frame, grounds = orders.frames[tool], BY_DECISION
        frames[tool] = frame
        described.append(
            {"tool": tool, "boxes": tally.undecided, "frame": frame.value, "by": grounds}
        )
    return frames, described


def decide_frame(tool: str, tally: Tally) -> tuple[CornerFrame, str]:
    """Returns what a tool's corners count, and on what grounds.

    Neither VOC nor LabelImg can write a minimum of 0. Where sloppy boxes leave the picture on all
    sides, or a few minima of 0 stand beside hundreds of 1, those prove nothing.

    Args:
        tool: What the files say about who wrote them.
        tally: What all of them testify.
    """
    zeros, ones = tally.begin_at_0, tally.begin_at_1
    if zeros > tally.beyond and zeros * 100 >= ones:
        return CornerFrame.ZERO_BASED, f"{count_noun(zeros, 'minimum', 'minima')} in [0, 1)"
    if tally.fractional * 10 >= tally.undecided:
        grounds = f"{tally.fractional:,} of {tally.undecided:,} boxes have fractions of pixels"
        return CornerFrame.ZERO_BASED, grounds
    frame = find_default_frame(tool)
    grounds = NOTHING_TELLS if frame is CornerFrame.VOC else "the tool named in <source>"
    return frame, grounds


def _sum_by_tool(tallies: Mapping[Group, Tally]) -> dict[str, Tally]:
    by_tool: defaultdict[str, Tally] = defaultdict(Tally)
    for group, tally in tallies.items():
        by_tool[group.tool].add(tally)
    return dict(sorted(by_tool.items()))


class Votes(NamedTuple):
    """How many annotations tell that EXIF is followed, and how many that it is ignored."""

    follow: int
    ignore: int

    @property
    def habit(self) -> Habit | None:
        """The habit that they tell; None where there are none, or they contradict each other."""
        if self.follow > _OUTVOTED * self.ignore:
            return Habit.FOLLOW
        return Habit.IGNORE if self.ignore > _OUTVOTED * self.follow else None

    def __str__(self) -> str:
        return f"{self.follow:,} follow, {self.ignore:,} ignore"


def _decide_habits(
    tallies: Mapping[Group, Tally], orders: Orders
) -> tuple[dict[Group, Habit], frozenset[Group], list[dict[str, Any]]]:
    """Decides for each group whether EXIF's turn is followed.

    The whole set has one habit if its votes agree; else each tool has one, if that separates them,
    else each folder of a tool. Sizes have no vote where the boxes of their tool refute them.
    """
    by_tool = _sum_by_tool(tallies)
    liars = {tool for tool, tally in by_tool.items() if tally.size_lies > tally.size_agrees}
    of_tool = {tool: _count_votes(tally, tool in liars) for tool, tally in by_tool.items()}
    of_all = Votes(
        sum(votes.follow for votes in of_tool.values()),
        sum(votes.ignore for votes in of_tool.values()),
    )
    habits: dict[Group, Habit] = {}
    described = []
    for group, tally in tallies.items():
        own = _count_votes(tally, group.tool in liars)
        levels = (of_all, of_tool[group.tool], own)
        votes = next((one for one in levels if one.habit is not None), own)
        if votes.habit is not None:
            habits[group] = votes.habit
        if tally.turned:
            decided = orders.exif or votes.habit
            described.append(
                {
                    "folder": group.folder,
                    "tool": group.tool,
                    "annotations": tally.turned,
                    "habit": "unknown" if decided is None else decided.value,
                    "by": str(votes) if orders.exif is None else "--exif",
                }
            )
    distrusted = frozenset(group for group in tallies if group.tool in liars)
    return habits, distrusted, described


def _count_votes(tally: Tally, ignores_sizes: bool) -> Votes:
    if ignores_sizes:
        return Votes(tally.follow, tally.ignore)
    return Votes(tally.follow + tally.follow_by_size, tally.ignore + tally.ignore_by_size)


def _decide_patterns(
    tallies: Mapping[Group, Tally], total: Tally, orders: Orders
) -> tuple[dict[Group, Pattern], list[dict[str, Any]]]:
    """Decides for each group what is wrong with all of its boxes."""
    patterns: dict[Group, Pattern] = {}
    described = []
    for group, tally in tallies.items():
        judged = total if tally.annotations < _MIN_ANNOTATIONS else tally
        pattern = decide_pattern(judged, orders)
        if pattern is not None and tally.annotations:
            patterns[group] = pattern
            row = {"folder": group.folder, "tool": group.tool, "annotations": tally.annotations}
            described.append({**row, "pattern": pattern.value})
    return patterns, described


def decide_pattern(tally: Tally, orders: Orders) -> Pattern | None:
    """Returns what is wrong with all boxes of a tally; None where nothing is, or it is not sure."""
    boxes = tally.boxes
    # If corners were minima and maxima, a box would be there for its centre lies in the upper left
    # quarter of the picture: five such boxes in a row, three of them inverted, are no chance.
    if (
        boxes >= _MIN_BOXES
        and tally.inverted >= max(_MIN_INVERTED, boxes / 20)
        and tally.not_widths * 100 <= boxes
    ):
        return Pattern.WIDTHS
    if (
        orders.corners is None
        and boxes >= _MIN_BOXES
        and not tally.over_100
        and tally.largest >= _MIN_PERCENT_REACH
        and tally.percent_millibits >= 1_000 * _MIN_PERCENT_BITS
    ):
        return Pattern.PERCENT
    if tally.far >= _MIN_FAR and tally.far * _FAR_SHARE >= tally.whole:
        return Pattern.FAR
    return None


def _decide_sizes(
    total: Tally,
) -> tuple[frozenset[tuple[Sides, Sides]], frozenset[Sides] | None]:
    """Decides which `<size>`s are stale, and which pictures were resized.

    Where a quarter of the boxes leave a `<size>` and fit the picture, the others with the same two
    sizes were drawn on the picture, too. One `<size>` beside pictures of several shapes is a
    template's; several beside one size in pixels are those of pictures that were resized.
    """
    if total.has_too_many_sizes:
        return frozenset(), None
    by_written: defaultdict[Sides, dict[Sides, SizeCount]] = defaultdict(dict)
    by_pixels: defaultdict[Sides, dict[Sides, SizeCount]] = defaultdict(dict)
    for (written, pixels), count in total.sizes.items():
        by_written[written][pixels] = count
        by_pixels[pixels][written] = count
    stale = {
        pair
        for pair, count in total.sizes.items()
        if count.proven_stale and count.proven_stale * 4 >= count.annotations
    }
    wrong = _count(total.sizes.values())
    if wrong > total.sizes_right:
        for written, others in by_written.items():
            if _count(others.values()) >= _MIN_PATTERN and _has_shapes(others, 2):
                stale |= {(written, pixels) for pixels in others}
    resized = {
        pixels
        for pixels, others in by_pixels.items()
        if wrong * 10 > total.sizes_right
        and _count(others.values()) >= _MIN_PATTERN
        and _has_shapes(others, 2)
    }
    return frozenset(stale), frozenset(resized)


def _count(counts: Iterable[SizeCount]) -> int:
    return sum(count.annotations for count in counts)


def _has_shapes(sizes: Iterable[Sides], number: int) -> bool:
    """Whether so many of the sizes have shapes that differ by more than rounding can."""
    ratios = sorted(width / height for width, height in sizes)
    shapes = 1
    last = ratios[0]
    for ratio in ratios[1:]:
        if ratio > last * 1.05:
            shapes += 1
            last = ratio
    return shapes >= number
