"""The page that shows what differs between two sets, with pictures of the images that changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detflow.data.difference.objects import Change, ObjectChange
from detflow.data.difference.sets import ImageChange, SetDifference
from detflow.data.difference.text import count_images, describe_object_change, list_classes
from detflow.data.images.thumbnails import shrink_jpeg
from detflow.data.sinks.origin import Origin
from detflow.data.sinks.sink import CarriedObject
from detflow.pages.outlines import Outline, Picture, build_picture
from detflow.pages.render import Section, render_page
from detflow.types import Box, ImageSize

MOST_PICTURES = 60
"""Pictures of images that changed; the page says so where there are more."""

_THUMBNAIL_PX = 480
_MOST_NAMES = 200
_MOST_LINES = 12
_MOST_OUTLINES = 300


@dataclass(frozen=True, slots=True)
class _Card:
    name: str
    facts: Sequence[str]
    lines: Sequence[str]
    num_more: int
    picture: Picture | None


@dataclass(frozen=True, slots=True)
class _Row:
    """A class with its numbers in both sets and what became of its objects."""

    name: str
    old: int
    new: int
    changes: Sequence[int]


def render_difference(found: SetDifference, old: str, new: str) -> str:
    """Returns the page.

    Args:
        found: The comparison; its sets are read again for the pictures.
        old: The name of the old set.
        new: The name of the new set.
    """
    changed = sorted(found.changes, key=lambda one: (not one.objects, one.new))
    shown = changed[:MOST_PICTURES]
    sections = {
        "totals": Section("Totals"),
        "classes": Section("Classes"),
        "changed": Section("Changed images", len(found.changes)),
        "added": Section("Added images", len(found.added)),
        "removed": Section("Removed images", len(found.removed)),
    }
    names = [found.new.entries[place].image for place in found.added]
    lost = [found.old.entries[place].image for place in found.removed]
    return render_page(
        "difference.html.j2",
        name=f"{old} → {new}",
        sections=sections,
        is_equal=found.is_equal,
        compares_splits=found.compares_splits,
        compares_flags=found.compares_flags,
        images=count_images(found),
        sets=[
            (old, len(found.old.entries), found.old_objects.total(), len(found.old.label_map)),
            (new, len(found.new.entries), found.new_objects.total(), len(found.new.label_map)),
        ],
        has_same_ids=found.has_same_ids,
        rows=[_build_row(found, name) for name in list_classes(found)],
        relabelled=[
            (before, after, number) for (before, after), number in found.relabelled.most_common()
        ],
        cards=[_build_card(found, change) for change in shown],
        added=names[:_MOST_NAMES],
        removed=lost[:_MOST_NAMES],
    )


def _build_row(found: SetDifference, name: str) -> _Row:
    counts = found.by_class[name]
    return _Row(
        name,
        found.old_objects[name],
        found.new_objects[name],
        [counts[change] for change in Change],
    )


def _build_card(found: SetDifference, change: ImageChange) -> _Card:
    old, new = found.old.entries[change.old], found.new.entries[change.new]
    facts = []
    if change.is_renamed:
        facts.append(f"was {old.image}")
    if change.splits:
        facts.append(f"was in {change.splits[0]}, is in {change.splits[1]}")
    if change.is_replaced:
        facts.append("the picture is another one; the new one is shown")
    lines = [
        f"{_name_object(item)}: {describe_object_change(item)}"
        for item in change.objects[:_MOST_LINES]
    ]
    num_more = len(change.objects) - len(lines)
    return _Card(new.image, facts, lines, num_more, _build_picture(found.new, change, new.image))


def _name_object(item: ObjectChange) -> str:
    one = item.new or item.old
    return one.name if one else ""


def _build_picture(origin: Origin, change: ImageChange, label: str) -> Picture | None:
    [payload] = origin.payloads([change.new])
    loaded = origin.reader.load(payload)
    thumbnail = shrink_jpeg(loaded.encoded, _THUMBNAIL_PX)
    if thumbnail is None:
        return None
    differing = {item.new for item in change.objects}
    same = [item for item in loaded.objects if item not in differing]
    outlines = [
        *(_outline(item, change.size, "faint", item.name) for item in same[:_MOST_OUTLINES]),
        *_outline_changes(change),
    ]
    return build_picture(thumbnail.jpeg, thumbnail.size, outlines, label)


def _outline_changes(change: ImageChange) -> list[Outline]:
    outlines = []
    for item in change.objects[:_MOST_OUTLINES]:
        text = describe_object_change(item)
        if item.old is not None:
            outlines.append(
                _outline(item.old, change.size, "before", f"{item.old.name}, old: {text}")
            )
        if item.new is not None:
            outlines.append(
                _outline(item.new, change.size, "after", f"{item.new.name}, new: {text}")
            )
    return outlines


def _outline(item: CarriedObject, size: ImageSize, kind: str, title: str) -> Outline:
    return Outline(Box(*item.box).to_pixels(size), kind, title)
