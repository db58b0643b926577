import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from detflow import label_map
from detflow.errors import ArtifactError, DataError
from detflow.label_map import LabelMap, read_label_map

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def test_ids_start_at_one_and_are_looked_up_both_ways():
    label_map = LabelMap(("cat", "dog"))
    assert label_map.ids == (1, 2)
    assert label_map.id_of("dog") == 2
    assert label_map.name_of(1) == "cat"
    assert label_map.find_name(3) is None
    with pytest.raises(KeyError):
        label_map.name_of(0)
    with pytest.raises(KeyError):
        label_map.id_of("bird")


def test_ids_with_gaps_are_carried():
    label_map = LabelMap(("cat", "dog"), (3, 90))
    assert (label_map.id_of("dog"), label_map.name_of(3)) == (90, "cat")
    assert label_map.find_name(2) is None
    assert dict(label_map.ids_by_name) == {"cat": 3, "dog": 90}
    assert label_map.has_gaps
    assert not LabelMap(("cat", "dog")).has_gaps
    assert label_map != LabelMap(("cat", "dog"))
    assert pickle.loads(pickle.dumps(label_map)) == label_map
    assert hash(label_map) == hash(LabelMap(("cat", "dog"), (3, 90)))


@pytest.mark.parametrize(
    ("names", "ids", "message"),
    [
        (("a", ""), (), "name is empty"),
        (("a", "b", "a"), (), "appear twice: a"),
        (("a", "b"), (1,), "1 ids for 2"),
        (("a", "b"), (2, 1), "ascend"),
        (("a", "b"), (1, 1), "ascend"),
        (("a", "b"), (0, 1), "1 or more"),
    ],
)
def test_a_label_map_that_makes_no_sense_cannot_exist(names, ids, message):
    with pytest.raises(ValueError, match=message):
        LabelMap(names, ids)


def test_looking_up_an_id_does_not_search():
    compared = []

    class Name(str):
        __slots__ = ()

        def __eq__(self, other):
            compared.append(other)
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    label_map = LabelMap(tuple(Name(f"class {i}") for i in range(1000)))
    compared.clear()
    assert label_map.id_of("class 999") == 1000
    assert len(compared) < 10


def test_the_text_is_the_conventional_form():
    assert (
        LabelMap(("cat", "it's")).to_pbtxt()
        == "item {\n  id: 1\n  name: 'cat'\n}\nitem {\n  id: 2\n  name: 'it\\'s'\n}\n"
    )


@given(st.dictionaries(st.integers(1, 2**31 - 1), NAMES, max_size=5), st.booleans())
@example({1: "\\", 2: "\\\\n", 7: "'\"\n\r\t\0\x0b\x85\u2028é字🙂\\u0041\\x41\\101 # {"}, False)
def test_any_names_and_ids_survive_the_round_trip(names, is_dense):
    unique = {name: class_id for class_id, name in sorted(names.items())}
    ids = () if is_dense else tuple(sorted(unique.values()))
    label_map = LabelMap(tuple(sorted(unique, key=unique.__getitem__)), ids)
    assert LabelMap.from_pbtxt(label_map.to_pbtxt()) == label_map


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# nothing yet\n", {}),
        ("\ufeffitem { id: 1 name: 'a' }", {"a": 1}),
        ("item { id: 1 # the first\n name: 'a' # called a }\n }", {"a": 1}),
        (
            'item { name: "a }" id: 2 display_name: "A" }\nitem: {\n id: 1, name: \'b\'\n}',
            {"b": 1, "a }": 2},
        ),
        ("item { id: 1 name: 'a' }\nitem { id: 90 name: 'b' }", {"a": 1, "b": 90}),
        ("item { id: 0 name: 'background' } item { id: 1 name: 'a' }", {"a": 1}),
        ("item { id: 0 display_name: 'Background' } item { id: 1 name: 'a' }", {"a": 1}),
        ("item { id: 0 name: '???' } item { id: 1 name: '???' }", {"???": 1}),
        ("item { id: 3 display_name: 'person' }", {"person": 3}),
        ("item { id: 3 name: '/m/01g317' display_name: 'person' }", {"/m/01g317": 3}),
        (r"item { id: 1 name: 'caf\303\251' }", {"café": 1}),
        (r"item { id: 1 name: '\x63af\xc3\xa9' }", {"café": 1}),
        (r"""item { id: 1 name: "it's \"it\"" }""", {'it\'s "it"': 1}),
        ("item { id: 1; name: 'a' 'b'; }", {"ab": 1}),
        ("item < id: 0x10 name: 'a' >", {"a": 16}),
        ("item: [{ id: 1 name: 'a' }, { id: 2 name: 'b' }]", {"a": 1, "b": 2}),
        (
            "item { id: 1 name: 'a' keypoints { id: 0 label: 'nose' } frequency: RARE\n"
            " ancestor_ids: [2, 3] child_name: 'b' } item_of_another { item { id: 1 } }",
            {"a": 1},
        ),
    ],
)
def test_foreign_label_maps_are_read(text, expected):
    assert dict(LabelMap.from_pbtxt(text).ids_by_name) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item { id: 1 }", "map.pbtxt:1: a label map item needs"),
        ("\nitem {\n name: 'a' }", "map.pbtxt:2: a label map item needs"),
        ("item { id: 1 name: 'b' }\n\nitem {\n id: 1\n name: 'a' }", ":3: label map id 1 appears"),
        ("item { id: 1 name: 'a' }\nitem { id: 2 name: 'a' }", ":2: class name 'a' appears twice"),
        ("item: [{ id: 1 name: 'a' },\n{ id: 1 name: 'b' }]", ":2: label map id 1 appears twice"),
        ("[x.item] { id: 1 }\nitem {}", ":1: not a label map: .* does not have extensions"),
        ("x { item { id: 1 } }\nitem {}", ":2: a label map item needs"),
        ("item { id: 0 name: 'cat' }", ":1: label map id 0 of 'cat' is not 1 or more; 0 means"),
        ("item { id: -1 name: 'cat' }", ":1: label map id -1 of 'cat'"),
        ("item { id: 1 name: '' }", ":1: a label map item needs"),
        ("item { id: 1\nid: 2 name: 'a' }", ":2: not a label map: .*multiple"),
        ("item { id: x name: 'a' }", "map.pbtxt:1: not a label map: .*integer: x; expected"),
        ("item {\n id: 99999999999 name: 'a' }", "map.pbtxt:2: not a label map: .*out of range"),
        ("item { id: 1 name: a }", ":1: not a label map: Expected string"),
        ("item { id: 1 name: 'a' } rubbish", ":1: not a label map: "),
        ("item { id: 1 name: 'a'", ":1: not a label map: "),
        ("item { id: 1 name: 'a", ":1: not a label map: String missing ending quote"),
        ("\nitem { id: 1 name: '\\q' }", r":2: not a label map: unknown escape sequence in '\\q'"),
        ("item { id: 1 name: '\\777' }", ":1: not a label map: unknown escape sequence"),
        ("item { id: 1 name: '\\xff' }", ":1: not a label map: .*codec"),
        ("items { id: 1 name: 'a' }", ":1: not a label map: it has no items; expected items such"),
        ("a {" * 100_000, ":1: not a label map: nested deeper than 16"),
        ("item: " + "[" * 100_000, ":1: not a label map: nested deeper than 16"),
    ],
)
def test_a_broken_label_map_is_refused_with_its_line(text, message):
    with pytest.raises(DataError, match=message) as caught:
        LabelMap.from_pbtxt(text, "map.pbtxt")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def write_line(count):
    """Many items, each with fields that nobody knows, in one line."""
    return " ".join(
        f"item {{ id: {number} name: 'class {number}' x: 1 y {{ z: 'a}}' }} }}"
        for number in range(1, count + 1)
    )


def test_a_line_of_any_length_is_read_in_short_ones(monkeypatch):
    seen = []
    parse = label_map.text_format.Parse
    monkeypatch.setattr(
        label_map.text_format,
        "Parse",
        lambda text, *args, **kwargs: (seen.append(text), parse(text, *args, **kwargs)),
    )
    text = write_line(300)
    # Without blanks brackets are enough.
    for written in (text, text.replace(": ", ":").replace(" }", "}").replace("} ", "}")):
        assert list(LabelMap.from_pbtxt(written)) == [f"class {i}" for i in range(1, 301)]
    assert all(len(line) < 1_100 for text in seen for line in text.split("\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{write_line(100)}\nitem {{ id: x }}", "map.pbtxt:2: not a label map: .*integer: x"),
        (f"{write_line(100)} item {{ id: x }}\n", "map.pbtxt:1: not a label map: .*integer: x"),
        (f"\n{write_line(99)}\n\n item {{ id: 7 }}", "map.pbtxt:4: a label map item needs"),
        (f"item {{\n name: '{'a' * 20_001}' id: 1 }}", ":2: .*more than 20,000 letters without"),
        ("x: 1\n" * 1_501, "more than 3,000 words and signs"),
    ],
)
def test_lines_are_counted_as_they_were_written(text, message, monkeypatch):
    monkeypatch.setattr(label_map, "_MAX_TOKENS", 3_000)
    with pytest.raises(DataError, match=message):
        LabelMap.from_pbtxt(text, "map.pbtxt")


def test_names_that_appear_twice_are_found_in_one_pass():
    names = [f"class {i}" for i in range(50_000)]
    with pytest.raises(ValueError, match=r"appear twice: class 1, class 2$"):
        LabelMap((*names, "class 2", "class 1"))


PIECES = st.sampled_from(
    [
        "item { id: 1 name: 'a' }",
        "\n",
        " ",
        *"item{}[]<>id:,;#\\é",
        "id: 1 ",
        "-",
        "'a'",
        '"b',
        "name: ",
        "display_name",
        "[x.item]",
        "item: [{}]",
    ]
)


@given(st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=40))
def test_any_text_is_a_label_map_or_an_error_of_one_line(text):
    try:
        found = LabelMap.from_pbtxt(text, "map.pbtxt")
    except DataError as error:
        message = str(error)
    else:
        message = "map.pbtxt:"
        assert LabelMap.from_pbtxt(found.to_pbtxt()) == found
    assert message.startswith("map.pbtxt:")
    assert "\n" not in message


def test_a_file_is_read_within_bounds(tmp_path):
    path = tmp_path / "label_map.pbtxt"
    with pytest.raises(ArtifactError, match="the label map is missing"):
        read_label_map(path)
    path.write_text(LabelMap(("Blutkörperchen",), (4,)).to_pbtxt(), encoding="utf-8")
    assert read_label_map(path) == LabelMap(("Blutkörperchen",), (4,))
    path.write_bytes(b"item { id: 1 name: '\xff' }")
    with pytest.raises(ArtifactError, match="not UTF-8 text"):
        read_label_map(path)
    with open(path, "wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(ArtifactError, match="larger than 4,194,304 bytes"):
        read_label_map(path)
