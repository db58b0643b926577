"""What the front door's functions for data have in common: their keyword arguments and problems."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from detflow.api.common import to_path
from detflow.data.judging.audit import AuditOptions
from detflow.data.judging.classes import read_class_names, read_renames
from detflow.data.judging.decisions import read_decisions
from detflow.data.judging.rulings import Orders
from detflow.data.judging.testimony import Habit
from detflow.data.making import BadLimit, RecordOptions
from detflow.data.sources.detect import DIALECTS
from detflow.data.sources.splits import SplitBy, ValidationShare, parse_fractions
from detflow.errors import ConfigError, DataError
from detflow.types import PIXEL_FRAMES, CornerFrame

_AUDIT_NAMES = ("dialect", "max_pixels", "max_side", "split_by", "seed", "allow_leaks")


@contextmanager
def notes_of_problems() -> Iterator[Callable[[str], None]]:
    """Yields what takes problems as lines; a `DataError` of the block gets them as notes."""
    problems: list[str] = []
    try:
        yield problems.append
    except DataError as error:
        for problem in problems:
            error.add_note(problem)
        raise


def build_options(**choices: Any) -> RecordOptions:
    """Builds the options from the keyword arguments of `check` or `make_records`.

    Args:
        **choices: Those that were given; the others keep the defaults of `AuditOptions` and
            `RecordOptions`.

    Raises:
        ConfigError: A value cannot be chosen.
    """
    audit = {name: choices.pop(name) for name in _AUDIT_NAMES if name in choices}
    if "split" in choices:
        audit["fractions"] = _read_fractions(choices.pop("split"))
    if "decisions" in choices:
        audit["decisions"] = read_decisions([to_path(path) for path in choices.pop("decisions")])
    if audit.get("dialect") is not None:
        audit["dialect"] = DIALECTS[_require_known("dialect", audit["dialect"], DIALECTS)]
    if (classes := choices.pop("classes", None)) is not None:
        audit["classes"] = read_class_names(classes)
    if (rename := choices.pop("rename", None)) is not None:
        audit["renames"] = read_renames(rename.items() if isinstance(rename, Mapping) else rename)
    if (val_from := choices.pop("val_from", None)) is not None:
        audit["val_from"] = ValidationShare.parse(val_from)
    if "split_by" in audit:
        audit["split_by"] = SplitBy(_require_known("split_by", audit["split_by"], list(SplitBy)))
    audit["orders"] = _read_orders(choices)
    if choices.get("max_bad") is not None:
        choices["max_bad"] = BadLimit.parse(str(choices["max_bad"]))
    return RecordOptions(audit=AuditOptions(**audit), **choices)


def _read_orders(choices: dict[str, Any]) -> Orders:
    """Takes out of the choices what decides in the place of the set's evidence."""
    corners, exif = choices.pop("corners", None), choices.pop("exif", None)
    return Orders(
        corners=None
        if corners is None
        else CornerFrame(_require_known("corners", corners, PIXEL_FRAMES)),
        exif=None if exif is None else Habit(_require_known("exif", exif, list(Habit))),
        scale_boxes=choices.pop("scale_boxes", False),
    )


def _require_known(name: str, value: str, known: Iterable[str]) -> str:
    known = list(known)
    if value not in known:
        raise ConfigError(f"{name} is {value!r}", remedy=f"choose from {', '.join(known)}")
    return value


def _read_fractions(split: str | Mapping[str, float]) -> dict[str, float]:
    return parse_fractions(
        split
        if isinstance(split, str)
        else ",".join(f"{name}={share}" for name, share in split.items())
    )
