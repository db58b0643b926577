"""Judges again what the whole set has decided otherwise than was taken as given at first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, tee
from typing import NamedTuple

from detflow.data.judging.answers import answer_judgement
from detflow.data.judging.batch import Judgement, build_judgement
from detflow.data.judging.collect import Collected
from detflow.data.judging.decisions import Decision
from detflow.data.judging.entries import restore_annotation
from detflow.data.judging.pair import recall_image
from detflow.data.judging.provisional import KnownImage
from detflow.data.judging.reading import UnreadableFile, read_content, read_files
from detflow.data.judging.rulings import Ruling, Rulings
from detflow.data.judging.testimony import Group
from detflow.data.sources.source import AnnotationSource, RawAnnotation
from detflow.data.workers.processes import OrderedMap
from detflow.errors import DataError
from detflow.progress import Progress
from detflow.storage.interface import Folder

_BATCH_FILES = 64


class AgainTask(NamedTuple):
    """An annotation that is to be judged again.

    Attributes:
        path: Its file inside the dataset.
        kept: What `entries` has kept of it; None where it has the file to itself.
        image: What is known of its image.
    """

    path: str
    kept: bytes | None
    image: KnownImage


@dataclass(frozen=True)
class AgainJudge:
    """Reads annotations once more and judges them by what the whole set has decided.

    No image is read.

    Attributes:
        source: The dataset's folder.
        dialect: How files are read.
        classes: The classes that may occur; None allows any.
        renames: The new name of each class that is renamed.
        max_side: Images with a longer side become smaller; 0 leaves all as they are.
        rulings: What the whole set has decided.
        decided: What a person has decided, by the annotation's name.
    """

    source: Folder
    dialect: AnnotationSource
    classes: Sequence[str] | None
    renames: Mapping[str, str]
    max_side: int
    rulings: Rulings
    decided: Mapping[str, tuple[Decision, ...]] = field(default_factory=dict)

    def __call__(self, tasks: Sequence[AgainTask]) -> list[Judgement]:
        """Returns the judgements."""
        paths = [task.path for task in tasks if task.kept is None]
        files = read_files(self.source, paths, self.dialect.max_file_bytes)
        return [self._judge(self._restore(task, files), task.image) for task in tasks]

    def _restore(self, task: AgainTask, files: Iterator[bytes | UnreadableFile]) -> RawAnnotation:
        if task.kept is not None:
            return restore_annotation(task.kept)
        annotations = read_content(self.dialect, next(files), task.path)[0].annotations
        if len(annotations) != 1:
            raise DataError(
                "the file changed while the dataset was being read",
                path=task.path,
                remedy="run it again",
            )
        return annotations[0]

    def _judge(self, annotation: RawAnnotation, known: KnownImage) -> Judgement:
        group = Group.of(annotation)
        ruling = self.rulings.find(group)
        image = recall_image(known)

        def judge(ruling: Ruling) -> Judgement:
            return build_judgement(
                annotation,
                image,
                known.hash,
                self.classes,
                self.renames,
                self.max_side,
                group,
                ruling,
            )

        judgement = judge(ruling)
        for decision in self.decided.get(annotation.name, ()):
            judgement, ruling = answer_judgement(decision, judgement, ruling, judge)
        return judgement


def judge_again(
    collected: Collected,
    judge: AgainJudge,
    recall: Callable[[str], bytes | None],
    workers: OrderedMap,
    progress: Progress,
) -> None:
    """Judges again what may be another judgement under the rulings of the whole set.

    The result is the same as if all had been judged by these rulings at once.

    Args:
        collected: The judgements.
        judge: Judges by the rulings.
        recall: Gives what `entries` has kept of an annotation, by its name.
        workers: Where to run.
        progress: Told how far it is.
    """
    kept = collected.provisional
    count = 0
    unanswered = dict(judge.decided)
    for number, _ in kept.find_changed(judge.rulings, judge.decided):
        count += 1
        unanswered.pop(kept.names[number], None)
    for decisions in unanswered.values():
        raise decisions[0].refuse("nothing of the kind is open about it")
    if not count:
        return
    changed, numbered = tee(kept.find_changed(judge.rulings, judge.decided))
    tasks = (
        AgainTask(name := kept.names[number], recall(name), collected.find_image(number, look))
        for number, look in changed
    )
    batches = iter(lambda: list(islice(tasks, _BATCH_FILES)), [])
    judgements = chain.from_iterable(workers(judge, batches, chunk=1))

    def count_up() -> Iterator[tuple[int, Judgement]]:
        for done, ((number, _), judgement) in enumerate(
            zip(numbered, judgements, strict=True), start=1
        ):
            progress("judging again by what the set has decided", done, count)
            yield number, judgement

    collected.replace(count_up())
