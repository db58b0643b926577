import json
from types import SimpleNamespace

import pytest

from detflow.data.judging.audit import AuditOptions
from detflow.data.making import RecordOptions, publish_records
from detflow.data.records.example import encode_example
from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples
from detflow.data.records.tfrecord import frame_record

CLASSES = ("dog", "cat")
# Split, name, size, and each object's class with its pixel edges.
SCENES = (
    ("train", "a", (64, 48), (("cat", 0, 0, 64, 48), ("dog", 4, 6, 20, 30))),
    ("train", "b", (60, 40), (("dog", 10, 5, 30, 25),)),
    ("val", "c", (64, 48), (("cat", 3, 7, 40, 41),)),
    ("val", "d", (64, 48), ()),
)


class DrawnSet:
    """The same scenes in any dialect.

    The helpers hang on it because test modules cannot import one another.
    """

    scenes = SCENES
    classes = CLASSES

    def __init__(self, voc_set, tmp_path):
        self.voc_set = voc_set
        self.root = voc_set.root
        self.tmp_path = tmp_path
        self.write = voc_set.write

    def draw_images(self, folder="{split}/images"):
        for number, (split, name, size, _) in enumerate(self.scenes):
            picture = self.voc_set.draw(*size, seed=number)
            self.write(f"{folder.format(split=split)}/{name}.jpg", self.voc_set.encode(picture))

    def coco(self, split, ids=(5, 9), **more):
        """The content of COCO's file for a split."""
        images, annotations = [], []
        for number, (_, name, size, objects) in enumerate(
            [scene for scene in self.scenes if scene[0] == split], start=10
        ):
            images.append(
                {"id": number, "file_name": f"{name}.jpg", "width": size[0], "height": size[1]}
            )
            for kind, left, top, right, bottom in objects:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": ids[self.classes.index(kind)],
                        "bbox": [left, top, right - left, bottom - top],
                        "iscrowd": 0,
                    }
                )
        categories = [
            {"id": number, "name": name} for number, name in zip(ids, self.classes, strict=True)
        ]
        return {"images": images, "annotations": annotations, "categories": categories, **more}

    def write_coco(self, path="annotations/instances_{split}2017.json", **more):
        for split in ("train", "val"):
            content = json.dumps(self.coco(split, **more), indent=1)
            self.write(path.format(split=split), content)

    def write_yolo(self, folder="{split}/labels"):
        for split, name, (width, height), objects in self.scenes:
            lines = [
                f"{self.classes.index(kind)} "
                f"{(left + right) / 2 / width} {(top + bottom) / 2 / height} "
                f"{(right - left) / width} {(bottom - top) / height}\n"
                for kind, left, top, right, bottom in objects
            ]
            self.write(f"{folder.format(split=split)}/{name}.txt", "".join(lines))

    def write_csv(self, path="data/{split}_labels.csv"):
        """As `xml_to_csv.py` writes it, which has no row for an image without objects."""
        for split in ("train", "val"):
            rows = ["filename,width,height,class,xmin,ymin,xmax,ymax\n"]
            for held, name, (width, height), objects in self.scenes:
                if held == split:
                    rows += [
                        f"{name}.jpg,{width},{height},{kind},"
                        f"{left + 1},{top + 1},{right},{bottom}\n"
                        for kind, left, top, right, bottom in objects
                    ]
            self.write(path.format(split=split), "".join(rows))

    def write_cvat(self, path="annotations.xml", subsets=True):
        images = []
        for number, (split, name, (width, height), objects) in enumerate(self.scenes):
            boxes = "".join(
                f'<box label="{kind}" occluded="0" xtl="{left:.2f}" ytl="{top:.2f}" '
                f'xbr="{right:.2f}" ybr="{bottom:.2f}" z_order="0">'
                '<attribute name="label">no class</attribute></box>\n'
                for kind, left, top, right, bottom in objects
            )
            subset = f' subset="{split.title()}"' if subsets else ""
            images.append(
                f'<image id="{number}" name="{name}.jpg"{subset} width="{width}" '
                f'height="{height}">\n{boxes}</image>\n'
            )
        labels = "".join(f"<label><name>{name}</name></label>" for name in self.classes)
        self.write(
            path,
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
            f"<meta><project><labels>{labels}</labels></project></meta>\n{''.join(images)}"
            "</annotations>\n",
        )

    def encode_record(self, number, ids=(1, 2), **fields):
        """A scene as a tf.Example of the TF Object Detection API's."""
        _, name, (width, height), objects = self.scenes[number]
        picture = self.voc_set.draw(width, height, seed=number)
        kinds = [one[0] for one in objects]
        features = {
            "image/encoded": (bytes, [self.voc_set.encode(picture)]),
            "image/format": (bytes, [b"jpeg"]),
            "image/filename": (bytes, [f"{name}.jpg".encode()]),
            "image/width": (int, [width]),
            "image/height": (int, [height]),
            "image/object/bbox/xmin": (float, [one[1] / width for one in objects]),
            "image/object/bbox/ymin": (float, [one[2] / height for one in objects]),
            "image/object/bbox/xmax": (float, [one[3] / width for one in objects]),
            "image/object/bbox/ymax": (float, [one[4] / height for one in objects]),
            "image/object/class/text": (bytes, [kind.encode() for kind in kinds]),
            "image/object/class/label": (int, [ids[self.classes.index(kind)] for kind in kinds]),
            **{f"image/{key}": value for key, value in fields.items()},
        }
        return frame_record(encode_example(features))

    def write_records(self, path="{split}/things.tfrecord", label_map="{split}/map.pbtxt"):
        items = [
            f"item {{ id: {number} name: '{name}' }}\n"
            for number, name in enumerate(self.classes, start=1)
        ]
        for split in ("train", "val"):
            records = [
                self.encode_record(number)
                for number, scene in enumerate(self.scenes)
                if scene[0] == split
            ]
            self.write(path.format(split=split), b"".join(records))
            self.write(label_map.format(split=split), "".join(items))

    def make(self, dialect=None, dataset=None, **options):
        """Makes records; returns the manifest, and each split's images with their objects."""
        out = self.tmp_path / "records"
        audit = AuditOptions(dialect=dialect, **options.pop("audit", {}))
        manifest = publish_records(
            dataset or self.root, out, RecordOptions(audit=audit, jobs=1, report=False, **options)
        )
        splits = {}
        for split in manifest["splits"]:
            splits[split] = {
                sample.filename.rpartition("/")[2]: [
                    (one.name, *(round(edge, 3) for edge in one.box.to_pixels(sample.size)))
                    for one in sample.objects
                ]
                for sample in read_samples(out, read_manifest(out), split)
            }
        ledger = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
        return SimpleNamespace(manifest=manifest, splits=splits, ledger=ledger, path=out)

    @property
    def truth(self):
        """What `make` gives of the scenes."""
        splits = {"train": {}, "val": {}}
        for split, name, _, objects in self.scenes:
            splits[split][f"{name}.jpg"] = [(kind, *map(float, box)) for kind, *box in objects]
        return splits


@pytest.fixture
def drawn(voc_set, tmp_path):
    return DrawnSet(voc_set, tmp_path)
