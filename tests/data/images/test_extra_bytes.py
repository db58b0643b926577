from random import Random

import numpy as np
import pytest
import simplejpeg

from detflow.data.images.decode import decode_pixels, decode_rgb, read_image_facts
from detflow.data.images.header import ImageFault, read_image_size
from detflow.data.images.transcode import Treatment, encode_record_jpeg


def warns(data):
    try:
        simplejpeg.decode_jpeg(data, strict=True)
    except ValueError:
        return True
    return False


def spoil(data, fault, extra=b"\x00\x12\x34\x56\x00\x00\x00\x00\x01\x07"):
    """Adds to a JPEG what decoders warn of and pass over."""
    end, table, scan = data.rindex(b"\xff\xd9"), data.index(b"\xff\xdb"), data.index(b"\xff\xda")
    behind_scan = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    return {
        "before the end": data[:end] + extra + data[end:],
        "padding before the end": data[:end] + bytes(3000) + data[end:],
        "between segments": data[:table] + extra + data[table:],
        "before the scan": data[:scan] + extra + data[scan:],
        "JFIF 0.0": data.replace(b"JFIF\0\1", b"JFIF\0\0", 1),
        "no bounds": data[: behind_scan - 3] + b"\0\0\0" + data[behind_scan:],
        "several": data[:table] + b"\1\2" + data[table:end] + extra + data[end:],
    }[fault]


FAULTS = (
    "before the end",
    "padding before the end",
    "between segments",
    "before the scan",
    "JFIF 0.0",
    "several",
)


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"mode": "L"}, {"optimize": True}],
)
@pytest.mark.parametrize("fault", [*FAULTS, "no bounds"])
def test_what_decoders_pass_over_is_decoded_and_named(pictures, fault, options):
    options = dict(options)
    if fault == "no bounds" and "progressive" in options:
        pytest.skip("bounds mean something there")
    picture = pictures.draw(75, 53, mode=options.pop("mode", "RGB"))
    sound = pictures.encode(picture, quality=92, **options)
    data = spoil(sound, fault)
    assert warns(data)
    facts = read_image_facts(data)
    [(code, value)] = facts.remarks
    assert code == "jpeg_extra_bytes"
    assert value
    assert not facts.is_plain_jpeg
    expected = read_image_facts(sound)
    assert (facts.size, facts.kind) == (expected.size, expected.kind)
    np.testing.assert_array_equal(facts.grey, expected.grey)
    np.testing.assert_array_equal(decode_rgb(data), decode_rgb(sound))
    np.testing.assert_array_equal(decode_pixels(data)[0], decode_pixels(sound)[0])
    assert read_image_size(data) == expected.size
    record = encode_record_jpeg(data, Treatment(transcode=True))
    assert not warns(record)
    assert record == encode_record_jpeg(sound, Treatment(transcode=True))


def test_what_lies_behind_the_end_is_no_fault(pictures):
    sound = pictures.encode(pictures.draw())
    facts = read_image_facts(sound + b"\xff\xd9 garbage \xff\xd8\xff")
    assert (facts.is_plain_jpeg, facts.remarks) == (True, ())


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_no_cut_file_is_taken_for_one_with_extra_bytes(pictures, fault, progressive):
    sound = pictures.encode(pictures.draw(75, 53), quality=92, progressive=progressive)
    data = sound if fault is None else spoil(sound, fault)
    scan, end = data.rindex(b"\xff\xda"), sound.rindex(b"\xff\xd9")
    scan_bytes = end - sound.rindex(b"\xff\xda")
    for share in (0.3, 0.6, 0.9):
        cut = data[: scan + int(share * scan_bytes)]
        for tail in (b"", b"\xff\xd9", b"\0\0\0\xff\xd9", bytes(99) + b"\xff\xd9"):
            with pytest.raises(ImageFault, match="undecodable"):
                read_image_facts(cut + tail)


def test_most_damage_that_leaves_bytes_is_told_from_bytes_that_mean_nothing(pictures):
    """A scan whose codes were changed can end early, too."""
    data = pictures.encode(pictures.draw(300, 200, seed=3), quality=97)
    scan = data.index(b"\xff\xda") + 14
    random = Random(0)
    seen = excused = 0
    for _ in range(400):
        place = random.randrange(scan, len(data) - 4)
        damaged = (
            data[:place] + bytes([data[place] ^ (1 << random.randrange(8))]) + data[place + 1 :]
        )
        try:
            simplejpeg.decode_jpeg(damaged, colorspace="GRAY", min_factor=1, min_height=9, min_width=9, strict=True)  # fmt: skip  # noqa: E501
        except ValueError as error:
            if "extraneous" not in str(error):
                continue
            seen += 1
            try:
                read_image_facts(damaged)
            except ImageFault:
                continue
            excused += 1
    assert seen > 10
    assert excused < seen / 2
