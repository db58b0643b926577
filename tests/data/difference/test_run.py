import json
import shutil
from types import SimpleNamespace

import click
import pytest

import detflow

NAMES = ("a", "b", "c", "d", "e", "f")


@pytest.fixture
def pair(voc_set, tmp_path):
    """Two equal datasets with two splits; a test changes the second one."""
    for number, name in enumerate(NAMES):
        split = "train" if number < 4 else "val"
        voc_set.add(
            name,
            voc_set.object("cat", (5, 5, 30, 30)),
            voc_set.object("dog", (20, 10, 60, 40)),
            images=f"{split}/images",
            annotations=f"{split}/annots",
        )
    old = voc_set.root
    new = tmp_path / "new"
    shutil.copytree(old, new)
    voc_set.root = new
    return SimpleNamespace(old=old, new=new, draw=voc_set)


def edit(folder, name, before, after):
    [path] = folder.rglob(f"{name}.xml")
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def compare(command, pair, *options):
    done = command("diff", pair.old, pair.new, "--jobs", 1, "--json", *options)
    content = json.loads(done.stdout)
    counts = {**content["images"], **{f"objects_{k}": n for k, n in content["objects"].items()}}
    return done.returncode, {name: number for name, number in counts.items() if number}, content


def test_equal_sets_are_equal_whatever_they_are_made_of(pair, command, tmp_path):
    detflow.make_records(pair.new, tmp_path / "records", jobs=1, report=False)
    for dialect in ("voc", "coco", "yolo"):
        detflow.convert(pair.new, tmp_path / dialect, to=dialect, jobs=1)
    for name in ("new", "records", "voc", "coco", "yolo"):
        done = command("diff", pair.old, tmp_path / name, "--jobs", 1)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "the two sets are equal")
        done = command("diff", tmp_path / name, tmp_path / "records", "--jobs", 1)
        assert done.returncode == 0, done.stdout


def move_to_val(pair):
    for kind, suffix in (("images", "jpg"), ("annots", "xml")):
        (pair.new / f"train/{kind}/a.{suffix}").rename(pair.new / f"val/{kind}/a.{suffix}")


def rename(pair):
    edit(pair.new, "a", "a.jpg", "z.jpg")
    for path in [*pair.new.rglob("a.jpg"), *pair.new.rglob("a.xml")]:
        path.rename(path.with_stem("z"))


def remove(pair):
    for path in [*pair.new.rglob("a.jpg"), *pair.new.rglob("a.xml")]:
        path.unlink()


def replace_picture(pair):
    [path] = pair.new.rglob("a.jpg")
    path.write_bytes(pair.draw.encode(pair.draw.draw(seed=99)))


def strip_metadata(pair):
    """The same picture in other bytes, here as a PNG, which every record has as the same JPEG."""
    for folder, picture in ((pair.old, "PNG"), (pair.new, "BMP")):
        drawn = pair.draw.encode(pair.draw.draw(seed=7), picture)
        [path] = folder.rglob("a.jpg")
        path.write_bytes(drawn)


def add_comment(pair):
    """Other bytes, the same pixels: a comment behind the first marker of a JPEG."""
    [path] = pair.new.rglob("a.jpg")
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xfe\x00\x06text" + data[2:])


CHANGES = {
    "split": (move_to_val, {"other_split": 1}),
    "name": (rename, {"renamed": 1}),
    "fewer": (remove, {"removed": 1}),
    "picture": (replace_picture, {"replaced": 1}),
    "format": (strip_metadata, {}),
    "comment": (add_comment, {}),
    "class": (
        lambda pair: edit(pair.new, "a", "dog", "cat"),
        {"other_objects": 1, "objects_relabelled": 1},
    ),
    "box": (
        lambda pair: edit(pair.new, "a", "<xmax>60<", "<xmax>63<"),
        {"other_objects": 1, "objects_moved": 1},
    ),
    "a pixel": (lambda pair: edit(pair.new, "a", "<xmax>60<", "<xmax>61<"), {}),
    "flag": (
        lambda pair: edit(pair.new, "a", "<name>dog", "<difficult>1</difficult><name>dog"),
        {"other_objects": 1, "objects_reflagged": 1},
    ),
    "more": (
        lambda pair: pair.draw.add("g", images="val/images", annotations="val/annots"),
        {"added": 1},
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_each_kind_of_change_is_named_and_decides_the_exit_code(pair, command, kind):
    change, expected = CHANGES[kind]
    change(pair)
    code, counts, content = compare(command, pair)
    assert counts == expected
    assert code == (1 if expected else 0)
    assert content["equal"] == (not expected)
    # In the other direction additions are removals, and nothing else is different.
    back = SimpleNamespace(old=pair.new, new=pair.old)
    exchanged = {"added": "removed", "removed": "added"}
    assert compare(command, back)[1] == {
        exchanged.get(name, name): number for name, number in expected.items()
    }


def test_the_details_are_there(pair, command):
    edit(pair.new, "a", "dog", "owl")
    edit(pair.new, "b", "<xmax>60<", "<xmax>64<")
    move_to_val(pair)
    done = command("diff", pair.old, pair.new, "--jobs", 1)
    assert done.returncode == 1
    for line in (
        "classes       added: owl",
        "images        1 image in another split: 1 from train to val",
        "objects       in images of both sets: 1 relabelled, 1 moved",
        "              dog: 6 → 5; 1 relabelled, 1 moved",
        "relabelled    1 × dog → owl",
    ):
        assert line in done.stdout.splitlines()
    content = compare(command, pair)[2]
    assert content["objects_per_class"]["owl"] == {
        "old": 0,
        "new": 1,
        "added": 0,
        "removed": 0,
        "relabelled": 1,
        "moved": 0,
        "reflagged": 0,
    }
    by_name = {change["new"]: change for change in content["changes"]}
    [moved] = by_name["train/images/b.jpg"]["objects"]
    assert (moved["old"]["box_px"], moved["new"]["box_px"], moved["pixels"]) == (
        [19.0, 9.0, 60.0, 40.0],
        [19.0, 9.0, 64.0, 40.0],
        pytest.approx(4.0, abs=1e-3),
    )
    assert by_name["val/images/a.jpg"]["splits"] == ["train", "val"]


def test_processes_do_not_matter(pair):
    edit(pair.new, "a", "dog", "owl")
    one, two = (detflow.diff(pair.old, pair.new, jobs=jobs) for jobs in (1, 2))
    assert one == two


def test_a_set_without_splits_is_compared_without_them(voc_set, tmp_path, command):
    for name in NAMES:
        voc_set.add(name)
    detflow.make_records(voc_set.root, tmp_path / "records", jobs=1, report=False)
    done = command("diff", voc_set.root, tmp_path / "records", "--jobs", 1)
    assert done.returncode == 0
    assert "splits        not compared: one of the two declares none" in done.stdout


def test_other_ids_are_a_difference(pair, command, tmp_path):
    for name, classes in (("one", ["cat", "dog"]), ("two", ["dog", "cat"])):
        detflow.make_records(pair.old, tmp_path / name, classes=classes, jobs=1, report=False)
    done = command("diff", tmp_path / "one", tmp_path / "two", "--jobs", 1)
    assert done.returncode == 1
    assert "classes       in another order, so their ids differ" in done.stdout


def test_the_page_shows_old_and_new_boxes(pair, command, tmp_path, parse_page):
    edit(pair.new, "a", "dog", "owl &amp; co")
    edit(pair.new, "b", "<xmax>60<", "<xmax>64<")
    page_path = tmp_path / "page.html"
    done = command("diff", pair.old, pair.new, "--jobs", 1, "--page", page_path)
    assert done.returncode == 1
    page = parse_page(page_path.read_text(encoding="utf-8"))
    page.require_inert()
    page.require_links("totals", "classes", "changed", "added", "removed")
    assert page.texts("figure//figcaption/div[2]") == [
        "owl & co: dog → owl & co",
        "dog: moved by 4.0 px",
    ]
    for kind in ("before", "after"):
        assert len(page.find(f"figure//rect[@class='{kind}']")) == 2
    assert ["dog", "6", "5", "0", "0", "1", "1", "0"] in page.rows("section[@id='classes']")


@pytest.fixture
def trained(pair, tmp_path, run_record):
    """A model directory that says that it was trained on records of the old set."""
    from detflow.config.reading import parse_config
    from detflow.data.records.manifest import read_manifest
    from detflow.runs.run_dir import RunDir

    records = tmp_path / "records"
    detflow.make_records(pair.old, records, jobs=1, report=False)
    run = RunDir(tmp_path / "runs" / "a")
    manifest = read_manifest(records)
    config = parse_config("", [f"data.records={records}"])
    run.write_record(run_record(config, manifest.label_map.names, manifest.fingerprint))
    return SimpleNamespace(path=run.path, records=records, run=run)


def test_a_model_stands_for_its_records(pair, trained, command):
    done = command("diff", "--model", trained.path, trained.records, "--jobs", 1)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "the two sets are equal")
    edit(pair.new, "a", "dog", "owl")
    done = command("diff", "--model", trained.path, pair.new, "--jobs", 1)
    assert done.returncode == 1
    assert "relabelled    1 × dog → owl" in done.stdout


def test_of_records_that_are_gone_the_fingerprint_is_left(pair, trained, command, tmp_path):
    moved = tmp_path / "elsewhere"
    trained.records.rename(moved)
    done = command("diff", "--model", trained.path, moved, "--jobs", 1)
    assert done.returncode == 0
    assert "the two sets are equal" in done.stdout
    edit(pair.new, "a", "dog", "owl")
    other = tmp_path / "other"
    detflow.make_records(pair.new, other, jobs=1, report=False)
    done = command("diff", "--model", trained.path, other, "--jobs", 1)
    assert (done.returncode, done.stdout) == (4, "")
    assert "are gone; the new set has another fingerprint" in done.stderr
    assert "and adds the classes owl" in done.stderr
    detflow.make_records(pair.new, trained.records, jobs=1, report=False)
    done = command("diff", "--model", trained.path, pair.old, "--jobs", 1)
    assert done.returncode == 4
    assert "hold other data by now" in done.stderr


def test_what_is_no_pair_is_refused(pair, trained, command, tmp_path):
    for arguments in (
        (pair.old,),
        (pair.old, pair.new, pair.new),
        ("--model", trained.path, pair.old, pair.new),
        (pair.old, tmp_path / "missing"),
    ):
        with pytest.raises(click.UsageError):
            command("diff", *arguments)
    (tmp_path / "empty").mkdir()
    assert command("diff", pair.old, tmp_path / "empty", "--jobs", 1).returncode == 3
    with pytest.raises(detflow.ConfigError, match="name the old set"):
        detflow.diff(None, pair.new)
    with pytest.raises(detflow.ConfigError, match="not both"):
        detflow.diff(pair.old, pair.new, model=trained.path)
