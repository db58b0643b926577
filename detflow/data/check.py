"""`detflow check`: judges a dataset as make-records would, or TFRecord files; writes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from detflow.data.findings import Finding
from detflow.data.judging.audit import Audit, audit_dataset
from detflow.data.making import RecordOptions, describe_audit, require_acceptable
from detflow.data.questions import render_questions
from detflow.data.records.lint.checks import judge_record
from detflow.data.records.lint.find import find_record_files, find_record_folders
from detflow.data.records.lint.judge import lint_records
from detflow.data.records.lint.text import format_report
from detflow.data.records.manifest import MANIFEST_NAME
from detflow.data.records.mirror import mirror_records
from detflow.data.rules import Action, Severity
from detflow.data.shrinking import propose_max_side
from detflow.data.sources.detect import find_dialects
from detflow.data.sources.layout import find_files, walk_dataset
from detflow.data.sources.opening import open_dataset
from detflow.data.sources.seen import require_folder
from detflow.data.terminal import format_summary
from detflow.data.verdict import Verdict
from detflow.data.workers.processes import choose_jobs, open_workers
from detflow.errors import ArtifactError, ConfigError, DataError, DetflowError, environment_faults
from detflow.progress import Progress
from detflow.publish import publish_file, require_writable
from detflow.storage.archives import find_archive_kind
from detflow.storage.folders import open_folder
from detflow.storage.location import Location, Url
from detflow.text import count_noun


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found.

    Attributes:
        parts: What was judged, one by one. Nearly always that is one dataset or one set of TFRecord
            files; a folder may hold several.
    """

    parts: tuple[Verdict, ...]

    @property
    def text(self) -> str:
        """The findings as lines for a terminal."""
        if len(self.parts) == 1:
            return self.parts[0].text
        return "\n\n".join(f"{part.subject}: {part.path}\n{part.text}" for part in self.parts)

    @property
    def content(self) -> dict[str, Any]:
        """The numbers for programs, as what `json.dumps` takes.

        Of several parts it is the dataset's content, if there is a dataset, with those of the
        TFRecord sets as a list, `records`.
        """
        if len(self.parts) == 1:
            return self.parts[0].content
        content: dict[str, Any] = {}
        for part in self.parts:
            if part.subject == "dataset":
                content |= part.content
        return content | {
            "records": [part.content for part in self.parts if part.subject == "records"]
        }

    @property
    def refusal(self) -> DetflowError | None:
        """Why the data cannot be used; None where they can. Its notes (`__notes__`) name files."""
        refusals = [part.refusal for part in self.parts if part.refusal is not None]
        if len(refusals) < 2:
            return refusals[0] if refusals else None
        first, *others = refusals
        causes = "; ".join(str(other) for other in others)
        error = type(first)(f"{first.cause}; {causes}", path=first.path, place=first.place)
        for note in chain.from_iterable(getattr(one, "__notes__", ()) for one in refusals):
            error.add_note(note)
        return error

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, one by one.

        These are all findings in a dataset, where they were asked for, and the first ones of each
        code in TFRecord files.
        """
        return tuple(finding for part in self.parts for finding in part.findings)


class _Ledger:
    """The findings of an audit, read from its file each time that they are gone through."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    def __iter__(self) -> Iterator[Finding]:
        return self._audit.findings()


@contextmanager
def open_check(
    path: Location,
    options: RecordOptions,
    report_path: Path | None = None,
    questions_path: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Iterator[CheckResult]:
    """Judges whatever a path means, and yields what was found.

    A folder's findings are read from a file that is there inside the block only.

    Args:
        path: A dataset's folder, an archive of it, a TFRecord file, a folder of them, or one that
            holds several of these.
        options: How a dataset is judged.
        report_path: Where to write the page with pictures of a dataset; None writes none.
        questions_path: Where to write the table of what its evidence leaves open; None writes none.
        progress: Told how far it is.

    Raises:
        ConfigError: A page or a table was asked for, and there is no dataset.
        DataError: There is nothing to judge, or a file was removed meanwhile.
        EnvironmentFault: The machine refuses.
    """
    with ExitStack() as stack:
        stack.enter_context(environment_faults(str(path)))
        records = _find_record_sets(path)
        parts = []
        if not records or _holds_dataset(path, options):
            dataset = _judge_dataset(path, options, report_path, questions_path, progress)
            parts.append(stack.enter_context(dataset))
        elif report_path is not None or questions_path is not None:
            option = "--questions" if report_path is None else "--report"
            raise ConfigError(
                f"{option} is about datasets, and here are only TFRecord files",
                path=str(path),
                remedy="leave it out",
            )
        parts += [check_records(place, options.jobs, progress) for place in records]
        yield CheckResult(tuple(parts))


def check_location(
    path: Location,
    options: RecordOptions,
    report_path: Path | None = None,
    questions_path: Path | None = None,
    progress: Progress = lambda what, done, total: None,
    *,
    with_findings: bool = False,
) -> CheckResult:
    """Judges whatever a path means.

    Args:
        path: As in `open_check`.
        options: As in `open_check`.
        report_path: As in `open_check`.
        questions_path: As in `open_check`.
        progress: As in `open_check`.
        with_findings: Whether to return all findings in a dataset; a large one may have millions.

    Raises:
        ConfigError: As in `open_check`.
        DataError: As in `open_check`.
        EnvironmentFault: As in `open_check`.
    """
    with open_check(path, options, report_path, questions_path, progress) as found:
        parts = (
            replace(
                part,
                findings=tuple(part.findings) if with_findings or part.subject == "records" else (),
            )
            for part in found.parts
        )
        return CheckResult(tuple(parts))


def is_record_set(path: Location) -> bool:
    """Whether a place itself means TFRecord files; see `open_check` for what lies deeper."""
    if isinstance(path, Path) and path.is_dir():
        return (path / MANIFEST_NAME).is_file() or bool(find_record_files(path))
    return bool(_find_record_sets(path))


def _find_record_sets(path: Location) -> list[Location]:
    """Returns the file or the folders that mean TFRecord files.

    They are known by name, by content, or by the manifest beside them. A URL means them only if
    detflow's manifest is there.
    """
    if isinstance(path, Url):
        return [path] if open_folder(path).digest(MANIFEST_NAME) is not None else []
    if path.is_dir():
        return list(find_record_folders(path))
    if find_record_files(path):
        return [path]
    if find_archive_kind(path) is None:
        require_folder(path)
    return []


def _holds_dataset(path: Location, options: RecordOptions) -> bool:
    """Whether a place with TFRecord files has annotations as well."""
    if isinstance(path, Url) or not path.is_dir():
        return False
    folder, dialect = open_folder(path), options.audit.dialect
    if dialect is None:
        seen = find_dialects(folder, walk_dataset(folder))
        return any(one.key != "tfrecord" for one in seen)
    return bool(find_files(folder, dialect).annotations)


def check_records(
    records: Location, jobs: int | None, progress: Progress = lambda what, done, total: None
) -> Verdict:
    """Judges a TFRecord set.

    Args:
        records: One file, or the folder that holds them.
        jobs: The number of processes; None chooses it.
        progress: Told how far it is.

    Raises:
        DataError: There is no TFRecord file.
        ArtifactError: At a URL, a shard is not the one that the manifest lists.
    """
    path = mirror_records(records)
    with (
        environment_faults(path),
        open_workers(jobs or choose_jobs(path), judge_record.__module__) as workers,
    ):
        report = lint_records(path, workers, progress)
    errors = report.count(Severity.ERROR)
    refusal = (
        ArtifactError(
            f"{count_noun(errors, 'error')} in the TFRecord files",
            path=str(records),
            remedy="they are listed above",
        )
        if errors
        else None
    )
    examples = tuple(finding for found in report.examples.values() for finding in found)
    text = format_report(report)
    return Verdict("records", str(records), text, report.to_json(), refusal, examples)


@contextmanager
def _judge_dataset(
    dataset: Location,
    options: RecordOptions,
    report_path: Path | None,
    questions_path: Path | None,
    progress: Progress,
) -> Iterator[Verdict]:
    for path in (report_path, questions_path):
        if path is not None:
            require_writable(path)
    with ExitStack() as stack:
        source = stack.enter_context(open_dataset(dataset, options.max_unpacked))
        work_dir = stack.enter_context(tempfile.TemporaryDirectory())
        with open_workers(options.jobs or choose_jobs(dataset), "detflow.data.making") as workers:
            audit = audit_dataset(source, options.audit, Path(work_dir), workers, progress)
        refusal = None
        problems: list[str] = []
        try:
            require_acceptable(audit, options, dataset, problems.append)
        except DataError as error:
            refusal = error
            for problem in problems:
                refusal.add_note(problem)
        content = {**describe_audit(audit, options), "refused": audit.count_by_code(Action.REFUSED)}
        if report_path is not None:
            from detflow.data.report.page import render_report

            publish_file(report_path, render_report(audit, content, None))
        if questions_path is not None:
            publish_file(questions_path, render_questions(audit))
        text = format_summary(content, audit.examples)
        proposal = None if options.audit.max_side else propose_max_side(audit)
        if proposal is not None:
            content["max_side_proposal"] = proposal.to_json()
            text += f"\nproposed      {proposal}"
        yield Verdict("dataset", str(dataset), text, content, refusal, _Ledger(audit))
