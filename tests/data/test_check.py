import errno
import json
import os

import pytest

from detflow.data.check import check_location
from detflow.data.making import RecordOptions, publish_records
from detflow.errors import DataError


def check(root, **options):
    return check_location(root, RecordOptions(**options), with_findings=True)


def tree(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def sound(voc_set):
    for number in range(8):
        voc_set.add(f"image{number}")
    return voc_set


def test_a_sound_dataset_passes_and_nothing_is_written(sound):
    before = tree(sound.root.parent)
    found = check(sound.root)
    assert found.refusal is None
    assert found.findings == ()
    assert "8 found = 8 usable + 0 quarantined" in found.text
    assert tree(sound.root.parent) == before


def test_it_finds_what_make_records_finds(sound, tmp_path):
    sound.add("outside", sound.object(box=(60, 40, 66, 52)))
    sound.add("broken", image=b"\xff\xd8\xff nothing")
    manifest = publish_records(sound.root, tmp_path / "records", RecordOptions())
    found = check(sound.root)
    for split in manifest["splits"].values():
        del split["shards"]
    same = {name: manifest[name] for name in found.content if name != "refused"}
    assert same == {name: value for name, value in found.content.items() if name != "refused"}
    assert found.content["refused"] == {}


def test_what_stops_a_conversion_stops_the_check(sound):
    sound.write(
        "annotations/evil.xml",
        '<!DOCTYPE annotation [<!ENTITY a SYSTEM "file:///nowhere">]><annotation/>',
    )
    found = check(sound.root)
    assert isinstance(found.refusal, DataError)
    assert [finding.place for finding in found.findings] == ["annotations/evil.xml:1"]
    assert "\n              annotations/evil.xml:1: <!DOCTYPE" in found.text
    assert found.content["refused"] == {"xml_doctype": 1}
    assert "9 found = 8 usable + 0 quarantined + 1 refused" in found.text


def test_a_file_that_vanishes_or_may_not_be_read_is_named(sound, tmp_path, monkeypatch):
    original = os.open

    def refuse(error):
        def open_others(path, *args, **kwargs):
            if str(path).endswith("images/image3.jpg"):
                raise error(
                    errno.EACCES if error is PermissionError else errno.ENOENT, "no", str(path)
                )
            return original(path, *args, **kwargs)

        monkeypatch.setattr(os, "open", open_others)

    refuse(FileNotFoundError)
    with pytest.raises(DataError, match=r"images/image3\.jpg: the file was removed"):
        check(sound.root)
    with pytest.raises(DataError, match="the file was removed"):
        publish_records(sound.root, tmp_path / "out", RecordOptions())
    refuse(PermissionError)
    found = check(sound.root)
    assert "annotations/image3.xml" in found.text
    assert "images/image3.jpg: permission denied" in found.text
    assert found.content["quarantined"] == {"file_unreadable": 1}


def test_strict_is_stricter(sound):
    sound.add("outside", sound.object(box=(60, 40, 66, 52)))
    assert check(sound.root).refusal is None
    assert check(sound.root, strict=True).refusal is not None


@pytest.mark.parametrize("option", ["--report", "--questions"])
def test_a_page_about_records_is_refused_and_not_left_out(sound, tmp_path, command, option):
    publish_records(sound.root, tmp_path / "records", RecordOptions())
    done = command("check", tmp_path / "records", option, tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{option} is about datasets, and here are only TFRecord files" in done.stderr
    assert not (tmp_path / "out").exists()


def test_each_faulty_file_is_named_with_its_line_and_the_rest_is_counted(sound):
    for number in range(14):
        sound.add(f"outside{number:02}", sound.object(box=(60, 40, 66, 52)))
    found = check(sound.root)
    lines = found.text.splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith("repaired      14 × box_clip"))
    assert lines[head + 1] == (
        "              annotations/outside00.xml:1, object 1: "
        "cat: xmin 60, ymin 40, xmax 66, ymax 52, expected inside 64x48"
    )
    assert lines[head + 11] == "              … and 4 more"
    assert sum(finding.code == "box_clipped" for finding in found.findings) == 14
    assert check_location(sound.root, RecordOptions()).findings == ()


def test_records_and_a_dataset_in_one_folder_are_both_judged(sound, tmp_path):
    publish_records(sound.root, tmp_path / "records", RecordOptions())
    assert [part.subject for part in check(sound.root).parts] == ["dataset"]
    assert [part.subject for part in check(tmp_path / "records").parts] == ["records"]
    (tmp_path / "records").rename(sound.root / "records")
    found = check(sound.root)
    assert [(part.subject, part.path) for part in found.parts] == [
        ("dataset", str(sound.root)),
        ("records", str(sound.root / "records")),
    ]
    assert found.refusal is None
    assert "8 found = 8 usable" in found.text
    assert f"records: {sound.root / 'records'}\nrecords       8 images" in found.text
    assert found.content["annotations_found"] == 8
    assert [part["images"] for part in found.content["records"]] == [8]

    sound.write("annotations/evil.xml", "<!DOCTYPE annotation><annotation/>")
    assert isinstance(check(sound.root).refusal, DataError)
    for shard in (sound.root / "records").glob("*.tfrecord"):
        shard.write_bytes(shard.read_bytes()[:-4])
    refusal = check(sound.root).refusal
    assert (refusal.exit_code, str(refusal).count("records: ")) == (3, 1)


def test_the_command(sound, tmp_path, command):
    done = command("check", sound.root, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["annotations_found"] == 8
    publish_records(sound.root, tmp_path / "records", RecordOptions())
    assert "detflow       can read it" in command("check", tmp_path / "records").stdout
    shard = next((tmp_path / "records").glob("*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[-100] ^= 1
    shard.write_bytes(content)
    done = command("check", tmp_path / "records")
    assert done.returncode == 4
    assert "data_damaged" in done.stdout
    assert done.stderr.count("\n") == 1
    sound.write("annotations/evil.xml", "<!DOCTYPE annotation><annotation/>")
    assert command("check", sound.root).returncode == 3
