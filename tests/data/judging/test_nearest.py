import difflib
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.judging import nearest
from detflow.data.judging.nearest import NearestNames, find_near_misses


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        ({"button": 100, "buton": 3}, [("buton", "button")]),
        ({"button": 100, "Button": 2}, [("Button", "button")]),
        ({"traffic light": 100, "traffic_light": 2}, [("traffic_light", "traffic light")]),
        ({"trafficlight": 100, "traffic light": 2}, [("traffic light", "trafficlight")]),
        ({"type1": 100, "type2": 2}, []),
        ({"cat": 100, "car": 2}, []),
        ({"button": 100, "buton": 60}, []),
        ({"left arrow": 100, "right arrow": 3}, []),
        # Case and what stands between words are told whatever the numbers.
        ({"Car": 5, "car": 5}, [("car", "Car")]),
        ({"Car": 5, "car": 6, "CAR": 6}, [("Car", "CAR"), ("car", "CAR")]),
        ({"STOP sign": 7, "stop-sign": 8}, [("STOP sign", "stop-sign")]),
        ({"\uff23ar": 5, "car": 6}, [("\uff23ar", "car")]),
        ({"straße": 5, "STRASSE": 6}, [("straße", "STRASSE")]),
        ({"trafficlight": 5, "traffic light": 5}, []),
        ({"cat": 0, "dog": 0}, []),
        ({}, []),
    ],
)
def test_near_misses(totals, expected):
    assert list(find_near_misses(totals)) == expected


def slow_near_misses(totals):
    """The rule as it is stated, at the cost of all pairs."""
    names = sorted(totals)
    for name in names:
        same = [other for other in names if nearest._to_variant(other) == nearest._to_variant(name)]
        best = min(same, key=lambda other: (-totals[other], other))
        if best != name:
            yield name, best
            continue
        others = [other for other in names if totals[other] >= max(1, 10 * totals[name])]
        plain = {nearest._to_plain(other): other for other in others}
        if nearest._to_plain(name) in plain:
            yield name, plain[nearest._to_plain(name)]
            continue
        series = nearest._drop_digits(name)
        others = [other for other in others if nearest._drop_digits(other) != series]
        for other in difflib.get_close_matches(name, others, n=1, cutoff=0.85):
            yield name, other


NAMES = st.text("abAB1 _é", min_size=1, max_size=9)


@given(st.dictionaries(NAMES, st.sampled_from([1, 2, 10, 11, 100]), max_size=12))
def test_the_index_gives_what_all_pairs_give(totals):
    assert list(find_near_misses(totals)) == list(slow_near_misses(totals))


@given(st.lists(NAMES, min_size=1, max_size=8, unique=True), NAMES)
def test_the_nearest_of_few_is_the_nearest_of_all(names, name):
    expected = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
    assert NearestNames(names).find(name) == expected


def test_a_typing_error_is_found_among_a_thousand():
    names = draw_names(1000, 12, "abcdefghijklmnopqrstuvwxyz")
    known = NearestNames(names)
    for name in names[:20]:
        assert known.find(name[:5] + name[6:]) == name


def draw_names(count, length, letters):
    draw = random.Random(0)
    return ["".join(draw.choices(letters, k=length)) for _ in range(count)]


@pytest.mark.parametrize(
    "totals",
    [
        {f"class_{index:05d}": 1 for index in range(5_000)},
        dict.fromkeys(draw_names(5_000, 10, "abcdefgh"), 1),
        {name: (2, 100, 2)[i % 3] for i, name in enumerate(draw_names(1500, 10, "abcdefgh"))},
        {"a" * 80 + name: (2, 100, 2)[i % 3] for i, name in enumerate(draw_names(1500, 9, "ab"))},
        {"a" * 100_000 + str(index): 10**index for index in range(9)},
    ],
    ids=["series", "random", "1,000 x 500", "long", "hostile"],
)
def test_many_classes_cost_little(totals):
    start = time.process_time()
    list(find_near_misses(totals))
    assert time.process_time() - start < 3.0


def test_many_unknown_names_cost_little():
    known = NearestNames(draw_names(1000, 10, "abcdefgh"))
    start = time.process_time()
    for name in draw_names(300, 11, "abcdefgh"):
        known.find(name)
    known.find("x" * 1_000_000)
    assert time.process_time() - start < 3.0
