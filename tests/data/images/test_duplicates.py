import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import detflow.data.images.duplicates as duplicates_module
from detflow.data.images.duplicates import MAX_DISTANCE, find_duplicates


def digest(name):
    return hashlib.sha256(name.encode()).digest()


def flip(image_hash, *bits):
    value = int.from_bytes(image_hash, "big")
    for bit in bits:
        value ^= 1 << bit
    return value.to_bytes(32, "big")


BASE = digest("base")


def test_exact_and_near_and_neither():
    found = find_duplicates(
        {
            "a": (digest("one"), BASE),
            "b": (digest("one"), BASE),
            "c": (digest("two"), flip(BASE, *range(MAX_DISTANCE))),
            "d": (digest("three"), flip(BASE, *range(100, 101 + MAX_DISTANCE))),
        }
    )
    assert found.exact == {"b": "a"}
    assert found.near == {"c": ("a", MAX_DISTANCE)}
    assert (
        found.groups["a"]
        == found.groups["b"]
        == found.groups["c"]
        == min(digest("one"), digest("two"))
    )
    assert found.groups["d"] == digest("three")


def test_no_images():
    assert find_duplicates({}).groups == {}


def test_a_chain_is_one_group_and_the_nearest_neighbour_is_named():
    found = find_duplicates(
        {
            "a": (digest("1"), BASE),
            "b": (digest("2"), flip(BASE, *range(30))),
            "c": (digest("3"), flip(BASE, *range(50))),
        }
    )
    assert len(set(found.groups.values())) == 1
    assert found.near == {"b": ("a", 30), "c": ("b", 20)}


@given(
    st.lists(st.integers(0, 255), max_size=6),
    st.lists(st.integers(0, 255), max_size=6),
    st.permutations(range(5)),
)
def test_groups_do_not_depend_on_the_order(bits, others, order):
    hashes = [BASE, flip(BASE, *bits), flip(BASE, *others), digest("x"), flip(digest("x"), *bits)]
    entries = {
        f"{index}": (digest(str(index)), image_hash) for index, image_hash in enumerate(hashes)
    }
    shuffled = {f"{index}": entries[f"{index}"] for index in order}
    assert find_duplicates(entries).groups == find_duplicates(shuffled).groups


def test_a_group_that_would_swallow_the_dataset_is_divided():
    # A fixed camera: five scenes, each a cloud of its own, all within reach of one another over a
    # chain.
    entries = {}
    for scene in range(5):
        centre = flip(BASE, *range(25 * scene))
        for frame in range(10):
            entries[f"{scene}{frame}"] = (digest(f"{scene}{frame}"), flip(centre, 200 + frame))
    found = find_duplicates(entries)
    assert len(set(found.groups.values())) > 1
    for scene in range(5):
        assert len({found.groups[f"{scene}{frame}"] for frame in range(10)}) in (1, 10)


def test_many_images_are_compared_in_bands(monkeypatch):
    rng = np.random.default_rng(0)
    hashes = [rng.bytes(32) for _ in range(600)]
    hashes += [
        flip(image_hash, *rng.choice(256, 10, replace=False).tolist())
        for image_hash in hashes[:100]
    ]
    entries = {
        f"{index:04d}": (digest(str(index)), image_hash) for index, image_hash in enumerate(hashes)
    }
    whole = find_duplicates(entries)
    monkeypatch.setattr(duplicates_module, "_ALL_PAIRS", 64)
    assert find_duplicates(entries) == whole
    assert len(whole.near) == 100
