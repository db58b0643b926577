import pytest
from PIL import Image

from detflow.data.images.transcode import Treatment
from detflow.data.judging.rulings import Orders
from detflow.data.records.schema import to_record_box
from detflow.data.rules import Action
from detflow.types import Box, CornerFrame, ImageSize

SIZE = ImageSize(64, 48)


def record_box(*corners, size=SIZE):
    return to_record_box(Box.from_voc(*corners, size))


def test_what_is_no_number_sets_the_image_aside(voc_set, audit):
    voc_set.add("good")
    voc_set.add(
        "a", voc_set.object("cat", (1, 1, "nan", 9)), voc_set.object("cat", (1, 1, "1_000", 9))
    )
    result = audit()
    assert audit.found(result, Action.QUARANTINED) == [
        ("box_not_a_number", "annotations/a.xml", 1, 1),
        ("box_not_a_number", "annotations/a.xml", 1, 2),
    ]
    assert result.quarantined == {"annotations/a.xml": "box_not_a_number"}
    assert list(result.samples) == ["annotations/good.xml"]


def test_the_same_object_twice_is_kept_once(voc_set, audit):
    voc_set.add("a", voc_set.object(), voc_set.object(), voc_set.object("dog"))
    result = audit()
    assert result.counts["object_duplicate"] == 1
    assert [entry.name for entry in result.read_sample("annotations/a.xml").objects] == [
        "cat",
        "dog",
    ]


@pytest.mark.parametrize(
    ("size", "code"),
    [
        (None, "size_missing"),
        ((0, 0), "size_zero"),
        ((64, 0), "size_zero"),
        ((48, 64), "size_swapped"),
        ((99, 99), "size_wrong"),
    ],
)
def test_the_pixels_say_how_large_the_image_is(voc_set, audit, size, code):
    voc_set.add("a", voc_set.object("cat", (1, 1, 60, 48)), size=size)
    result = audit()
    assert audit.found(result, Action.REPAIRED)[0][0] == code
    assert result.read_sample("annotations/a.xml").size == SIZE
    assert audit.boxes(result) == [record_box(1, 1, 60, 48)]


@pytest.mark.parametrize("box", [(1, 1, 128, 96), (1, 1, 66, 10), (1, 1, 10, 50)])
def test_boxes_that_were_drawn_on_another_rendition_are_set_aside(voc_set, audit, box):
    voc_set.add("good")
    voc_set.add("a", voc_set.object("cat", box), size=(128, 96))
    result = audit()
    assert result.quarantined == {"annotations/a.xml": "size_conflict"}
    conflict = next(result.findings(Action.QUARANTINED))
    assert conflict.value == "<size> 128x96, image 64x48"
    assert list(result.samples) == ["annotations/good.xml"]


@pytest.mark.parametrize("box", [(1, 1, 65.6, 10), (1, 1, 10, 49.4)])
def test_one_percent_and_a_pixel_beyond_the_edge_are_no_other_rendition(voc_set, audit, box):
    voc_set.add("a", voc_set.object("cat", box), size=(128, 99))
    result = audit(orders=Orders(corners=CornerFrame.VOC))
    assert sorted(result.counts) == ["box_clipped", "size_wrong"]
    assert list(result.samples) == ["annotations/a.xml"]


def test_an_edge_that_is_one_pixel_over_is_clipped_all_the_same(voc_set, audit):
    voc_set.add("a", voc_set.object("cat", (1, 1, 65, 48)), size=(65, 48))
    assert sorted(audit().counts) == ["box_clipped", "size_wrong"]


@pytest.mark.parametrize(
    ("orientation", "xml_size", "code", "turn", "size"),
    [
        (6, (48, 64), "exif_applied", 6, ImageSize(48, 64)),
        (8, (48, 64), "exif_applied", 8, ImageSize(48, 64)),
        (6, (64, 48), "exif_removed", 1, SIZE),
    ],
)
@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_the_annotations_size_decides_about_exif(
    voc_set, audit, image_format, orientation, xml_size, code, turn, size
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = voc_set.encode(voc_set.draw(), image_format, exif=exif)
    voc_set.add(
        "a",
        voc_set.object("cat", (1, 1, 40, 40)),
        image=image,
        suffix=f".{image_format.lower()}",
        size=xml_size,
    )
    result = audit()
    assert result.counts[code] == 1
    sample = result.read_sample("annotations/a.xml")
    assert sample.size == size
    transcode = turn != 1 or image_format != "JPEG"
    assert sample.treatment == Treatment(transcode=transcode, turn=turn, drop_exif=not transcode)


@pytest.mark.parametrize("orientation", [1, None])
def test_exif_without_a_turn_is_left_alone(voc_set, audit, orientation):
    exif = Image.Exif()
    exif[0x0112 if orientation else 0x010F] = orientation or "maker"
    voc_set.add("a", image=voc_set.encode(voc_set.draw(), exif=exif))
    assert audit.found(audit()) == []


def test_formats_and_names(voc_set, audit):
    voc_set.add("a", image=voc_set.encode(voc_set.draw(), "PNG"))
    voc_set.add("b", image=voc_set.encode(voc_set.draw(seed=9)), suffix=".png")
    voc_set.add("c", image=voc_set.encode(voc_set.draw(seed=8, mode="CMYK")))
    result = audit()
    assert audit.found(result, Action.REPAIRED, Action.NOTED) == [
        ("extension_wrong", "images/a.jpg", None, None),
        ("image_transcoded", "annotations/a.xml", None, None),
        ("extension_wrong", "images/b.png", None, None),
        ("image_transcoded", "annotations/c.xml", None, None),
    ]


def test_unknown_classes_are_named_with_the_nearest(voc_set, audit):
    voc_set.add("a", voc_set.object("button"), voc_set.object("buton", (1, 1, 5, 5)))
    result = audit(classes=("button", "lever"))
    assert audit.found(result, Action.REFUSED) == [("class_unknown", "annotations/a.xml", 1, 2)]
    assert next(result.findings(Action.REFUSED)).expected == "perhaps 'button'"


def test_five_thousand_objects(voc_set, audit):
    objects = [
        voc_set.object("cat", (x, y, x + 1, y + 1)) for x in range(1, 64) for y in range(1, 48)
    ]
    objects += [
        voc_set.object("dog", (x, y, x + 1, y + 1)) for x in range(1, 64) for y in range(1, 33)
    ]
    voc_set.add("a", *objects[:5000])
    assert len(audit.boxes(audit())) == len(objects[:5000])
