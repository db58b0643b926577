import pytest

from detflow.data.making import RecordOptions, publish_records
from detflow.data.records.manifest import read_manifest
from detflow.data.records.places import SamplePlace, read_places
from detflow.data.records.reading import read_samples
from detflow.errors import ArtifactError


@pytest.fixture
def records(voc_set, tmp_path):
    voc_set.add("one", voc_set.object("cat"), voc_set.object("dog", (30, 5, 60, 40)))
    # The second object is the first one again, and the third has no area.
    box = (5, 5, 20, 20)
    voc_set.add(
        "two",
        *(voc_set.object("cat", one) for one in (box, box, (9, 9, 9, 9))),
        voc_set.object("dog", (30, 5, 60, 40)),
    )
    for path in (voc_set.root / "annotations").iterdir():
        path.write_text(path.read_text().replace("<object>", "\n\n<object>"))
    publish_records(voc_set.root, tmp_path / "records", RecordOptions(jobs=1, report=False))
    return tmp_path / "records"


def find_lines(voc_set, name, tags):
    lines = (voc_set.root / name).read_text().splitlines()
    starts = [number for number, line in enumerate(lines, 1) if "<object>" in line]
    return [starts[place] for place in tags]


def test_each_object_of_a_record_has_its_line(voc_set, records):
    manifest = read_manifest(records)
    samples = [
        sample for split in manifest.splits for sample in read_samples(records, manifest, split)
    ]
    places = read_places(records, [sample.source_id for sample in samples])
    found = {sample.key: places[sample.source_id] for sample in samples}
    assert {key: place.annotation for key, place in found.items()} == {
        "annotations/one": "annotations/one.xml",
        "annotations/two": "annotations/two.xml",
    }
    assert found["annotations/one"].lines == find_lines(voc_set, "annotations/one.xml", [0, 1])
    assert found["annotations/two"].lines == find_lines(voc_set, "annotations/two.xml", [0, 3])
    for sample in samples:
        assert len(found[sample.key].lines) == len(sample.objects)
        assert found[sample.key].split in manifest.splits


def test_only_what_is_wanted_is_kept(records):
    [(source_id, place)] = read_places(records, [2]).items()
    assert source_id == 2
    assert isinstance(place, SamplePlace)


def test_without_an_index_nothing_is_known(records):
    lines = (records / "index.jsonl").read_text().replace('"lines"', '"others"')
    (records / "index.jsonl").write_text(lines)
    assert read_places(records, [1, 2]) == {}
    (records / "index.jsonl").unlink()
    assert read_places(records, [1]) == {}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"source_id": 1, "lines": ["a"]}', "7"])
def test_a_damaged_index_is_refused(records, text):
    (records / "index.jsonl").write_text(text + "\n")
    with pytest.raises(ArtifactError, match="the index cannot be read"):
        read_places(records, [1])
