"""`detflow check`: judges a dataset as make-records would, or TFRecord files; writes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detflow.data.findings import Finding
from detflow.data.judging.audit import audit_dataset
from detflow.data.making import RecordOptions, describe_audit, require_acceptable
from detflow.data.records.lint.checks import judge_record
from detflow.data.records.lint.find import find_record_files
from detflow.data.records.lint.judge import lint_records
from detflow.data.records.lint.text import format_report
from detflow.data.records.manifest import MANIFEST_NAME
from detflow.data.records.mirror import mirror_records
from detflow.data.rules import Action, Severity
from detflow.data.sources.opening import open_dataset
from detflow.data.terminal import format_summary
from detflow.data.workers.processes import choose_jobs, open_workers
from detflow.errors import ArtifactError, DataError, DetflowError, environment_faults
from detflow.progress import Progress
from detflow.publish import publish_file
from detflow.storage.archives import find_archive_kind
from detflow.storage.folders import open_folder
from detflow.storage.location import Location, Url
from detflow.text import count_noun


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found.

    Attributes:
        text: The findings as lines for a terminal.
        content: The same for programs, as what `json.dumps` takes.
        refusal: Why the data cannot be used; None where they can.
        findings: What is wrong, one by one: all findings in a dataset, where they were asked for;
            the first ones of each code in TFRecord files.
    """

    text: str
    content: dict[str, Any]
    refusal: DetflowError | None
    findings: tuple[Finding, ...] = ()


def is_record_set(path: Location) -> bool:
    """Whether a path means TFRecord files: by name, by content, or by the manifest beside them.

    A URL means them only if detflow's manifest is there; a file does unless it is an archive.

    Raises:
        DataError: It is an archive of a kind that detflow does not unpack.
    """
    if isinstance(path, Url):
        return open_folder(path).digest(MANIFEST_NAME) is not None
    if path.is_file():
        return find_archive_kind(path) is None
    return (path / MANIFEST_NAME).is_file() or bool(find_record_files(path))


def check_records(
    records: Location, jobs: int | None, progress: Progress = lambda what, done, total: None
) -> CheckResult:
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
    return CheckResult(format_report(report), report.to_json(), refusal, examples)


def check_dataset(
    dataset: Location,
    options: RecordOptions,
    announce: Callable[[str], None],
    report_path: Path | None = None,
    progress: Progress = lambda what, done, total: None,
    *,
    with_findings: bool = False,
) -> CheckResult:
    """Judges a dataset.

    Args:
        dataset: Its folder, or an archive of it.
        options: What the user chose.
        announce: Called with each problem, one line, that makes the dataset unusable.
        report_path: Where to write the page with pictures; None writes nothing at all.
        progress: Told how far it is.
        with_findings: Whether to return all findings; a large dataset may have millions.

    Raises:
        DataError: A file was removed meanwhile.
        EnvironmentFault: The machine refuses.
    """
    with (
        environment_faults(str(dataset)),
        open_dataset(dataset, options.max_unpacked) as source,
        tempfile.TemporaryDirectory() as work_dir,
        open_workers(options.jobs or choose_jobs(dataset), "detflow.data.making") as workers,
    ):
        audit = audit_dataset(source, options.audit, Path(work_dir), workers, progress)
        refusal = None
        try:
            require_acceptable(audit, options, dataset, announce)
        except DataError as error:
            refusal = error
        content = {**describe_audit(audit, options), "refused": audit.count_by_code(Action.REFUSED)}
        if report_path is not None:
            from detflow.data.report.page import render_report

            publish_file(report_path, render_report(audit, content, None))
        findings = tuple(audit.findings()) if with_findings else ()
    return CheckResult(format_summary(content), content, refusal, findings)
