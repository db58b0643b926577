"""Which pictures a run was trained on, as far back as its record tells.

What a model has learnt makes every number of it look better than it is, and it has learnt what the
run had before an accepted change, and what the run had whose weights it began with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from detflow.errors import ArtifactError, ConfigError
from detflow.runs.record import RunRecord


class Lesson(NamedTuple):
    """Pictures that were trained on.

    Attributes:
        fingerprint: Of the records.
        split: The split's name, as the configuration had it.
    """

    fingerprint: str
    split: str


def list_lessons(record: RunRecord) -> list[Lesson]:
    """Returns what a run was trained on, the latest first, without its initial weights."""
    lessons = [Lesson(record.data_fingerprint, record.config.data.train_split)]
    # A change before the first step left behind what nothing had been learnt of.
    changed = [accepted for accepted in record.accepted_changes if accepted["step"]]
    lessons += [Lesson(*accepted["learnt"]) for accepted in reversed(changed)]
    return list(dict.fromkeys(lessons))


def list_all_lessons(record: RunRecord) -> list[Lesson]:
    """Returns what a run and all runs were trained on that it goes back to."""
    lessons = list_lessons(record)
    terms = record.initial_weights["terms"] if record.initial_weights else None
    while terms and "records" in terms:
        lessons += [Lesson(*pair) for pair in terms["learnt"]]
        terms = terms["begun_with"]
    return list(dict.fromkeys(lessons))


def find_learnt_splits(
    record: RunRecord, resolve: Callable[[str], Sequence[str]], fingerprint: str | None = None
) -> set[str]:
    """Returns the splits of records that a run was trained on.

    Args:
        record: Of the run.
        resolve: Returns the splits of the records that a name stands for; raises ConfigError where
            they have no such split.
        fingerprint: Of the records; None for the run's own.

    Returns:
        The splits' names; none where the run was not trained on these records.

    Raises:
        ArtifactError: The run names a split that the records lack.
    """
    wanted = fingerprint or record.data_fingerprint
    names = [lesson.split for lesson in list_all_lessons(record) if lesson.fingerprint == wanted]
    try:
        return {split for name in names for split in resolve(name)}
    except ConfigError as error:
        raise ArtifactError(f"the record of the training is damaged: {error.cause}") from None


def find_earlier_splits(record: RunRecord) -> list[str]:
    """Returns the splits of a run's own records that it was trained on before the present one."""
    lessons = list_all_lessons(record)
    own = [lesson.split for lesson in lessons if lesson.fingerprint == record.data_fingerprint]
    return own[1:]


def find_other_records(record: RunRecord) -> list[str]:
    """Returns the fingerprints of other records that a run was trained on before its own ones."""
    found = dict.fromkeys(lesson.fingerprint for lesson in list_all_lessons(record))
    return [fingerprint for fingerprint in found if fingerprint != record.data_fingerprint]
