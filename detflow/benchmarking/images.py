"""The JPEG files that are detected on while an export is measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import simplejpeg

from detflow.data.records.manifest import RecordsManifest
from detflow.data.records.reading import read_samples

_NUM_IMAGES: Final = 32
# Pictures that are drawn where the user names no records: they have a usual size and compress like
# photographs.
_DRAWN_SIZE_PX: Final = (480, 640)
_DRAWN_SEED: Final = 11


def write_images(
    folder: Path, records: Path | None, manifest: RecordsManifest | None, split: str
) -> Iterator[str]:
    """Writes JPEG files.

    Args:
        folder: The folder to write into.
        records: The records that the images come from; None draws some.
        manifest: The records' manifest.
        split: The split of the records.

    Yields:
        The path of each file.
    """
    if records is None or manifest is None:
        files: Iterator[bytes] = _draw_images()
    else:
        files = (sample.encoded for sample in read_samples(records, manifest, split))
    for number, content in zip(range(_NUM_IMAGES), files, strict=False):
        path = folder / f"{number:03}.jpg"
        path.write_bytes(content)
        yield str(path)


def _draw_images() -> Iterator[bytes]:
    """Yields seeded pictures of patches with a little noise."""
    random = np.random.default_rng(_DRAWN_SEED)
    height, width = _DRAWN_SIZE_PX
    while True:
        coarse = random.integers(0, 256, (height // 32, width // 32, 3))
        pixels = np.kron(coarse, np.ones((32, 32, 1), np.int64)) + random.normal(
            0, 6, (height, width, 3)
        )
        content = np.clip(pixels, 0, 255).astype(np.uint8)
        yield bytes(
            simplejpeg.encode_jpeg(content, quality=90, colorspace="RGB", colorsubsampling="420")
        )
