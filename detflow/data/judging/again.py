"""Judges again what the whole set has decided otherwise than was taken as given at first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice, tee
from typing import NamedTuple

from detflow.data.judging.batch import Judgement, build_judgement
from detflow.data.judging.collect import Collected
from detflow.data.judging.pair import recall_image
from detflow.data.judging.provisional import KnownImage, Look
from detflow.data.judging.reading import read_files
from detflow.data.judging.rulings import Rulings
from detflow.data.judging.testimony import Group
from detflow.data.sources.source import AnnotationSource, RawAnnotation
from detflow.data.workers.processes import OrderedMap
from detflow.progress import Progress
from detflow.storage.interface import Folder

_BATCH_FILES = 64


class AgainTask(NamedTuple):
    """A file of which annotations are to be judged again.

    Attributes:
        path: The file inside the dataset.
        images: What is known of their images, by the annotations' entries.
    """

    path: str
    images: Mapping[str, KnownImage]


@dataclass(frozen=True)
class AgainJudge:
    """Reads annotations once more and judges them by what the whole set has decided.

    No image is read.

    Attributes:
        source: The dataset's folder.
        dialect: How files are read.
        classes: The classes that may occur; None allows any.
        rulings: What the whole set has decided.
    """

    source: Folder
    dialect: AnnotationSource
    classes: Sequence[str] | None
    rulings: Rulings

    def __call__(self, tasks: Sequence[AgainTask]) -> list[list[Judgement]]:
        """Returns the judgements of each file."""
        limit = self.dialect.max_file_bytes
        files = read_files(self.source, (task.path for task in tasks), limit)
        return [
            [
                self._judge(annotation, known)
                for annotation in self.dialect.read(data, task.path).annotations
                if (known := task.images.get(annotation.entry)) is not None
            ]
            for data, task in zip(files, tasks, strict=True)
        ]

    def _judge(self, annotation: RawAnnotation, known: KnownImage) -> Judgement:
        group = Group.of(annotation)
        ruling = self.rulings.find(group)
        image = recall_image(known)
        return build_judgement(annotation, image, known.hash, self.classes, group, ruling)


def judge_again(
    collected: Collected, judge: AgainJudge, workers: OrderedMap, progress: Progress
) -> None:
    """Judges again what may be another judgement under the rulings of the whole set.

    The result is the same as if all had been judged by these rulings at once.

    Args:
        collected: The judgements.
        judge: Judges by the rulings.
        workers: Where to run.
        progress: Told how far it is.
    """
    count = sum(1 for _ in collected.provisional.find_changed(judge.rulings))
    if count:
        collected.replace(_judge(collected, count, judge, workers, progress))


def _judge(
    collected: Collected,
    count: int,
    judge: AgainJudge,
    workers: OrderedMap,
    progress: Progress,
) -> Iterator[tuple[int, Judgement]]:
    """Yields each judgement's number and what it is now."""
    names, places = collected.provisional.names, collected.log.places

    def locate(item: tuple[int, Look]) -> str:
        name = names[item[0]]
        return places.get(name, (name, ""))[0]

    done = 0
    changed = collected.provisional.find_changed(judge.rulings)
    files, numbered = tee(list(group) for _, group in groupby(changed, key=locate))
    tasks = (
        AgainTask(
            locate(group[0]),
            {
                places.get(names[number], ("", ""))[1]: collected.find_image(number, look)
                for number, look in group
            },
        )
        for group in files
    )
    batches = iter(lambda: list(islice(tasks, _BATCH_FILES)), [])
    answers = chain.from_iterable(workers(judge, batches, chunk=1))
    for group, judgements in zip(numbered, answers, strict=True):
        by_name = {judgement.annotation: judgement for judgement in judgements}
        for number, _ in group:
            done += 1
            progress("judging again by what the set has decided", done, count)
            yield number, by_name[names[number]]
