"""What a model has seen of the images that it is judged on: numbers of such images flatter."""

from __future__ import annotations

import functools
from pathlib import Path

from detflow.artifact import ArtifactDir
from detflow.data.records.manifest import resolve_split
from detflow.data.records.twins import count_twins
from detflow.errors import ArtifactError
from detflow.evaluation.splits import SplitReader
from detflow.runs.learnt import find_learnt_splits
from detflow.runs.record import RunRecord
from detflow.runs.run_dir import STATE_NAME
from detflow.runs.states import read_state
from detflow.text import count_noun


def find_warnings(source: Path, reader: SplitReader) -> tuple[str, ...]:
    """Returns why numbers of a split flatter, as sentences; none where nothing is known.

    Args:
        source: What runs: a checkpoint's folder, or a file or folder of an export.
        reader: Reads the split.

    Raises:
        ArtifactError: The model's own record, or that of the records, is damaged.
    """
    manifest, record = reader.manifest, _read_record(source)
    judged = set(resolve_split(manifest, reader.split))
    learnt = {name for name in manifest.splits if name.casefold().startswith("train")}
    resolve = functools.partial(resolve_split, manifest)
    if record and (known := find_learnt_splits(record, resolve, manifest.fingerprint)):
        learnt = known
        if seen := sorted(learnt & judged):
            return (
                f"The model was trained on these images ({', '.join(seen)}): "
                "this says nothing of new ones.",
            )
    twins = count_twins(reader.path, judged, learnt - judged)
    if not twins:
        return ()
    return (
        f"{count_noun(twins, 'image')} of {reader.split} {'is' if twins == 1 else 'are'} nearly "
        f"the same as one of {', '.join(sorted(learnt - judged))}: the numbers flatter a model "
        "that was trained on it.",
    )


def _read_record(source: Path) -> RunRecord | None:
    """Returns the record of the run that a model comes from; None where it has none."""
    if (source / STATE_NAME).is_file():
        return read_state(source).record
    for folder in (source, *list(source.absolute().parents)[:2]):
        artifact = ArtifactDir(folder)
        if artifact.exists():
            try:
                card = artifact.read_card()
            except ArtifactError:
                # Other programs have a model.json too.
                return None
            training = card.get("training")
            return RunRecord.from_json(training, artifact.manifest_path) if training else None
    return None
