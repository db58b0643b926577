"""The text of a fitted configuration: each value below its reason."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_REASON_COLUMNS = 76


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting of the fitted configuration: its dotted name, its value, and why."""

    name: str
    value: Any
    why: str


def format_choices(choices: Sequence[Choice], header: Sequence[str]) -> str:
    """Returns the configuration as YAML text, each value below its reason.

    Args:
        choices: The settings, section by section.
        header: Lines of a comment at the top.
    """
    lines = [f"# {line}".rstrip() for line in header]
    section = None
    for choice in choices:
        current, key = choice.name.split(".")
        if current != section:
            section = current
            lines.append(f"{section}:")
        # A class name may hold a line separator, which would end the comment.
        why = " ".join(choice.why.split())
        lines += [f"  # {line}" for line in textwrap.wrap(why, _REASON_COLUMNS)]
        lines.append(f"  {key}: {json.dumps(choice.value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
