"""The front door's comparison of two sets, and of a set with what a model was trained on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detflow.api.choices import build_options, notes_of_problems
from detflow.api.common import Place, progress_shown, to_location, to_path
from detflow.data.conversion import ALL_IN_ONE_SPLIT
from detflow.data.difference.run import Difference, compare_folders
from detflow.data.making import RecordOptions
from detflow.data.records.manifest import MANIFEST_NAME, read_manifest
from detflow.data.records.mirror import mirror_records
from detflow.errors import ArtifactError, ConfigError, DetflowError
from detflow.label_map import LabelMap
from detflow.publish import require_writable
from detflow.runs.run_dir import RunDir
from detflow.runs.states import find_newest, find_record
from detflow.storage.location import Location, parse_location

_OPTIONS = RecordOptions()


def diff(
    old: Place | None,
    new: Place,
    *,
    model: str | os.PathLike[str] | None = None,
    dialect: str | None = None,
    classes: Sequence[str] | None = None,
    allow_leaks: bool = _OPTIONS.audit.allow_leaks,
    max_pixels: int = _OPTIONS.audit.max_pixels,
    jobs: int | None = _OPTIONS.jobs,
    page: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Compares two datasets or record sets, in any combination.

    Images belong together by their bytes or pixels, or else by their names; objects by how their
    boxes overlap, each with one other at most. A box has moved where an edge did by more than a
    pixel.

    Args:
        old: The old set: a dataset folder, or records; a path or a URL. None where `model` names
            it.
        new: The new set, likewise.
        model: A model directory, which stands for the records that it was trained on.
        dialect: As in `check`, for both sets.
        classes: As in `check`, for both sets.
        allow_leaks: As in `check`.
        max_pixels: As in `check`.
        jobs: As in `check`.
        page: A file to write a page to, with pictures of images that changed.
        progress: Whether to draw a progress bar on stderr, where that is a terminal.

    Returns:
        What differs: among others `equal`, the numbers of `images` and `objects` by what became of
        them, `objects_per_class`, and `changes`, an entry for each image that changed.

    Raises:
        ConfigError: Neither `old` nor `model` is given, or both.
        DataError: A dataset cannot be used; the error's notes (`__notes__`) name the files.
        ArtifactError: Records are damaged, or those that the model was trained on are gone.
        EnvironmentFault: The machine refuses.
    """
    options = build_options(
        dialect=dialect,
        classes=classes,
        split=ALL_IN_ONE_SPLIT,
        allow_leaks=allow_leaks,
        max_pixels=max_pixels,
        jobs=jobs,
    )
    places = [None if place is None else to_location(place) for place in (old, new)]
    return run_diff(places[0], to_location(new), model, options, page, progress).content


def run_diff(
    old: Location | None,
    new: Location,
    model: str | os.PathLike[str] | None,
    options: RecordOptions,
    page: str | os.PathLike[str] | None,
    shows_progress: bool,
) -> Difference:
    """Does what `diff` describes, and returns it with lines for a terminal."""
    if old is not None and model is not None:
        raise ConfigError("name the old set or a model, and not both")
    page_path = None if page is None else to_path(page)
    if page_path is not None:
        require_writable(page_path)
    if model is not None:
        found = _find_trained_records(to_path(model), new)
        if isinstance(found, Difference):
            return found
        old = found
    if old is None:
        raise ConfigError("name the old set, or a model")
    with notes_of_problems() as announce, progress_shown(shows_progress) as shown:
        return compare_folders(old, new, options, page_path, shown, announce)


def _find_trained_records(model: Path, new: Location) -> Location | Difference:
    """Returns the records that a model was trained on, or at once that the new set is just those.

    Raises:
        ArtifactError: They are gone, or hold other data by now; it says what can be said all the
            same.
    """
    run = RunDir(model)
    record = find_record(run, find_newest(run))
    if record is None:
        raise ArtifactError("not a model directory: there is no run.json", path=model)
    written, wanted = record.config.data.records, record.data_fingerprint
    location = parse_location(written)
    candidates = [location]
    if isinstance(location, Path) and not location.is_absolute():
        # A relative path counted from where the training was started, mostly above the model.
        candidates += [parent / location for parent in model.resolve().parents]
    seen = [place for place in candidates if _read_fingerprint(place) is not None]
    for place in seen:
        if _read_fingerprint(place) == wanted:
            return place
    if _read_fingerprint(new) == wanted:
        text = (
            f"the two sets are equal: {new} has the fingerprint {wanted[:12]} of the records that "
            f"{model} was trained on"
        )
        return Difference(True, text, {"equal": True, "new_path": str(new), "fingerprint": wanted})
    state = "hold other data by now" if seen else "are gone"
    raise ArtifactError(
        f"the records that the model was trained on, {written}, {state}; the new set has another "
        f"fingerprint than {wanted[:12]}{_compare_classes(record.label_map, new)}",
        path=model,
        remedy="bring them back, or name the old set itself",
    )


def _read_fingerprint(place: Location) -> str | None:
    """Returns the fingerprint of records; None where no sound manifest is there."""
    try:
        path = mirror_records(place)
        return read_manifest(path).fingerprint if (path / MANIFEST_NAME).is_file() else None
    except DetflowError:
        return None


def _compare_classes(learnt: LabelMap, new: Location) -> str:
    """Returns how the classes of a model and of records differ, as the end of a sentence."""
    if _read_fingerprint(new) is None:
        return ""
    before, after = set(learnt), set(read_manifest(mirror_records(new)).label_map)
    added, removed = sorted(after - before), sorted(before - after)
    parts = [f"adds the classes {', '.join(added)}"] if added else []
    parts += [f"lacks the classes {', '.join(removed)}"] if removed else []
    return f" and {' and '.join(parts) or 'the same classes'}"
