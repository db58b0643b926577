"""Reads, pairs and judges all annotations of a dataset, each once.

Judging one annotation is a pure function of its two files, so it runs in any number of processes.
Most annotations have an image of their own name to themselves and are judged as soon as they are
read; the others wait until all names are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice, starmap
from typing import Any, TypeVar

from detflow.data.findings import Finding, name_annotation
from detflow.data.judging.again import AgainJudge, judge_again
from detflow.data.judging.answers import answer_images, find_dropped, require_asked
from detflow.data.judging.batch import (
    Batch,
    BatchJudge,
    BatchReading,
    FileReading,
    FileTask,
    Judgement,
)
from detflow.data.judging.collect import Collected
from detflow.data.judging.deciding import decide, guess
from detflow.data.judging.decisions import Decisions, Topic
from detflow.data.judging.entries import EntryStore, find_repeats, read_entries
from detflow.data.judging.evidence import FileEvidence
from detflow.data.judging.rulings import Orders, Rulings
from detflow.data.judging.testimony import Evidence
from detflow.data.rules import Action
from detflow.data.sources.candidates import Claim
from detflow.data.sources.names import split_extension
from detflow.data.sources.own_images import describe_own_image, find_own_images, names_other_image
from detflow.data.sources.pairing import pair_images
from detflow.data.sources.source import DatasetFiles, ImageNames
from detflow.data.sources.unread import name_unread_images
from detflow.data.workers.processes import OrderedMap
from detflow.progress import Progress

_BATCH_FILES = 64
_SET_ASIDE = (Action.QUARANTINED, Action.REFUSED)

Item = TypeVar("Item")
Result = TypeVar("Result")


def judge_all(
    files: DatasetFiles,
    batch_judge: BatchJudge,
    orders: Orders,
    decisions: Decisions,
    store: EntryStore,
    workers: OrderedMap,
    progress: Progress,
    collected: Collected,
) -> tuple[list[str], Mapping[str, str], Mapping[str, Any]]:
    """Reads, pairs and judges everything; what only the pass needs is freed behind it.

    Returns:
        The names of all annotations, usable or not; the image of each that has one; and what the
        evidence of the set has decided.
    """
    sweep = _Sweep(files, batch_judge, orders, decisions, store, workers, progress, collected)
    if batch_judge.dialect.many_images:
        sweep.read_entries()
    else:
        sweep.read_all()
    images = sweep.pair_all()
    rulings, decided = decide(sweep.evidence, orders)
    require_asked(decisions.by_topic[Topic.CORNERS], decided["corners"])
    again = AgainJudge(
        files.source,
        batch_judge.dialect,
        batch_judge.classes,
        batch_judge.renames,
        batch_judge.max_side,
        rulings,
        decisions.judged,
    )
    judge_again(collected, again, sweep.recall, workers, progress)
    dropped = find_dropped(decisions.judged)
    annotations = [name for name in sweep.annotations if name not in dropped]
    return annotations, images, decided


class _Sweep:
    """Reads, pairs and judges all annotations.

    Attributes:
        annotations: The names of all that were found, usable or not.
        evidence: What those that were judged testify about the set.
    """

    def __init__(
        self,
        files: DatasetFiles,
        judge: BatchJudge,
        orders: Orders,
        decisions: Decisions,
        store: EntryStore,
        workers: OrderedMap,
        progress: Progress,
        collected: Collected,
    ) -> None:
        self._files = files
        self._decisions = decisions
        self._judge = judge
        self._store = store
        self._workers = workers
        self._progress = progress
        self._collected = collected
        self._claims: dict[str, Claim] = {}
        self._judged: dict[str, str] = {}
        self._odd_paths: dict[str, str] = {}
        # Where the store keeps annotations of files that hold many, by name.
        self._kept: dict[str, int] = {}
        # A dialect may have set files aside when it looked at the dataset.
        self.annotations = [
            finding.annotation for finding in files.findings if finding.action is Action.QUARANTINED
        ]
        self.evidence = Evidence()
        self._rulings = Rulings(orders)

    def read_all(self) -> None:
        """Reads every file, and judges at once the annotations whose image is certain."""
        paths = self._files.annotations
        same_key = _find_same_keys(paths)
        own_images = find_own_images(paths, self._files.images)
        tasks = (FileTask(path, own_images.get(path)) for path in paths)
        readings = self._run(self._judge, tasks)
        for done, (path, reading) in enumerate(zip(paths, readings, strict=True), start=1):
            self._progress("checking", done, len(paths))
            self._add_reading(path, reading, same_key.get(path), own_images.get(path, ""))

    def _add_reading(
        self, path: str, reading: FileReading, same_key: tuple[str, ...] | None, image: str
    ) -> None:
        log = self._collected.log
        self._collected.note_file(path, reading.digest)
        log.extend(reading.findings)
        self.annotations += [
            finding.annotation for finding in reading.findings if finding.action in _SET_ASIDE
        ]
        for names, size, judgement in reading.annotations:
            self.annotations.append(path)
            if same_key is not None:
                log.extend([Finding("key_twice", path, related=same_key)])
            elif judgement is None:
                self._claims[path] = (*names, size, True)
            else:
                self._collected.add(path, image, judgement)
                self._note_own_image(path, names, image)

    def _note_own_image(self, name: str, names: ImageNames, image: str) -> None:
        self._judged[name] = image
        finding = describe_own_image(name, names, image)
        # Some dialects have no other name than the file's.
        is_named = names != (None, None, None) or not self._judge.dialect.claims_by_name
        if finding is not None and is_named:
            self._collected.log.extend([finding])
        if names.source_path is not None and names_other_image(name, names.source_path):
            self._odd_paths[name] = names.source_path

    def read_entries(self) -> None:
        """Reads every file where each holds many annotations."""
        log = self._collected.log
        paths = self._files.annotations
        readings = []
        for done, file in enumerate(
            read_entries(self._files, self._judge.dialect, self._store), start=1
        ):
            readings.append(file)
            self._progress("reading annotations", done, len(paths))
        repeats = find_repeats(readings)
        for file in readings:
            self._collected.note_file(file.path, file.digest)
            if file.path in repeats:
                log.extend([Finding("file_repeats", file.path, related=repeats[file.path])])
                continue
            log.extend(file.findings)
            self.annotations += [
                finding.annotation for finding in file.findings if finding.action in _SET_ASIDE
            ]
            for entry, (names, size, place) in file.claims.items():
                name = name_annotation(file.path, entry)
                log.places[name] = file.path, entry
                self.annotations.append(name)
                self._claims[name] = (*names, size, False)
                self._kept[name] = place

    def pair_all(self) -> Mapping[str, str]:
        """Pairs all annotations with images, and judges those that had to wait for it.

        Returns:
            The image of each annotation that has one.
        """
        known = self._claims.keys() | self._judged.keys()
        pairs = pair_images(
            self._claims,
            self._files.images,
            FileEvidence(self._files.source, self._workers),
            self._judged,
            self._odd_paths,
            [name for name in self.annotations if name not in known],
            by_own_name=self._judge.dialect.claims_by_name,
        )
        if answers := self._decisions.by_topic[Topic.IMAGE]:
            have_one = chain(self._judged.items(), pairs.images.items())
            taken = {image: name for name, image in have_one}
            pairs, dropped = answer_images(pairs, self._claims, taken, answers)
            self.annotations = [name for name in self.annotations if name not in dropped]
        self._collected.log.extend(name_unread_images(pairs.findings, self._files.unread))
        self.annotations = [name for name in self.annotations if name not in pairs.copies]
        waiting = list(pairs.images.items())
        judge = replace(self._judge, is_paired=True)
        judgements: Iterator[Judgement]
        if self._kept:
            entries = ((self._store.take(self._kept[name]), image) for name, image in waiting)
            judgements = self._run(judge.judge_entries, entries)
        else:
            readings = self._run(judge, starmap(FileTask, waiting))
            judgements = (
                annotation.judgement
                for reading in readings
                for annotation in reading.annotations
                if annotation.judgement is not None
            )
        for done, ((name, image), judgement) in enumerate(
            zip(waiting, judgements, strict=True), start=1
        ):
            self._progress("checking what had to be paired", done, len(waiting))
            self._collected.add(name, image, judgement)
        return {**self._judged, **pairs.images}

    def recall(self, name: str) -> bytes | None:
        """Returns an annotation that was kept; None for one that has a file to itself."""
        place = self._kept.get(name)
        return None if place is None else self._store.take(place)

    def _run(
        self,
        judge: Callable[[Batch[Item]], BatchReading[Result]],
        tasks: Iterable[Item],
    ) -> Iterator[Result]:
        batches = (Batch(items, self._rulings) for items in _batches(tasks))
        for reading in self._workers(judge, batches, chunk=1):
            self.evidence.add(reading.tallies)
            self._rulings = guess(self._rulings, self.evidence, reading.tallies)
            yield from reading.results


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    remaining = iter(items)
    return iter(lambda: list(islice(remaining, _BATCH_FILES)), [])


def _find_same_keys(annotations: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the other files with the same key (`a.xml` and `a.XML`) for each that has some."""
    by_key: dict[str, list[str]] = {}
    for path in annotations:
        by_key.setdefault(split_extension(path)[0], []).append(path)
    twice = [paths for paths in by_key.values() if len(paths) > 1]
    return {
        path: tuple(other for other in paths if other != path) for paths in twice for path in paths
    }
