"""What a comparison found: as lines for a terminal, and as values for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from detflow.data.difference.objects import Change, ObjectChange
from detflow.data.difference.sets import ImageChange, SetDifference
from detflow.data.sinks.origin import Origin
from detflow.data.sinks.sink import CarriedObject
from detflow.text import count_noun, escape_unprintable
from detflow.types import Box, ImageSize

_MAX_NAMED = 10
_MAX_CLASSES = 20
_PIXEL_DIGITS = 3


def describe_difference(found: SetDifference) -> dict[str, Any]:
    """Returns a comparison as what `json.dumps` takes."""
    old, new = found.old.entries, found.new.entries
    return {
        "equal": found.is_equal,
        "old": _describe_set(found.old, found.old_objects),
        "new": _describe_set(found.new, found.new_objects),
        "splits_compared": found.compares_splits,
        "flags_compared": found.compares_flags,
        "classes": {
            "added": found.new_classes,
            "removed": found.lost_classes,
            "same_order": found.has_same_ids,
        },
        "images": count_images(found),
        "objects": {change.value: found.count_objects(change) for change in Change},
        "objects_per_class": {
            name: {
                "old": found.old_objects[name],
                "new": found.new_objects[name],
                **{change.value: found.by_class[name][change] for change in Change},
            }
            for name in list_classes(found)
        },
        "relabelled": [
            {"from": before, "to": after, "objects": number}
            for (before, after), number in sorted(found.relabelled.items())
        ],
        "images_removed": [old[place].image for place in found.removed],
        "images_added": [new[place].image for place in found.added],
        "changes": [_describe_change(found, change) for change in found.changes],
    }


def count_images(found: SetDifference) -> dict[str, int]:
    """Returns how many images differ in what; one may count in several."""
    return {
        "added": len(found.added),
        "removed": len(found.removed),
        "renamed": sum(one.is_renamed for one in found.changes),
        "replaced": sum(one.is_replaced for one in found.changes),
        "other_split": sum(one.splits is not None for one in found.changes),
        "other_objects": sum(bool(one.objects) for one in found.changes),
    }


def list_classes(found: SetDifference) -> list[str]:
    """Returns the classes of both sets, the new set's first."""
    return [*found.new.label_map, *found.lost_classes]


def format_difference(found: SetDifference) -> str:
    """Returns a comparison as lines for a terminal."""
    old, new = found.old.entries, found.new.entries
    lines = [
        f"{'old':<13} {_format_set(found.old, found.old_objects)}",
        f"{'new':<13} {_format_set(found.new, found.new_objects)}",
    ]
    if not found.compares_splits:
        lines.append(f"{'splits':<13} not compared: one of the two declares none")
    if not found.compares_flags:
        lines.append(f"{'flags':<13} not compared: one of the two has no place for them")
    lines += _format_classes(found)
    images = count_images(found)
    moves = Counter(one.splits for one in found.changes if one.splits)
    details = {
        "added": _name_some([new[place].image for place in found.added]),
        "removed": _name_some([old[place].image for place in found.removed]),
        "renamed": _name_some(
            [
                f"{old[one.old].image} is {new[one.new].image}"
                for one in found.changes
                if one.is_renamed
            ]
        ),
        "replaced": _name_some([new[one.new].image for one in found.changes if one.is_replaced]),
        "other_split": ", ".join(
            f"{number:,} from {before} to {after}"
            for (before, after), number in sorted(moves.items())
        ),
        "other_objects": _name_some([new[one.new].image for one in found.changes if one.objects]),
    }
    titles = {
        "added": "added",
        "removed": "removed",
        "renamed": "under another name",
        "replaced": "with other pixels",
        "other_split": "in another split",
        "other_objects": "with other objects",
    }
    for name, number in images.items():
        if number:
            text = f"{count_noun(number, 'image')} {titles[name]}: {details[name]}"
            lines.append(f"{'images':<13} {text}")
    lines += _format_objects(found)
    if found.is_equal:
        lines.append("the two sets are equal")
    return "\n".join(lines)


def describe_object_change(item: ObjectChange) -> str:
    """Returns what became of an object in words: "moved by 3.5 px, cat → dog"."""
    parts = []
    if Change.RELABELLED in item.changes and item.old and item.new:
        parts.append(f"{item.old.name} → {item.new.name}")
    if Change.MOVED in item.changes:
        parts.append(f"moved by {item.pixels:.1f} px")
    if Change.REFLAGGED in item.changes and item.old and item.new:
        parts.append(f"{_list_flags(item.old)} → {_list_flags(item.new)}")
    parts += [change.value for change in (Change.ADDED, Change.REMOVED) if change in item.changes]
    return ", ".join(parts)


def _list_flags(item: CarriedObject) -> str:
    flags = ("difficult", "truncated", "crowd")
    return " and ".join(name for name in flags if getattr(item, name)) or "no flag"


def _describe_set(origin: Origin, objects: Counter[str]) -> dict[str, Any]:
    splits = Counter(entry.split for entry in origin.entries)
    return {
        "images": len(origin.entries),
        "objects": objects.total(),
        "classes": list(origin.label_map),
        "splits": {split: splits[split] for split in origin.splits},
    }


def _format_set(origin: Origin, objects: Counter[str]) -> str:
    splits = Counter(entry.split for entry in origin.entries)
    parts = ", ".join(f"{split} {splits[split]:,}" for split in origin.splits)
    return (
        f"{count_noun(len(origin.entries), 'image')} ({parts}), "
        f"{count_noun(objects.total(), 'object')} of "
        f"{count_noun(len(origin.label_map), 'class', 'classes')}"
    )


def _format_classes(found: SetDifference) -> list[str]:
    lines = []
    if found.new_classes:
        lines.append(f"{'classes':<13} added: {_name_some(found.new_classes)}")
    if found.lost_classes:
        lines.append(f"{'classes':<13} removed: {_name_some(found.lost_classes)}")
    if not found.has_same_ids:
        lines.append(f"{'classes':<13} in another order, so their ids differ")
    return lines


def _format_objects(found: SetDifference) -> list[str]:
    lines = []
    totals = [(change.value, found.count_objects(change)) for change in Change]
    if any(number for _, number in totals):
        text = ", ".join(f"{number:,} {name}" for name, number in totals if number)
        lines.append(f"{'objects':<13} in images of both sets: {text}")
    changed = [name for name in list_classes(found) if found.by_class[name]]
    for name in changed[:_MAX_CLASSES]:
        counts = found.by_class[name]
        text = ", ".join(
            f"{counts[change]:,} {change.value}" for change in Change if counts[change]
        )
        before, after = found.old_objects[name], found.new_objects[name]
        shown = escape_unprintable(name)
        lines.append(f"{'':<13} {shown}: {before:,} → {after:,}; {text}")
    if len(changed) > _MAX_CLASSES:
        lines.append(f"{'':<13} and {len(changed) - _MAX_CLASSES:,} more classes")
    for (old_name, new_name), number in found.relabelled.most_common(_MAX_NAMED):
        names = f"{escape_unprintable(old_name)} → {escape_unprintable(new_name)}"
        lines.append(f"{'relabelled':<13} {number:,} × {names}")
    return lines


def _name_some(names: Sequence[str]) -> str:
    more = f", and {len(names) - _MAX_NAMED:,} more" if len(names) > _MAX_NAMED else ""
    return f"{', '.join(map(escape_unprintable, names[:_MAX_NAMED]))}{more}"


def _describe_change(found: SetDifference, change: ImageChange) -> dict[str, Any]:
    return {
        "old": found.old.entries[change.old].image,
        "new": found.new.entries[change.new].image,
        "renamed": change.is_renamed,
        "replaced": change.is_replaced,
        "splits": list(change.splits) if change.splits else None,
        "objects": [_describe_object(item, change.size) for item in change.objects],
    }


def _describe_object(item: ObjectChange, size: ImageSize) -> dict[str, Any]:
    return {
        "changes": [change.value for change in item.changes],
        "pixels": round(item.pixels, _PIXEL_DIGITS),
        "old": _describe_side(item.old, size),
        "new": _describe_side(item.new, size),
    }


def _describe_side(item: CarriedObject | None, size: ImageSize) -> dict[str, Any] | None:
    """Returns class, flags, and left, top, right, bottom in pixels of the new image."""
    if item is None:
        return None
    box = [round(edge, _PIXEL_DIGITS) for edge in Box(*item.box).to_pixels(size)]
    return {
        "class": item.name,
        "box_px": box,
        "difficult": item.difficult,
        "truncated": item.truncated,
        "crowd": item.crowd,
    }
