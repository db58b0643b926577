import errno
import json
import os

import pytest

from detflow.data.check import check_dataset, is_record_set
from detflow.data.making import RecordOptions, publish_records
from detflow.errors import DataError, EnvironmentFault


def check(root, **options):
    lines = []
    return check_dataset(root, RecordOptions(**options), lines.append), lines


def tree(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def sound(voc_set):
    for number in range(8):
        voc_set.add(f"image{number}")
    return voc_set


def test_a_sound_dataset_passes_and_nothing_is_written(sound):
    before = tree(sound.root.parent)
    found, lines = check(sound.root)
    assert found.refusal is None
    assert lines == []
    assert "8 found = 8 usable + 0 quarantined" in found.text
    assert tree(sound.root.parent) == before


def test_it_finds_what_make_records_finds(sound, tmp_path):
    sound.add("outside", sound.object(box=(60, 40, 70, 60)))
    sound.add("broken", image=b"\xff\xd8\xff nothing")
    manifest = publish_records(sound.root, tmp_path / "records", RecordOptions())
    found, _ = check(sound.root)
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
    found, lines = check(sound.root)
    assert isinstance(found.refusal, DataError)
    assert len(lines) == 1
    assert "evil.xml:1" in lines[0]
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
    with pytest.raises(EnvironmentFault, match=r"images/image3\.jpg: permission denied"):
        check(sound.root)


def test_strict_is_stricter(sound):
    sound.add("outside", sound.object(box=(60, 40, 70, 60)))
    assert check(sound.root)[0].refusal is None
    assert check(sound.root, strict=True)[0].refusal is not None


def test_a_dataset_is_not_taken_for_records(sound, tmp_path):
    assert not is_record_set(sound.root)
    publish_records(sound.root, tmp_path / "records", RecordOptions())
    assert is_record_set(tmp_path / "records")


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
