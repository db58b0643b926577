"""What a person sees on the terminal after a conversion: one screen, with sums that add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detflow.dataset.findings import RULES

__all__ = ["format_summary"]

_MAX_CLASSES = 12


def format_summary(manifest: Mapping[str, Any]) -> str:
    """Returns a manifest's summary as text of a few lines."""
    written = {name: split["images"] for name, split in manifest["splits"].items()}
    set_aside = sum(manifest["quarantined"].values())
    lines = [
        f"annotations   {manifest['annotations_found']:,} found = {sum(written.values()):,} written + {set_aside:,} quarantined",
        f"images        {manifest['images_found']:,} found, {manifest['images_unlabelled']:,} without an annotation",
        f"splits        {', '.join(f'{name} {count:,}' for name, count in written.items())} (by {manifest['split_rule']['by']})",
    ]
    if manifest["unions"]:
        unions = (f"{name} = {' + '.join(parts)}" for name, parts in manifest["unions"].items())
        lines.append(f"              {', '.join(unions)}")
    totals = {name: sum(split["objects_per_class"][name] for split in manifest["splits"].values()) for name in manifest["classes"]}
    shown = sorted(totals.items(), key=lambda item: (-item[1], item[0]))[:_MAX_CLASSES]
    more = f", and {len(totals) - _MAX_CLASSES} more classes" if len(totals) > _MAX_CLASSES else ""
    lines.append(f"objects       {sum(totals.values()):,}: {', '.join(f'{name} {count:,}' for name, count in shown)}{more}")
    for title, part in (("quarantined", "quarantined"), ("repaired", "repairs"), ("noted", "noted")):
        for code, count in manifest[part].items():
            lines.append(f"{title:<13} {count:,} × {code}: {RULES[code].meaning}; {RULES[code].remedy}")
    return "\n".join(lines)
