"""Proposes `--max-side` where photos are larger than a detector needs, with figures.

docs/records.md states the rule and where the constants come from.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from detflow.data.images.transcode import Treatment
from detflow.data.judging.audit import Audit
from detflow.data.judging.sample import AuditedSample, read_line
from detflow.text import count_noun

_LARGE_PIXELS = 4_000_000
# A photo with more pixels has more bytes; smaller files need not be looked at.
_LARGE_BYTES = 200_000
_SIDES = (1024, 1280, 1600, 2048, 3072, 4096)
_OBJECT_PX = 16.0
_KEPT_SHARE = 0.99
# Measured; see docs/records.md.
_MS_PER_MEGAPIXEL = 4.0
_MS_PER_MEGAPIXEL_SHRUNK = 8.0
_BYTES_PER_PIXEL_SHRUNK = 0.5


@dataclass(frozen=True, slots=True)
class MaxSideProposal:
    """A value for `--max-side`, and what it would change about the large images.

    Attributes:
        max_side: The value.
        images: How many images have more than 4 megapixels.
        objects: How many objects of theirs have a shorter side of 16 pixels or more.
        objects_kept: How many of those still have it in the smaller images.
        bytes_now: The images' size as they are.
        bytes_then: An estimate of their size in the records.
        decoding_seconds_now: What decoding them takes in each epoch, on one core.
        decoding_seconds_then: An estimate of the same for the smaller images.
    """

    max_side: int
    images: int
    objects: int
    objects_kept: int
    bytes_now: int
    bytes_then: int
    decoding_seconds_now: float
    decoding_seconds_then: float

    def to_json(self) -> dict[str, Any]:
        """Returns the attributes by name."""
        return asdict(self)

    def __str__(self) -> str:
        kept = 100.0 * self.objects_kept / self.objects if self.objects else 100.0
        return (
            f"{count_noun(self.images, 'image')} above 4 megapixels: --max-side {self.max_side} "
            f"stores about {self.bytes_then / 1e6:,.0f} MB instead of {self.bytes_now / 1e6:,.0f} "
            f"MB, and decodes in about {self.decoding_seconds_then:,.1f} s an epoch instead of "
            f"{self.decoding_seconds_now:,.1f} s; {kept:.1f}% of their objects stay 16 pixels wide "
            "and high"
        )


def propose_max_side(audit: Audit) -> MaxSideProposal | None:
    """Returns the smallest of some values that leaves the objects large enough.

    Args:
        audit: The audit of a dataset, without `max_side`.

    Returns:
        None where no photo is large, the objects would become too small, or nothing is won.
    """
    images = now_pixels = now_bytes = objects = 0
    then_pixels = dict.fromkeys(_SIDES, 0)
    kept = dict.fromkeys(_SIDES, 0)
    with open(audit.samples_path, "rb") as lines:
        for summary in audit.samples.values():
            if summary.image_bytes < _LARGE_BYTES:
                continue
            sample = AuditedSample.from_json(read_line(lines, summary.offset))
            if sample.size.num_pixels <= _LARGE_PIXELS:
                continue
            images += 1
            now_pixels += sample.size.num_pixels
            now_bytes += sample.image_bytes
            shorter = [
                min((ymax - ymin) * sample.size.height, (xmax - xmin) * sample.size.width)
                for ymin, xmin, ymax, xmax in sample.columns.boxes_yxyx
            ]
            shorter = [side for side in shorter if side >= _OBJECT_PX]
            objects += len(shorter)
            for max_side in _SIDES:
                stored = Treatment(max_side=max_side).shrink(sample.size)
                then_pixels[max_side] += stored.num_pixels
                scale = stored.width / sample.size.width
                kept[max_side] += sum(side * scale >= _OBJECT_PX for side in shorter)
    for max_side in _SIDES:
        then = then_pixels[max_side] / 1e6 * _MS_PER_MEGAPIXEL_SHRUNK / 1e3
        now = now_pixels / 1e6 * _MS_PER_MEGAPIXEL / 1e3
        if images and kept[max_side] >= _KEPT_SHARE * objects:
            if then >= now:
                return None
            num_bytes = round(then_pixels[max_side] * _BYTES_PER_PIXEL_SHRUNK)
            return MaxSideProposal(
                max_side=max_side,
                images=images,
                objects=objects,
                objects_kept=kept[max_side],
                bytes_now=now_bytes,
                bytes_then=num_bytes,
                decoding_seconds_now=now,
                decoding_seconds_then=then,
            )
    return None
