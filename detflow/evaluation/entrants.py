"""What is compared: models and files of detections, each on the same images."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from detflow.data.images.decode import decode_pixels
from detflow.evaluation.predictions import find_predictions, read_predictions
from detflow.evaluation.run import name_source
from detflow.evaluation.seen import find_warnings
from detflow.evaluation.splits import SplitReader
from detflow.metrics.coco import EvaluatedImage
from detflow.storage.location import Location
from detflow.types import Sample

if TYPE_CHECKING:
    from detflow.inference.detector import Detector

TIMED_IMAGES: Final = 8
"""Images of the split that an export is timed on."""

_TIMED_RUNS, _TIMED_SECONDS = 40, 3.0


@dataclass(frozen=True, slots=True)
class ExportFacts:
    """What an export costs.

    Attributes:
        bytes: Size of its files.
        p50_ms: Median of what one image takes on this machine, from pixels to detections, on all
            cores.
    """

    bytes: int
    p50_ms: float


@dataclass(frozen=True, slots=True)
class Entrant:
    """A model, or a file of detections, on the images of a split.

    Attributes:
        model: The file or folder that the user named.
        source: What was run inside of it, or the file that was read.
        images: Truth and detections, in the order of the samples' ids.
        export: What it costs; None for what is no export.
        warnings: Why its numbers look better or worse than it is, as sentences.
    """

    model: str
    source: str
    images: Sequence[EvaluatedImage]
    export: ExportFacts | None
    warnings: tuple[str, ...] = ()


def read_entrant(
    place: Location, reader: SplitReader, samples: Sequence[Sample], progress: Callable[[int], None]
) -> Entrant:
    """Runs a model on the images of a split, or reads what was found on them.

    Args:
        place: What `load_detector` takes, the URL of such a folder, or a file or folder that
            `find_predictions` knows.
        reader: Reads the split.
        samples: Its images in the order of their ids, without their files.
        progress: Told how many images have been dealt with.

    Raises:
        ConfigError: The model has other classes, or the detections are of other records or splits.
        DataError: An image cannot be decoded, or a file of detections cannot be read.
        ArtifactError: The model is damaged.
    """
    file = find_predictions(place) if isinstance(place, Path) else None
    if file is not None:
        found = read_predictions(file, samples, reader.manifest, reader.split)
        images = [
            EvaluatedImage(sample.size, sample.objects, detections)
            for sample, detections in zip(samples, found.detections, strict=True)
        ]
        return Entrant(str(place), str(file), images, None, found.warnings)
    from detflow.inference.evaluate import detect_samples
    from detflow.inference.load import load_detector, local_model

    with local_model(place) as path:
        detector = load_detector(path)
        _, images = detect_samples(
            detector, reader.read_counted(progress), reader.manifest.label_map
        )
        facts = _measure_export(detector, reader.read())
        source = name_source(place, path, detector.source)
        warnings = find_warnings(detector.source, reader)
    return Entrant(str(place), source, images, facts, warnings)


def _measure_export(detector: Detector, samples: Iterable[Sample]) -> ExportFacts | None:
    """Returns what an export costs; None where the detector is a checkpoint."""
    from detflow.inference.formats import FORMATS

    file = detector.source
    if all(known.find(file) is None for known in FORMATS):
        return None
    size = sum(part.stat().st_size for part in _files_of(file))
    return ExportFacts(size, _measure_p50_ms(detector, samples))


def _files_of(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        # OpenVINO's weights lie beside the file that is named.
        weights = path.with_suffix(".bin")
        if path.suffix == ".xml" and weights.is_file():
            yield weights
        return
    yield from (part for part in sorted(path.rglob("*")) if part.is_file())


def _measure_p50_ms(detector: Detector, samples: Iterable[Sample]) -> float:
    pictures = [
        decode_pixels(sample.encoded, sample.size.width * sample.size.height, upright=False)[0]
        for sample in itertools.islice(samples, TIMED_IMAGES)
    ]
    # In the first pass a runtime prepares itself for images of these sizes.
    for picture in pictures:
        list(detector.detect([picture]))
    seconds: list[float] = []
    for picture in itertools.islice(itertools.cycle(pictures), _TIMED_RUNS):
        began = time.perf_counter()
        list(detector.detect([picture]))
        seconds.append(time.perf_counter() - began)
        if sum(seconds) > _TIMED_SECONDS:
            break
    return 1e3 * statistics.median(seconds)
