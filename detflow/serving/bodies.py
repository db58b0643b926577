"""Request bodies → pictures: received within bounds, then read as JSON, form or bare file."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import File, FormParser, parse_options_header
from starlette.requests import Request

from detflow.artifact import ENCODED_INPUT_NAME, EXAMPLE_INPUT_NAME, INPUT_NAME
from detflow.data.images.header import ImageFault, read_image_size
from detflow.data.images.pictures import Picture, decode_picture
from detflow.data.records.example import decode_example
from detflow.serving.limits import Limits, Refusal

# Each list in the JSON becomes an object of at least 56 bytes. This bound keeps a body that is
# nothing but brackets from filling the memory.
_MAX_JSON_LISTS = 2_000_000
# Channels of a decoded picture, RGB; each has one byte a pixel.
_CHANNELS = 3
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
            hold(len(piece))
            pieces.append(piece)
        return b"".join(pieces)

    try:
        return await asyncio.wait_for(receive(), limits.body_s)
    except TimeoutError:
        raise Refusal(408, f"the body took longer than {limits.body_s:g} s") from None


def parse_instances(body: bytes, limits: Limits) -> Instances:
    """Reads TF Serving's predict request.

    It holds rows in `instances` or columns in `inputs`; pictures are files (`b64`) or pixels. See
    https://www.tensorflow.org/tfx/serving/api_rest#predict_api.

    Raises:
        Refusal: The request does not have that form, or holds too much.
    """
    if body.count(b"[") + body.count(b"{") > _MAX_JSON_LISTS:
        raise Refusal(
            413,
            f"the JSON has more than {_MAX_JSON_LISTS:,} lists; "
            "send a picture as a file in b64, not as its pixels",
        )
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
        [_read_instance(value, f"instance {i}", is_example) for i, value in enumerate(values)],
        columnar,
    )


def parse_upload(body: bytes, content_type: str, limits: Limits) -> list[Item]:
    """Reads an upload: `multipart/form-data` with files, or a body that is one file (`image/…`).

    Raises:
        Refusal: It is neither, or holds too many files.
    """
    kind, options = parse_options_header(content_type)
    if kind.startswith(b"image/") or kind == b"application/octet-stream":
        return [Item("image", body)]
    if kind != b"multipart/form-data":
        raise Refusal(
            415,
            "expected multipart/form-data, "
            "or an image as the whole body (image/jpeg, image/png, …)",
        )
    if b"boundary" not in options:
        raise Refusal(400, "multipart/form-data without a boundary")
    items: list[Item] = []

    def add(file: File) -> None:
        _check_count(len(items) + 1, limits)
        file.file_object.seek(0)
        name = (file.file_name or b"").decode("utf-8", "replace")
        items.append(Item(name or f"file {len(items)}", file.file_object.read()))

    # A form that is cut off between two parts lacks nothing but its end.
    ends: list[bool] = []
    # The body is in memory already, and this bound keeps the parser from copying it to the disk.
    parser = FormParser(
        "multipart/form-data",
        on_field=None,
        on_file=add,
        on_end=lambda: ends.append(True),
        boundary=options[b"boundary"],
        config={"MAX_MEMORY_FILE_SIZE": limits.max_body_bytes + 1},
    )
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refusal(400, f"not valid multipart/form-data: {error}") from None
    if not ends:
        raise Refusal(400, "the form is cut off")
    if not items:
        raise Refusal(400, "the form holds no file")
    return items


def decoded_bytes(item: Item, limits: Limits) -> int:
    """Returns how much memory a picture takes once it is decoded, by its header.

    Raises:
        Refusal: It has too many pixels, or no header of a supported kind.
    """
    if not isinstance(item.content, bytes):
        return item.content.nbytes
    with _refusals(item):
        size = read_image_size(item.content, limits.max_pixels)
    return size.width * size.height * _CHANNELS


def decode_item(item: Item, limits: Limits, *, upright: bool) -> Picture:
    """Decodes one picture.

    Args:
        item: The picture as parsed.
        limits: The bound of its pixels.
        upright: Whether to apply EXIF's orientation.

    Raises:
        Refusal: The picture has too many pixels, is damaged or of an unsupported kind.
    """
    if not isinstance(item.content, bytes):
        return Picture(item.content, 1)
    with _refusals(item):
        return decode_picture(item.content, limits.max_pixels, upright=upright)


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


def _read_instance(value: Any, name: str, is_example: bool) -> Item:
    if isinstance(value, dict) and "b64" not in value:
        input_name, value = _only_input(value)
        is_example = is_example or input_name == EXAMPLE_INPUT_NAME
    if isinstance(value, dict):
        try:
            content = base64.b64decode(value["b64"], validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise Refusal(400, f"{name}: b64 is not base64") from None
        return Item(name, _unpack_example(content, name) if is_example else content)
    if isinstance(value, list):
        return Item(name, _read_pixels(value, name))
    raise Refusal(400, f"{name}: expected a file as {{'b64': …}}, or pixels [height][width][3]")


def _unpack_example(content: bytes, name: str) -> bytes:
    try:
        encoded = decode_example(content).get("image/encoded", ())
    except ValueError as error:
        raise Refusal(400, f"{name}: {error}") from None
    if len(encoded) != 1 or not isinstance(encoded[0], bytes):
        raise Refusal(400, f"{name}: the tf.Example has no file in image/encoded")
    return encoded[0]


def _read_pixels(value: list[Any], name: str) -> npt.NDArray[np.uint8]:
    expected = Refusal(
        400, f"{name}: expected pixels [height][width][3] of whole numbers from 0 to 255"
    )
    try:
        pixels = np.array(value)
    except (ValueError, OverflowError):
        raise expected from None
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size or pixels.dtype.kind not in "iu":
        raise expected
    if pixels.min() < 0 or pixels.max() > 255:
        raise expected
    return pixels.astype(np.uint8)
