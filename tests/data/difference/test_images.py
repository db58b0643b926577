from detflow.data.difference.images import ImagePair, pair_images
from detflow.data.sinks.origin import OriginEntry


def entries(*names):
    return [OriginEntry(f"labels/{name}", f"{name}.jpg", "train") for name in names]


def pair(old, new, old_bytes, new_bytes):
    found = pair_images(entries(*old), entries(*new), list(old_bytes), list(new_bytes))
    return found.pairs, found.removed, found.added


def test_bytes_come_before_names():
    assert pair(["a", "b"], ["a", "b"], "xy", "yx") == (
        [ImagePair(1, 0), ImagePair(0, 1)],
        [],
        [],
    )


def test_of_the_same_bytes_the_same_name_comes_first():
    assert pair(["a", "b", "c"], ["c", "b", "d"], "xxx", "xxx") == (
        [ImagePair(2, 0), ImagePair(1, 1), ImagePair(0, 2)],
        [],
        [],
    )


def test_a_name_with_other_bytes_is_replaced_and_the_rest_is_alone():
    assert pair(["a", "b"], ["a", "c"], "xy", "zw") == (
        [ImagePair(0, 0, is_replaced=True)],
        [1],
        [1],
    )


def test_an_images_own_name_counts_where_no_other_has_it():
    old = [OriginEntry("one/1", "one/a.jpg", ""), OriginEntry("one/2", "one/b.jpg", "")]
    new = [
        OriginEntry("two/3", "two/a.png", ""),
        OriginEntry("two/4", "two/b.jpg", ""),
        OriginEntry("two/5", "three/b.jpg", ""),
    ]
    found = pair_images(old, new, [b"1", b"2"], [b"3", b"4", b"5"])
    assert found.pairs == [ImagePair(0, 0, is_replaced=True)]
    assert (found.removed, found.added) == ([1], [1, 2])
