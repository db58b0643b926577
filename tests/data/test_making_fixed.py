import pytest
from PIL import Image

from detflow.data.judging.audit import AuditOptions
from detflow.data.making import RecordOptions, publish_records
from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples
from detflow.digests import digest_files
from detflow.errors import ConfigError


@pytest.fixture
def dirty(voc_set):
    exif = Image.Exif()
    exif[0x0112] = 6
    for split, start in (("train", 0), ("val", 100)):
        folders = {"images": f"{split}/images", "annotations": f"{split}/annots"}
        for index in range(start, start + 3):
            voc_set.add("same" if index == start else f"{index}", **folders)
        voc_set.add(
            "inverted",
            voc_set.object("cat", (30.25, 30, 10, 10)),
            voc_set.object("cat", (5, 5, 5, 9)),
            **folders,
        )
        voc_set.add(
            "png",
            voc_set.object("cat", (-4, 1, 66, 48.5)),
            image=voc_set.encode(voc_set.draw(seed=start + 50), "PNG"),
            **folders,
        )
        turned = voc_set.encode(voc_set.draw(seed=start + 51), exif=exif)
        voc_set.add("turned", image=turned, size=(48, 64), **folders)
        voc_set.add("odd na&me", filename="gone.jpg", size=None, **folders)
        voc_set.add("cut", image=b"\xff\xd8\xff", **folders)
    return voc_set


def test_the_mended_dataset_is_clean_and_the_same(dirty, tmp_path):
    before = digest_files(dirty.root)
    options = RecordOptions(write_fixed=tmp_path / "fixed", jobs=1)
    manifest = publish_records(dirty.root, tmp_path / "one", options)
    assert manifest["repairs"]
    assert manifest["quarantined"] == {"image_undecodable": 2}
    assert digest_files(dirty.root) == before
    again = publish_records(tmp_path / "fixed", tmp_path / "two", RecordOptions(strict=True))
    assert (again["repairs"], again["quarantined"]) == ({}, {})
    assert again["annotations_found"] == again["images_found"] == 14
    for split in ("train", "val"):
        first, second = (
            sorted(
                (sample.encoded, sample.size, sample.objects)
                for sample in read_samples(folder, read_manifest(folder), split)
            )
            for folder in (tmp_path / "one", tmp_path / "two")
        )
        assert [one[0] for one in first] == [one[0] for one in second]
        assert [[(entry.name, entry.box) for entry in one[2]] for one in first] == [
            [(entry.name, entry.box) for entry in one[2]] for one in second
        ]


def test_processes_do_not_matter(dirty, tmp_path):
    for jobs in (1, 2):
        publish_records(
            dirty.root,
            tmp_path / f"r{jobs}",
            RecordOptions(write_fixed=tmp_path / f"f{jobs}", jobs=jobs),
        )
    assert digest_files(tmp_path / "f1") == digest_files(tmp_path / "f2")


def test_it_is_written_to_a_new_folder_only(voc_set, tmp_path):
    voc_set.add("a")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    for target in (
        tmp_path / "mine",
        voc_set.root,
        voc_set.root / "fixed",
        tmp_path / "mine" / "a.txt",
    ):
        with pytest.raises(ConfigError, match="--write-fixed"):
            publish_records(
                voc_set.root,
                tmp_path / "out",
                RecordOptions(write_fixed=target, audit=AuditOptions()),
            )
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "mine" / "a.txt").read_text() == "mine"
