"""What a person sees of a dataset on the terminal: one screen of sums that add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detflow.data.findings import Finding
from detflow.data.rules import RULES, Action
from detflow.text import count_noun, escape_unprintable

_MAX_CLASSES = 12
_MAX_DECIDED = 3
# What is merely noted is often about every second file.
_MAX_NOTED = 3
_INDENT = " " * 14


def format_summary(
    content: Mapping[str, Any], examples: Mapping[str, Sequence[Finding]] | None = None
) -> str:
    """Returns a summary of a few lines.

    Args:
        content: A manifest, or what `check` found, which also has `refused`.
        examples: Some findings of each code, which are named below it, each on a line with its
            file and line; None names none.
    """
    usable = {name: split["images"] for name, split in content["splits"].items()}
    set_aside = sum(content["quarantined"].values())
    # An annotation that is in two splits is usable once.
    parts = [f"{content['annotations_usable']:,} usable", f"{set_aside:,} quarantined"]
    # A refused annotation is in no other sum: nothing is written as long as there is one.
    if rest := content["annotations_found"] - content["annotations_usable"] - set_aside:
        parts.append(f"{rest:,} refused")
    images = f"{content['images_found']:,} found, {content['images_unlabelled']:,}"
    splits = ", ".join(f"{name} {count:,}" for name, count in usable.items())
    if twice := sum(usable.values()) - content["annotations_usable"]:
        splits = f"{splits}; {count_noun(twice, 'image')} more than once"
    rule = content["split_rule"]["by"]
    if "val_from" in content["split_rule"]:
        rule = f"{rule}, val from {content['split_rule']['val_from']}"
    lines = [
        f"annotations   {content['annotations_found']:,} found = {' + '.join(parts)}",
        f"images        {images} without an annotation",
        f"splits        {splits} (by {rule})",
    ]
    if content["unions"]:
        unions = (f"{name} = {' + '.join(parts)}" for name, parts in content["unions"].items())
        lines.append(f"              {', '.join(unions)}")
    totals = {
        name: sum(split["objects_per_class"][name] for split in content["splits"].values())
        for name in content["classes"]
    }
    shown = sorted(totals.items(), key=lambda item: (-item[1], item[0]))[:_MAX_CLASSES]
    more = f", and {len(totals) - _MAX_CLASSES} more classes" if len(totals) > _MAX_CLASSES else ""
    objects = ", ".join(f"{name} {count:,}" for name, count in shown)
    lines.append(f"objects       {sum(totals.values()):,}: {objects}{more}")
    lines += _describe_decided(content["decided"])
    if content.get("questions"):
        asked = ", ".join(f"{topic} {count:,}" for topic, count in content["questions"].items())
        lines.append(f"questions     {asked}: a person can answer them; see --decisions")
    for title, part in (
        ("refused", "refused"),
        ("quarantined", "quarantined"),
        ("repaired", "repairs"),
        ("noted", "noted"),
    ):
        for code, count in content.get(part, {}).items():
            lines.append(
                f"{title:<13} {count:,} × {code}: {RULES[code].meaning}; {RULES[code].remedy}"
            )
            if examples is not None:
                lines += _list_examples(code, count, examples.get(code, ()))
    return "\n".join(map(escape_unprintable, lines))


def _list_examples(code: str, count: int, examples: Sequence[Finding]) -> list[str]:
    """Returns a line for each of the first findings of a code, and how many more there are."""
    shown = examples[:_MAX_NOTED] if RULES[code].action is Action.NOTED else examples
    lines = [f"{_INDENT}{finding.to_line()}" for finding in shown]
    if count > len(shown):
        lines.append(f"{_INDENT}… and {count - len(shown):,} more")
    return lines


def _describe_decided(decided: Mapping[str, Any]) -> list[str]:
    """Returns lines about what the evidence of the whole set has decided."""
    lines = []
    for title, key, unit in (("corners", "frame", "boxes"), ("exif", "habit", "annotations")):
        for number, row in enumerate(decided[title]):
            if number == _MAX_DECIDED:
                more = len(decided[title]) - number
                lines.append(f"{'':13} and {count_noun(more, 'more group')}, see the manifest")
                break
            name = f" for {row['tool']!r}" if row["tool"] else ""
            decision = f"{row[key]}{name}: {row['by']}"
            lines.append(f"{title:13} {decision} ({row[unit]:,} {unit})")
    return lines
