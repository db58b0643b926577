import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.records.schema import decode_sample, encode_sample, to_record_box
from detflow.label_map import LabelMap
from detflow.types import Box, ImageSize, ObjectAnnotation, Sample

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
edges = st.floats(0.0, 1.0, width=32)
LABEL_MAP = LabelMap(("cat", "dog", "Blutkörperchen"))


@st.composite
def boxes(draw):
    ymin, ymax = sorted(draw(st.lists(edges, min_size=2, max_size=2, unique=True)))
    xmin, xmax = sorted(draw(st.lists(edges, min_size=2, max_size=2, unique=True)))
    return Box(ymin, xmin, ymax, xmax)


objects = st.builds(
    ObjectAnnotation,
    st.sampled_from(LABEL_MAP.names),
    boxes(),
    difficult=st.booleans(),
    truncated=st.booleans(),
    pose=names | st.just(""),
)
samples = st.builds(
    Sample,
    key=names,
    source_id=st.integers(0, 2**40),
    filename=names,
    size=st.builds(ImageSize, st.integers(1, 65_500), st.integers(1, 65_500)),
    encoded=st.binary(max_size=64),
    objects=st.lists(objects, max_size=6).map(tuple),
)


@given(samples)
def test_a_sample_survives_the_round_trip(sample):
    data = encode_sample(sample, LABEL_MAP)
    assert decode_sample(data, LABEL_MAP) == sample
    assert encode_sample(sample, LABEL_MAP) == data


def test_file_names_need_not_be_utf8():
    sample = Sample("ann/\udce9", 1, "img/\udce9.jpg", ImageSize(4, 4), b"x", ())
    assert decode_sample(encode_sample(sample, LABEL_MAP), LABEL_MAP) == sample


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.data())
def test_voc_boxes_stay_boxes_when_they_are_rounded(width, height, data):
    xmin = data.draw(st.integers(1, width))
    ymin = data.draw(st.integers(1, height))
    size = ImageSize(width, height)
    box = Box.from_voc(
        xmin, ymin, data.draw(st.integers(xmin, width)), data.draw(st.integers(ymin, height)), size
    )
    rounded = to_record_box(box)
    assert to_record_box(rounded) == rounded
    assert rounded.to_voc(size) == pytest.approx(box.to_voc(size), abs=2e-3)


def test_a_box_that_is_not_rounded_is_refused():
    sample = Sample(
        "a",
        1,
        "a.jpg",
        ImageSize(3, 3),
        b"x",
        (ObjectAnnotation("cat", Box(0.0, 0.0, 1 / 3, 1.0)),),
    )
    with pytest.raises(ValueError, match="not rounded"):
        encode_sample(sample, LABEL_MAP)


def test_classes_that_disagree_with_the_label_map_are_found():
    sample = Sample(
        "a", 1, "a.jpg", ImageSize(4, 4), b"x", (ObjectAnnotation("cat", Box(0.0, 0.0, 0.5, 1.0)),)
    )
    with pytest.raises(ValueError, match="do not agree"):
        decode_sample(encode_sample(sample, LABEL_MAP), LabelMap(("dog", "cat")))
