"""Each rule for datasets is provoked by a fault of its kind; a rule without one fails here."""

import io
import json

import pytest
from PIL import Image

from detflow.data.judging.decisions import Decision, Decisions, Topic
from detflow.data.judging.rulings import Orders
from detflow.data.records.example import encode_example
from detflow.data.records.tfrecord import frame_record
from detflow.data.rules import RULES
from detflow.data.sources.splits import SplitBy
from detflow.data.sources.voc.parse import MAX_XML_BYTES
from detflow.data.sources.voc.read import MAX_OBJECTS
from detflow.data.sources.yolo.read import MAX_LABEL_BYTES

FOLDERS = {"split_by": SplitBy.AUTO}


def box(corners):
    """Plants a box; the image has 64x48 pixels."""
    return lambda voc: voc.add("a", voc.object("cat", corners))


def body(text):
    """Plants an object's content."""
    return lambda voc: voc.add("a", f"<object>{text}</object>")


def document(content):
    """Plants a whole file beside a sound annotation."""

    def plant(voc):
        voc.add("sound")
        voc.write("annotations/a.xml", content)

    return plant


def declared(head):
    """Plants something before an annotation that has its image."""

    def plant(voc):
        file = voc.add("a")
        file.write_text(head + file.read_text())

    return plant


def names(image, **xml):
    """Plants an image under a name, and an annotation `a.xml` that says something about it."""

    def plant(voc):
        voc.write(f"images/{image}", voc.encode(voc.draw()))
        voc.write("annotations/a.xml", voc.xml(voc.object(), **xml))

    return plant


def turned(size):
    """Plants an image that EXIF turns by a quarter, and an annotation with a size."""

    def plant(voc):
        exif = Image.Exif()
        exif[0x0112] = 6
        voc.add("a", image=voc.encode(voc.draw(), exif=exif), size=size)

    return plant


def image(content, suffix=".jpg"):
    """Plants an image file."""
    return lambda voc: voc.add("a", image=content, suffix=suffix)


def coco(images=None, objects=(), categories=None, **more):
    """Plants a COCO file with the images a.jpg and b.jpg, and objects of the first."""
    listed = [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}, *(images or ())]
    annotations = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 20], **one}
        for number, one in enumerate(objects, start=1)
    ]
    content = {
        "images": listed,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}] if categories is None else categories,
        **more,
    }

    def plant(voc):
        voc.write("images/a.jpg", voc.encode(voc.draw()))
        voc.write("sound.json", json.dumps(content))

    return plant


def beside_coco(path, text):
    """Plants a file beside a sound COCO file."""

    def plant(voc):
        coco(objects=[{}])(voc)
        voc.write(path, text(voc) if callable(text) else text)

    return plant


def cvat(content):
    """Plants a file of CVAT's with an image."""

    def plant(voc):
        voc.write("images/a.jpg", voc.encode(voc.draw()))
        voc.write(
            "annotations.xml",
            f'<annotations><image name="a.jpg" width="64" height="48">{content}</image>'
            f"{'' if content else '<track/>'}</annotations>",
        )

    return plant


def record(class_id, name):
    """Plants a record with one object, and a label map of cat and dog."""

    def plant(voc):
        side = {f"image/object/bbox/{one}min": (float, [0.1]) for one in "xy"}
        features = {
            "image/encoded": (bytes, [voc.encode(voc.draw())]),
            **side,
            **{one.replace("min", "max"): (float, [0.9]) for one in side},
            "image/object/class/label": (int, [class_id]),
            "image/object/class/text": (bytes, [name]),
        }
        voc.write("a.tfrecord", frame_record(encode_example(features)))
        voc.write("map.pbtxt", "item { id: 1 name: 'cat' } item { id: 2 name: 'dog' }")

    return plant


def yolo(text, names="names: [cat]"):
    """Plants a file of YOLO's, and data.yaml."""

    def plant(voc):
        voc.write("images/sound.jpg", voc.encode(voc.draw(seed=1)))
        voc.write("labels/sound.txt", "0 .5 .5 .5 .5")
        voc.write("images/a.jpg", voc.encode(voc.draw()))
        voc.write("labels/a.txt", text)
        if names:
            voc.write("data.yaml", names)

    return plant


def same_image(quality, *folders):
    """Plants an image twice, the second time with a quality, in folders."""

    def plant(voc):
        for name, folder, value in zip("ab", folders, (95, quality), strict=True):
            data = voc.encode(voc.draw(seed=7), quality=value)
            voc.add(name, image=data, images=f"{folder}/i", annotations=f"{folder}/a")

    return plant


def listed(*lines):
    """Plants two annotations and two lists, the first with these lines."""

    def plant(voc):
        voc.add("a")
        voc.add("b")
        voc.write("train.txt", "\n".join(lines))
        voc.write("val.txt", "b")

    return plant


def stale_list(voc):
    voc.add("a")
    voc.write("test_results.txt", "precision 0.5")


def no_validation(voc):
    for split in ("train", "test"):
        voc.add(split, images=f"{split}/i", annotations=f"{split}/a")


def link_outside(voc):
    voc.add("a")
    (voc.root.parent / "outside.jpg").write_bytes(b"")
    (voc.root / "images" / "link.jpg").symlink_to(voc.root.parent / "outside.jpg")


def unreadable(path):
    """Plants a file or folder that must not be opened."""

    def plant(voc):
        voc.add("a")
        voc.add("b")
        if not (voc.root / path).exists():
            voc.write(path, b"")
        voc.denied.add(path)

    return plant


def two_images(seeds=(0, 1), widths=(64, 64)):
    """Plants an annotation, and two images of its name."""

    def plant(voc):
        for folder, seed, width in zip(("one", "two"), seeds, widths, strict=True):
            voc.write(f"{folder}/a.jpg", voc.encode(voc.draw(seed=seed, width=width)))
        voc.write("annotations/a.xml", voc.xml(voc.object()))

    return plant


def image_claimed_twice(voc):
    voc.add("a")
    voc.write("annotations/b.xml", voc.xml(voc.object("dog"), filename="a.jpg"))


def annotation_copy(voc):
    voc.add("a")
    voc.write("backup/a.xml", voc.xml(voc.object()))


def other_name(*unlabelled):
    """Plants a pair a whose `<filename>` is b's, and b, perhaps without an annotation."""

    def plant(voc):
        voc.add("a", filename="b.jpg")
        voc.add("b")
        for name in unlabelled:
            (voc.root / f"annotations/{name}.xml").unlink()

    return plant


def key_twice(voc):
    voc.add("a")
    voc.write("annotations/a.XML", voc.xml(voc.object()))


def image_unlabelled(voc):
    voc.add("a")
    voc.write("images/b.jpg", voc.encode(voc.draw()))


def png(voc):
    voc.add("a", image=voc.encode(voc.draw(), "PNG"), suffix=".png")


def hidden():
    """A PNG that alpha hides completely."""
    file = io.BytesIO()
    Image.new("RGBA", (64, 48), (200, 20, 20, 0)).save(file, "PNG")
    return file.getvalue()


def extra_bytes(voc):
    sound = voc.encode(voc.draw())
    voc.add("a", image=sound[:-2] + bytes(40) + sound[-2:])


def no_objects(voc):
    voc.write("a.jpg", voc.encode(voc.draw()))
    voc.write("a.xml", voc.xml())


def class_near_miss(voc):
    voc.add("a", *(voc.object("button", (x, 1, x + 9, 9)) for x in range(1, 11)))
    voc.add("b", voc.object("buton"))


def class_absent(voc):
    for name, split in (("cat", "train"), ("dog", "val")):
        voc.add(name, voc.object(name), images=f"{split}/i", annotations=f"{split}/a")


def percent(voc):
    boxes = [(10, 10, 30, 30), (20, 30, 90, 60), (5, 5, 95, 70), (40, 10, 60, 98), (1, 2, 50, 60)]
    image = voc.encode(voc.draw(640, 480))
    objects = [voc.object("cat", corners) for corners in boxes]
    voc.add("a", *objects, image=image, size=(640, 480))


def widths(voc):
    boxes = [(30, 20, 10, 9), (40, 30, 9, 9), (50, 30, 9, 9), (2, 2, 30, 30), (5, 9, 9, 9)]
    voc.add("a", *(voc.object("cat", corners) for corners in boxes))


SOUND_BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
NAMED = f"<name>cat</name>{SOUND_BOX}"
OUTLINE = "<polygon><x1>1</x1><y1>1</y1><x2>9</x2><y2>5</y2><x3>5</x3><y3>9</y3></polygon>"


def decide(topic, about, answer):
    """Returns what a person has decided."""
    decision = Decision(Topic(topic), about, answer, "decisions.csv", 2)
    known = {one: {about: decision} if one is decision.topic else {} for one in Topic}
    return Decisions(known, ("0" * 64,))


# For each rule what provokes it, and the options of the audit.
FAULTS = {
    "xml_doctype": (document("<!DOCTYPE annotation><annotation/>"), {}),
    "xml_malformed": (document("<annotation"), {}),
    "xml_too_large": (document(b" " * (MAX_XML_BYTES + 1)), {}),
    "xml_not_voc": (document("<annotations/>"), {}),
    "xml_head_wrong": (declared("\n<?xml version='1.0'?>"), {}),
    "encoding_wrong": (declared("<?xml version='1.0' encoding='utf-16'?>"), {}),
    "tag_misspelt": (body(NAMED.replace("bndbox", "BndBox")), {}),
    "box_astray": (document(f"<annotation>{SOUND_BOX}</annotation>"), {}),
    "box_form": (body("<name>cat</name><bndbox xmin='1' ymin='2' xmax='30' ymax='40'/>"), {}),
    "box_from_outline": (body(f"<name>cat</name>{OUTLINE}"), {}),
    "box_empty": (box(("nan", "nan", "nan", "nan")), {}),
    "object_deleted": (body(f"{NAMED}<deleted>1</deleted>"), {}),
    "field_has_children": (body(f"<name>c<b/></name>{SOUND_BOX}"), {}),
    "field_twice": (body(f"<name>cat</name>{NAMED}"), {}),
    "object_nested": (body(f"{NAMED}<object/>"), {}),
    "too_many_objects": (lambda voc: voc.add("a", "<object/>" * (MAX_OBJECTS + 1)), {}),
    "name_missing": (body(SOUND_BOX), {}),
    "name_whitespace": (body(f"<name> cat</name>{SOUND_BOX}"), {}),
    "name_unicode": (body(f"<name>cafe\u0301</name>{SOUND_BOX}"), {}),
    "flag_unreadable": (body(f"{NAMED}<difficult>perhaps</difficult>"), {}),
    "box_missing": (body("<name>cat</name>"), {}),
    "box_not_a_number": (box((1, 1, "nan", 9)), {}),
    "box_inverted": (box((30, 5, 10, 8)), {}),
    "box_zero_area": (box((5, 5, 5, 8)), {}),
    "box_clipped": (box((50, 40, 70, 48)), {}),
    "box_outside": (box((-20, 5, -3, 8)), {}),
    "box_tiny": (box((5, 5, 5.4, 30)), {}),
    "object_duplicate": (lambda voc: voc.add("a", voc.object(), voc.object()), {}),
    "path_unsafe": (names("a.jpg", filename="../a.jpg"), {}),
    "link_outside": (link_outside, {}),
    "file_unreadable": (unreadable("annotations/a.xml"), {}),
    "file_unseen": (unreadable("annotations/a.pdf"), {}),
    "folder_unreadable": (unreadable("annotations"), {}),
    "paired_by_case": (names("a.jpg", filename="A.JPG"), {}),
    "paired_by_extension": (names("a.jpg", filename="a"), {}),
    "paired_by_path": (names("b.jpg", filename="gone.jpg", path="C:\\photos\\b.jpg"), {}),
    "paired_by_stem": (names("a.jpg", filename="gone.jpg"), {}),
    "image_missing": (names("b.jpg", filename="gone.jpg"), {}),
    "paired_by_filename": (other_name("b"), {}),
    "paired_by_size": (two_images(widths=(32, 64)), {}),
    "claim_stale": (other_name(), {}),
    "image_copies": (two_images(seeds=(0, 0)), {}),
    "annotation_copy": (annotation_copy, {}),
    "image_ambiguous": (two_images(), {}),
    "image_claimed_twice": (image_claimed_twice, {}),
    "key_twice": (key_twice, {}),
    "image_unlabelled": (image_unlabelled, {}),
    "no_objects": (no_objects, {}),
    "decided": (two_images(), {"decisions": decide("image", "annotations/a.xml", "drop")}),
    "image_undecodable": (image(b"\xff\xd8\xff nothing"), {}),
    "image_unsupported": (image(b"\0\0\0\x18ftypheic\0\0\0\0"), {}),
    "image_too_large": (lambda voc: voc.add("a"), {"max_pixels": 64}),
    "image_transcoded": (png, {}),
    "alpha_zero": (image(hidden(), ".png"), {}),
    "image_shrunk": (lambda voc: voc.add("a"), {"max_side": 32}),
    "jpeg_extra_bytes": (extra_bytes, {}),
    "extension_wrong": (lambda voc: voc.add("a", suffix=".png"), {}),
    "exif_applied": (turned((48, 64)), {}),
    "exif_removed": (turned((64, 48)), {}),
    "exif_undecided": (turned(None), {}),
    "size_missing": (lambda voc: voc.add("a", size=None), {}),
    "size_zero": (lambda voc: voc.add("a", size=(0, 0)), {}),
    "size_swapped": (
        lambda voc: voc.add("a", voc.object("cat", (1, 1, 60, 9)), size=(48, 64)),
        {},
    ),
    "size_wrong": (lambda voc: voc.add("a", size=(99, 99)), {}),
    "size_conflict": (
        lambda voc: voc.add("a", voc.object("cat", (1, 1, 128, 96)), size=(128, 96)),
        {},
    ),
    "file_too_large": (yolo(" " * (MAX_LABEL_BYTES + 1)), {}),
    "file_malformed": (beside_coco("b.json", '{"images": [\n'), {}),
    "file_passed_over": (beside_coco("package.json", "{}"), {}),
    "file_repeats": (
        beside_coco("train.json", lambda voc: (voc.root / "sound.json").read_bytes()),
        {},
    ),
    "dialect_passed_over": (
        lambda voc: (voc.add("a"), voc.write("labels/a.txt", "0 .5 .5 .5 .5")),
        {},
    ),
    "entry_malformed": (yolo("0 .5 .5 .5 .5 .9"), {}),
    "entry_twice": (coco([{"id": 1, "file_name": "b.jpg"}]), {}),
    "entry_orphan": (coco(objects=[{"image_id": 7}, {"image_id": 7}]), {}),
    "id_twice": (coco(objects=[{"id": 1}, {"id": 1, "bbox": [3, 3, 9, 9]}]), {}),
    "class_id_unknown": (yolo("1 .5 .5 .5 .5"), {}),
    "class_conflict": (record(2, b"cat"), {}),
    "class_id_twice": (coco(categories=[{"id": 1, "name": name} for name in ("cat", "dog")]), {}),
    "class_name_twice": (yolo("1 .5 .5 .5 .5", "names: [cat, cat]"), {}),
    "class_names_missing": (yolo("1 .5 .5 .5 .5", None), {}),
    "video_unsupported": (cvat(""), {}),
    "shape_left_out": (cvat('<points label="cat" points="1,1;2,2"/><polyline label="cat"/>'), {}),
    "outline_boxed": (yolo("0 .1 .1 .5 .1 .5 .5"), {}),
    "object_crowd": (coco(objects=[{"iscrowd": 1}]), {}),
    "box_not_normalised": (yolo("0 32 24 9 9"), {}),
    "boxes_far_outside": (box((70, 5, 90, 8)), {}),
    "boxes_fractions": (box((0.25, 0.25, 0.75, 0.5)), {}),
    "boxes_percent": (percent, {}),
    "boxes_widths": (widths, {}),
    "boxes_scaled": (box((0.25, 0.25, 0.75, 0.5)), {"orders": Orders(scale_boxes=True)}),
    "class_unknown": (lambda voc: voc.add("a", voc.object("dog")), {"classes": ("cat",)}),
    "class_renamed": (lambda voc: voc.add("a"), {"renames": {"cat": "dog"}}),
    "class_rename_unused": (lambda voc: voc.add("a"), {"renames": {"car": "dog"}}),
    "split_unusable": (listed("nowhere", "gone"), FOLDERS),
    "split_unused": (stale_list, FOLDERS),
    "split_no_validation": (no_validation, FOLDERS),
    "split_leak_allowed": (listed("a", "b"), {**FOLDERS, "allow_leaks": True}),
    "split_unassigned": (listed("nowhere", "a/b/c", "b"), {"split_by": SplitBy.LISTS}),
    "split_entry_missing": (listed("a", "nowhere"), FOLDERS),
    "split_entry_twice": (listed("a", "a"), FOLDERS),
    "split_leak": (listed("a", "b"), FOLDERS),
    "split_near_leak": (same_image(60, "train", "val"), FOLDERS),
    "class_near_miss": (class_near_miss, {}),
    "split_empty": (lambda voc: voc.add("a"), {"fractions": {"train": 0.5, "val": 0.5}}),
    "class_absent": (class_absent, FOLDERS),
    "image_duplicate": (same_image(95, "one", "two"), {}),
    "image_near_duplicate": (same_image(60, "one", "two"), {}),
}


@pytest.mark.parametrize("code", RULES)
def test_a_fault_of_its_kind_provokes_the_rule(voc_set, audit, deny, code):
    plant, options = FAULTS[code]
    plant(voc_set)
    if voc_set.denied:
        deny(*voc_set.denied)
    result = audit(**options)
    findings = [finding for finding in result.findings() if finding.code == code]
    # Two files of one key, and two splits that lack each other's class, are two faults.
    assert (
        len(findings) == result.counts[code] == (2 if code in ("key_twice", "class_absent") else 1)
    )
    assert RULES[code].remedy in str(findings[0])


def test_a_sound_set_provokes_none(voc_set, audit):
    voc_set.add("a")
    voc_set.add("b")
    assert dict(audit().counts) == {}
