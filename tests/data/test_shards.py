from detflow.data.making import RecordOptions, publish_records
from detflow.digests import digest_files


def test_bytes_do_not_depend_on_the_number_of_processes_or_on_what_was_there(voc_set, tmp_path):
    for index in range(70):
        voc_set.add(f"{index:03d}")
    digests = []
    for name, jobs in (("one", 1), ("two", 2), ("one", 1)):
        publish_records(voc_set.root, tmp_path / name, RecordOptions(jobs=jobs))
        digests.append(digest_files(tmp_path / name))
    assert digests[0] == digests[1] == digests[2]
    assert "train-00000-of-00002.tfrecord" in digests[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "set", "two"]
