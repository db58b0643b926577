"""Writes an audited dataset as clean VOC, with every repair made.

The folders are `Annotations`, `JPEGImages` and `ImageSets/Main`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from detflow.data.judging.audit import Audit
from detflow.data.judging.reading import read_record_images
from detflow.data.judging.sample import AuditedSample, read_line
from detflow.data.sources.names import split_extension
from detflow.data.sources.voc.write import write_annotation
from detflow.data.workers.processes import OrderedMap
from detflow.progress import Progress
from detflow.storage.interface import Folder

# XML cannot hold control characters or lone surrogates; other characters would confuse a shell or a
# list of names.
_UNSAFE = re.compile(r"[^\w.=#@+,() -]+")


def write_fixed(audit: Audit, target: Path, workers: OrderedMap, progress: Progress) -> None:
    """Writes the usable samples, mended.

    Args:
        audit: The audit of the dataset.
        target: An existing, empty folder.
        workers: Where to run.
        progress: Told how far it is.
    """
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (target / folder).mkdir(parents=True)
    names = _flat_names(audit)
    with open(audit.samples_path, "rb") as samples:
        tasks = (
            (name, read_line(samples, audit.samples[annotation].offset))
            for annotation, name in names.items()
        )
        for done, _ in enumerate(
            workers(partial(_write_one, audit.files.source, target), tasks, chunk=16), start=1
        ):
            progress("writing the mended dataset", done, len(names))
    lists = {**audit.splits.members}
    for union, parts in audit.splits.unions.items():
        lists[union] = tuple(
            {annotation for part in parts for annotation in audit.splits.members[part]}
        )
    for split, members in lists.items():
        lines = sorted(names[annotation] for annotation in members)
        (target / "ImageSets" / "Main" / f"{split}.txt").write_text(
            "".join(f"{line}\n" for line in lines), encoding="utf-8"
        )


def _write_one(source: Folder, target: Path, task: tuple[str, bytes]) -> None:
    name, line = task
    [(audited, encoded, _)] = read_record_images(source, [AuditedSample.from_json(line)])
    (target / "JPEGImages" / f"{name}.jpg").write_bytes(encoded)
    xml = write_annotation(f"{name}.jpg", audited.size, audited.objects)
    (target / "Annotations" / f"{name}.xml").write_bytes(xml)


def _flat_names(audit: Audit) -> Mapping[str, str]:
    """Returns a flat name for each annotation; one that is not unique keeps its folders."""
    keys = {annotation: split_extension(annotation)[0] for annotation in audit.samples}
    names = {
        annotation: _UNSAFE.sub("_", key.rpartition("/")[2]) for annotation, key in keys.items()
    }
    # File systems of other machines may not tell cases apart.
    counts = Counter(name.casefold() for name in names.values())
    used: set[str] = {name.casefold() for name in names.values() if counts[name.casefold()] == 1}
    for annotation, key in keys.items():
        if counts[names[annotation].casefold()] == 1:
            continue
        base = _UNSAFE.sub("_", key.replace("/", "_"))
        number, name = 1, base
        while name.casefold() in used:
            number += 1
            name = f"{base}_{number}"
        used.add(name.casefold())
        names[annotation] = name
    return names
