"""Request bodies → pictures: received within bounds, then read as JSON, form or bare file."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header
from starlette.requests import Request

from detflow.artifact import ENCODED_INPUT_NAME, EXAMPLE_INPUT_NAME, INPUT_NAME
from detflow.data.images.cost import CHANNELS, count_text_bytes
from detflow.data.images.header import ImageFault, read_image_size
from detflow.data.images.pictures import Picture, decode_picture, reduce_picture
from detflow.data.records.example import find_encoded_images
from detflow.serving.limits import Limits, Refusal

# What a sign of JSON becomes in CPython 3.11 to 3.13, in bytes, with its place in a list or an
# object around it: a list 72 + 8 and 32 for its first entries, an object with its first key
# 64 + 160 + 8, a text 41 + 8 beside its letters of up to 4 bytes each, a number behind a comma
# 32 + 8.
_LIST_BYTES, _OBJECT_BYTES, _TEXT_BYTES, _ENTRY_BYTES = 112, 232, 49, 40
_MAX_LETTER_BYTES = 4
# A text is encoded, freed of white space and decoded from base64; at most two of its copies and
# what they hold are there together.
_BASE64_COPIES = 3
_MAX_FIELDS = 8
_MAX_FIELD_BYTES = 1_000
_WHITE_SPACE = b" \t\r\n\v\f"
# The signatures of the exported SavedModel by the input that each takes.
SIGNATURES = {
    "serving_default": INPUT_NAME,
    "image_bytes": ENCODED_INPUT_NAME,
    "tf_example": EXAMPLE_INPUT_NAME,
}
# The TF1 Object Detection API's exporter called its input `inputs`, whatever the input held.
_INPUT_NAMES = frozenset({*SIGNATURES.values(), "image_bytes", "inputs"})


@dataclass(frozen=True, slots=True)
class Item:
    """A picture as it arrived.

    Attributes:
        name: A file's name, or which instance it is; for messages and answers.
        content: A file's bytes, or pixels [height, width, 3] uint8, RGB.
    """

    name: str
    content: bytes | npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Instances:
    """A request in TF Serving's form.

    Attributes:
        items: The pictures.
        columnar: Whether the answer has `outputs`, a list for each field, instead of `predictions`,
            an object for each picture.
    """

    items: Sequence[Item]
    columnar: bool


@dataclass(frozen=True, slots=True)
class Upload:
    """Files that were uploaded.

    Attributes:
        items: The pictures.
        fields: The form's other fields, by name.
    """

    items: Sequence[Item]
    fields: Mapping[str, str]


async def receive_body(request: Request, limits: Limits, hold: Callable[[int], None]) -> bytes:
    """Receives a whole body.

    Args:
        request: A request whose body has not been read yet.
        limits: Bounds of its size and of the time that it may take.
        hold: Told how much memory each piece takes; it may refuse.

    Raises:
        Refusal: The body is too large, too slow or compressed, or there is no memory for it.
        ClientDisconnect: The client has left.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "a compressed body; expected an identity encoding")
    too_large = Refusal(413, f"the body has more than {limits.max_body_bytes:,} bytes")
    if int(request.headers.get("content-length", "0")) > limits.max_body_bytes:
        raise too_large

    async def receive() -> bytes:
        pieces, total = [], 0
        async for piece in request.stream():
            total += len(piece)
            if total > limits.max_body_bytes:
                raise too_large
            hold(limits.count_body_bytes(len(piece)))
            pieces.append(piece)
        return b"".join(pieces)

    try:
        return await asyncio.wait_for(receive(), limits.body_s)
    except TimeoutError:
        raise Refusal(408, f"the body took longer than {limits.body_s:g} s") from None


def count_json_bytes(body: bytes) -> int:
    """Returns how much memory a JSON body takes at most once it is read, from its signs alone."""
    texts = body.count(b'"') // 2
    # Without a letter beyond ASCII and without an escape, a letter takes a byte.
    is_plain = body.isascii() and b"\\u" not in body
    return (
        _LIST_BYTES * body.count(b"[")
        + _OBJECT_BYTES * body.count(b"{")
        + _TEXT_BYTES * texts
        + _ENTRY_BYTES * body.count(b",")
        + (len(body) * ((1 if is_plain else _MAX_LETTER_BYTES) + _BASE64_COPIES) if texts else 0)
    )


def parse_instances(body: bytes, limits: Limits) -> Instances:
    """Reads TF Serving's predict request.

    It holds rows in `instances` or columns in `inputs`; pictures are files (`b64`) or pixels. See
    https://www.tensorflow.org/tfx/serving/api_rest#predict_api.

    Raises:
        Refusal: The request does not have that form, or holds too much.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise Refusal(400, "expected a JSON object with instances")
    signature = request.get("signature_name") or "serving_default"
    if not isinstance(signature, str) or signature not in SIGNATURES:
        raise Refusal(
            400,
            f"there is no signature {str(signature)[:100]!r}; "
            f"expected one of {', '.join(SIGNATURES)}",
        )
    columnar = "inputs" in request
    if columnar == ("instances" in request):
        raise Refusal(400, "expected either instances or inputs")
    name, values = _unfold_columns(request["inputs"]) if columnar else ("", request["instances"])
    if not isinstance(values, list) or not values:
        raise Refusal(
            400, f"{'inputs' if columnar else 'instances'}: expected a list of at least one picture"
        )
    _check_count(len(values), limits)
    is_example = EXAMPLE_INPUT_NAME in (SIGNATURES[signature], name)
    return Instances(
        [
            _read_instance(value, f"instance {i}", is_example, limits)
            for i, value in enumerate(values)
        ],
        columnar,
    )


def parse_upload(body: bytes, content_type: str, limits: Limits) -> Upload:
    """Reads an upload: `multipart/form-data` with files, or a body that is one file (`image/…`).

    Raises:
        Refusal: It is neither, or holds too many files.
    """
    kind, options = parse_options_header(content_type)
    if kind.startswith(b"image/") or kind == b"application/octet-stream":
        return Upload([Item("image", body)], {})
    if kind != b"multipart/form-data":
        raise Refusal(
            415,
            "expected multipart/form-data, "
            "or an image as the whole body (image/jpeg, image/png, …)",
        )
    if b"boundary" not in options:
        raise Refusal(400, "multipart/form-data without a boundary")
    items: list[Item] = []
    fields: dict[str, str] = {}

    def add(file: File) -> None:
        _check_count(len(items) + 1, limits)
        name = (file.file_name or b"").decode("utf-8", "replace")
        assert isinstance(file.file_object, io.BytesIO)  # noqa: S101  Its bound is the body's.
        # Unlike read(), this makes no copy.
        items.append(Item(name or f"file {len(items)}", file.file_object.getvalue()))

    def add_field(field: Field) -> None:
        name = (field.field_name or b"").decode("utf-8", "replace")
        if name in fields:
            raise Refusal(400, f"the form has the field {name[:50]!r} twice")
        if len(fields) == _MAX_FIELDS:
            raise Refusal(400, f"the form has more than {_MAX_FIELDS} fields")
        value = field.value or b""
        if len(value) > _MAX_FIELD_BYTES:
            raise Refusal(400, f"the field {name[:50]!r} has more than {_MAX_FIELD_BYTES:,} bytes")
        fields[name] = value.decode("utf-8", "replace")

    # A form that is cut off between two parts lacks nothing but its end.
    ends: list[bool] = []
    try:
        # The body is in memory already; this bound keeps the parser from copying it to the disk.
        parser = FormParser(
            "multipart/form-data",
            on_field=add_field,
            on_file=add,
            on_end=lambda: ends.append(True),
            boundary=options[b"boundary"],
            config={"MAX_MEMORY_FILE_SIZE": limits.max_body_bytes + 1},
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refusal(400, f"not valid multipart/form-data: {error}") from None
    if not ends:
        raise Refusal(400, "the form is cut off")
    if not items:
        raise Refusal(400, "the form holds no file")
    return Upload(items, fields)


def count_header_bytes(item: Item) -> int:
    """Returns how much memory reading a picture's header takes at most."""
    return count_text_bytes(item.content) if isinstance(item.content, bytes) else 0


def count_pixels(item: Item, limits: Limits) -> int:
    """Returns how many pixels a picture has, by its header.

    Raises:
        Refusal: It has too many, is too long for its width, or has no header of a supported kind.
    """
    if not isinstance(item.content, bytes):
        return item.content.size // CHANNELS
    with _refusals(item):
        size = read_image_size(item.content, limits.max_pixels)
    _check_sides(size.width, size.height, item.name, limits)
    return size.width * size.height


def _check_sides(width: int, height: int, name: str, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise Refusal(413, f"{name}: {width}x{height} has more than {limits.max_pixels:,} pixels")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise Refusal(
            413,
            f"{name}: {width}x{height} is more than {limits.max_aspect:g} times as long as wide",
        )


def decode_item(
    item: Item, limits: Limits, *, upright: bool, canvas_sizes: Sequence[tuple[int, int]] = ()
) -> Picture:
    """Decodes one picture.

    Args:
        item: The picture as parsed.
        limits: The bound of its pixels.
        upright: Whether to apply EXIF's orientation.
        canvas_sizes: (height, width) of the model's canvases: a far larger picture is read smaller.

    Raises:
        Refusal: The picture has too many pixels, is damaged or of an unsupported kind.
    """
    if not isinstance(item.content, bytes):
        return reduce_picture(Picture(item.content, 1), canvas_sizes)
    with _refusals(item):
        return decode_picture(
            item.content, limits.max_pixels, upright=upright, canvas_sizes=canvas_sizes
        )


@contextlib.contextmanager
def _refusals(item: Item) -> Iterator[None]:
    try:
        yield
    except ImageFault as fault:
        raise Refusal(
            413 if fault.code == "image_too_large" else 400, f"{item.name}: {fault}"
        ) from None


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.max_instances:
        raise Refusal(413, f"more than {limits.max_instances} pictures in one request")


def _unfold_columns(inputs: Any) -> tuple[str, Any]:
    """Returns the only column and its name.

    As in TF Serving, the name may be left out where a signature has one input.
    """
    name, column = (
        _only_input(inputs) if isinstance(inputs, dict) and "b64" not in inputs else ("", inputs)
    )
    return name, [column] if isinstance(column, dict) else column


def _only_input(named: dict[str, Any]) -> tuple[str, Any]:
    if len(named) != 1 or not _INPUT_NAMES.issuperset(named):
        raise Refusal(
            400,
            f"inputs named {', '.join(map(str, named))[:100]!r}; "
            f"expected one of {', '.join(sorted(_INPUT_NAMES))}",
        )
    return next(iter(named.items()))


def _read_instance(value: Any, name: str, is_example: bool, limits: Limits) -> Item:
    if isinstance(value, dict) and "b64" not in value:
        input_name, value = _only_input(value)
        is_example = is_example or input_name == EXAMPLE_INPUT_NAME
    if isinstance(value, dict):
        content = _decode_base64(value["b64"], name)
        return Item(name, _unpack_example(content, name) if is_example else content)
    if isinstance(value, list):
        return Item(name, _read_pixels(value, name, limits))
    raise Refusal(400, f"{name}: expected a file as {{'b64': …}}, or pixels [height][width][3]")


def _decode_base64(text: object, name: str) -> bytes:
    """Decodes as TF Serving does: white space is passed over, and padding may be missing."""
    if not isinstance(text, str):
        raise Refusal(400, f"{name}: b64 is not a text")
    try:
        letters = text.encode("ascii").translate(None, _WHITE_SPACE)
        if len(letters) % 4 or letters.endswith(b"==="):
            letters = letters.rstrip(b"=")
            letters += b"=" * (-len(letters) % 4)
        return base64.b64decode(letters, validate=True)
    except ValueError:
        raise Refusal(400, f"{name}: b64 is not base64") from None


def _unpack_example(content: bytes, name: str) -> bytes:
    try:
        encoded = find_encoded_images(content)
    except ValueError as error:
        raise Refusal(400, f"{name}: {error}") from None
    if len(encoded) != 1:
        raise Refusal(400, f"{name}: the tf.Example has no file in image/encoded")
    return encoded[0]


def _read_pixels(value: list[Any], name: str, limits: Limits) -> npt.NDArray[np.uint8]:
    expected = Refusal(
        400, f"{name}: expected pixels [height][width][3] of whole numbers from 0 to 255"
    )
    if not (value and isinstance(value[0], list) and value[0]):
        raise expected
    height, width = len(value), len(value[0])
    _check_sides(width, height, name, limits)
    pixels = np.empty((height, width, CHANNELS), np.uint8)
    for row, target in zip(value, pixels, strict=True):
        # NumPy would make something of texts, fractions and rows of several lengths.
        if (
            not isinstance(row, list)
            or len(row) != width
            or set(map(type, row)) != {list}
            or set(map(len, row)) != {CHANNELS}
            or set(map(type, chain.from_iterable(row))) != {int}
        ):
            raise expected
        try:
            target[:] = np.array(row, np.uint8)
        except OverflowError:
            raise expected from None
    return pixels
