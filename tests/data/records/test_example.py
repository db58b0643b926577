import pytest

from detflow.data.records.example import decode_example, encode_example

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
