"""From one dialect to another: a dataset, records or predictions become a folder of files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detflow.data.check import is_record_set
from detflow.data.judging.audit import audit_dataset
from detflow.data.making import RecordOptions, describe_audit, require_acceptable
from detflow.data.origins.audited import AuditedOrigin
from detflow.data.origins.recorded import RecordedOrigin
from detflow.data.records.manifest import MANIFEST_NAME
from detflow.data.records.mirror import mirror_records
from detflow.data.sinks.origin import Origin
from detflow.data.sinks.sink import Sink, Trait
from detflow.data.sinks.writing import WrittenSet, write_set
from detflow.data.sources.opening import open_dataset
from detflow.data.terminal import format_summary
from detflow.data.workers.processes import OrderedMap, choose_jobs, open_workers
from detflow.errors import ConfigError, environment_faults
from detflow.progress import Progress
from detflow.publish import publish_directory
from detflow.storage.location import Location
from detflow.text import count_noun, escape_unprintable

ALL_IN_ONE_SPLIT: Mapping[str, float] = {"train": 1.0}
"""The split of a dataset that declares none: a conversion divides nothing by itself."""

_MAX_NAMED = 5
# A noun for so many of a trait, singular and plural.
_NOUNS = {
    Trait.DIFFICULT: ("flag difficult", "flags difficult"),
    Trait.TRUNCATED: ("flag truncated", "flags truncated"),
    Trait.CROWD: ("crowd", "crowds"),
    Trait.POSE: ("pose", "poses"),
    Trait.SCORE: ("score", "scores"),
    Trait.NEGATIVE: ("image without objects", "images without objects"),
    Trait.FRACTION: ("box that is no whole pixels", "boxes that are no whole pixels"),
    Trait.THIN: ("box thinner than a pixel", "boxes thinner than a pixel"),
    Trait.SPARE_CLASS: ("class without objects", "classes without objects"),
    Trait.CLASS_ORDER: ("place in the order of the classes", "places in the order of the classes"),
    Trait.UNION: ("union of splits", "unions of splits"),
}


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was written.

    Attributes:
        text: As lines for a terminal.
        content: The same for programs, as what `json.dumps` takes.
    """

    text: str
    content: dict[str, Any]


def convert_set(
    source: Location,
    output: Path,
    sink: Sink,
    options: RecordOptions,
    progress: Progress = lambda what, done, total: None,
    announce: Callable[[str], None] = lambda line: None,
) -> Conversion:
    """Writes a dataset, or records, in a dialect and publishes the folder.

    Args:
        source: Its folder.
        output: A new or empty folder.
        sink: The dialect.
        options: How a dataset is judged.
        progress: Told how far it is.
        announce: Called with each problem, one line, that makes a dataset unusable.

    Raises:
        ConfigError: `output` is no new or empty folder, or lies in what is read.
        DataError: The dataset cannot be used, or the dialect cannot hold a class name.
        ArtifactError: The records are damaged.
        EnvironmentFault: The machine refuses; nothing is published.
    """
    require_new(output, source)
    jobs = options.jobs or choose_jobs(source)
    with (
        open_workers(jobs, __name__) as workers,
        open_set(source, options, workers, progress, announce) as (origin, found),
    ):
        return publish_set(origin, found, sink, output, workers, progress)


@contextmanager
def open_set(
    source: Location,
    options: RecordOptions,
    workers: OrderedMap,
    progress: Progress,
    announce: Callable[[str], None],
) -> Iterator[tuple[Origin, dict[str, Any]]]:
    """Opens a dataset, or records, as images to be written elsewhere.

    Args:
        source: The folder.
        options: How a dataset is judged.
        workers: Where to run.
        progress: Told how far it is.
        announce: Called with each problem, one line, that makes a dataset unusable.

    Yields:
        The images, and what the audit found; that is empty for records.

    Raises:
        ArtifactError: The records are damaged.
        DataError: The dataset cannot be used.
    """
    if is_record_set(source) and not _is_foreign(source):
        yield RecordedOrigin(mirror_records(source)), {}
        return
    with (
        open_dataset(source, options.max_unpacked) as folder,
        tempfile.TemporaryDirectory() as work_dir,
    ):
        audit = audit_dataset(folder, options.audit, Path(work_dir), workers, progress)
        require_acceptable(audit, options, source, announce)
        yield AuditedOrigin(audit, keeps_lossless=True), describe_audit(audit, options)


def _is_foreign(records: Location) -> bool:
    """Whether TFRecord files are another tool's, which are read as a dataset is."""
    return isinstance(records, Path) and not (records / MANIFEST_NAME).exists()


def publish_set(
    origin: Origin,
    found: Mapping[str, Any],
    sink: Sink,
    output: Path,
    workers: OrderedMap,
    progress: Progress = lambda what, done, total: None,
) -> Conversion:
    """Writes images in a dialect and publishes the folder.

    Args:
        origin: The images.
        found: What an audit found; empty where there was none.
        sink: The dialect.
        output: A new or empty folder (`require_new`).
        workers: Where to run.
        progress: Told how far it is.

    Raises:
        DataError: The dialect cannot hold a class name, or an image changed meanwhile.
        EnvironmentFault: The disk refuses; nothing is published.
    """
    with (
        environment_faults(output),
        publish_directory(output) as staging,
    ):
        written = write_set(origin, sink, staging, workers, progress)
    return _describe(origin, found, sink, output, written)


def require_new(output: Path, source: Location) -> None:
    """Refuses to write into a dataset, or over anything.

    Args:
        output: The destination.
        source: What is read.

    Raises:
        ConfigError: The destination is something else than a new or empty folder, or lies in the
            folder that is read.
    """
    if output.is_symlink() or (
        output.exists() and not (output.is_dir() and not any(output.iterdir()))
    ):
        raise ConfigError(
            "--output needs a new or empty folder", path=output, remedy="choose another one"
        )
    if isinstance(source, Path) and output.resolve().is_relative_to(source.resolve()):
        raise ConfigError(
            "--output would write into what is read", path=output, remedy="choose another folder"
        )


def _describe(
    origin: Origin, found: Mapping[str, Any], sink: Sink, output: Path, written: WrittenSet
) -> Conversion:
    splits = {
        name: {
            "images": images,
            "objects": sum(objects.values()),
            "objects_per_class": {one: objects.get(one, 0) for one in origin.label_map},
        }
        for name, (images, objects) in written.splits.items()
    }
    content = {
        **found,
        "to": sink.name,
        "output": str(output),
        "classes": list(origin.label_map),
        "splits": splits,
        "images_encoded_anew": written.images_encoded_anew,
        "renamed": dict(written.renamed),
        "lost": {trait.value: number for trait, number in written.lost.items()},
    }
    lines = [format_summary(content)] if found else []
    images = sum(images for images, _ in written.splits.values())
    objects = sum(sum(counts.values()) for _, counts in written.splits.values())
    parts = ", ".join(f"{name} {count:,}" for name, (count, _) in written.splits.items())
    classes = count_noun(len(origin.label_map), "class", "classes")
    lines.append(
        f"{sink.title:<13} {count_noun(images, 'image')} ({parts}), "
        f"{count_noun(objects, 'object')} of {classes}"
    )
    if written.images_encoded_anew:
        number = count_noun(written.images_encoded_anew, "image")
        lines.append(f"{'encoded anew':<13} {number}: decoders read the originals differently")
    for old, new in written.renamed[:_MAX_NAMED]:
        shown = escape_unprintable(old)
        lines.append(f"{'renamed':<13} {shown} is {new}: another image has the same name")
    if len(written.renamed) > _MAX_NAMED:
        lines.append(f"{'renamed':<13} and {len(written.renamed) - _MAX_NAMED:,} more")
    if written.lost:
        lost = ", ".join(
            count_noun(number, *_NOUNS[trait]) for trait, number in written.lost.items()
        )
        lines.append(f"{'lost':<13} {lost}: {sink.title} has no place for them")
    lines.append(f"{'output':<13} {output}")
    return Conversion("\n".join(lines), content)
