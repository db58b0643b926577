"""Writes all images of an origin in a dialect, and counts what the dialect could not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from detflow.data.sinks.names import choose_names, choose_split_names
from detflow.data.sinks.numbers import is_thin, is_whole
from detflow.data.sinks.origin import ImageReader, Origin
from detflow.data.sinks.sink import CarriedImage, SetPlan, Sink, Trait
from detflow.data.workers.processes import OrderedMap
from detflow.errors import DataError
from detflow.progress import Progress

_CHUNK = 16


@dataclass(frozen=True, slots=True)
class WrittenSet:
    """What was written.

    Attributes:
        splits: The number of images and of objects of each class, by the split's name.
        images_encoded_anew: How many images are not the bytes that the origin holds.
        renamed: The old path and the new name of each image whose own name others have too.
        lost: How many of each trait the dialect could not hold.
    """

    splits: Mapping[str, tuple[int, Mapping[str, int]]]
    images_encoded_anew: int
    renamed: Sequence[tuple[str, str]]
    lost: Mapping[Trait, int]


class _Task(NamedTuple):
    number: int
    split: str
    name: str
    payload: Any


def write_set(
    origin: Origin, sink: Sink, target: Path, workers: OrderedMap, progress: Progress
) -> WrittenSet:
    """Writes a set.

    Args:
        origin: Where the images come from.
        sink: The dialect.
        target: An existing, empty folder.
        workers: Where to run.
        progress: Told how far it is.

    Raises:
        DataError: The dialect cannot hold a class name, or an image changed meanwhile.
    """
    for class_name in origin.label_map:
        if (fault := sink.find_fault(class_name)) is not None:
            raise DataError(
                f"{sink.title} cannot hold the class name {class_name!r}: {fault}",
                remedy="rename the class, or choose another --to",
            )
    split_names = choose_split_names((*origin.splits, *origin.unions))
    plan = SetPlan(
        origin.label_map,
        tuple(split_names[split] for split in origin.splits),
        {
            split_names[union]: tuple(split_names[part] for part in parts)
            for union, parts in origin.unions.items()
        },
    )
    for folder in sink.list_folders(plan):
        (target / folder).mkdir(parents=True)
    entries = origin.entries
    names, shared = choose_names([entry.image for entry in entries])
    tally = _Tally(origin, sink)
    payloads = origin.payloads(range(len(entries)))
    with sink.open_lists(target, plan) as lists:
        tasks = (
            _Task(number, split_names[entry.split], name, payload)
            for number, (entry, name, payload) in enumerate(
                zip(entries, names, payloads, strict=True), start=1
            )
        )
        function = partial(_write_image, origin.reader, sink, plan, target)
        written = workers(function, tasks, chunk=_CHUNK)
        for entry, (image, is_anew) in zip(entries, written, strict=True):
            lists.add(image)
            tally.add(entry.split, image, is_anew)
            progress(f"writing {sink.title}", image.number, len(entries))
    return WrittenSet(
        {split: (tally.images[split], tally.objects[split]) for split in origin.splits},
        tally.anew,
        [(entries[place].image, names[place]) for place in shared],
        tally.find_lost(),
    )


def _write_image(
    reader: ImageReader, sink: Sink, plan: SetPlan, target: Path, task: _Task
) -> tuple[CarriedImage, bool]:
    loaded = reader.load(task.payload)
    image = CarriedImage(
        task.number, task.split, task.name, loaded.suffix, loaded.size, loaded.objects
    )
    path = target / sink.place_image(image.split, image.file_name)
    path.write_bytes(loaded.encoded)
    sink.write_image_files(target, image, plan)
    return image, loaded.is_encoded_anew


class _Tally:
    """Counts what was written and what was lost."""

    def __init__(self, origin: Origin, sink: Sink) -> None:
        self._origin = origin
        self._sink = sink
        self._traits: Counter[Trait] = Counter()
        self.images: Counter[str] = Counter()
        self.objects: dict[str, Counter[str]] = {split: Counter() for split in origin.splits}
        self.anew = 0

    def add(self, split: str, image: CarriedImage, is_anew: bool) -> None:
        self.images[split] += 1
        self.objects[split].update(item.name for item in image.objects)
        self.anew += is_anew
        self._traits.update(_find_traits(image, self._sink.holds))

    def find_lost(self) -> dict[Trait, int]:
        used = {name for counts in self.objects.values() for name in counts}
        classes = list(self._origin.label_map)
        self._traits[Trait.SPARE_CLASS] = len(classes) - len(used)
        kept = [name for name in classes if name in used]
        self._traits[Trait.CLASS_ORDER] = sum(
            name != other for name, other in zip(kept, sorted(kept), strict=True)
        )
        self._traits[Trait.UNION] = len(self._origin.unions)
        return {
            trait: self._traits[trait]
            for trait in Trait
            if self._traits[trait] and trait not in self._sink.holds
        }


def _find_traits(image: CarriedImage, held: frozenset[Trait]) -> Iterator[Trait]:
    if not image.objects:
        yield Trait.NEGATIVE
    for item in image.objects:
        # What takes time to find is looked for only where it is lost.
        if Trait.THIN not in held and is_thin(item.box, image.size):
            yield Trait.THIN
        elif Trait.FRACTION not in held and not is_whole(item.box, image.size):
            yield Trait.FRACTION
        if item.difficult and not item.crowd:
            yield Trait.DIFFICULT
        if item.truncated:
            yield Trait.TRUNCATED
        if item.crowd:
            yield Trait.CROWD
        if item.pose and item.pose != "Unspecified":
            yield Trait.POSE
        if item.score is not None:
            yield Trait.SCORE
