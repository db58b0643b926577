"""Opens two sets, compares them, and hands on what was found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detflow.data.conversion import open_set
from detflow.data.difference.sets import compare_sets
from detflow.data.difference.text import describe_difference, format_difference
from detflow.data.making import RecordOptions
from detflow.data.workers.processes import choose_jobs, open_workers
from detflow.errors import environment_faults
from detflow.progress import Progress
from detflow.publish import publish_file
from detflow.storage.location import Location


@dataclass(frozen=True, slots=True)
class Difference:
    """What a comparison found.

    Attributes:
        is_equal: Whether nothing differs.
        text: As lines for a terminal.
        content: The same for programs, as what `json.dumps` takes.
    """

    is_equal: bool
    text: str
    content: dict[str, Any]


def compare_folders(
    old: Location,
    new: Location,
    options: RecordOptions,
    page: Path | None = None,
    progress: Progress = lambda what, done, total: None,
    announce: Callable[[str], None] = lambda line: None,
) -> Difference:
    """Compares two datasets or record sets.

    Args:
        old: The folder of the old set.
        new: The folder of the new set.
        options: How datasets are judged.
        page: A file to write a page with pictures to; None writes nothing.
        progress: Told how far it is.
        announce: Called with each problem, one line, that makes a dataset unusable.

    Raises:
        DataError: A dataset cannot be used.
        ArtifactError: Records are damaged.
        EnvironmentFault: The machine refuses.
    """
    jobs = options.jobs or max(choose_jobs(old), choose_jobs(new))
    with ExitStack() as stack:
        stack.enter_context(environment_faults(str(new)))
        workers = stack.enter_context(open_workers(jobs, __name__))
        before, after = (
            stack.enter_context(open_set(place, options, workers, progress, announce))[0]
            for place in (old, new)
        )
        found = compare_sets(before, after, workers, progress)
        if page is not None:
            from detflow.data.difference.page import render_difference

            publish_file(page, render_difference(found, str(old), str(new)))
    content = {"old_path": str(old), "new_path": str(new), **describe_difference(found)}
    return Difference(found.is_equal, format_difference(found), content)
