import importlib
import json
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detflow.data.judging.audit import AuditOptions
from detflow.data.making import RecordOptions, publish_records
from detflow.errors import DataError

TOOLS = Path(__file__).parents[2] / "tools"
SIZE = (128, 96)


@pytest.fixture(scope="module")
def script():
    """The script as a module; those that it is made of can be imported as `sample` meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        yield importlib.import_module("make_sample_dataset")
        for name in [*sys.modules]:
            if name == "make_sample_dataset" or name.partition(".")[0] == "sample":
                del sys.modules[name]


@pytest.fixture(scope="module")
def clean(script, tmp_path_factory):
    root = tmp_path_factory.mktemp("clean") / "set"
    return root, script.make_dataset(root, 24, 7, SIZE)


@pytest.fixture(scope="module")
def planted(script, tmp_path_factory):
    """The same dataset with every kind of defect."""
    root = tmp_path_factory.mktemp("planted") / "set"
    return root, script.make_dataset(root, 24, 7, SIZE, tuple(script.DEFECTS))


def contents(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def boxes(path):
    return [
        [int(item.findtext(f"bndbox/{tag}")) for tag in ("xmin", "ymin", "xmax", "ymax")]
        for item in ET.parse(path).iter("object")
    ]


def defect(planted, kind):
    root, truth = planted
    [entry] = [entry for entry in truth["defects"] if entry["kind"] == kind]
    return root, entry


def stored(root, entry):
    return Image.open(root / f"JPEGImages/{entry['stem']}.jpg")


def test_one_seed_gives_the_same_bytes(script, clean, tmp_path):
    script.make_dataset(tmp_path / "again", 24, 7, SIZE)
    assert contents(tmp_path / "again") == contents(clean[0])
    script.make_dataset(tmp_path / "other", 24, 8, SIZE)
    assert contents(tmp_path / "other") != contents(clean[0])


def test_a_picture_does_not_depend_on_how_many_there_are(script, clean, tmp_path):
    script.make_dataset(tmp_path / "few", 3, 7, SIZE)
    for name in ("JPEGImages/table_00002.jpg", "Annotations/table_00002.xml"):
        assert (tmp_path / "few" / name).read_bytes() == (clean[0] / name).read_bytes()


def test_clean_annotations_fit_their_pictures(clean):
    root, truth = clean
    names = set()
    for path in (root / "Annotations").iterdir():
        tree = ET.parse(path)
        with Image.open(root / "JPEGImages" / tree.findtext("filename")) as image:
            image.load()
            assert image.format == "JPEG"
            assert (image.width, image.height) == tuple(
                int(tree.findtext(f"size/{tag}")) for tag in ("width", "height")
            )
            for xmin, ymin, xmax, ymax in boxes(path):
                assert 1 <= xmin < xmax <= image.width
                assert 1 <= ymin < ymax <= image.height
        names |= {item.findtext("name") for item in tree.iter("object")}
    assert names == set(truth["classes"])
    assert truth["defects"] == []


def test_a_box_encloses_exactly_what_can_be_seen(script):
    from sample.scene import Scene
    from sample.sprites import Sprite
    from sample.surfaces import Light

    light = Light(np.array([0, 0, 1], np.float32), 1.0)
    scene = Scene(np.full((40, 60, 3), 0.5, np.float32), np.full((40, 60), -1, np.int32))

    def square(half):
        return Sprite(
            np.ones((2 * half + 1, 2 * half + 1, 3), np.float32),
            np.ones((2 * half + 1, 2 * half + 1), np.float32),
            1.0,
        )

    assert scene.lay("coin", square(5), (10, 20), light)
    assert scene.lay("leaf", square(5), (10, 27), light)  # Hides columns 22 to 25 of the first.
    assert not scene.lay("bolt", square(9), (10, 22), light)  # Would hide both.
    assert not scene.lay(
        "bolt", square(5), (39, 59), light
    )  # Three quarters of it would be outside.
    coin, leaf = scene.objects()
    assert (coin.name, coin.box, coin.difficult, coin.truncated) == (
        "coin",
        (16, 6, 22, 16),
        False,
        False,
    )
    assert (leaf.name, leaf.box) == ("leaf", (23, 6, 33, 16))


def test_splits_are_disjoint_and_counted(clean):
    root, truth = clean
    lists = {
        name: (root / f"ImageSets/Main/{name}.txt").read_text().split()
        for name in ("train", "val", "test")
    }
    assert sorted(chain.from_iterable(lists.values())) == sorted(
        path.stem for path in (root / "JPEGImages").iterdir()
    )
    for name, stems in lists.items():
        found = [
            item.findtext("name")
            for stem in stems
            for item in ET.parse(root / f"Annotations/{stem}.xml").iter("object")
        ]
        usable = truth["usable"][name]
        assert (usable["images"], usable["objects"]) == (len(stems), len(found))
        assert usable["objects_per_class"] == {
            label: found.count(label) for label in truth["classes"]
        }


@pytest.mark.parametrize("count", [1, 2, 3, 300])
def test_every_stem_is_in_one_split(script, count):
    stems = [str(i) for i in range(count)]
    splits = script.split_names(stems, 1)
    assert sorted(chain.from_iterable(splits.values())) == sorted(stems)
    if count >= 3:
        assert all(splits.values())


def test_each_defect_is_planted_once_on_a_file_of_its_own(script, planted):
    root, truth = planted
    assert [entry["kind"] for entry in truth["defects"]] == list(script.DEFECTS)
    stems = [entry["stem"] for entry in truth["defects"]]
    assert len(set(stems)) == len(stems)
    assert json.loads((root / "truth.json").read_text()) == json.loads(json.dumps(truth))


def test_only_planted_files_differ(clean, planted):
    before, after = contents(clean[0]), contents(planted[0])
    named = {entry["stem"] for entry in planted[1]["defects"]}
    differing = {
        Path(name).stem
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    }
    assert differing - {"truth", "test"} == named


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [("png_named_jpg", "PNG"), ("bmp_named_jpg", "BMP"), ("webp_named_jpg", "WEBP")],
)
def test_formats_under_a_false_name(planted, kind, encoding):
    with stored(*defect(planted, kind)) as image:
        assert image.format == encoding


def test_the_exif_picture_fits_its_annotation_when_turned(planted, clean):
    root, entry = defect(planted, "exif_rotated")
    with stored(root, entry) as image, Image.open(clean[0] / entry["file"]) as upright:
        assert image.getexif()[0x0112] == 6
        assert image.size == upright.size[::-1] == tuple(entry["stored_size"])
        shown = np.asarray(image.transpose(Image.Transpose.ROTATE_270), np.float32)
        assert np.abs(shown - np.asarray(upright, np.float32)).mean() < 3


def test_the_truncated_picture_cannot_be_read(planted):
    with (
        stored(*defect(planted, "truncated_jpeg")) as image,
        pytest.raises(OSError, match="truncated"),
    ):
        image.load()


def test_boxes_are_wrong_in_the_stated_way(planted):
    for kind, is_wrong in {
        "inverted_box": lambda box, size: box[0] > box[2],
        "box_outside": lambda box, size: (
            box[0] < 1 or box[1] < 1 or box[2] > size[0] or box[3] > size[1]
        ),
        "zero_area_box": lambda box, size: box[0] == box[2] and box[1] == box[3],
    }.items():
        root, entry = defect(planted, kind)
        with stored(root, entry) as image:
            wrong = [
                index
                for index, box in enumerate(boxes(root / entry["file"]))
                if is_wrong(box, image.size)
            ]
        assert wrong == [entry["object"]]
        assert boxes(root / entry["file"])[entry["object"]] == list(entry["before"])
    root, entry = defect(planted, "duplicate_object")
    found = boxes(root / entry["file"])
    assert found.index(found[entry["object"]]) == entry["object"] - 1


def test_names_sizes_and_missing_files(planted):
    def text_of(kind):
        root, entry = defect(planted, kind)
        return root, entry, ET.parse(root / f"Annotations/{entry['stem']}.xml")

    root, entry, tree = text_of("stale_filename")
    assert tree.findtext("filename") == entry["filename"]
    assert not (root / "JPEGImages" / entry["filename"]).exists()
    _, entry, tree = text_of("filename_without_extension")
    assert tree.findtext("filename") == entry["stem"]
    _, _, tree = text_of("zero_size")
    assert (tree.findtext("size/width"), tree.findtext("size/height")) == ("0", "0")
    root, entry, tree = text_of("swapped_size")
    with stored(root, entry) as image:
        assert [int(tree.findtext("size/height")), int(tree.findtext("size/width"))] == list(
            image.size
        )
    root, entry = defect(planted, "annotation_without_image")
    assert (root / entry["file"]).exists()
    assert not (root / f"JPEGImages/{entry['stem']}.jpg").exists()
    root, entry = defect(planted, "unlabelled_image")
    assert (root / entry["file"]).exists()
    assert not (root / f"Annotations/{entry['stem']}.xml").exists()
    _, entry, tree = text_of("class_typo")
    assert [item.findtext("name") for item in tree.iter("object")][entry["object"]] == "buton"
    _, _, tree = text_of("filename_outside")
    assert tree.findtext("filename").startswith("../../")
    root, entry = defect(planted, "doctype")
    assert "<!DOCTYPE" in (root / entry["file"]).read_text()


def test_the_leak_is_the_same_picture_in_two_splits(planted):
    root, entry = defect(planted, "leak")
    assert (root / entry["file"]).read_bytes() == (root / entry["same_as"]).read_bytes()
    assert entry["stem"] in (root / "ImageSets/Main/test.txt").read_text().split()
    assert Path(entry["same_as"]).stem in (root / "ImageSets/Main/train.txt").read_text().split()


def test_the_truth_counts_what_is_usable(planted, clean):
    lost = [entry["stem"] for entry in planted[1]["defects"] if entry["handling"] == "quarantine"]
    assert len(lost) == 2
    before = sum(split["images"] for split in clean[1]["usable"].values())
    after = sum(split["images"] for split in planted[1]["usable"].values())
    assert after == before - len(lost) + 1  # The leak's twin is one more.


def test_kinds_that_stop_a_run_are_planted_only_when_named(script):
    assert set(script.DEFECTS) - set(script.MENDABLE) == {
        "leak",
        "class_typo",
        "doctype",
        "filename_outside",
    }


def test_the_converter_arrives_at_the_truth(script, tmp_path):
    """What one program planted is what the other one finds, and what is left is what was drawn."""
    truth = script.make_dataset(tmp_path / "set", 40, 7, SIZE, script.MENDABLE)
    manifest = publish_records(tmp_path / "set", tmp_path / "records", RecordOptions())
    assert manifest["annotations_found"] == truth["annotations_found"]
    assert manifest["images_found"] == truth["images_found"]
    for name, usable in truth["usable"].items():
        split = manifest["splits"][name]
        assert {key: split[key] for key in usable} == usable
    handled = Counter(entry["handling"] for entry in truth["defects"])
    assert sum(manifest["repairs"].values()) == handled["repair"] + handled["drop"]
    assert sum(manifest["quarantined"].values()) == handled["quarantine"]


@pytest.mark.parametrize("kind", ["leak", "doctype", "filename_outside"])
def test_the_converter_refuses_what_it_must(script, tmp_path, kind):
    assert script.DEFECTS[kind].handling == "fail"
    script.make_dataset(tmp_path / "set", 12, 7, SIZE, (kind,))
    with pytest.raises(DataError, match="1 problem must be looked at first"):
        publish_records(tmp_path / "set", tmp_path / "records", RecordOptions())
    assert not (tmp_path / "records").exists()


def test_the_converter_names_the_typing_error(script, tmp_path):
    script.make_dataset(tmp_path / "set", 40, 7, SIZE, ("class_typo",))
    manifest = publish_records(tmp_path / "set", tmp_path / "records", RecordOptions())
    assert manifest["noted"]["class_near_miss"] == 1
    classes = RecordOptions(audit=AuditOptions(classes=script.CLASSES))
    with pytest.raises(DataError):
        publish_records(tmp_path / "set", tmp_path / "strict", classes)


def test_the_command_line(script, tmp_path, capsys):
    script.main(
        ["--output", str(tmp_path / "set"), "--images", "16", "--size", "96x64", "--defects"]
    )
    printed = capsys.readouterr().out
    assert f"{len(script.MENDABLE)} defects planted" in printed
    assert len(printed.splitlines()) == 6
    with pytest.raises(SystemExit, match="is not empty"):
        script.main(["--output", str(tmp_path / "set"), "--images", "2"])
    with pytest.raises(SystemExit, match="too few pictures"):
        script.main(
            ["--output", str(tmp_path / "few"), "--images", "2", "--size", "96x64", "--defects"]
        )


@pytest.mark.parametrize(
    "wrong",
    [
        ["--size", "320"],
        ["--size", "10x10"],
        ["--images", "0"],
        ["--defects", "nonsense"],
        ["--seed", "-1"],
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(script, tmp_path, capsys, wrong):
    with pytest.raises(SystemExit) as stop:
        script.main(["--output", str(tmp_path / "set"), *wrong])
    assert stop.value.code == 2
    assert wrong[0] in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
