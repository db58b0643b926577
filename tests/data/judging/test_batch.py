"""A dialect that is no XML goes through the whole audit: the judges see raw annotations only."""

import json
from dataclasses import dataclass

import pytest
from typing_extensions import override

from detflow.data.findings import Finding
from detflow.data.rules import Action
from detflow.data.sources.source import (
    AnnotationSource,
    FileContent,
    ImageNames,
    RawAnnotation,
    RawObject,
)
from detflow.data.sources.splits import SplitBy, Splits
from detflow.types import Box, CornerFrame, ImageSize


@dataclass(frozen=True)
class Table(AnnotationSource):
    """One JSON file for many images: {"images": {name: [[class, xmin, ymin, xmax, ymax], …]}}."""

    name = "table"
    max_file_bytes = 1_000_000
    many_images = True
    frame: CornerFrame | None = None
    size: tuple[int, int] | None = (64, 48)

    @override
    def has_name(self, path):
        return path.endswith(".json")

    @override
    def has_head(self, head):
        return False

    @override
    def read(self, data, path):
        images = json.loads(data)["images"]
        return FileContent(
            tuple(self._read_one(path, *item) for item in images.items() if item[1] is not None),
            tuple(
                Finding("field_has_children", path, entry=name)
                for name, rows in images.items()
                if rows is None
            ),
        )

    def _read_one(self, path, name, rows):
        objects = tuple(
            RawObject(number, 10 + number, row[0], tuple(map(float, row[1:])), False, False, "")
            for number, row in enumerate(rows, start=1)
        )
        names = ImageNames(name, None)
        return RawAnnotation(path, name, names, self.size, 1, objects, frame=self.frame)

    @override
    def declare_splits(self, files, annotations, images, split_by):
        return Splits(SplitBy.LISTS, {"train": tuple(annotations)})

    @override
    def declare_classes(self, files):
        return ("dog", "cat")


@pytest.fixture
def table(voc_set):
    """Writes the file and draws its images, each in a folder that only pairing can find."""

    def write(**rows):
        for number, name in enumerate(rows):
            image = voc_set.encode(voc_set.draw(seed=number))
            voc_set.write(f"images/{name}.jpg", image)
        content = {"images": {f"{name}.jpg": value for name, value in rows.items()}}
        voc_set.write("table.json", json.dumps(content))

    return write


def test_many_annotations_of_one_file_become_samples(table, audit):
    table(a=[["cat", 1, 1, 64, 48]], b=[["dog", 2, 3, 9, 9], ["cat", 5, 5, 8, 8]], c=[])
    result = audit(dialect=Table())
    assert {name: one.image for name, one in result.samples.items()} == {
        "table.json#a.jpg": "images/a.jpg",
        "table.json#b.jpg": "images/b.jpg",
        "table.json#c.jpg": "images/c.jpg",
    }
    assert result.label_map.names == ("dog", "cat")
    assert result.splits.members == {"train": tuple(result.samples)}
    sample = result.read_sample("table.json#b.jpg")
    assert [entry.name for entry in sample.objects] == ["dog", "cat"]
    size = ImageSize(64, 48)
    assert audit.boxes(result, "table.json#a.jpg") == [Box.from_voc(1, 1, 64, 48, size)]


@pytest.mark.parametrize(
    ("frame", "size", "corners"),
    [
        (CornerFrame.ZERO_BASED, (64, 48), (0, 0, 32, 48)),
        (CornerFrame.FRACTIONS, None, (0, 0, 0.5, 1)),
        (CornerFrame.VOC, (64, 48), (1, 1, 32, 48)),
    ],
)
def test_a_dialect_that_knows_what_its_corners_count_is_taken_at_its_word(
    table, audit, frame, size, corners
):
    table(a=[["cat", *corners], ["cat", *corners]])
    result = audit(dialect=Table(frame, size))
    assert audit.boxes(result, "table.json#a.jpg") == [Box(0.0, 0.0, 1.0, 0.5)]
    [twice] = result.findings(Action.REPAIRED)
    assert twice.code == "object_duplicate"
    pixels = corners if frame is CornerFrame.VOC else (0, 0, 32, 48)
    assert twice.before == pixels
    assert twice.frame == (None if frame is CornerFrame.VOC else CornerFrame.ZERO_BASED)


def test_a_finding_names_the_file_the_entry_and_the_line(table, audit):
    table(a=[["cat", 1, 1, 9, 9]], b=[["cat", 9, 9, 2, 2]], c=None, d=[["bird", 1, 1, 9, 9]])
    result = audit(dialect=Table())
    found = [
        (finding.code, finding.path, finding.entry, finding.line)
        for finding in result.findings(*Action)
        if finding.code != "image_unlabelled"
    ]
    assert found == [
        ("field_has_children", "table.json", "c.jpg", None),
        ("box_inverted", "table.json", "b.jpg", 11),
        ("class_unknown", "table.json", "d.jpg", 11),
    ]
    assert result.annotations_found == 4
    assert list(result.samples) == ["table.json#a.jpg", "table.json#b.jpg"]
    assert result.quarantined == {"table.json#c.jpg": "field_has_children"}


def test_pairing_names_an_entry_of_a_file(table, audit, voc_set):
    table(a=[["cat", 1, 1, 9, 9]], b=[["cat", 1, 1, 9, 9]])
    (voc_set.root / "images" / "b.jpg").unlink()
    result = audit(dialect=Table())
    [missing] = result.findings(Action.QUARANTINED)
    assert (missing.code, missing.path, missing.entry) == ("image_missing", "table.json", "b.jpg")
    assert str(missing).startswith("table.json#b.jpg: no image belongs to the annotation")
    assert result.quarantined == {"table.json#b.jpg": "image_missing"}
