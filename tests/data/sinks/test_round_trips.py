"""Whatever a set holds: written in a dialect and read again by the audit, it is the same."""

import hashlib
import io
import re
import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detflow.data.judging.audit import AuditOptions, audit_dataset
from detflow.data.sinks.dialects import SINKS
from detflow.data.sinks.origin import LoadedImage, OriginEntry
from detflow.data.sinks.sink import CarriedObject, Trait
from detflow.data.sinks.writing import write_set
from detflow.label_map import LabelMap
from detflow.storage.folders import open_folder
from detflow.types import ImageSize

SIZES = (ImageSize(64, 48), ImageSize(33, 71))
# Lengths of less than a millionth of the side are lost where 1 is added to them.
EDGES = st.sampled_from([0.0, 1.0]) | st.floats(2**-18, 1.0, width=32)
# Difficult, truncated, crowd; a crowd is difficult, too, and its pose is used for that.
FLAGS = [(False, False), (True, False), (False, True), (True, True), (True, True, True)]
# Names in one form already: the audit gives every class one, whatever the dialect.
CLASSES = st.lists(
    st.text("abzÄß日本,;:'\"#&<>%-_.019{}[]|*!?", min_size=1, max_size=6),
    min_size=1,
    max_size=3,
    unique_by=lambda name: re.sub(r"\W|_", "", name.casefold()),
)


@st.composite
def boxes(draw, size):
    """A box of whole pixels, or of any edges."""
    if draw(st.booleans()):
        edges = []
        for side in (size.height, size.width):
            low = draw(st.integers(0, side - 1))
            edges.append((low / side, draw(st.integers(low + 1, side)) / side))
    else:
        pairs = st.lists(EDGES, min_size=2, max_size=2, unique=True).map(sorted)
        # VOC cannot hold what is thinner than a pixel.
        least = 1.01 / min(size.width, size.height)
        edges = [draw(pairs.filter(lambda p: p[1] - p[0] > least)) for _ in range(2)]
    return tuple(float(np.float32(edges[axis][end])) for end in (0, 1) for axis in (0, 1))


@st.composite
def sets(draw):
    names = draw(CLASSES)
    images = []
    for number in range(draw(st.integers(2, 4))):
        size = SIZES[number % 2]
        items = [
            CarriedObject(
                draw(st.sampled_from(names)),
                draw(boxes(size)),
                *draw(st.sampled_from(FLAGS)),
                pose=draw(st.sampled_from(["Unspecified", "Left", "Über"])),
            )
            # No dialect can be told by files that hold nothing at all.
            for _ in range(draw(st.integers(0 if number else 1, 4)))
        ]
        images.append((number, size, list({(one.name, one.box): one for one in items}.values())))
    return names, images


class DrawnOrigin:
    """A set in memory; every second image is in split `val`."""

    splits = ("train", "val")
    declares_splits = has_flags = True

    def __init__(self, names, images, pictures):
        self.unions = {}
        self.label_map = LabelMap(tuple(names))
        self.entries = [
            OriginEntry(f"{number}", f"ü {number}.jpg", self.splits[number % 2])
            for number, _, _ in images
        ]
        self.images = images
        self.pictures = pictures
        self.reader = self

    def payloads(self, places):
        return iter(places)

    def load(self, place):
        number, size, items = self.images[place]
        return LoadedImage(self.pictures[number], ".jpg", size, items, is_encoded_anew=False)


class Pictures:
    """Four pictures as JPEG; a failing example does not print them."""

    def __init__(self):
        self._drawn = []
        for number in range(4):
            size = SIZES[number % 2]
            noise = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
            image = Image.fromarray(noise)
            buffer = io.BytesIO()
            image.resize((size.width, size.height), Image.Resampling.BICUBIC).save(buffer, "JPEG")
            self._drawn.append(buffer.getvalue())

    def __getitem__(self, number):
        return self._drawn[number]

    def digest(self, number):
        return hashlib.sha256(self._drawn[number]).hexdigest()


@pytest.fixture(scope="module")
def pictures():
    return Pictures()


def in_order(function, items, chunk):
    return map(function, items)


def read_back(folder, work_dir):
    options = AuditOptions(fractions={"train": 1.0})
    audit = audit_dataset(open_folder(folder), options, work_dir, in_order, lambda *_: None)
    splits = {name: split for split, names in audit.splits.members.items() for name in names}
    return {
        sample.image_sha256: (splits[sample.annotation], sample.columns.to_objects())
        for sample in audit.read_samples()
    }, audit


def to_whole(box, size):
    """A box in whole pixels, at least two wide and high, as shares in float32."""
    whole = []
    for axis, side in ((0, size.height), (1, size.width)):
        low = min(round(box[axis] * side), side - 2)
        whole.append((low / side, max(round(box[axis + 2] * side), low + 2) / side))
    return tuple(float(np.float32(whole[axis][end])) for end in (0, 1) for axis in (0, 1))


@pytest.mark.parametrize("sink", SINKS, ids=lambda sink: sink.name)
@given(drawn=sets())
def test_what_was_written_is_read_as_it_was(sink, drawn, pictures, tmp_path_factory):
    names, images = drawn
    root = tmp_path_factory.mktemp("trip")
    out, work = root / "out", root / "work"
    out.mkdir()
    work.mkdir()
    write_set(DrawnOrigin(names, images, pictures), sink, out, in_order, lambda *_: None)
    found, audit = read_back(out, work)
    for number, size, items in images:
        if not items and Trait.NEGATIVE not in sink.holds:
            continue
        split, objects = found.pop(pictures.digest(number))
        holders = [name for name in ("train", "val") if _has(images, name, sink)]
        # One split alone is no division of a set.
        assert split == (("train", "val")[number % 2] if len(holders) == 2 else "train")
        expected = [
            item if Trait.FRACTION in sink.holds else item._replace(box=to_whole(item.box, size))
            for item in items
        ]
        assert Counter(describe(item, sink) for item in expected) >= Counter(
            describe_read(item, sink) for item in objects
        )
        # Rounding may make two of one class the same, and one is left out then.
        assert {describe(item, sink)[:2] for item in expected} == {
            describe_read(item, sink)[:2] for item in objects
        }
    assert found == {}
    if Trait.CLASS_ORDER in sink.holds:
        assert list(audit.label_map) == list(names)
    shutil.rmtree(root)


def _has(images, split, sink):
    return any(
        number % 2 == ("train", "val").index(split) and (items or Trait.NEGATIVE in sink.holds)
        for number, _, items in images
    )


def describe(item, sink):
    flags = tuple(
        held
        for trait, held in (
            (Trait.DIFFICULT, item.difficult),
            (Trait.TRUNCATED, item.truncated),
            (Trait.CROWD, item.crowd),
            (Trait.POSE, "" if item.crowd else item.pose),
        )
        if trait in sink.holds
    )
    return item.name, item.box, flags


def describe_read(item, sink):
    box = item.box
    edges = box.ymin, box.xmin, box.ymax, box.xmax
    carried = CarriedObject.from_record(item.name, edges, item.difficult, item.truncated, item.pose)
    return describe(carried, sink)
