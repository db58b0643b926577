import pytest

from detflow.data.records.tfrecord import FRAME_BYTES, frame_record, read_records, scan_records
from detflow.errors import ArtifactError


def test_records_come_back_with_their_offsets(tmp_path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(frame_record(b"one") + frame_record(b"") + frame_record(b"three"))
    assert list(read_records(path)) == [(0, b"one"), (19, b""), (35, b"three")]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (0, "record 0: the length's checksum is wrong at byte 0"),
        (9, "record 0: the length's checksum is wrong at byte 0"),
        (12, "record 0: the data's checksum is wrong in the record that begins at byte 0"),
        (32, "record 1: the data's checksum is wrong in the record that begins at byte 19"),
    ],
)
def test_every_flipped_bit_has_a_place(tmp_path, place, message):
    path = tmp_path / "a.tfrecord"
    content = bytearray(frame_record(b"one") + frame_record(b"two"))
    content[place] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        list(read_records(path))


@pytest.mark.parametrize("length", range(1, 19))
def test_a_cut_record_is_an_error_wherever_it_is_cut(tmp_path, length):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(frame_record(b"one")[:length])
    with pytest.raises(ArtifactError, match="ends inside the record that begins at byte 0"):
        list(read_records(path))


def test_a_scan_goes_on_after_a_damaged_payload_and_ends_at_a_damaged_length(tmp_path):
    path = tmp_path / "a.tfrecord"
    content = bytearray(b"".join(map(frame_record, (b"one", b"two", b"three", b"four"))))
    content[12] ^= 1
    content[3 * FRAME_BYTES + 11] ^= 1
    path.write_bytes(content)
    found = [
        (record.number, record.offset, record.data, record.goes_on) for record in scan_records(path)
    ]
    assert found == [
        (0, 0, b"", True),
        (1, 19, b"two", True),
        (2, 38, b"three", True),
        (3, 59, b"", False),
    ]


@pytest.mark.tf
def test_framing_is_tensorflows(tmp_path):
    import tensorflow as tf

    records = [b"", b"detflow", bytes(range(256)) * 100]
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in records:
            writer.write(record)
    assert (tmp_path / "theirs").read_bytes() == b"".join(
        frame_record(record) for record in records
    )
