import base64
import io
import json
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detflow.data.records.example import encode_example
from detflow.serving.bodies import (
    Item,
    count_json_bytes,
    count_pixels,
    decode_item,
    parse_instances,
    parse_upload,
)
from detflow.serving.limits import Limits, Refusal

LIMITS = Limits(max_instances=4, max_queue=8, max_pixels=10_000)


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def parse(**request):
    return parse_instances(json.dumps(request).encode(), LIMITS)


def multipart(*parts, end=b"--limit--\r\n"):
    body = b"".join(
        b"--limit\r\n" + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts
    )
    return parse_upload(body + end, "multipart/form-data; boundary=limit", LIMITS)


def file_part(name, content):
    return f'Content-Disposition: form-data; name="f"; filename="{name}"'.encode(), content


@pytest.mark.parametrize(
    "wrap",
    [
        lambda row: {"instances": [row, row]},
        lambda row: {
            "instances": [{"image_bytes": row}, {"inputs": row}],
            "signature_name": "image_bytes",
        },
        lambda row: {"inputs": [row, row]},
        lambda row: {"inputs": {"encoded_image_string_tensor": [row, row]}},
    ],
)
def test_files_come_in_every_form_that_tf_serving_takes(wrap):
    found = parse(**wrap(b64(b"content")))
    assert [item.content for item in found.items] == [b"content", b"content"]
    assert found.columnar == ("inputs" in wrap(b64(b"")))


def test_one_column_may_stand_without_its_list():
    assert [item.content for item in parse(inputs={"image_bytes": b64(b"x")}).items] == [b"x"]
    assert [item.content for item in parse(inputs=b64(b"x")).items] == [b"x"]


def test_pixels_are_read_as_they_are():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    for request in (
        {"instances": [pixels.tolist()]},
        {"inputs": {"image_tensor": [pixels.tolist()]}},
    ):
        (item,) = parse(**request).items
        assert item.content.dtype == np.uint8
        np.testing.assert_array_equal(item.content, pixels)
        np.testing.assert_array_equal(decode_item(item, LIMITS, upright=True).pixels, pixels)


def test_examples_are_unpacked():
    example = encode_example({"image/encoded": (bytes, [b"file"]), "image/height": (int, [3])})
    requests = (
        {"instances": [b64(example)], "signature_name": "tf_example"},
        {"instances": [{"tf_example": b64(example)}]},
        {"inputs": {"tf_example": [b64(example)]}},
    )
    for request in requests:
        assert parse(**request).items[0].content == b"file"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"[1]", 400, "a JSON object"),
        (b"{}", 400, "either instances or inputs"),
        (b'{"instances": [], "inputs": []}', 400, "either instances or inputs"),
        (b'{"instances": []}', 400, "at least one"),
        (b'{"instances": {"b64": ""}}', 400, "at least one"),
        (b'{"instances": [1]}', 400, "instance 0: expected a file"),
        (b'{"instances": [{"b64": "%"}]}', 400, "instance 0: b64 is not base64"),
        (b'{"instances": [{"b64": 7}]}', 400, "instance 0: b64 is not a text"),
        (b'{"instances": [{"b64": "QUJDR"}]}', 400, "instance 0: b64 is not base64"),
        (b'{"instances": [{"picture": {"b64": ""}}]}', 400, "inputs named 'picture'"),
        (b'{"instances": [{}]}', 400, "inputs named"),
        (
            b'{"instances": [{"b64": ""}], "signature_name": "other"}',
            400,
            "there is no signature 'other'",
        ),
        (
            b'{"instances": [{"b64": ""}], "signature_name": ["other"]}',
            400,
            "there is no signature",
        ),
        (
            b'{"instances": [{"b64": "QQ=="}], "signature_name": "tf_example"}',
            400,
            "instance 0: not a tf.Example",
        ),
        (
            b'{"instances": [{"b64": ""}], "signature_name": "tf_example"}',
            400,
            "no file in image/encoded",
        ),
        (b'{"instances": [[[[1, 2]]]]}', 400, "expected pixels"),
        (b'{"instances": [[[[1, 2, 3]], [[1, 2]]]]}', 400, "expected pixels"),
        (b'{"instances": [[[[1, 2, 256]]]]}', 400, "expected pixels"),
        (b'{"instances": [[[[1, 2, 0.5]]]]}', 400, "expected pixels"),
        (b'{"instances": [[[[1, 2, 1e999]]]]}', 400, "expected pixels"),
        (b'{"instances": [[[[1, 2, ' + b"9" * 40 + b"]]]]}", 400, "expected pixels"),
        (b'{"instances": [[[["a", "b", {}]]]]}', 400, "expected pixels"),
        (b'{"instances": [[]]}', 400, "expected pixels"),
        (b'{"instances": [[[]]]}', 400, "expected pixels"),
        (b'{"instances": [[[[1, 2, 3]], [[1, 2, 3], [1, 2, 3]]]]}', 400, "expected pixels"),
        (b'{"instances": [[[[1, 2, true]]]]}', 400, "expected pixels"),
        (b'{"instances": [[[[1, 2, "3"]]]]}', 400, "expected pixels"),
        (b'{"instances": [[[[1, 2, -1]]]]}', 400, "expected pixels"),
        (
            b'{"instances": [[' + b"[[0,0,0]]," * 600 + b"[[0,0,0]]]]}",
            413,
            "1x601 is more than 500",
        ),
        (
            b'{"instances": [['
            + b"["
            + b"[0,0,0]," * 100
            + b"[0,0,0]],"
            + b"[[0]]," * 100
            + b"[]]]}",
            413,
            "101x102 has more than 10,000 pixels",
        ),
        (json.dumps({"instances": [{"b64": ""}] * 5}).encode(), 413, "more than 4 pictures"),
    ],
)
def test_what_is_no_predict_request_is_refused_with_its_reason(body, status, reason):
    with pytest.raises(Refusal) as caught:
        parse_instances(body, LIMITS)
    assert caught.value.status == status
    assert reason in caught.value.reason


VALUES = st.recursive(
    st.sampled_from([None, True, 0, 255, -1, 10**30, 0.5, float("nan"), "", "QQ==", "é"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["b64", "inputs", "image_bytes", "x"]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name"]), VALUES))
def test_any_json_is_read_or_refused(request_object):
    with suppress(Refusal):
        found = parse_instances(json.dumps(request_object).encode(), LIMITS)
        assert all(isinstance(item.content, bytes | np.ndarray) for item in found.items)


def test_an_upload_is_a_form_of_files_or_a_file():
    found = multipart(
        file_part("a.jpg", b"one"),
        (b'Content-Disposition: form-data; name="note"', b"hello"),
        file_part("", b"two"),
    )
    assert [(item.name, item.content) for item in found.items] == [
        ("a.jpg", b"one"),
        ("file 1", b"two"),
    ]
    assert found.fields == {"note": "hello"}
    assert parse_upload(b"file", "image/jpeg", LIMITS).items[0].content == b"file"


@pytest.mark.parametrize("break_line", ["\n", "\r\n", " \t"])
@pytest.mark.parametrize("padding", ["", "=", "=="])
def test_base64_may_be_broken_into_lines_and_lack_its_padding(break_line, padding):
    """That is what TF Serving takes (absl::Base64Unescape)."""
    content = b"a picture's file of some length" + b"x" * (2 - len(padding))
    text = base64.b64encode(content).decode()
    assert text.count("=") == len(padding)
    lines = break_line.join(text[i : i + 10] for i in range(0, len(text), 10))
    for written in (lines, lines.replace("=", ""), lines + break_line):
        assert parse(instances=[{"b64": written}]).items[0].content == content


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 900 + b"]" * 900,
        b"[" + b"[]," * 20_000 + b"[]]",
        b"[" + b"{}," * 20_000 + b"{}]",
        b"[" + b'{"a":0},' * 20_000 + b"{}]",
        b"[" + b'"ab",' * 20_000 + b'"c"]',
        b"[" + b'"' + b"x" * 50_000 + b'\\u4e2d"]',
        json.dumps([{f"key {i}": i for i in range(20_000)}]).encode(),
        json.dumps(np.zeros((100, 100, 3), int).tolist()).encode(),
        b"[" + b"123456789," * 20_000 + b"1]",
        b"[" + b"1.5," * 20_000 + b"1]",
    ],
    ids=range(10),
)
def test_a_body_s_signs_bound_the_memory_that_it_takes_when_read(body):
    tracemalloc.start()
    try:
        content = json.loads(body)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert content
    assert taken <= count_json_bytes(body)


@pytest.mark.parametrize(
    ("parts", "end", "status", "reason"),
    [
        ([], b"--limit--\r\n", 400, ""),
        (
            [(b'Content-Disposition: form-data; name="note"', b"hello")],
            b"--limit--\r\n",
            400,
            "holds no file",
        ),
        ([(b"Content-Type: image/png", b"hello")], b"--limit--\r\n", 400, "not valid multipart"),
        ([file_part("a", b"x")], b"", 400, "cut off"),
        ([file_part("a", b"x")], b"--limit\r\nContent-Disp", 400, "cut off"),
        ([file_part("a", b"x")] * 5, b"--limit--\r\n", 413, "more than 4 pictures"),
        ([(b"X: " + b"y" * 10_000, b"x")], b"--limit--\r\n", 400, "not valid multipart"),
    ],
)
def test_forms_that_are_no_upload_are_refused_with_their_reason(parts, end, status, reason):
    with pytest.raises(Refusal) as caught:
        multipart(*parts, end=end)
    assert caught.value.status == status
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("", 415),
        ("text/plain", 415),
        ("multipart/form-data", 400),
        ("application/x-www-form-urlencoded", 415),
    ],
)
def test_other_kinds_of_upload_are_refused(kind, status):
    with pytest.raises(Refusal) as caught:
        parse_upload(b"x", kind, LIMITS)
    assert caught.value.status == status


@given(st.binary(max_size=200))
def test_any_form_is_read_or_refused(garbage):
    head, content = file_part("a", garbage)
    for body in (garbage, b"--limit\r\n" + garbage, b"--limit\r\n" + head + b"\r\n\r\n" + content):
        with suppress(Refusal):
            assert parse_upload(body, "multipart/form-data; boundary=limit", LIMITS).items


def test_a_picture_is_turned_only_where_that_is_asked_for(kit):
    item = Item("turned", kit.encode(orientation=6))
    assert decode_item(item, LIMITS, upright=False).pixels.shape == (20, 40, 3)
    turned = decode_item(item, LIMITS, upright=True)
    assert (turned.pixels.shape, turned.orientation) == ((40, 20, 3), 6)


def test_too_many_pixels_are_refused_from_the_header(kit):
    # Of what follows the header there is nothing.
    header = kit.encode(size=(200, 60))[:60]
    for read in (count_pixels, lambda item, limits: decode_item(item, limits, upright=True)):
        with pytest.raises(Refusal) as caught:
            read(Item("bomb.png", header), LIMITS)
        assert caught.value.status == 413
        assert caught.value.reason.startswith("bomb.png: image too large")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_the_header_tells_how_much_memory_a_picture_will_take(kind):
    file = io.BytesIO()
    Image.new("RGB", (40, 20)).save(file, kind)
    item = Item("picture", file.getvalue())
    assert count_pixels(item, LIMITS) == 40 * 20
    assert decode_item(item, LIMITS, upright=True).pixels.nbytes == 40 * 20 * 3
    pixels = Item("pixels", np.zeros((5, 7, 3), np.uint8))
    assert count_pixels(pixels, LIMITS) == 5 * 7


def test_a_picture_that_is_a_line_is_refused(kit):
    with pytest.raises(Refusal, match="501x1 is more than 500 times as long") as caught:
        count_pixels(Item("line", kit.encode(size=(501, 1))), LIMITS)
    assert caught.value.status == 413
    assert count_pixels(Item("strip", kit.encode(size=(500, 1))), LIMITS) == 500


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([(b'Content-Disposition: form-data; name="a"', b"1")] * 2, "the field 'a' twice"),
        (
            [(f'Content-Disposition: form-data; name="{i}"'.encode(), b"1") for i in range(9)],
            "more than 8 fields",
        ),
        (
            [(b'Content-Disposition: form-data; name="score_threshold"', b"0" * 1_001)],
            "'score_threshold' has more than 1,000 bytes",
        ),
    ],
)
def test_fields_of_a_form_are_bounded(parts, reason):
    with pytest.raises(Refusal, match=reason):
        multipart(file_part("a", b"x"), *parts)


def test_a_boundary_of_any_length_is_read_or_refused():
    """RFC 2046 allows 70 characters."""
    for length in (70, 257, 5_000):
        mark = "b" * length
        body = f'--{mark}\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nx\r\n'
        with suppress(Refusal):
            found = parse_upload(
                f"{body}--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}", LIMITS
            )
            assert found.items[0].content == b"x"


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0 cut"])
def test_what_is_no_picture_is_refused_by_its_name(content):
    with pytest.raises(Refusal, match=r"instance 3: image undecodable") as caught:
        decode_item(Item("instance 3", content), LIMITS, upright=True)
    assert caught.value.status == 400
