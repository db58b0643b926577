"""What an export says of the AP that its checkpoint had when it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detflow.tables import format_metric
from detflow.text import count_noun


def describe_recorded(recorded: Mapping[str, Any]) -> str:
    """Returns a line for people about the card's `parity.recorded`."""
    then = format_metric(recorded["then"])
    if recorded["why_not"]:
        return f"The AP recorded in training is not compared: {recorded['why_not']}."
    images = count_noun(recorded["images"], "image")
    return (
        f"It is the checkpoint that was evaluated in training: on the first {images} of the "
        f"evaluation split AP is {format_metric(recorded['now'])}, and {then} was recorded."
    )
