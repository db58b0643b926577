import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from detflow.data.sinks.numbers import (
    format_centre_and_length,
    format_corners,
    format_edge,
    format_origin_and_length,
)

# Edges below a millionth of the side cannot be told from the side's end in float64 arithmetic.
edges = st.just(0.0) | st.floats(2**-20, 1.0, width=32)
sides = st.integers(1, 20_000)
pairs = st.lists(edges, min_size=2, max_size=2, unique=True).map(sorted)


def to_float32(number):
    return struct.unpack("<f", struct.pack("<f", number))[0]


@given(edges, sides, st.sampled_from([0, 1]))
def test_an_edge_in_pixels_is_read_as_it_was(edge, side, first):
    assert to_float32((float(format_edge(edge, side, first)) - first) / side) == edge


@given(pairs, sides)
# Moved to a pixel's thickness, its edges as the nearest float32 are less than a pixel apart.
@example([0.717409074306488, 0.75], 10)
def test_corners_are_in_order_and_keep_what_has_at_least_a_pixel(pair, side):
    first, last = map(float, format_corners(*pair, side))
    assert first < last
    read = [to_float32((first - 1) / side), to_float32(last / side)]
    if (pair[1] - pair[0]) * side >= 1.0:
        assert read == pair
    else:
        # A pixel thick, around the same place, inside of the image.
        assert (read[1] - read[0]) * side == pytest.approx(1.0, abs=0.01)
        assert 0.0 <= read[0] < read[1] <= 1.0
        assert (read[0] - pair[0]) * side <= 1.0
        assert (pair[1] - read[1]) * side <= 1.0


def test_one_pixel_is_told_from_none():
    assert format_corners(to_float32(4 / 64), to_float32(5 / 64), 64) == ("5", "5.0000001")


@given(pairs, sides)
def test_an_origin_and_a_length_give_both_edges(pair, side):
    start, length = map(float, format_origin_and_length(*pair, side))
    assert [to_float32(start / side), to_float32((start + length) / side)] == pair


@given(pairs)
def test_a_centre_and_a_length_give_both_edges_and_never_leave_the_image(pair):
    centre, length = map(float, format_centre_and_length(*pair))
    assert [to_float32(centre - length / 2), to_float32(centre + length / 2)] == pair
    assert centre - length / 2 >= 0.0
    assert centre + length / 2 <= 1.0


@given(sides, st.data())
def test_whole_pixels_stay_whole(side, data):
    low = data.draw(st.integers(0, side - 1))
    high = data.draw(st.integers(low + 1, side))
    shares = to_float32(low / side), to_float32(high / side)
    assert format_edge(shares[0], side, first=1) == str(low + 1)
    assert format_origin_and_length(*shares, side) == (str(low), str(high - low))
