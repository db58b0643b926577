"""Models on the same images: what the first has more or less than each of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.evaluation.analysis import Analysis, Subject, analyse
from detflow.evaluation.entrants import ExportFacts, read_entrant
from detflow.evaluation.gallery import image_of
from detflow.evaluation.splits import SplitReader, open_split
from detflow.metrics.intervals import LEVEL_TEXT, MIN_IMAGES, Interval, find_differences
from detflow.progress import Progress
from detflow.storage.location import Location
from detflow.tables import format_metric
from detflow.types import Sample

LETTERS: Final = "ABCDEFGHIJ"
"""How the models are called, in the order in which they were named."""


class Verdict(StrEnum):
    """What a difference says about the first model."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "the same"
    UNCLEAR = "not clear"
    TOO_FEW = "too few images"


@dataclass(frozen=True, slots=True)
class MetricDifference:
    """One metric of two models.

    Attributes:
        name: The metric's, as `coco_metrics` has it.
        first: Of the first model; None where there is no object to measure with.
        other: Of the other one.
        interval: What holds the middle of first minus other, over draws of the images; None where
            too few images have an object.
    """

    name: str
    first: float | None
    other: float | None
    interval: Interval | None

    @property
    def change(self) -> float | None:
        """How much the first has more."""
        if self.first is None or self.other is None:
            return None
        return self.first - self.other

    @property
    def verdict(self) -> Verdict:
        """Whether the images can tell that the first is better or worse."""
        if self.interval is None:
            return Verdict.TOO_FEW
        if self.interval == (0.0, 0.0):
            return Verdict.SAME
        if self.interval.low > 0.0:
            return Verdict.BETTER
        return Verdict.WORSE if self.interval.high < 0.0 else Verdict.UNCLEAR


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """How many errors two models make on an image, each at its own threshold."""

    index: int
    first: int
    other: int


@dataclass(frozen=True)
class Pair:
    """The first model beside another one.

    Attributes:
        place: The other's place among the models.
        differences: AP, AP50, and both of each class, by name.
        outcomes: An entry for each image.
    """

    place: int
    differences: Mapping[str, MetricDifference]
    outcomes: Sequence[ImageOutcome]

    @property
    def won(self) -> list[ImageOutcome]:
        """Images on which the first makes fewer errors, those with the largest lead first."""
        chosen = [one for one in self.outcomes if one.first < one.other]
        return sorted(chosen, key=lambda one: (one.first - one.other, one.index))

    @property
    def lost(self) -> list[ImageOutcome]:
        """Images on which the first makes more errors, those with the largest lag first."""
        chosen = [one for one in self.outcomes if one.first > one.other]
        return sorted(chosen, key=lambda one: (one.other - one.first, one.index))


@dataclass(frozen=True)
class ModelComparison:
    """Several models on one split.

    Attributes:
        records: The folder of the records.
        split: The name of the split.
        fingerprint: Of the records.
        samples: The images, without their files, in the order of their ids.
        analyses: What was measured of each model.
        exports: What each costs; None for what is no export.
        pairs: The first beside each of the others.
    """

    records: str
    split: str
    fingerprint: str
    samples: Sequence[Sample]
    analyses: Sequence[Analysis]
    exports: Sequence[ExportFacts | None]
    pairs: Sequence[Pair]

    def require_not_worse(self) -> None:
        """Refuses a first model whose AP is below another's by more than the images leave open.

        Raises:
            DataError: There are too few images to tell.
            ArtifactError: It is worse.
        """
        for pair in self.pairs:
            difference = pair.differences["AP"]
            interval, other = difference.interval, self.analyses[pair.place].subject.model
            if interval is None:
                raise DataError(
                    f"fewer than {MIN_IMAGES} images of {self.split} have objects: nobody can tell "
                    "whether a model is worse",
                    path=self.records,
                    remedy="compare on a split with more images",
                )
            if difference.verdict is Verdict.WORSE:
                raise ArtifactError(
                    f"AP {format_metric(difference.first)} is below the "
                    f"{format_metric(difference.other)} of {other}: the difference is "
                    f"{interval.low:+.3f} to {interval.high:+.3f} at {LEVEL_TEXT}",
                    path=self.analyses[0].subject.model,
                )


def compare_models(
    models: Sequence[Location],
    records: Location,
    split: str,
    *,
    progress: Progress = lambda what, done, total: None,
) -> tuple[ModelComparison, SplitReader]:
    """Judges models on the same images, and the first beside each of the others.

    Args:
        models: What `read_entrant` takes; two at least.
        records: A folder that make-records wrote.
        split: Name of a split, or of a union of splits.
        progress: Told how far it is.

    Returns:
        The comparison, and what reads the files of the images.

    Raises:
        ConfigError: There are fewer than two models or too many, there is no such split, a model
            has other classes, or detections are of other records or splits.
        DataError: The split has no images, or detections cannot be read.
        ArtifactError: A model or the records are damaged.
    """
    if not 2 <= len(models) <= len(LETTERS):
        raise ConfigError(
            f"{len(models)} models to compare", remedy=f"name between 2 and {len(LETTERS)}"
        )
    reader = open_split(records, split)
    label_map, fingerprint = reader.manifest.label_map, reader.manifest.fingerprint
    samples = reader.read_facts()
    analyses, exports = [], []
    for letter, model in zip(LETTERS, models, strict=False):
        counted = partial(_tell, progress, f"detecting with {letter}", reader.num_images)
        entrant = read_entrant(model, reader, samples, counted)
        subject = Subject(
            entrant.model, entrant.source, str(records), split, fingerprint, entrant.warnings
        )
        analyses.append(analyse(entrant.images, label_map, subject))
        exports.append(entrant.export)
    pairs = [pair_models(analyses, place) for place in range(1, len(analyses))]
    comparison = ModelComparison(
        str(records), split, fingerprint, samples, analyses, exports, pairs
    )
    return comparison, reader


def _tell(progress: Progress, what: str, total: int, number: int) -> None:
    progress(what, number, total)


def pair_models(analyses: Sequence[Analysis], place: int) -> Pair:
    """Sets the first of several models beside another one.

    Args:
        analyses: What was measured of each, on the same images.
        place: The other's place.
    """
    first, other = analyses[0], analyses[place]
    intervals = find_differences(first.drawn, other.drawn, first.label_map)
    errors = [Counter(image_of(one, error) for error in one.errors) for one in (first, other)]
    return Pair(
        place,
        {
            name: MetricDifference(name, first.metrics[name], other.metrics[name], interval)
            for name, interval in intervals.items()
        },
        [
            ImageOutcome(index, errors[0][index], errors[1][index])
            for index in range(len(first.images))
        ],
    )
