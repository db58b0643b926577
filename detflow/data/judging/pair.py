"""Judges one annotation with its image: a pure function of what the two files hold."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detflow.data.findings import Corners, Finding
from detflow.data.images.decode import ImageFacts, read_image_facts
from detflow.data.images.header import IMAGE_SUFFIXES, MAX_IMAGE_BYTES, ImageFault
from detflow.data.images.transcode import Treatment
from detflow.data.judging.boxes import is_tiny, mend_box, place_box, to_pixels
from detflow.data.judging.case import Case
from detflow.data.judging.classes import KnownClasses, index_classes
from detflow.data.judging.provisional import KnownImage
from detflow.data.judging.reading import UnreadableFile
from detflow.data.judging.rendition import find_drawn
from detflow.data.judging.rulings import Rest, Ruling
from detflow.data.judging.sample import AuditedSample, ClassCount
from detflow.data.judging.testimony import is_size
from detflow.data.judging.turn import decide_turn
from detflow.data.records.schema import ObjectColumns, round_to_record
from detflow.data.sources.names import split_extension
from detflow.data.sources.source import RawAnnotation, RawObject
from detflow.types import CornerFrame, ImageSize

_NO_RENDITION = np.zeros((0, 0), np.uint8)
_MAX_SUGGESTED = 20


@dataclass(frozen=True, slots=True)
class ExaminedImage:
    """An image file: what it holds, or why it cannot be used.

    Attributes:
        path: Its path inside the dataset.
        num_bytes: Its size.
        sha256: Its SHA-256, 32 bytes.
        facts: What it holds.
        fault: Why it cannot be used; None where it can.
    """

    path: str
    num_bytes: int
    sha256: bytes
    facts: ImageFacts | None
    fault: ImageFault | None


def examine_image(data: bytes | UnreadableFile, path: str, max_pixels: int) -> ExaminedImage:
    """Decodes an image file completely.

    Args:
        data: The file's bytes, or why there are none.
        path: Its path inside the dataset.
        max_pixels: An image with more pixels cannot be used.
    """
    if isinstance(data, UnreadableFile):
        nothing = hashlib.sha256(b"").digest()
        return ExaminedImage(path, 0, nothing, None, ImageFault("file_unreadable", data.reason))
    sha256 = hashlib.sha256(data).digest()
    try:
        if len(data) > MAX_IMAGE_BYTES:
            raise ImageFault("image_too_large", f"over {MAX_IMAGE_BYTES:,} bytes")
        return ExaminedImage(path, len(data), sha256, read_image_facts(data, max_pixels), None)
    except ImageFault as fault:
        return ExaminedImage(path, len(data), sha256, None, fault)


def recall_image(known: KnownImage) -> ExaminedImage:
    """Returns an image that was examined before, but for its small rendition."""
    look = known.look
    facts = ImageFacts(
        format=look.format,
        kind=look.kind,
        size=ImageSize(known.width, known.height),
        orientation=look.orientation,
        is_plain_jpeg=look.is_plain_jpeg,
        grey=_NO_RENDITION,
        remarks=look.remarks,
    )
    return ExaminedImage(known.path, known.num_bytes, known.sha256, facts, None)


def judge_pair(
    annotation: RawAnnotation,
    image: ExaminedImage,
    classes: Sequence[str] | None,
    ruling: Ruling,
    max_side: int = 0,
) -> tuple[AuditedSample | None, tuple[Finding, ...]]:
    """Judges an annotation with its image.

    Args:
        annotation: The annotation as written.
        image: The image that belongs to it.
        classes: The classes that may occur; None allows any.
        ruling: What the whole set has decided.
        max_side: The longest side, in pixels, that an image may have in the records; 0 allows any.

    Returns:
        The sample, or None where it cannot be used, and all findings.
    """
    case = Case(annotation, image.path)
    sample = _judge(case, image, classes, ruling, max_side)
    return sample, tuple(case.findings)


def count_classes(annotation: RawAnnotation, sample: AuditedSample) -> tuple[ClassCount, ...]:
    """Returns the classes of a sample's objects, sorted by name, each with its first line."""
    counts = Counter(sample.columns.names)
    lines: dict[str, int] = {}
    for raw in annotation.objects or ():
        lines.setdefault(raw.name, raw.line)
    return tuple(ClassCount(name, counts[name], lines[name]) for name in sorted(counts))


def find_rest(annotation: RawAnnotation, facts: ImageFacts) -> Rest:
    """Returns what the judgement of an annotation with readable objects rests on."""
    rest = Rest.NOTHING
    if facts.orientation != 1:
        rest |= Rest.HABIT
    if not annotation.objects or annotation.frame is CornerFrame.FRACTIONS:
        return rest
    rest |= Rest.PATTERN
    if annotation.frame is None:
        rest |= Rest.FRAME
    if annotation.size is not None and not is_size(annotation.size, facts.size):
        rest |= Rest.SIZES
    return rest


def _judge(
    case: Case, image: ExaminedImage, classes: Sequence[str] | None, ruling: Ruling, max_side: int
) -> AuditedSample | None:
    annotation, facts, fault = case.annotation, image.facts, image.fault
    if fault is not None:
        case.note(fault.code, value=f"{image.path}: {fault.value}", expected=fault.expected)
    if annotation.objects is None or facts is None:
        return None
    turn = decide_turn(case, facts, ruling)
    if turn is None:
        return None
    size = facts.turned_size if turn != 1 else facts.size
    drawn = find_drawn(case, facts, size, annotation.frame or ruling.frame, ruling)
    if drawn is None:
        return None
    objects, frame = drawn
    for code, value in facts.remarks:
        case.note(code, value=value)
    treatment = _decide_treatment(
        case, facts, turn, max_side if max_side < max(size.width, size.height) else 0
    )
    kept = []
    boxes = []
    unknown: dict[str, str] = {}
    known = None if classes is None else index_classes(tuple(classes))
    for raw in objects:
        if known is not None and raw.name not in known:
            _note_unknown_class(case, raw, known, unknown)
        elif (shares := place_box(raw.corners, size, frame)) is not None:
            kept.append(raw)
            boxes.append(shares)
        elif (box := mend_box(case, raw, size, frame)) is not None:
            kept.append(raw)
            boxes.append((box.ymin, box.xmin, box.ymax, box.xmax))
    if unknown:
        return None
    if not objects:
        case.note("no_objects")
    if treatment.max_side:
        _note_shrinking(case, kept, boxes, size, treatment.shrink(size), frame)
    columns, lines = _drop_duplicates(case, kept, round_to_record(boxes), size, frame)
    return AuditedSample(
        annotation.name,
        image.path,
        image.num_bytes,
        image.sha256.hex(),
        size,
        treatment,
        columns,
        lines,
    )


def _note_shrinking(
    case: Case,
    objects: Sequence[RawObject],
    boxes: Sequence[Corners],
    size: ImageSize,
    stored: ImageSize,
    frame: CornerFrame,
) -> None:
    """Notes that an image becomes smaller, and which boxes become tiny by that."""
    case.note("image_shrunk", value=f"{size}, {stored} in the records")
    for raw, box in zip(objects, boxes, strict=True):
        if not is_tiny(box, size) and is_tiny(box, stored):
            value = f"{raw.name}, in the records"
            case.note_box("box_tiny", *to_pixels(raw, size, frame), value=value)


def _note_unknown_class(
    case: Case, raw: RawObject, known: KnownClasses, unknown: dict[str, str]
) -> None:
    """Notes a class that may not occur; `unknown` has those that were noted before."""
    if raw.name not in unknown:
        # Thousands of names in one file are not typing errors.
        is_few = len(unknown) < _MAX_SUGGESTED
        unknown[raw.name] = f"perhaps {known.find_nearest(raw.name)!r}" if is_few else ""
    case.note(
        "class_unknown",
        line=raw.line,
        object_index=raw.number,
        value=raw.name,
        expected=unknown[raw.name],
    )


def _drop_duplicates(
    case: Case,
    objects: Sequence[RawObject],
    boxes: Sequence[Corners],
    size: ImageSize,
    frame: CornerFrame,
) -> tuple[ObjectColumns, list[int]]:
    """Returns the objects but for those with the class and the box of an earlier one, and lines."""
    first: dict[tuple[str, Corners], RawObject] = {}
    for raw, box in zip(objects, boxes, strict=True):
        earlier = first.setdefault((raw.name, box), raw)
        if earlier is not raw:
            value = f"{raw.name}, as object {earlier.number}"
            case.note_box("object_duplicate", *to_pixels(raw, size, frame), value=value)
    kept = first.values()
    columns = ObjectColumns(
        names=[raw.name for raw in kept],
        boxes_yxyx=[box for _, box in first],
        # Every reader knows this flag, and leaves such objects out of an evaluation.
        difficult=[int(raw.difficult or raw.crowd) for raw in kept],
        truncated=[int(raw.truncated) for raw in kept],
        poses=[raw.pose for raw in kept],
        crowds=[int(raw.crowd) for raw in kept],
    )
    return columns, [raw.line for raw in kept]


def _decide_treatment(case: Case, facts: ImageFacts, turn: int, max_side: int) -> Treatment:
    suffix = split_extension(case.image)[1]
    if IMAGE_SUFFIXES.get(suffix.lower()) != facts.format:
        expected = f"named {suffix or 'without an extension'}"
        case.note_image("extension_wrong", value=facts.kind, expected=expected)
    if not facts.is_plain_jpeg:
        case.note("image_transcoded", value=facts.kind)
    transcode = turn != 1 or not facts.is_plain_jpeg or max_side > 0
    return Treatment(
        transcode=transcode,
        turn=turn,
        drop_exif=facts.orientation != 1 and not transcode,
        max_side=max_side,
    )
