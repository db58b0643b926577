"""What metrics.json says of an evaluation's detections: of which images they are, and warnings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from detflow.data.records.manifest import RecordsManifest, resolve_split
from detflow.errors import ConfigError, DataError, environment_faults
from detflow.text import escape_unprintable

_METRICS_NAME: Final = "metrics.json"
_MAX_WARNINGS, _MAX_CHARACTERS = 20, 1000


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where detections are from.

    Attributes:
        is_wider: Whether the model was evaluated on further images than those that are judged.
        warnings: What the evaluation says that one should mind, as sentences.
    """

    is_wider: bool = False
    warnings: tuple[str, ...] = ()


def read_provenance(path: Path, manifest: RecordsManifest, split: str) -> Provenance:
    """Reads what stands beside a file of detections.

    Args:
        path: The file of detections. It may be of no evaluation, and nothing is known of it.
        manifest: The manifest of the records that are judged on.
        split: The split of them that is judged, as `resolve_split` takes it.

    Raises:
        ConfigError: The evaluation is of other records, or of fewer splits.
        DataError: Its metrics.json cannot be read.
    """
    file = path.with_name(_METRICS_NAME)
    content = read_json(file) if file.is_file() else None
    theirs = content.get("fingerprint") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(theirs, str):
        # Other programs write a metrics.json, too.
        return Provenance()
    if theirs != manifest.fingerprint:
        # Numbers of images mean other pictures there.
        raise ConfigError(
            f"the evaluation is of records with the fingerprint {theirs[:12]}, "
            f"these have {manifest.fingerprint[:12]}",
            path=path,
            remedy="name the records that were evaluated on, or evaluate again",
        )
    name = _read_text(file, "split", content.get("split"))
    evaluated, judged = _resolve(file, manifest, name), set(resolve_split(manifest, split))
    if not judged <= evaluated:
        raise ConfigError(
            f"the evaluation is of {name}, not of {split}",
            path=path,
            remedy=f"compare on {name}, or evaluate on {split}",
        )
    is_wider = evaluated > judged
    about = f"Of the evaluation on {name}: " if is_wider else ""
    warnings = _read_warnings(file, content.get("warnings", []))
    return Provenance(is_wider, tuple(f"{about}{warning}" for warning in warnings))


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        DataError: It is none.
        EnvironmentFault: The disk refuses.
    """
    try:
        with environment_faults(path):
            return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", path=path) from None


def _resolve(file: Path, manifest: RecordsManifest, name: str) -> set[str]:
    try:
        return set(resolve_split(manifest, name))
    except ConfigError:
        raise DataError(
            f"it names the split {name!r}, which the records do not have",
            path=file,
            remedy="evaluate again",
        ) from None


def _read_warnings(file: Path, values: Any) -> list[str]:
    if not isinstance(values, list) or len(values) > _MAX_WARNINGS:
        raise DataError(
            f"warnings: expected a list of at most {_MAX_WARNINGS} sentences", path=file
        )
    return [_read_text(file, f"warnings {number}", value) for number, value in enumerate(values)]


def _read_text(file: Path, what: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_CHARACTERS:
        raise DataError(
            f"{what}: expected a text of 1 to {_MAX_CHARACTERS:,} characters", path=file
        )
    # JSON can hold halves of characters, which no file of text takes.
    return escape_unprintable(value)
