"""From a dataset to a published records directory: audit, verdict, shards, manifest."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from detflow.data.judging.audit import Audit, AuditOptions, audit_dataset
from detflow.data.origins.audited import AuditedOrigin
from detflow.data.questions import QUESTIONS_NAME, count_questions, render_questions
from detflow.data.records.manifest import (
    FORMAT_VERSION,
    INDEX_NAME,
    LABEL_MAP_NAME,
    LEDGER_NAME,
    MANIFEST_NAME,
    REPORT_NAME,
    SplitInfo,
    compute_fingerprint,
    read_manifest,
    read_memberships,
)
from detflow.data.rules import Action
from detflow.data.shards import write_shards
from detflow.data.sinks.voc import VocSink
from detflow.data.sinks.writing import write_set
from detflow.data.sources.opening import open_dataset
from detflow.data.sources.seen import describe_unread
from detflow.data.sources.splits import SplitBy
from detflow.data.versions import find_versions
from detflow.data.workers.processes import OrderedMap, choose_jobs, open_workers
from detflow.digests import seal
from detflow.errors import ConfigError, DataError, EnvironmentFault
from detflow.progress import Progress
from detflow.publish import publish_directory, require_space
from detflow.storage.archives import DEFAULT_MAX_UNPACKED
from detflow.storage.location import Location, Url
from detflow.storage.publishing import publish_folder, require_replaceable
from detflow.text import count_noun
from detflow.version import __version__

_MAX_NAMED = 20
_TEXT_BYTES = 4_096
# The files that are written by the converting process itself, not by its workers.
_DRIVER_FILES = frozenset(
    {MANIFEST_NAME, LABEL_MAP_NAME, LEDGER_NAME, INDEX_NAME, REPORT_NAME, QUESTIONS_NAME}
)


@dataclass(frozen=True, slots=True)
class BadLimit:
    """How many annotations may be quarantined: a number, or a share of all."""

    number: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> BadLimit:
        """Reads "12" or "1.5%".

        Raises:
            ConfigError: It reads otherwise.
        """
        try:
            limit = cls(percent=float(text[:-1])) if text.endswith("%") else cls(number=int(text))
        except ValueError:
            limit = cls(number=-1)
        if (
            not 0
            <= (limit.number if limit.number is not None else limit.percent or 0.0)
            < float("inf")
        ):
            raise ConfigError(
                f"--max-bad {text!r} is neither a number nor a percentage",
                remedy="write 12 or 1.5%",
            )
        return limit

    def allows(self, bad: int, total: int) -> bool:
        """Whether `bad` of `total` may be quarantined."""
        return (
            bad <= self.number
            if self.number is not None
            else bad * 100.0 <= (self.percent or 0.0) * total
        )

    def __str__(self) -> str:
        return str(self.number) if self.number is not None else f"{self.percent:g}%"


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """What the user may choose.

    Attributes:
        audit: How the dataset is read and split.
        keep_splits: An earlier records directory whose samples stay in their splits.
        write_fixed: A folder for the mended dataset as VOC.
        strict: Whether any repair or quarantine fails the run.
        max_bad: How many annotations may be quarantined; None allows half of them.
        jobs: The number of processes; None chooses it. It never changes the result.
        report: Whether to write the page with pictures.
        max_unpacked: How many bytes the files of an archive may have together.
    """

    audit: AuditOptions = field(default_factory=AuditOptions)
    keep_splits: Path | None = None
    write_fixed: Path | None = None
    strict: bool = False
    max_bad: BadLimit | None = None
    jobs: int | None = None
    report: bool = True
    max_unpacked: int = DEFAULT_MAX_UNPACKED


def publish_records(
    dataset: Location,
    output: Location,
    options: RecordOptions,
    progress: Progress = lambda what, done, total: None,
    announce: Callable[[str], None] = lambda line: None,
    workers: OrderedMap | None = None,
) -> dict[str, Any]:
    """Makes records of a dataset and publishes them.

    Args:
        dataset: Its folder, or an archive of it.
        output: The records directory; one that is there is replaced as a whole.
        options: What the user chose.
        progress: Told how far it is.
        announce: Called with each problem, one line, that makes the dataset unusable.
        workers: Where to run; None opens as many processes as the options say. If they are on
            other machines, those must reach `dataset` and `output` under the same names.

    Returns:
        The manifest.

    Raises:
        ConfigError: `output` is something that must not be replaced.
        DataError: The dataset cannot be used, or not under these options; nothing is published.
        EnvironmentFault: The machine refuses; nothing is published.
    """
    _require_replaceable(dataset, output)
    audit_options = options.audit
    if options.keep_splits is not None:
        audit_options = replace(audit_options, kept_splits=read_memberships(options.keep_splits))
    with ExitStack() as stack:
        source = stack.enter_context(open_dataset(dataset, options.max_unpacked))
        staging = stack.enter_context(
            publish_folder(output, MANIFEST_NAME, resume=_name_request(dataset, options))
        )
        fixed_dir = (
            None
            if options.write_fixed is None
            else stack.enter_context(_publish_fixed(dataset, output, options.write_fixed))
        )
        if workers is None:
            workers = stack.enter_context(
                open_workers(options.jobs or choose_jobs(dataset), __name__)
            )
        audit = audit_dataset(source, audit_options, staging.scratch, workers, progress)
        require_acceptable(audit, options, dataset, announce)
        with _space_for(audit, output, options.audit.max_side, 1 if fixed_dir is None else 2):
            splits = write_shards(audit, options.audit.seed, staging, workers, progress)
            if fixed_dir is not None:
                origin = AuditedOrigin(audit, keeps_lossless=False)
                write_set(origin, VocSink(), fixed_dir, workers, progress)
            with open(staging.path / LEDGER_NAME, "w", encoding="utf-8") as ledger:
                ledger.writelines(finding.to_json() + "\n" for finding in audit.findings())
            (staging.path / LABEL_MAP_NAME).write_text(audit.label_map.to_pbtxt(), encoding="utf-8")
            described = describe_audit(audit, options)
            if described["questions"]:
                (staging.path / QUESTIONS_NAME).write_text(
                    render_questions(audit), encoding="utf-8", newline=""
                )
            if options.report:
                from detflow.data.report.page import render_report

                (staging.path / REPORT_NAME).write_text(
                    render_report(audit, described, LEDGER_NAME), encoding="utf-8"
                )
            manifest = _build_manifest(audit, described, splits)
            (staging.path / MANIFEST_NAME).write_text(
                json.dumps(manifest, indent=2) + "\n", encoding="utf-8"
            )
        # A killed run may have planned other shards before the dataset changed.
        shards = {shard.name for split in splits.values() for shard in split.shards}
        written = {path.name for path in staging.path.iterdir() if path.name in _DRIVER_FILES}
        staging.names = frozenset(shards | written)
    return manifest


def _name_request(dataset: Location, options: RecordOptions) -> str:
    """Returns twelve hexadecimal digits that stand for what the user asks for.

    A run that was killed is resumed by the next one that asks for the same.
    """
    place = dataset.resolve() if isinstance(dataset, Path) else dataset
    request = repr((str(place), replace(options, jobs=None), __version__))
    return hashlib.sha256(request.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _require_replaceable(dataset: Location, output: Location) -> None:
    """Refuses to publish over the dataset or over anything that detflow did not make."""
    if isinstance(dataset, Url) and isinstance(output, Url):
        replaces = output.holds(dataset)
    elif isinstance(dataset, Path) and isinstance(output, Path):
        replaces = dataset.resolve().is_relative_to(output.resolve())
    else:
        replaces = False
    if replaces:
        raise ConfigError(
            "--output would replace the dataset", path=str(output), remedy="choose another folder"
        )
    require_replaceable(output, MANIFEST_NAME)


def _publish_fixed(
    dataset: Location, output: Location, target: Path
) -> AbstractContextManager[Path]:
    if isinstance(output, Path):
        fixed, records = target.resolve(), output.resolve()
        if fixed.is_relative_to(records) or records.is_relative_to(fixed):
            raise ConfigError(
                "--write-fixed and --output lie in one another, and each replaces its whole folder",
                path=target,
                remedy="choose another folder",
            )
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigError(
            "--write-fixed needs a new or empty folder", path=target, remedy="choose another one"
        )
    if isinstance(dataset, Path) and target.resolve().is_relative_to(dataset.resolve()):
        raise ConfigError(
            "--write-fixed would write into the dataset",
            path=target,
            remedy="choose another folder",
        )
    return publish_directory(target)


@contextmanager
def _space_for(audit: Audit, output: Location, max_side: int | None, copies: int) -> Iterator[None]:
    """Refuses to write what cannot fit; if the disk fills up later, says how much was needed."""
    if isinstance(output, Url):
        yield
        return
    # An image's annotation and its lines of index and ledger are smaller than this, unless it is
    # crowded. A JPEG that was made smaller has less than a byte a pixel.
    most = float("inf") if max_side is None else max_side * max_side
    needed = sum(
        copies * round(min(summary.image_bytes, most)) + _TEXT_BYTES
        for summary in audit.samples.values()
    )
    require_space(output, needed)
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(output.parent).free
        cause = f"the disk is full: about {needed:,} bytes are needed and {free:,} are free"
        raise EnvironmentFault(
            cause, path=output, remedy="free some space; what stood there before is untouched"
        ) from error


def require_acceptable(
    audit: Audit,
    options: RecordOptions,
    dataset: Location,
    announce: Callable[[str], None],
) -> None:
    """Refuses a dataset that cannot be used under these options; announces the problems first.

    Args:
        audit: The audit of the dataset.
        options: What the user chose.
        dataset: The dataset's folder, for the error.
        announce: Called with each problem, one line.

    Raises:
        DataError: It is refused.
    """
    refusal = _find_refusal(audit, options, str(dataset))
    if refusal is None:
        return
    error, actions = refusal
    findings = [str(finding) for finding in islice(audit.findings(*actions), _MAX_NAMED)]
    for line in findings:
        announce(line)
    more = sum(audit.count(action) for action in actions) - len(findings)
    if more:
        announce(f"… and {more:,} more")
    raise error


def _find_refusal(
    audit: Audit, options: RecordOptions, path: str
) -> tuple[DataError, tuple[Action, ...]] | None:
    """Returns why a dataset is refused, and the findings to announce by their actions."""
    bad, total = len(audit.quarantined), audit.annotations_found
    refused, repaired = audit.count(Action.REFUSED), audit.count(Action.REPAIRED)
    actions: tuple[Action, ...] = (Action.QUARANTINED,)
    if refused:
        actions = (Action.REFUSED,)
        cause = f"{count_noun(refused, 'problem')} must be looked at first"
        remedy = "correct them; nothing was written"
    elif not total:
        cause, remedy = describe_unread(audit.files.source, options.audit.dialect)
    elif not audit.samples:
        cause, remedy = f"none of {total} annotations is usable", "correct the files named above"
    elif options.strict and (bad or repaired):
        actions = (Action.QUARANTINED, Action.REPAIRED)
        needed = f"{count_noun(repaired, 'repair')} and {count_noun(bad, 'quarantine')}"
        cause = f"--strict mends nothing, and {needed} are needed"
        remedy = "correct the files, or run without --strict"
    elif options.max_bad is not None and not options.max_bad.allows(bad, total):
        cause = f"{bad} of {total} annotations are unusable, --max-bad allows {options.max_bad}"
        remedy = "correct the files named above"
    elif options.max_bad is None and bad * 2 > total:
        cause = f"{bad:,} of {total:,} annotations would be set aside, more than half of them"
        remedy = "look at the reasons named above, or allow it with --max-bad 100%"
    elif not audit.label_map.names:
        cause, remedy = "no object is left, so there is no class to learn", "label some objects"
    else:
        return None
    return DataError(cause, path=path, remedy=remedy), actions


def describe_audit(audit: Audit, options: RecordOptions) -> dict[str, Any]:
    """Returns what an audit found, as it stands in a manifest; splits have no shards yet.

    Nothing in it depends on the machine's clock, paths or number of processes.
    """
    rule: dict[str, Any] = {"by": audit.splits.rule.value}
    if audit.splits.rule is SplitBy.SEED:
        rule["fractions"] = dict(options.audit.fractions)
        if options.keep_splits is not None:
            rule["kept_from"] = read_manifest(options.keep_splits).fingerprint
    if options.audit.val_from is not None:
        rule["val_from"] = str(options.audit.val_from)
    splits = {}
    for name, members in audit.splits.members.items():
        counts: Counter[str] = Counter()
        for annotation in members:
            for class_name, number, _ in audit.samples[annotation].class_counts:
                counts[class_name] += number
        per_class = {class_name: counts[class_name] for class_name in audit.label_map}
        splits[name] = {
            "images": len(members),
            "objects": counts.total(),
            "objects_per_class": per_class,
        }
    return {
        "dataset": audit.files.source.name,
        "dialect": audit.dialect.name,
        "annotations_found": audit.annotations_found,
        "annotations_usable": len(audit.samples),
        "images_found": len(audit.files.images),
        "images_unlabelled": audit.counts.get("image_unlabelled", 0),
        "classes": list(audit.label_map),
        "classes_renamed": dict(options.audit.renames),
        "splits": splits,
        "unions": {name: list(parts) for name, parts in audit.splits.unions.items()},
        "split_rule": rule,
        "seed": options.audit.seed,
        "max_side": options.audit.max_side,
        "repairs": audit.count_by_code(Action.REPAIRED),
        "quarantined": dict(sorted(Counter(audit.quarantined.values()).items())),
        "noted": audit.count_by_code(Action.NOTED),
        "decided": dict(audit.decided),
        "questions": count_questions(audit),
        "decisions": options.audit.decisions.describe(),
    }


def _build_manifest(
    audit: Audit, described: dict[str, Any], splits: Mapping[str, SplitInfo]
) -> dict[str, Any]:
    """Returns the manifest, which `docs/records.md` describes."""
    for name, split in splits.items():
        described["splits"][name]["shards"] = [asdict(shard) for shard in split.shards]
    return seal(
        {
            "format_version": FORMAT_VERSION,
            **described,
            "fingerprint": compute_fingerprint(audit.label_map, splits),
            "source_fingerprint": audit.source_fingerprint,
            "versions": find_versions(),
        }
    )
