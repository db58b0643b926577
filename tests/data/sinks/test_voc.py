from hypothesis import assume, given
from hypothesis import strategies as st

from detflow.data.records.schema import to_record_box
from detflow.data.sinks.voc import write_annotation
from detflow.data.sources.voc.read import read_annotation
from detflow.types import Box, ImageSize, ObjectAnnotation

# VOC counts from 1, so float64 loses what is smaller than a billionth of the image.
edges = st.just(0.0) | st.floats(2**-20, 1.0, width=32)


@st.composite
def boxes(draw):
    ymin, ymax = sorted(draw(st.lists(edges, min_size=2, max_size=2, unique=True)))
    xmin, xmax = sorted(draw(st.lists(edges, min_size=2, max_size=2, unique=True)))
    return Box(ymin, xmin, ymax, xmax)


@given(boxes(), st.integers(1, 20_000), st.integers(1, 20_000))
def test_a_box_survives_voc(box, width, height):
    size = ImageSize(width, height)
    # VOC cannot hold what is thinner than a pixel.
    assume((box.ymax - box.ymin) * height >= 1.0 and (box.xmax - box.xmin) * width >= 1.0)
    data = write_annotation("a.jpg", size, [ObjectAnnotation("cat", box)])
    [annotation] = read_annotation(data, "a.xml").annotations
    assert annotation.findings == ()
    xmin, ymin, xmax, ymax = annotation.objects[0].corners
    assert to_record_box(Box.from_voc(xmin, ymin, xmax, ymax, size)) == box


def test_whole_pixels_stay_whole():
    size = ImageSize(640, 481)
    box = to_record_box(Box.from_voc(12, 33, 345, 481, size))
    text = write_annotation(
        "a.jpg", size, [ObjectAnnotation("a<b>&c", box, difficult=True, pose="Left")]
    ).decode()
    assert "<xmin>12</xmin>" in text
    assert "<ymax>481</ymax>" in text
    [annotation] = read_annotation(text.encode(), "a.xml").annotations
    (entry,) = annotation.objects
    assert (entry.name, entry.difficult, entry.truncated, entry.pose) == (
        "a<b>&c",
        True,
        False,
        "Left",
    )
