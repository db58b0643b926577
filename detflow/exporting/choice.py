"""Which formats an export writes."""

from __future__ import annotations

from typing import Final

from detflow.errors import ConfigError
from detflow.inference.formats import FORMATS
from detflow.inference.formats.base import Format

# Boxes and scores of all anchors come out of these at once. The two stages of a Faster R-CNN have a
# suppression between them.
_ONE_STAGE: Final = ("retinanet", "yolo")

WRITTEN: Final[tuple[Format, ...]] = tuple(sorted(FORMATS, key=lambda known: not known.is_default))
"""All formats in the order in which they are written: first those that are exported by default."""

DEFAULT_FORMATS: Final = ",".join(known.name for known in WRITTEN if known.is_default)


def parse_formats(text: str) -> tuple[Format, ...]:
    """Reads `frozen,tflite` or `all`; returns the formats in the order of `WRITTEN`.

    `all` leaves out formats whose runtime, an extra, is not installed.

    Raises:
        ConfigError: There is no such format.
        EnvironmentFault: A format is named whose runtime is not installed.
    """
    names = _split_names(text)
    known_names = [known.name for known in WRITTEN]
    for name in names:
        if name != "all" and name not in known_names:
            raise ConfigError(
                f"--formats {text}: there is no format {name!r}",
                remedy=f"choose from {', '.join(known_names)}, or all",
            )
    for known in WRITTEN:
        if known.name in names:
            known.require_installed()
    return tuple(
        known
        for known in WRITTEN
        if known.name in names or ("all" in names and known.is_installed())
    )


def choose_formats(text: str, architecture: str) -> tuple[Format, ...]:
    """Reads formats as `parse_formats` does; `all` leaves out those an architecture cannot become.

    Args:
        text: Names with commas between, or `all`.
        architecture: One of `ModelConfig.architecture`.

    Raises:
        ConfigError: There is no such format, or none for this architecture.
        EnvironmentFault: A format is named whose runtime is not installed.
    """
    chosen = parse_formats(text)
    if architecture in _ONE_STAGE:
        return chosen
    names = _split_names(text)
    refused = [known.name for known in chosen if known.needs_one_stage and known.name in names]
    if refused:
        raise ConfigError(
            f"--formats {text}: {architecture} cannot become {', '.join(refused)}, "
            "which takes a network of one stage",
            remedy=f"leave out {', '.join(refused)}",
        )
    return tuple(known for known in chosen if not known.needs_one_stage)


def _split_names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
