"""The images that an export is proved on, and those that int8 is calibrated with."""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from detflow.config.schema import DataConfig
from detflow.data.images.pictures import PictureFile, find_pictures, read_picture
from detflow.data.records.manifest import (
    MANIFEST_NAME,
    RecordsManifest,
    read_manifest,
    resolve_split,
)
from detflow.data.records.mirror import mirror_records
from detflow.data.records.reading import read_samples
from detflow.errors import ConfigError, DataError
from detflow.exporting.proof.process import ProofImage
from detflow.inference.evaluate import decode_sample
from detflow.label_map import LabelMap
from detflow.storage.folders import open_folder
from detflow.storage.location import Url, parse_location
from detflow.types import Sample

# A few images show that outputs are equal. Where they are only alike AP has to be measured, which
# takes more images.
NUM_EXACT_IMAGES = 32
NUM_MEASURED_IMAGES = 256
_SYNTHETIC_SEED = 7


class _Rereadable:
    """An iterable that reads from the beginning each time it is iterated over."""

    def __init__(self, read: Callable[[], Iterator[ProofImage]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[ProofImage]:
        return self._read()


@dataclass(frozen=True)
class ProofImages:
    """The images of a proof.

    Attributes:
        kind: Where they come from.
        source: The folder, and the split of records; empty for synthetic images.
        split: The split of records; empty for other images.
        fingerprint: Of the records; empty for other images.
        resolve: Returns the splits of the records that a name stands for.
        images: The images, read anew each time they are iterated over; those of records know their
            objects.
    """

    kind: Literal["records", "folder", "synthetic"]
    source: str
    images: Iterable[ProofImage]
    split: str = ""
    fingerprint: str = ""
    resolve: Callable[[str], tuple[str, ...]] = lambda name: ()

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of the records that the images are of."""
        return self.resolve(self.split)


def find_proof_images(
    chosen: Path | None,
    split: str | None,
    data: DataConfig,
    limit: int,
    label_map: LabelMap,
    canvas_sizes: Sequence[tuple[int, int]] = (),
) -> ProofImages:
    """Finds the images that an export is proved on.

    Args:
        chosen: A folder of images, or of records, that the user named; None takes the records that
            the run was evaluated on. Where those are gone, seeded synthetic pictures stand in.
        split: Split of the records; None for the one that the run was evaluated on.
        data: The run's data settings.
        limit: Most images; there are never more than `NUM_EXACT_IMAGES` synthetic ones.
        label_map: The checkpoint's classes; the records may have them in another order.
        canvas_sizes: (height, width) of the model's canvases: far larger images of records are made
            smaller first, as every evaluation does it.

    Raises:
        DataError: The chosen folder has no image.
        ArtifactError: The records are damaged.
        ConfigError: The records have no such split or other classes, or a split is named and there
            are no records.
    """
    name = split or data.eval_split or data.train_split
    records_dir = chosen or local_records(data.records, name)
    if (records_dir / MANIFEST_NAME).is_file():
        manifest = read_manifest(records_dir)
        _require_classes(records_dir, manifest, label_map)
        resolve_split(manifest, name)
        return ProofImages(
            "records",
            f"{records_dir} {name}",
            _Rereadable(lambda: _from_records(records_dir, manifest, name, limit, canvas_sizes)),
            name,
            manifest.fingerprint,
            functools.partial(resolve_split, manifest),
        )
    if split is not None:
        raise ConfigError(
            f"--split {split}: there are no records",
            path=records_dir,
            remedy="name a records folder with --images",
        )
    if chosen is not None:
        files = find_pictures(str(chosen))[:limit]
        return ProofImages("folder", str(chosen), _Rereadable(lambda: _from_files(files)))
    return ProofImages("synthetic", "", _Rereadable(_synthetic))


def read_training_samples(
    chosen: Path | None, data: DataConfig, label_map: LabelMap
) -> Iterator[Sample]:
    """Reads the samples that the run was trained on.

    Args:
        chosen: A folder that the user named; where it is one of records it replaces the run's own.
        data: The run's data settings.
        label_map: The checkpoint's classes.

    Raises:
        ConfigError: The records have other classes.
        DataError: The records are not there.
        ArtifactError: The records are damaged.
    """
    records_dir = (
        chosen
        if chosen is not None and (chosen / MANIFEST_NAME).is_file()
        else local_records(data.records, data.train_split)
    )
    if not (records_dir / MANIFEST_NAME).is_file():
        raise DataError(
            "the training records are not there",
            path=records_dir,
            remedy="name their folder with --images",
        )
    manifest = read_manifest(records_dir)
    _require_classes(records_dir, manifest, label_map)
    yield from read_samples(records_dir, manifest, data.train_split)


def _require_classes(records_dir: Path, manifest: RecordsManifest, label_map: LabelMap) -> None:
    """Refuses records whose objects the checkpoint has no names for, or the other way round."""
    if set(manifest.label_map) != set(label_map):
        raise ConfigError(
            f"the records have the classes {', '.join(manifest.label_map)}; the checkpoint knows "
            f"{', '.join(label_map)}",
            path=records_dir,
            remedy="name records of its classes, or a folder of images, with --images",
        )


def local_records(records: str, split: str | None = None) -> Path:
    """Returns the run's records on this machine; if they are gone, a path where nothing lies.

    Args:
        records: Their place as the configuration has it.
        split: What is needed of records at a URL; None for all of it.
    """
    location = parse_location(records)
    if isinstance(location, Url) and open_folder(location).digest(MANIFEST_NAME) is None:
        return Path(records)
    return mirror_records(location, None if split is None else [split])


def _from_records(
    records_dir: Path,
    manifest: RecordsManifest,
    split: str,
    limit: int,
    canvas_sizes: Sequence[tuple[int, int]],
) -> Iterator[ProofImage]:
    for sample in itertools.islice(read_samples(records_dir, manifest, split), limit):
        picture = decode_sample(sample, canvas_sizes)
        if picture.reduction == 1:
            yield ProofImage(sample.filename, picture.pixels, sample.encoded, sample.objects)
        else:
            # What takes files gets one of the same pixels.
            proof = _from_pixels(sample.filename, picture.pixels)
            yield dataclasses.replace(proof, objects=sample.objects)


def _from_files(files: Sequence[PictureFile]) -> Iterator[ProofImage]:
    for file in files:
        yield _from_pixels(file.name, read_picture(file.path).pixels)


def _synthetic() -> Iterator[ProofImage]:
    """Yields noise of many scales with flat rectangles in it, in many sizes and aspects."""
    random = np.random.default_rng(_SYNTHETIC_SEED)
    for number in range(NUM_EXACT_IMAGES):
        height, width = (int(side) for side in random.integers(48, 640, 2))
        coarse = random.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3))
        pixels = np.kron(coarse, np.ones((16, 16, 1), np.int64))[:height, :width]
        for _ in range(int(random.integers(1, 12))):
            top, left = int(random.integers(0, height)), int(random.integers(0, width))
            pixels[
                top : top + int(random.integers(8, height)),
                left : left + int(random.integers(8, width)),
            ] = random.integers(0, 256, 3)
        pixels = np.clip(pixels + random.normal(0.0, 12.0, pixels.shape), 0, 255)
        yield _from_pixels(f"synthetic-{number}", pixels.astype(np.uint8))


def _from_pixels(name: str, pixels: npt.NDArray[np.uint8]) -> ProofImage:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return ProofImage(name, pixels, file.getvalue())
