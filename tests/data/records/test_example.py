from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.records.example import decode_example, encode_example, find_encoded_images

FEATURES = {
    "text": (bytes, [b"a", b""]),
    "numbers": (int, [1, -1, 2**62]),
    "floats": (float, [0.5, 0.25]),
    "empty": (float, []),
}


def test_values_come_back():
    assert decode_example(encode_example(FEATURES)) == {
        "text": (b"a", b""),
        "numbers": (1, -1, 2**62),
        "floats": (0.5, 0.25),
        "empty": (),
    }


def test_bytes_do_not_depend_on_the_order():
    assert encode_example(FEATURES) == encode_example(dict(reversed(FEATURES.items())))


def test_garbage_is_refused():
    with pytest.raises(ValueError, match="not a tf"):
        decode_example(b"\xff\xff\xff")


@pytest.mark.tf
def test_bytes_are_tensorflows():
    import tensorflow as tf

    kinds = {
        bytes: lambda values: tf.train.Feature(bytes_list=tf.train.BytesList(value=values)),
        int: lambda values: tf.train.Feature(int64_list=tf.train.Int64List(value=values)),
        float: lambda values: tf.train.Feature(float_list=tf.train.FloatList(value=values)),
    }
    features = {name: kinds[kind](values) for name, (kind, values) in FEATURES.items()}
    message = tf.train.Example(features=tf.train.Features(feature=features))
    assert encode_example(FEATURES) == message.SerializeToString(deterministic=True)


@given(
    st.dictionaries(
        st.sampled_from(["a", "image/encoded", "image/source_id", "image/encoded2"]),
        st.one_of(
            st.tuples(st.just(bytes), st.lists(st.binary(max_size=200), max_size=3)),
            st.tuples(st.just(int), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)),
            st.tuples(st.just(float), st.lists(st.floats(width=32, allow_nan=False), max_size=3)),
        ),
    )
)
def test_the_file_is_found_without_the_rest(features):
    found = find_encoded_images(encode_example(features))
    kind, values = features.get("image/encoded", (bytes, []))
    assert found == (values if kind is bytes else [])


@given(st.binary(max_size=60))
def test_the_file_of_any_bytes_is_found_or_they_are_refused(garbage):
    example = encode_example({"image/encoded": (bytes, [b"x"])})
    for data in (garbage, example[:-1] + garbage, garbage + example):
        with suppress(ValueError):
            assert all(isinstance(value, bytes) for value in find_encoded_images(data))


def test_a_message_of_very_many_values_is_not_unpacked():
    flood = encode_example({"image/encoded": (bytes, [b""] * 100_001)})
    with pytest.raises(ValueError, match="more than 100,000 fields"):
        find_encoded_images(flood)
