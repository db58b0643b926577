"""What is taken as given while annotations are judged, by tool and folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Flag, StrEnum, auto
from typing import NamedTuple

from detflow.data.judging.testimony import NO_GROUP, Group, Habit, Sides
from detflow.types import CornerFrame

# LabelImg, VoTT and CVAT write "Unknown" into <source><database>, Label Studio "MyDatabase" and
# Roboflow its address. None of them counts from 1 (docs/decisions/0008-corners.md).
_ZERO_BASED_TOOLS = re.compile(r"(unknown|mydatabase|roboflow)\b", re.IGNORECASE)


class Pattern(StrEnum):
    """What is wrong with all boxes of a group."""

    PERCENT = "percent"
    """Corners are percentages of the sides."""

    WIDTHS = "widths"
    """Width and height stand in place of the maxima."""

    FAR = "far"
    """The boxes were drawn on larger pictures."""


class Rest(Flag):
    """What a judgement rests on: with another ruling in this, it may be another one."""

    NOTHING = 0
    FRAME = auto()
    HABIT = auto()
    SIZES = auto()
    PATTERN = auto()


class Ruling(NamedTuple):
    """What is taken as given while an annotation is judged.

    Attributes:
        frame: What its corners count, where the dialect leaves that open.
        habit: Whether EXIF's turn is followed where the annotation itself does not tell; None where
            nothing does.
        is_habit_ordered: Whether the user said so, whatever the annotation tells.
        trusts_size: Whether `<size>` tells if EXIF's turn is followed.
        pattern: What is wrong with all boxes.
        stale_sizes: Pairs of a `<size>` and a size in pixels of which the former is known to be
            stale, so that boxes lie on the pixels.
        resized: Sizes in pixels of pictures that were resized after they had been annotated; None
            where the sizes are so many that all of them may be.
        scales: Whether to scale boxes that were drawn on another rendition.
    """

    frame: CornerFrame
    habit: Habit | None = None
    is_habit_ordered: bool = False
    trusts_size: bool = True
    pattern: Pattern | None = None
    stale_sizes: frozenset[tuple[Sides, Sides]] = frozenset()
    resized: frozenset[Sides] | None = frozenset()
    scales: bool = False

    def is_resized(self, pixels: Sides) -> bool:
        """Whether pictures of a size in pixels were resized after they had been annotated."""
        return self.resized is None or pixels in self.resized

    def changes(self, other: Ruling, rest: Rest) -> bool:
        """Whether a judgement that was made under this ruling may be another one under `other`."""
        return any(
            mine != theirs and _RESTS[name] in rest
            for name, mine, theirs in zip(self._fields, self, other, strict=True)
        )


_RESTS = {
    "frame": Rest.FRAME,
    "habit": Rest.HABIT,
    "is_habit_ordered": Rest.HABIT,
    "trusts_size": Rest.HABIT,
    "pattern": Rest.PATTERN,
    "stale_sizes": Rest.SIZES,
    "resized": Rest.SIZES,
    "scales": Rest.SIZES | Rest.PATTERN,
}


@dataclass(frozen=True, slots=True)
class Orders:
    """What the user decides by hand.

    Attributes:
        corners: What undeclared corners count; None leaves it to the evidence.
        exif: Whether EXIF's turn is followed; None leaves it to the evidence.
        scale_boxes: Whether to scale boxes that were drawn on another rendition.
        frames: What the corners of a tool count where nothing else tells, by the tool.
    """

    corners: CornerFrame | None = None
    exif: Habit | None = None
    scale_boxes: bool = False
    frames: Mapping[str, CornerFrame] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rulings:
    """The rulings of all groups.

    Attributes:
        orders: What the user decides.
        frames: What corners count, by tool; the tools that are missing have their default.
        habits: The habit with EXIF, by group; those that are missing have None.
        distrusted: Groups whose `<size>` tells nothing about EXIF.
        patterns: What is wrong with all boxes, by group.
        stale_sizes: See `Ruling`.
        resized: See `Ruling`.
        is_one: Whether there were too many groups, so that one stands for all.
    """

    orders: Orders = field(default_factory=Orders)
    frames: Mapping[str, CornerFrame] = field(default_factory=dict)
    habits: Mapping[Group, Habit] = field(default_factory=dict)
    distrusted: frozenset[Group] = frozenset()
    patterns: Mapping[Group, Pattern] = field(default_factory=dict)
    stale_sizes: frozenset[tuple[Sides, Sides]] = frozenset()
    resized: frozenset[Sides] | None = frozenset()
    is_one: bool = False

    def find(self, group: Group) -> Ruling:
        """Returns the ruling for the annotations of a group."""
        key = NO_GROUP if self.is_one else group
        orders = self.orders
        frame = orders.corners or self.frames.get(key.tool) or find_default_frame(group.tool)
        return Ruling(
            frame=frame,
            habit=orders.exif or self.habits.get(key),
            is_habit_ordered=orders.exif is not None,
            trusts_size=key not in self.distrusted,
            pattern=self.patterns.get(key),
            stale_sizes=self.stale_sizes,
            resized=self.resized,
            scales=orders.scale_boxes,
        )


def find_default_frame(tool: str) -> CornerFrame:
    """Returns what corners count where they themselves do not tell."""
    return CornerFrame.LABELIMG if _ZERO_BASED_TOOLS.match(tool) else CornerFrame.VOC
