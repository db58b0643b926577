import pytest

from detflow.data.rules import Action


@pytest.mark.parametrize("suffix", [".jp2", ".JP2", ".ppm", ".tga", ".pcx", ".cr2", ".dng", ".jxl"])
@pytest.mark.parametrize("written", ["a{}", "a.jpg", None])
def test_a_picture_that_is_not_read_is_named_beside_its_annotation(voc_set, audit, suffix, written):
    voc_set.add("sound")
    voc_set.write(f"images/a{suffix}", b"anything")
    filename = None if written is None else written.format(suffix)
    voc_set.write("annotations/a.xml", voc_set.xml(voc_set.object(), filename=filename))
    voc_set.write("annotations/b.xml", voc_set.xml(voc_set.object(), filename="b.jpg"))
    first, second = audit().findings(Action.QUARANTINED)
    assert (first.code, first.path) == ("image_missing", "annotations/a.xml")
    assert f"images/a{suffix} lies there, in a format that detflow does not read" in str(first)
    assert f"images/a{suffix}" in first.related
    assert (second.code, second.path) == ("image_missing", "annotations/b.xml")
    assert "lies there" not in str(second)


def test_one_without_an_extension_is_known_by_its_first_bytes(voc_set, audit):
    voc_set.add("sound")
    voc_set.write("images/a", b"\0\0\0\x0cjP  \r\n\x87\n")
    voc_set.write("annotations/a.xml", voc_set.xml(voc_set.object(), filename="a"))
    [finding] = audit().findings(Action.QUARANTINED)
    assert "images/a lies there" in finding.value


@pytest.mark.parametrize("suffix", [".heic", ".avif", ".jpg"])
def test_a_format_under_an_images_name_is_called_unsupported(voc_set, audit, suffix):
    content = {".heic": b"\0\0\0\x18ftypheic", ".avif": b"\0\0\0\x1cftypavif"}
    voc_set.add(
        "a", image=content.get(suffix, b"\0\0\0\x0cjP  \r\n\x87\n") + bytes(30), suffix=suffix
    )
    [finding] = audit().findings(Action.QUARANTINED)
    assert finding.code == "image_unsupported"
