import math

import pytest

from detflow.data.rules import RECORD_RULES, Severity

# The override, and the code that it must lead to.
FAULTS = {
    "text as label": ({"label": (bytes, [b"cat", b"dog"])}, "field_type"),
    "integer coordinates": ({"xmin": (int, [0, 0])}, "field_type"),
    "two widths": ({"width": [64, 64]}, "field_count"),
    "one box too few": ({"xmax": [0.4]}, "lengths_differ"),
    "no labels": ({"label": None}, "field_missing"),
    "no image": ({"encoded": None}, "field_missing"),
    "no class names": ({"text": None}, "field_recommended"),
    "no source id": ({"source_id": None}, "field_recommended"),
    "NaN": ({"xmin": [math.nan, 0.5]}, "box_not_finite"),
    "infinite": ({"ymax": [math.inf, 0.75]}, "box_not_finite"),
    "pixels": ({"xmax": [30.0, 40.0]}, "box_not_normalised"),
    "outside": ({"xmin": [-0.01, 0.5]}, "box_outside"),
    "inverted": ({"xmin": [0.5, 0.5]}, "box_inverted"),
    "no area": ({"xmin": [0.4, 0.5]}, "box_zero_area"),
    "background as class": ({"label": [0, 2]}, "class_id_not_positive"),
    "PNG declared as JPEG": ({"format": [b"png"]}, "format_field"),
    "swapped size": ({"width": [48], "height": [64]}, "size_wrong"),
    "wrong digest": ({"sha256": [b"0" * 64]}, "sha256_wrong"),
    "file name as id": ({"source_id": [b"cat.jpg"]}, "source_id_not_numeric"),
    "garbage as image": ({"image": b"\xff\xd8\xff garbage", "sha256": None}, "image_undecodable"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_is_named_and_nothing_else(example, write, fault, lint):
    changes, code = FAULTS[fault]
    report = lint(write(example(), example(**changes)))
    assert set(report.counts) == {code}
    finding = report.examples[code][0]
    assert (finding.path, finding.record) == ("train.record", 1)
    assert finding.offset > 0
    for consumer in RECORD_RULES[code].blocks:
        assert report.blocked[consumer]
    assert str(finding.record) in finding.to_line()


def test_formats_that_not_every_reader_decodes(example, write, voc_set, lint):
    image = voc_set.encode(voc_set.draw(64, 48), "WEBP")
    report = lint(write(example(image=image, format=[b"webp"])))
    assert set(report.counts) == {"image_format"}
    assert report.blocked["Model Garden"]


def test_an_exif_turn_is_named(example, write, voc_set, lint):
    exif = voc_set.draw().getexif()
    exif[0x0112] = 6
    report = lint(write(example(image=voc_set.encode(voc_set.draw(), exif=exif))))
    assert set(report.counts) == {"exif_orientation"}


def test_a_truncated_image_is_found(example, write, voc_set, lint):
    image = voc_set.encode(voc_set.draw())
    report = lint(write(example(image=image[:-300])))
    assert set(report.counts) == {"image_undecodable"}
    assert report.count(Severity.ERROR) == 1


@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff", b"\x0a\x00"])
def test_what_is_no_example_is_named(example, write, data, lint):
    report = lint(write(data, example()))
    assert dict(report.counts) == {"not_an_example": 1}
    assert report.num_images == 1


@pytest.mark.tf
def test_model_garden_agrees(example, voc_set):
    """What `CHECKS` and `_FIELDS` say of Model Garden's decoder is what it does."""
    import tensorflow as tf
    from official.vision.dataloaders.tf_example_decoder import TfExampleDecoder

    decode = TfExampleDecoder().decode
    assert decode(example())["groundtruth_boxes"].shape == (2, 4)
    decode(example(text=None, height=None, width=None, filename=None))
    for changes in (
        {"source_id": None},
        {"encoded": None},
        {"label": (bytes, [b"cat", b"dog"])},
        {"width": [1, 2]},
    ):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(example(**changes))
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        decode(example(image=voc_set.encode(voc_set.draw(), "WEBP")))
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        decode(example(image=voc_set.encode(voc_set.draw(), "TIFF")))
