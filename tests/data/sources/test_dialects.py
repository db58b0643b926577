"""The same scenes give the same records, whatever dialect they are written in."""

import pytest


def write_coco(drawn):
    drawn.draw_images("{split}2017")
    drawn.write_coco()


def write_roboflow_coco(drawn):
    drawn.draw_images("{split}")
    drawn.write_coco("{split}/_annotations.coco.json")


def write_yolo(drawn):
    drawn.draw_images()
    drawn.write_yolo()
    drawn.write("data.yaml", "train: ../train/images\nval: ../val/images\nnames: ['dog', 'cat']\n")


def write_ultralytics(drawn):
    drawn.draw_images("images/{split}")
    drawn.write_yolo("labels/{split}")
    drawn.write(
        "data.yaml",
        "path: ../datasets/x\ntrain: images/train\nval: images/val\nnames:\n  0: dog\n  1: cat\n",
    )


def write_darknet(drawn):
    drawn.draw_images("obj")
    drawn.write_yolo("obj")
    drawn.write("obj.names", "dog\ncat\n")
    for split in ("train", "val"):
        names = [name for held, name, *_ in drawn.scenes if held == split]
        drawn.write(f"{split}.txt", "".join(f"data/obj/{name}.jpg\n" for name in names))


WRITERS = [write_coco, write_roboflow_coco, write_yolo, write_ultralytics, write_darknet]


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_scenes_give_the_same_records(drawn, write):
    write(drawn)
    made = drawn.make()
    assert made.splits == drawn.truth
    assert made.manifest["classes"] == list(drawn.classes)
    assert made.manifest["repairs"] == {}
    assert made.manifest["quarantined"] == {}
    assert {line["code"] for line in made.ledger} <= {"no_objects", "class_absent"}
