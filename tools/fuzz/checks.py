"""Compares what detflow makes of a case with what the second reader says."""

from __future__ import annotations

import io
import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detflow.data.findings import Finding
from detflow.data.images.transcode import encode_record_jpeg
from detflow.data.judging.sample import AuditedSample
from detflow.data.records.schema import decode_sample, encode_sample
from detflow.data.rules import Action
from detflow.label_map import LabelMap
from detflow.types import Sample
from fuzz.reader import NotStrict, ReferenceObject, read_strictly

# Which codes of the ledger account for which deviation.
_ACCOUNTS = {
    "name": {"name_whitespace"},
    "form of the name": {"name_unicode"},
    "flag": {"flag_unreadable"},
    "box": {"box_inverted", "box_clipped"},
    "form": {"box_form"},
    "outline": {"box_from_outline"},
    "left out": {"box_zero_area", "box_outside", "object_duplicate"},
}
_SIZE_CODES = {"size_missing", "size_zero", "size_swapped", "size_wrong", "exif_applied"}
_PAIRING_CODES = {
    "paired_by_case",
    "paired_by_extension",
    "paired_by_path",
    "paired_by_stem",
    "paired_by_size",
    "claim_stale",
}


class Wrong(Exception):
    """What detflow made of a case is not what may be made of it."""


def check_refusal(findings: list[Finding]) -> str:
    """Returns the code of the finding that says why no sample came of a case.

    Raises:
        Wrong: There is none.
    """
    for finding in findings:
        if finding.action in (Action.QUARANTINED, Action.REFUSED) or finding.code == "xml_not_voc":
            return finding.code
    codes = [finding.code for finding in findings]
    raise Wrong(f"the annotation was lost without a word; findings: {codes}")


def check_labels(sample: AuditedSample, findings: list[Finding], xml: bytes, image: str) -> None:
    """Checks that a sample is what the second reader says, and every difference in the ledger.

    Raises:
        Wrong: It is not.
    """
    try:
        reference = read_strictly(xml, (sample.size.width, sample.size.height))
    except NotStrict as error:
        raise Wrong(f"accepted, yet it cannot be read beyond doubt: {error}") from None
    found = tuple(
        ReferenceObject(
            entry.name,
            (entry.box.ymin, entry.box.xmin, entry.box.ymax, entry.box.xmax),
            entry.difficult,
            entry.truncated,
        )
        for entry in sample.objects
    )
    if found != reference.objects:
        raise Wrong(f"labels differ: {found} instead of {reference.objects}")
    codes = {(finding.object_index, finding.code) for finding in findings}
    for number, deviation in reference.deviations:
        # A finding about all objects of a name has no number.
        if not any(codes & {(number, code), (None, code)} for code in _ACCOUNTS[deviation]):
            raise Wrong(f"object {number}: {deviation} changed, the ledger does not say so")
    names = {code for _, code in codes}
    if reference.size != (sample.size.width, sample.size.height) and not names & _SIZE_CODES:
        raise Wrong(
            f"<size> is {reference.size}, the sample has {sample.size}, the ledger does not say so"
        )
    if (
        re.split(r"[\\/]", reference.filename.strip())[-1] != image.rpartition("/")[2]
        and not names & _PAIRING_CODES
    ):
        raise Wrong(
            f"<filename> is {reference.filename!r}, the image {image!r}, the ledger does not say so"
        )
    if ".." in re.split(
        r"[\\/]", reference.filename.strip()
    ) or reference.filename.strip().startswith("/"):
        raise Wrong(f"<filename> {reference.filename!r} leaves the dataset")


def check_record(sample: AuditedSample, data: bytes) -> None:
    """Checks that a sample's record comes back as written, and that another decoder agrees.

    Raises:
        Wrong: It does not.
    """
    jpeg = encode_record_jpeg(data, sample.treatment)
    label_map = LabelMap(tuple(sorted({entry.name for entry in sample.objects})))
    record = Sample(sample.key, 1, sample.image, sample.size, jpeg, sample.objects)
    if decode_sample(encode_sample(record, label_map), label_map) != record:
        raise Wrong("the record does not come back as it was written")
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            image.load()
            written, size, turn = (
                np.asarray(image.convert("RGB"), np.int16),
                image.size,
                image.getexif().get(0x0112, 1),
            )
    except Exception as error:  # noqa: BLE001  Whatever Pillow raises, the record is damaged.
        raise Wrong(f"the record's JPEG cannot be decoded: {error}") from None
    if size != (sample.size.width, sample.size.height):
        raise Wrong(f"the record's JPEG has {size}, the sample {sample.size}")
    if turn in range(2, 9):
        raise Wrong(f"the record's JPEG has EXIF orientation {turn}")
    seen = decode_plainly(data) if sample.treatment.turn == 1 else None
    if seen is None:
        return
    # Noise at a quality of 95 costs less than three levels on average.
    if seen.shape != written.shape or np.abs(seen - written).mean() > 6:
        raise Wrong("the record shows another picture than the file")


def decode_plainly(data: bytes) -> NDArray[np.int16] | None:
    """Returns RGB pixels as Pillow sees a file; None where they depend on rules about colour."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            plain = image.mode in ("L", "RGB") and "transparency" not in image.info
            return np.asarray(image.convert("RGB"), np.int16) if plain else None
    except Exception:  # noqa: BLE001  Then there is nothing to compare with.
        return None
