"""The defects that can be planted in a dataset, and what a converter has to do about each.

`Defect.handling` is what a converter has to arrive at:

- repair: every object of the file is used, after the stated mending;
- drop: one object is set aside, the rest of the file is used;
- quarantine: the picture or the annotation is set aside as a whole;
- report: nothing changes, but the fault must be named;
- fail: the run must refuse by default.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sample.scene import DrawnObject, encode_jpeg, render
from sample.voc import VocFile, to_xml


@dataclass
class SampleDataset:
    """What is on the disk: defects are planted in it, and their consequences are counted."""

    root: Path
    seed: int
    size: tuple[int, int]
    annotations: dict[str, VocFile]
    splits: dict[str, list[str]]
    untouched: list[str]
    lost_images: set[str] = field(default_factory=set)
    planted: list[dict[str, Any]] = field(default_factory=list)

    def take(self, wanted: Callable[[VocFile], float] = lambda annotation: 1.0) -> VocFile:
        """Returns the annotation without a defect that has the highest `wanted`, and reserves it.

        Raises:
            SystemExit: No annotation has a value above 0.
        """
        scores = [wanted(self.annotations[stem]) for stem in self.untouched]
        if not scores or max(scores) <= 0:
            raise SystemExit(
                "make_sample_dataset: there are too few pictures for these defects;"
                " ask for more with --images"
            )
        stem = self.untouched.pop(int(np.argmax(scores)))
        return self.annotations[stem]

    def write_xml(self, annotation: VocFile, text: str | None = None) -> None:
        """Replaces an annotation's file."""
        (self.root / annotation.xml_path).write_text(text or to_xml(annotation), encoding="utf-8")

    def write_image(self, annotation: VocFile, content: bytes) -> None:
        """Replaces a picture's file."""
        (self.root / annotation.image_path).write_bytes(content)

    def pixels(self, annotation: VocFile) -> NDArray[np.uint8]:
        """Draws a picture again."""
        return render(self.seed, self._index(annotation), self.size)[0]

    def jpeg(self, annotation: VocFile, pixels: NDArray[np.uint8], **options: Any) -> bytes:
        """Encodes pixels as the picture was."""
        return encode_jpeg(pixels, self.seed, self._index(annotation), **options)

    def note(self, kind: str, annotation: VocFile, file: str, **details: object) -> None:
        """Records a planted defect."""
        defect = DEFECTS[kind]
        split = next(
            (name for name, stems in self.splits.items() if annotation.stem in stems), None
        )
        entry = {
            "kind": kind,
            "file": file,
            "stem": annotation.stem,
            "split": split,
            "handling": defect.handling,
            "expect": defect.expect,
        }
        self.planted.append({**entry, **details})

    @staticmethod
    def _index(annotation: VocFile) -> int:
        return int(annotation.stem.rsplit("_", 1)[1])


def has_objects(annotation: VocFile) -> float:
    """For `SampleDataset.take`: any picture with two or more sound objects."""
    return float(len(annotation.objects) >= 2)


def plant_encoding(kind: str, encoding: str) -> Callable[[SampleDataset], None]:
    """Makes a planter that stores a picture in another format under its .jpg name."""

    def plant(data: SampleDataset) -> None:
        victim = data.take(has_objects)
        buffer = io.BytesIO()
        options = {"lossless": True} if encoding == "WEBP" else {}
        Image.fromarray(data.pixels(victim)).save(buffer, encoding, **options)
        data.write_image(victim, buffer.getvalue())
        data.note(kind, victim, victim.image_path)

    return plant


def plant_stale_filename(data: SampleDataset) -> None:
    """`<filename>` has the name from before someone renamed the file."""
    victim = data.take(has_objects)
    stale = f"IMG_{4000 + len(data.planted)}.JPG"
    data.write_xml(replace(victim, filename=stale))
    data.note("stale_filename", victim, victim.xml_path, filename=stale)


def plant_filename_without_extension(data: SampleDataset) -> None:
    """`<filename>` lacks its extension."""
    victim = data.take(has_objects)
    data.write_xml(replace(victim, filename=victim.stem))
    data.note("filename_without_extension", victim, victim.xml_path, filename=victim.stem)


def plant_inverted_box(data: SampleDataset) -> None:
    """One box was drawn from right to left: its x corners are exchanged."""
    victim = data.take(has_objects)
    xmin, ymin, xmax, ymax = victim.objects[0].box
    bad = (xmax, ymin, xmin, ymax)
    data.write_xml(with_box(victim, 0, bad))
    data.note(
        "inverted_box", victim, victim.xml_path, object=0, before=bad, after=victim.objects[0].box
    )


def plant_zero_area_box(data: SampleDataset) -> None:
    """A stray click left one more object whose corners coincide."""
    victim = data.take(has_objects)
    x, y = victim.size[0] // 2, victim.size[1] // 2
    stray = DrawnObject(victim.objects[0].name, (x, y, x, y), truncated=False, difficult=False)
    data.write_xml(replace(victim, objects=[*victim.objects, stray]))
    data.note(
        "zero_area_box", victim, victim.xml_path, object=len(victim.objects), before=stray.box
    )


def plant_box_outside(data: SampleDataset) -> None:
    """The labeller guessed on beyond the picture's edge."""

    def edge_distance(item: DrawnObject, size: tuple[int, int]) -> int:
        return min(item.box[0] - 1, item.box[1] - 1, size[0] - item.box[2], size[1] - item.box[3])

    def closeness(annotation: VocFile) -> float:
        return 1 / (
            1
            + min(
                (edge_distance(item, annotation.size) for item in annotation.objects),
                default=1 << 30,
            )
        )

    victim = data.take(closeness)
    index = min(
        range(len(victim.objects)), key=lambda i: edge_distance(victim.objects[i], victim.size)
    )
    box = list(victim.objects[index].box)
    limits = (1, 1, *victim.size)
    side = min(range(4), key=lambda i: abs(box[i] - limits[i]))
    box[side] = limits[side]
    fitted = (box[0], box[1], box[2], box[3])
    box[side] += 9 if side >= 2 else -9
    bad = (box[0], box[1], box[2], box[3])
    data.write_xml(with_box(victim, index, bad))
    data.note("box_outside", victim, victim.xml_path, object=index, before=bad, after=fitted)


def plant_duplicate_object(data: SampleDataset) -> None:
    """One object was saved twice."""
    victim = data.take(has_objects)
    data.write_xml(replace(victim, objects=[*victim.objects, victim.objects[-1]]))
    data.note(
        "duplicate_object",
        victim,
        victim.xml_path,
        object=len(victim.objects),
        before=victim.objects[-1].box,
    )


def plant_zero_size(data: SampleDataset) -> None:
    """`<size>` holds zeros."""
    victim = data.take(has_objects)
    data.write_xml(victim, to_xml(victim, size=(0, 0)))
    data.note("zero_size", victim, victim.xml_path, before=(0, 0), after=victim.size)


def plant_swapped_size(data: SampleDataset) -> None:
    """`<size>` has width and height exchanged."""
    victim = data.take(
        lambda annotation: has_objects(annotation) * (annotation.size[0] != annotation.size[1])
    )
    data.write_xml(victim, to_xml(victim, size=victim.size[::-1]))
    data.note("swapped_size", victim, victim.xml_path, before=victim.size[::-1], after=victim.size)


def plant_truncated_jpeg(data: SampleDataset) -> None:
    """A download broke off: the last third of the file is missing."""
    victim = data.take(has_objects)
    content = data.jpeg(victim, data.pixels(victim))
    data.write_image(victim, content[: len(content) * 2 // 3])
    data.lost_images.add(victim.stem)
    data.note("truncated_jpeg", victim, victim.image_path)


def plant_exif_rotated(data: SampleDataset) -> None:
    """A phone stored the picture lying on its side, with EXIF orientation 6.

    The annotation fits the picture as it is shown.
    """
    victim = data.take(
        lambda annotation: has_objects(annotation) * (annotation.size[0] != annotation.size[1])
    )
    exif = Image.Exif()
    # 6 says that a viewer turns the picture by 90 degrees clockwise; it is stored turned back.
    exif[0x0112] = 6
    data.write_image(
        victim,
        data.jpeg(victim, np.ascontiguousarray(np.rot90(data.pixels(victim))), exif=exif.tobytes()),
    )
    data.note(
        "exif_rotated", victim, victim.image_path, stored_size=victim.size[::-1], after=victim.size
    )


def plant_unlabelled_image(data: SampleDataset) -> None:
    """A picture whose annotation was never written; no split lists it."""
    index = len(data.annotations) + len(data.planted)  # No other picture has this number.
    pixels, objects = render(data.seed, index, data.size)
    extra = VocFile(f"unlabelled_{index:05d}", "", (pixels.shape[1], pixels.shape[0]), objects)
    data.write_image(extra, encode_jpeg(pixels, data.seed, index))
    data.note("unlabelled_image", extra, extra.image_path)


def plant_annotation_without_image(data: SampleDataset) -> None:
    """An annotation whose picture is gone."""
    victim = data.take(has_objects)
    (data.root / victim.image_path).unlink()
    data.lost_images.add(victim.stem)
    data.note("annotation_without_image", victim, victim.xml_path)


def plant_leak(data: SampleDataset) -> None:
    """A training picture, and its annotation, stand in the test split again under another name."""
    train = set(data.splits["train"])
    source = data.take(lambda annotation: has_objects(annotation) * (annotation.stem in train))
    stem = f"copy_of_{source.stem}"
    twin = replace(source, stem=stem, filename=f"{stem}.jpg")
    shutil.copyfile(data.root / source.image_path, data.root / twin.image_path)
    data.write_xml(twin)
    data.annotations[stem] = twin
    data.splits["test"] = sorted([*data.splits["test"], stem])
    data.note("leak", twin, twin.image_path, same_as=source.image_path)


def plant_class_typo(data: SampleDataset) -> None:
    """One `button` is spelt `buton`."""

    def buttons(annotation: VocFile) -> float:
        return float(sum(item.name == "button" for item in annotation.objects))

    victim = data.take(buttons)
    index = next(i for i, item in enumerate(victim.objects) if item.name == "button")
    objects = list(victim.objects)
    objects[index] = replace(objects[index], name="buton")
    data.write_xml(replace(victim, objects=objects))
    data.note("class_typo", victim, victim.xml_path, object=index, before="buton", after="button")


def plant_doctype(data: SampleDataset) -> None:
    """An annotation declares an entity that stands for a file of the machine."""
    victim = data.take(has_objects)
    prologue = '<?xml version="1.0"?>\n<!DOCTYPE annotation [<!ENTITY leak SYSTEM "file:///etc/hostname">]>\n'
    data.write_xml(victim, to_xml(victim, prologue=prologue))
    data.note("doctype", victim, victim.xml_path)


def plant_filename_outside(data: SampleDataset) -> None:
    """`<filename>` points out of the dataset."""
    victim = data.take(has_objects)
    data.write_xml(replace(victim, filename=f"../../{victim.stem}.jpg"))
    data.note("filename_outside", victim, victim.xml_path)


def with_box(annotation: VocFile, index: int, box: tuple[int, int, int, int]) -> VocFile:
    """The annotation with one box exchanged."""
    objects = list(annotation.objects)
    objects[index] = replace(objects[index], box=box)
    return replace(annotation, objects=objects)


@dataclass(frozen=True)
class Defect:
    """A kind of defect: how to plant it, and what a converter has to do about it."""

    plant: Callable[[SampleDataset], None]
    handling: str
    expect: str
    only_when_named: bool = False


DEFECTS: dict[str, Defect] = {
    "png_named_jpg": Defect(
        plant_encoding("png_named_jpg", "PNG"),
        "repair",
        "told by its first bytes and transcoded to JPEG",
    ),
    "bmp_named_jpg": Defect(
        plant_encoding("bmp_named_jpg", "BMP"),
        "repair",
        "told by its first bytes and transcoded to JPEG",
    ),
    "webp_named_jpg": Defect(
        plant_encoding("webp_named_jpg", "WEBP"),
        "repair",
        "told by its first bytes and transcoded to JPEG",
    ),
    "exif_rotated": Defect(
        plant_exif_rotated, "repair", "the size in the XML decides: the pixels are turned upright"
    ),
    "truncated_jpeg": Defect(
        plant_truncated_jpeg,
        "quarantine",
        "found by a full decode; the sample is set aside with its reason",
    ),
    "stale_filename": Defect(plant_stale_filename, "repair", "paired by the annotation's own name"),
    "filename_without_extension": Defect(
        plant_filename_without_extension, "repair", "paired by the name without extension"
    ),
    "zero_size": Defect(plant_zero_size, "repair", "the size is taken from the pixels"),
    "swapped_size": Defect(plant_swapped_size, "repair", "the size is taken from the pixels"),
    "inverted_box": Defect(plant_inverted_box, "repair", "the corners are put in order"),
    "box_outside": Defect(plant_box_outside, "repair", "the box is clipped to the picture"),
    "zero_area_box": Defect(
        plant_zero_area_box, "drop", "the object is set aside; the others of the file are used"
    ),
    "duplicate_object": Defect(
        plant_duplicate_object, "drop", "the second of the two equal objects is set aside"
    ),
    "unlabelled_image": Defect(plant_unlabelled_image, "report", "listed; it becomes no sample"),
    "annotation_without_image": Defect(
        plant_annotation_without_image, "quarantine", "listed; it becomes no sample"
    ),
    "leak": Defect(
        plant_leak, "fail", "the two files are named; allowed only on request", only_when_named=True
    ),
    "class_typo": Defect(
        plant_class_typo,
        "report",
        "named with the nearest class; refused where classes are given",
        only_when_named=True,
    ),
    "doctype": Defect(
        plant_doctype,
        "fail",
        "refused with file and line; no file and no address is opened",
        only_when_named=True,
    ),
    "filename_outside": Defect(
        plant_filename_outside,
        "fail",
        "refused; nothing outside the dataset is opened",
        only_when_named=True,
    ),
}
MENDABLE = tuple(kind for kind, defect in DEFECTS.items() if not defect.only_when_named)
