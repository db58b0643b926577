import pytest

from detflow.data.rules import Action
from detflow.data.sources.coco.source import COCO
from detflow.data.sources.detect import find_dialects, open_dataset_files
from detflow.data.sources.layout import walk_dataset
from detflow.data.sources.voc.source import VOC
from detflow.data.sources.yolo.source import YOLO
from detflow.errors import ConfigError
from detflow.storage.folders import LocalFolder


def look(root):
    source = LocalFolder.of(root)
    return [str(seen) for seen in find_dialects(source, walk_dataset(source))]


def open_files(root, dialect=None):
    return open_dataset_files(LocalFolder.of(root), dialect, None)


def test_each_dialect_is_known_by_what_its_files_hold(drawn):
    drawn.draw_images()
    assert look(drawn.root) == []
    drawn.write("package.json", '{"name": "x", "dependencies": {}}')
    drawn.write("train/images/notes.txt", "1 2 3 4 5")
    drawn.write("requirements.txt", "numpy")
    drawn.write("pom.xml", "<project/>")
    assert look(drawn.root) == []
    drawn.write_yolo()
    assert look(drawn.root) == [
        "YOLO: 4 files (train/labels/a.txt, train/labels/b.txt, val/labels/c.txt, …)"
    ]
    drawn.write_coco("{split}.json")
    drawn.write("x/y.xml", "\ufeff<?xml version='1.0'?><!-- <a> -->\n<annotation/>")
    assert [line.split(":")[0] for line in look(drawn.root)] == ["VOC", "COCO", "YOLO"]


def test_a_set_without_any_is_a_voc_set_without_annotations(drawn):
    drawn.draw_images()
    dialect, files = open_files(drawn.root)
    assert (dialect.name, files.annotations, len(files.images)) == ("VOC", (), 4)


def test_voc_counts_where_it_speaks_of_all_images(drawn):
    drawn.draw_images()
    for _, name, *_ in drawn.scenes:
        drawn.write(f"xml/{name}.xml", drawn.voc_set.xml(filename=f"{name}.jpg"))
    drawn.write_coco("{split}.json")
    drawn.write_yolo()
    dialect, files = open_files(drawn.root)
    assert dialect == VOC
    assert [(one.code, one.value.partition(":")[0]) for one in files.findings] == [
        ("dialect_passed_over", "COCO"),
        ("dialect_passed_over", "YOLO"),
    ]
    # Of one image only another dialect speaks: ignoring it would lose what it says.
    (drawn.root / "xml/a.xml").unlink()
    with pytest.raises(
        ConfigError, match=r"several dialects lie together: VOC: 3 files .*; COCO: 2"
    ) as e:
        open_files(drawn.root)
    assert e.value.remedy == "choose --dialect voc or --dialect coco or --dialect yolo"
    for chosen in (VOC, COCO):
        assert open_files(drawn.root, chosen)[0] == chosen
    assert open_files(drawn.root, YOLO)[0].name == "YOLO"


def test_a_choice_that_finds_nothing_says_so(drawn, command):
    drawn.draw_images()
    drawn.write_coco("{split}.json")
    done = command("check", drawn.root, "--dialect", "yolo", "--jobs", 1)
    assert done.returncode == 3
    assert "no YOLO annotation was found" in done.stderr
    assert command("check", drawn.root, "--jobs", 1).returncode == 0


def test_two_dialects_are_a_choice_of_the_user(drawn, command):
    drawn.draw_images()
    drawn.write_coco("{split}.json")
    drawn.write("xml/a.xml", drawn.voc_set.xml(filename="a.jpg"))
    done = command("check", drawn.root, "--jobs", 1)
    assert done.returncode == 2
    assert "VOC: 1 file (xml/a.xml); COCO: 2 files (train.json, val.json)" in done.stderr
    assert command("check", drawn.root, "--jobs", 1, "--dialect", "coco").returncode == 0


def test_the_manifest_names_the_dialect(drawn):
    drawn.draw_images()
    drawn.write_coco("{split}.json")
    made = drawn.make()
    assert made.manifest["dialect"] == "COCO"
    assert not [line for line in made.ledger if line["action"] != Action.NOTED.value]
