import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.making import BadLimit
from detflow.data.records.example import encode_example
from detflow.data.records.tfrecord import frame_record
from detflow.data.sources.detect import DIALECTS, open_dataset_files
from detflow.data.sources.tfrecord.read import read_record
from detflow.errors import DataError
from detflow.label_map import LabelMap
from detflow.storage.folders import LocalFolder

MAP = LabelMap(("cat", "/m/1"), (1, 13), {13: "dog"})
COLUMNS = {f"image/object/bbox/{side}": (float, [0.25]) for side in ("xmin", "ymin")} | {
    f"image/object/bbox/{side}": (float, [0.75]) for side in ("xmax", "ymax")
}


def read(label_map=MAP, **fields):
    features = {**COLUMNS, **{f"image/{name}": value for name, value in fields.items()}}
    data = encode_example({name: value for name, value in features.items() if value is not None})
    [raw] = read_record(data, "a.tfrecord/000000/a", label_map).annotations
    return raw


@pytest.mark.parametrize(
    ("label_map", "class_id", "text", "name"),
    [
        (MAP, 1, "cat", "cat"),
        (MAP, 1, None, "cat"),
        (MAP, None, "cat", "cat"),
        # People read the display name.
        (MAP, 13, "dog", "dog"),
        (MAP, 13, "/m/1", "dog"),
        (MAP, None, "/m/1", "dog"),
        (None, 13, "bird", "bird"),
        (None, 13, None, "13"),
    ],
)
def test_a_class_is_what_id_and_name_say(label_map, class_id, text, name):
    raw = read(
        label_map,
        **{
            "object/class/label": None if class_id is None else (int, [class_id]),
            "object/class/text": None if text is None else (bytes, [text.encode()]),
        },
    )
    assert [(one.name, one.corners) for one in raw.objects] == [(name, (0.25, 0.25, 0.75, 0.75))]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (
            {"object/class/label": (int, [1]), "object/class/text": (bytes, [b"dog"])},
            "class_conflict",
        ),
        ({"object/class/label": (int, [2])}, "class_id_unknown"),
        ({"object/class/text": (bytes, [b"bird"])}, "class_id_unknown"),
        ({}, "class_id_unknown"),
        ({"object/class/label": (int, [1, 1])}, "entry_malformed"),
        ({"object/class/label": (float, [1.0])}, "entry_malformed"),
        ({"object/class/label": (int, [1]), "object/bbox/xmin": None}, "entry_malformed"),
        ({"object/class/label": (int, [1]), "object/bbox/xmin": (int, [0])}, "entry_malformed"),
        (
            {"object/class/label": (int, [1]), "object/bbox/xmax": (float, [float("nan")])},
            "box_not_a_number",
        ),
        (
            {"object/class/label": (int, [1]), "object/bbox/xmax": (float, [48.0])},
            "box_not_normalised",
        ),
    ],
)
def test_a_record_that_cannot_be_read_is_set_aside(fields, code):
    raw = read(**fields)
    assert raw.objects is None
    assert [one.code for one in raw.findings] == [code]


def test_flags_go_with_their_objects():
    columns = {name: (kind, values * 2) for name, (kind, values) in COLUMNS.items()}
    raw = read(
        **{name.removeprefix("image/"): value for name, value in columns.items()},
        **{
            "object/class/label": (int, [1, 13]),
            "object/difficult": (int, [1, 0]),
            "object/truncated": (int, [0, 1]),
            "object/view": (bytes, [b"Left", b""]),
            "object/is_crowd": (int, [0]),
            "width": (int, [64]),
            "height": (int, [48]),
        },
    )
    assert raw.size == (64, 48)
    flags = [(one.difficult, one.truncated, one.pose) for one in raw.objects]
    assert flags == [(True, False, "Left"), (False, True, "")]


@given(st.binary(max_size=200))
def test_no_bytes_are_a_crash(data):
    [raw] = read_record(data, "a", None).annotations
    assert raw.path == "a"


def test_records_without_objects_and_without_names_of_images(drawn):
    bare = {
        "image/encoded": (bytes, [drawn.voc_set.encode(drawn.voc_set.draw(), "PNG")]),
        "image/source_id": (bytes, [b"17"]),
    }
    drawn.write("a.tfrecord", drawn.encode_record(1) + frame_record(encode_example(bare)))
    drawn.write("map.pbtxt", "item { id: 1 name: 'dog' } item { id: 2 name: 'cat' }")
    made = drawn.make(audit={"fractions": {"train": 1.0}})
    assert made.splits == {"train": {"b.jpg": drawn.truth["train"]["b.jpg"], "17.png": []}}
    names = {one.get("image") for one in made.ledger if one["code"] == "no_objects"}
    assert names == {"a.tfrecord/000001/17.png"}


def test_damage_is_named_and_the_rest_is_read(drawn):
    records = [bytearray(drawn.encode_record(number)) for number in (0, 1, 2)]
    records[1][40] ^= 1
    drawn.write("a.record", b"".join(records)[:-9])
    drawn.write("b.record", drawn.encode_record(3))
    drawn.write("c.tfrecord.gz", b"\x1f\x8b")
    made = drawn.make(audit={"fractions": {"train": 1.0}}, max_bad=BadLimit(number=3))
    assert sorted(made.splits["train"]) == ["a.jpg", "d.jpg"]
    damaged = [
        (one["path"], one["value"][:40]) for one in made.ledger if one["code"] == "file_malformed"
    ]
    assert damaged == [
        ("a.record/000001/record", "the data's checksum is wrong in the reco"),
        ("a.record/000002/record", "the file ends inside the record that beg"),
        ("c.tfrecord.gz", "packed by gzip: unpack it"),
    ]
    assert made.manifest["annotations_found"] == 5
    assert made.manifest["quarantined"] == {"file_malformed": 3}


def test_names_that_lead_elsewhere_lead_nowhere(drawn):
    names = [
        b"../../evil.jpg",
        b"/etc/passwd",
        b"x\0y.jpg",
        b"a.jpg.png.gif",
        b"",
        b"\xff",
        b"..",
        b"n" * 999,
    ]
    drawn.write(
        "a.tfrecord",
        b"".join(drawn.encode_record(1, filename=(bytes, [name])) for name in names),
    )
    _, files = open_dataset_files(LocalFolder.of(drawn.root), None, ("dog", "cat"))
    assert len(files.images) == len(files.annotations) == len(set(files.images)) == len(names)
    for number, path in enumerate(files.images):
        assert path.startswith(f"a.tfrecord/{number:06d}/")
        assert path.count("/") == 2
        assert ".." not in path
        assert path.isprintable()
        data = files.source.read(path, 1 << 20)
        assert data.startswith(b"\xff\xd8\xff")
        assert files.source.read(path, 3) == data[:3]


def test_label_maps_that_contradict_are_refused(drawn):
    drawn.write_records()
    drawn.write("train/other.pbtxt", "item { id: 1 name: 'bird' }")
    with pytest.raises(
        DataError, match=r"train/other\.pbtxt: it names the classes differently from"
    ):
        open_dataset_files(LocalFolder.of(drawn.root), DIALECTS["tfrecord"], None)


def test_records_beside_a_dataset_are_named_and_passed_over(drawn):
    drawn.draw_images()
    drawn.write_coco("{split}.json")
    drawn.write("data/train.record", drawn.encode_record(0))
    made = drawn.make()
    assert made.splits == drawn.truth
    [note] = [one for one in made.ledger if one["code"] == "dialect_passed_over"]
    assert note["value"] == "TFRecord: 1 file (data/train.record)"


def test_commands_take_foreign_records(drawn, tmp_path, command):
    drawn.write_records()
    done = command("check", drawn.root, "--json")
    # They are judged as TFRecord files, and once.
    assert (done.returncode, json.loads(done.stdout)["images"]) == (0, 4)
    done = command("init", drawn.root, "--no-probe", "--offline")
    assert done.returncode == 0, done.stderr
    done = command(
        "convert", drawn.root, "--to", "coco", "--output", tmp_path / "coco", "--jobs", 1
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(next((tmp_path / "coco").rglob("*train*.json")).read_text())
    assert sorted(one["file_name"].rpartition("/")[2] for one in found["images"]) == [
        "a.jpg",
        "b.jpg",
    ]
