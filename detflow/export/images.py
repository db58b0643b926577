"""The images that an export is proved on."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image

from detflow.config import DataConfig
from detflow.dataset.pictures import find_pictures, read_picture
from detflow.dataset.records import MANIFEST_NAME, read_manifest, read_samples
from detflow.engine import preprocess
from detflow.export.verify import ProofImage

__all__ = ["ProofImages", "find_proof_images"]

_MAX_IMAGES = 32
_SYNTHETIC_SEED = 7


@dataclass(frozen=True)
class ProofImages:
    """Images, to be read once.

    Attributes:
        kind: Where they come from.
        source: The folder, and the split of records; empty for synthetic images.
    """

    kind: Literal["records", "folder", "synthetic"]
    source: str
    images: Iterable[ProofImage]


def find_proof_images(chosen: Path | None, data: DataConfig) -> ProofImages:
    """Finds up to 32 images.

    Args:
        chosen: A folder of images, or of records, that the user named; None takes the records that the run was evaluated on. Where
            those are gone, seeded synthetic pictures stand in.
        data: The run's.

    Raises:
        DataError: The chosen folder has no image.
        ArtifactError: The records are damaged.
        ConfigError: The records have no such split.
    """
    split = data.eval_split or data.train_split
    if chosen is not None and not (chosen / MANIFEST_NAME).is_file():
        return ProofImages("folder", str(chosen), _from_folder(chosen))
    records_dir = chosen or Path(data.records)
    if (records_dir / MANIFEST_NAME).is_file():
        return ProofImages("records", f"{records_dir} {split}", _from_records(records_dir, split))
    return ProofImages("synthetic", "", _synthetic())


def _from_records(records_dir: Path, split: str) -> Iterator[ProofImage]:
    samples = read_samples(records_dir, read_manifest(records_dir), split)
    for sample in itertools.islice(samples, _MAX_IMAGES):
        yield ProofImage(sample.filename, preprocess.decode_jpeg(tf.constant(sample.encoded)).numpy(), sample.encoded)


def _from_folder(folder: Path) -> Iterator[ProofImage]:
    for file in find_pictures(str(folder))[:_MAX_IMAGES]:
        yield _from_pixels(file.name, read_picture(file.path).pixels)


def _synthetic() -> Iterator[ProofImage]:
    """Yields noise of many scales with flat rectangles in it, in many sizes and aspects."""
    random = np.random.default_rng(_SYNTHETIC_SEED)
    for number in range(_MAX_IMAGES):
        height, width = (int(side) for side in random.integers(48, 640, 2))
        coarse = random.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3))
        pixels = np.kron(coarse, np.ones((16, 16, 1), np.int64))[:height, :width]
        for _ in range(int(random.integers(1, 12))):
            top, left = int(random.integers(0, height)), int(random.integers(0, width))
            pixels[top : top + int(random.integers(8, height)), left : left + int(random.integers(8, width))] = random.integers(
                0, 256, 3
            )
        pixels = np.clip(pixels + random.normal(0.0, 12.0, pixels.shape), 0, 255)
        yield _from_pixels(f"synthetic-{number}", pixels.astype(np.uint8))


def _from_pixels(name: str, pixels: npt.NDArray[np.uint8]) -> ProofImage:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return ProofImage(name, pixels, file.getvalue())
