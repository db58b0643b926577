"""Whole datasets whose truth is known: where each box of each picture lies, and its split.

What one file says may be wrong in many ways; what the set says must not become a wrong label
without a word. So a few pictures with their annotations are written as tools and people leave them
behind: file names exchanged, pictures turned by EXIF, boxes of another rendition, lists in odd
encodings, names with line breaks and backslashes. Then every sample is compared with what was
drawn.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from detflow.data.findings import Finding
from detflow.data.judging.audit import Audit
from detflow.data.judging.sample import AuditedSample
from fuzz.checks import Wrong

_SIZE = (96, 64)
# Tools count from 0 or from 1, and round.
_TOLERANCE_PX = 1.6
_INVERSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_ODD_NAMES = (
    "a\nb",
    "back\\slash",
    "two  spaces",
    "hash#1",
    "pérc%20ent",
    "trailing.",
    "comma,name",
)

Edges = tuple[float, float, float, float]


@dataclass
class Entry:
    """One picture with its annotation.

    Attributes:
        stem: Their name.
        boxes: Where the objects lie in the picture as a person sees it: name, and edges in pixels.
        orientation: The EXIF orientation with which the picture is stored.
        filename: What the annotation has for `<filename>`.
        size: What it has for `<size>`.
        scale: How much larger the picture was that it was drawn on.
        shift: What is added to the minima: 1 where corners count from 1.
        split: The split that a list declares.
    """

    stem: str
    boxes: dict[str, Edges]
    orientation: int = 1
    filename: str | None = None
    size: tuple[int, int] | None = _SIZE
    scale: float = 1.0
    shift: int = 1
    split: str | None = None

    @property
    def image(self) -> str:
        """The picture's path inside the dataset."""
        return f"images/{self.stem}.jpg"

    @property
    def annotation(self) -> str:
        """The annotation's path inside the dataset."""
        return f"annotations/{self.stem}.xml"


@dataclass
class SetCase:
    """A dataset: a function of (seed, number)."""

    entries: list[Entry]
    files: dict[str, bytes] = field(default_factory=dict)
    what: list[str] = field(default_factory=list)


def build_set_case(seed: int, number: int) -> SetCase:
    """Builds a dataset with a few faults of the whole."""
    rng = random.Random(seed * 1_000_003 + number)  # noqa: S311
    stems = [f"i{index}" for index in range(rng.choice((2, 4, 6)))]
    case = SetCase([_draw_entry(rng, stem) for stem in stems])
    for fault in rng.sample(_FAULTS, k=rng.choice((0, 1, 1, 2, 3))):
        case.what.append(fault.__name__.lstrip("_"))
        fault(rng, case)
    for index, entry in enumerate(case.entries):
        case.files[entry.image] = _encode_picture(entry, seed * 7919 + number * 17 + index)
        case.files[entry.annotation] = _write_annotation(entry)
    return case


def check_set(case: SetCase, audit: Audit) -> str:
    """Compares an audit with the truth.

    Returns:
        The code of a finding that refuses the whole, or "".

    Raises:
        Wrong: A label is wrong, a split another one, or an annotation is lost, without a word.
    """
    findings = list(audit.findings())
    truth = {entry.image: entry for entry in case.entries}
    told = {finding.annotation for finding in findings if finding.code != "image_transcoded"}
    named = {name for finding in findings for name in (finding.path, *finding.related)}
    where = f"set ({', '.join(case.what) or 'sound'})"
    if audit.annotations_found != len(case.entries):
        raise Wrong(f"{where}: {audit.annotations_found} of {len(case.entries)} were found")
    for entry in case.entries:
        sample = audit.read_sample(entry.annotation)
        if sample is None:
            if entry.annotation not in named:
                raise Wrong(f"{where}: {entry.annotation} was lost without a word")
            continue
        difference = _find_difference(sample, truth[sample.image])
        if difference and entry.annotation not in told:
            raise Wrong(f"{where}: {entry.annotation}: {difference}, and nothing says so")
    _check_splits(case, audit, findings, where)
    refused = [finding.code for finding in findings if finding.action.value == "refused"]
    return refused[0] if refused else ""


def _find_difference(sample: AuditedSample, entry: Entry) -> str:
    """Returns how a sample's boxes differ from those that were drawn into its picture."""
    found = {one.name: one.box.to_pixels(sample.size) for one in sample.objects}
    turned = sample.treatment.turn == entry.orientation
    expected = {
        name: box if turned else _to_stored(box, entry.orientation)
        for name, box in entry.boxes.items()
    }
    if found.keys() != expected.keys():
        return f"{sorted(found)} instead of {sorted(expected)} in {entry.image}"
    for name, box in expected.items():
        if (
            max(abs(one - other) for one, other in zip(found[name], box, strict=True))
            > _TOLERANCE_PX
        ):
            rounded = [round(edge, 1) for edge in found[name]]
            return f"{name} at {rounded} instead of {box} in {entry.image}"
    return ""


def _check_splits(case: SetCase, audit: Audit, findings: Iterable[Finding], where: str) -> None:
    told = {finding.path for finding in findings if finding.code.startswith(("split_", "list_"))}
    declared = {entry.annotation: entry.split for entry in case.entries if entry.split}
    for split, members in audit.splits.members.items():
        for annotation in members:
            expected = declared.get(annotation, split)
            if expected != split and not told:
                raise Wrong(f"{where}: {annotation} is in {split}, and {expected} lists it")


def _draw_entry(rng: random.Random, stem: str) -> Entry:
    boxes = {}
    for name in rng.sample(("cat", "dog", "cow"), k=rng.choice((1, 2))):
        x, y = rng.randint(2, 50), rng.randint(2, 30)
        boxes[name] = (
            float(x),
            float(y),
            float(x + rng.randint(8, 40)),
            float(y + rng.randint(8, 30)),
        )
    return Entry(stem, boxes, filename=f"{stem}.jpg")


def _encode_picture(entry: Entry, seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize(_SIZE, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    if entry.orientation != 1:
        picture = picture.transpose(_INVERSE[entry.orientation])
        exif[0x0112] = entry.orientation
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif.tobytes())
    return buffer.getvalue()


def _write_annotation(entry: Entry) -> bytes:
    parts = [] if entry.filename is None else [f"<filename>{escape(entry.filename)}</filename>"]
    if entry.size is not None:
        parts.append(f"<size><width>{entry.size[0]}</width><height>{entry.size[1]}</height></size>")
    for name, box in entry.boxes.items():
        left, top, right, bottom = (round(edge * entry.scale) for edge in box)
        corners = (left + entry.shift, top + entry.shift, right, bottom)
        tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        body = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
        parts.append(f"<object><name>{name}</name><bndbox>{body}</bndbox></object>")
    return f"<annotation>{''.join(parts)}</annotation>".encode()


def _to_stored(box: Edges, orientation: int) -> Edges:
    """Returns edges in the stored pixels of a picture that EXIF turns upright."""
    left, top, right, bottom = box
    width, height = _SIZE
    return {
        1: box,
        2: (width - right, top, width - left, bottom),
        3: (width - right, height - bottom, width - left, height - top),
        4: (left, height - bottom, right, height - top),
        5: (top, left, bottom, right),
        6: (top, width - right, bottom, width - left),
        7: (height - bottom, width - right, height - top, width - left),
        8: (height - bottom, left, height - top, right),
    }[orientation]


def _exchange_filenames(rng: random.Random, case: SetCase) -> None:
    chosen = rng.sample(case.entries, k=rng.randint(2, len(case.entries)))
    names = [entry.filename for entry in chosen]
    for entry, name in zip(chosen, names[1:] + names[:1], strict=True):
        entry.filename = name


def _one_filename_for_all(rng: random.Random, case: SetCase) -> None:
    name = rng.choice((case.entries[0].filename, "gone.jpg", "", None))
    for entry in case.entries:
        entry.filename = name


def _stale_filename(rng: random.Random, case: SetCase) -> None:
    one, other = rng.sample(case.entries, k=2)
    one.filename = other.filename


def _other_spelling(rng: random.Random, case: SetCase) -> None:
    for entry in case.entries:
        name = entry.filename or ""
        entry.filename = rng.choice(
            (name, name.upper(), name[:-4], f"photos\\{name}", f" {name}\n")
        )


def _turn(rng: random.Random, case: SetCase) -> None:
    """A phone's pictures, annotated upright."""
    for entry in case.entries:
        entry.orientation = rng.choice((1, 2, 3, 4, 5, 6, 7, 8))


def _larger_rendition(rng: random.Random, case: SetCase) -> None:
    scale = rng.choice((1.25, 2.0, 4.0))
    for entry in rng.sample(case.entries, k=rng.randint(1, len(case.entries))):
        entry.scale = scale
        if entry.size is not None:
            entry.size = round(_SIZE[0] * scale), round(_SIZE[1] * scale)


def _count_from_zero(rng: random.Random, case: SetCase) -> None:
    for entry in case.entries:
        entry.shift = 0


def _no_size(rng: random.Random, case: SetCase) -> None:
    for entry in rng.sample(case.entries, k=rng.randint(1, len(case.entries))):
        entry.size = None


def _odd_names(rng: random.Random, case: SetCase) -> None:
    for entry, stem in zip(case.entries, rng.sample(_ODD_NAMES, k=2), strict=False):
        if entry.filename == f"{entry.stem}.jpg":
            entry.filename = f"{stem}.jpg"
        entry.stem = stem


def _lists(rng: random.Random, case: SetCase) -> None:
    lines: dict[str, list[str]] = {"train": [], "val": []}
    form = rng.choice(
        ("{}", "{}.jpg", "images/{}.jpg", "C:\\data\\images\\{}.jpg", "{} 1", "./{}.jpg")
    )
    for index, entry in enumerate(case.entries):
        entry.split = ("train", "val")[index % 2]
        lines[entry.split].append(form.format(entry.stem))
    encoding = rng.choice(("utf-8", "utf-8-sig", "utf-16", "gbk"))
    end = rng.choice(("\n", "\r\n", "\r"))
    folder = rng.choice(("", "ImageSets/Main/", "splits/"))
    for split, names in lines.items():
        text = end.join(names) + rng.choice(("", end, end + end))
        case.files[f"{folder}{split}.txt"] = text.encode(encoding, "replace")


_FAULTS: tuple[Callable[[random.Random, SetCase], None], ...] = (
    *(_exchange_filenames, _one_filename_for_all, _stale_filename, _other_spelling, _turn),
    *(_larger_rendition, _count_from_zero, _no_size, _odd_names, _lists),
)


def write_set(case: SetCase, root: Path) -> None:
    """Writes the files of a dataset into an empty folder."""
    for name, content in case.files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
