"""Hostile requests for a server of detections: each is a function of (seed, number)."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image

from detflow.data.records.example import encode_example
from fuzz.mutations import mutate_image
from fuzz.pictures import (
    build_jpeg_of_scans,
    build_png,
    build_png_of_texts,
    build_tiff_in_tiles,
    build_tiff_of_pages,
    draw,
    encode,
)

_PREDICT: Final = "/predict"


@dataclass(frozen=True)
class Attack:
    """A request.

    Attributes:
        kind: What it tries.
        path: Where it goes.
        headers: Its headers beside Host, Content-Length and Connection.
        body: Its body, or all of what is sent where `is_raw`.
        chunk: Bytes of a piece where the body is sent in chunks; 0 sends it whole.
        is_raw: Whether `body` is the request itself, head included.
        is_sound: Whether it has to be answered with detections.
    """

    kind: str
    path: str = _PREDICT
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    chunk: int = 0
    is_raw: bool = False
    is_sound: bool = False

    def to_bytes(self) -> bytes:
        """Returns all that is sent."""
        if self.is_raw:
            return self.body
        lines = [f"POST {self.path} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if not self.chunk:
            lines.append(f"Content-Length: {len(self.body)}")
            return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body
        lines.append("Transfer-Encoding: chunked")
        pieces = (self.body[i : i + self.chunk] for i in range(0, len(self.body), self.chunk))
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + chunks + b"0\r\n\r\n"


@dataclass(frozen=True)
class Bounds:
    """What the attacked server allows, so that attacks come close to it from both sides.

    Attributes:
        model: What the server calls the model.
        max_pixels: Its `--max-pixels`.
        max_body_bytes: Its `--max-body-mb`, in bytes.
    """

    model: str
    max_pixels: int
    max_body_bytes: int


def build_attack(seed: int, number: int, bounds: Bounds) -> Attack:
    """Builds a request."""
    rng = random.Random(seed * 1_000_003 + number)  # noqa: S311
    (build,) = rng.choices(list(_BUILDERS), list(_BUILDERS.values()))
    return build(rng, bounds)


# --- How a picture is wrapped ---------------------------------------------------------------------


def _wrap(kind: str, rng: random.Random, bounds: Bounds, content: bytes, **more: bool) -> Attack:
    """Puts a picture into one of the forms that the server takes."""
    form = rng.randrange(5)
    if form == 0:
        return Attack(kind, headers=(("Content-Type", "image/png"),), body=content, **more)
    if form == 1:
        chunk = rng.choice((7, 1_000, 70_000)) if len(content) < 100_000 else 70_000
        headers = (("Content-Type", "application/octet-stream"),)
        return Attack(kind, headers=headers, body=content, chunk=chunk, **more)
    if form == 2:
        mark = "b" * rng.randint(1, 70)
        body = _part(mark, content) + f"--{mark}--\r\n".encode()
        return Attack(kind, headers=_form(mark), body=body, **more)
    if form == 3:
        text = base64.b64encode(content).decode()
        return _ask(kind, bounds, {"instances": [{"b64": text}]}, **more)
    example = encode_example({"image/encoded": (bytes, [content])})
    text = base64.b64encode(example).decode()
    return _ask(kind, bounds, {"inputs": {"tf_example": [{"b64": text}]}}, **more)


def build_form(kind: str, contents: Sequence[bytes]) -> Attack:
    """Builds a sound form of sound pictures."""
    body = b"".join(_part("mark", content) for content in contents) + b"--mark--\r\n"
    return Attack(kind, headers=_form("mark"), body=body, is_sound=True)


def _ask(kind: str, bounds: Bounds, content: object, **more: bool) -> Attack:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Attack(kind, f"/v1/models/{bounds.model}:predict", body=body, **more)


def _form(mark: str) -> tuple[tuple[str, str], ...]:
    return (("Content-Type", f"multipart/form-data; boundary={mark}"),)


def _part(mark: str, content: bytes, name: str = "f", file: str | None = "a.png") -> bytes:
    suffix = "" if file is None else f'; filename="{file}"'
    head = f'--{mark}\r\nContent-Disposition: form-data; name="{name}"{suffix}\r\n\r\n'
    return head.encode() + content + b"\r\n"


# --- What is attacked -----------------------------------------------------------------------------


def _send_sound(rng: random.Random, bounds: Bounds) -> Attack:
    size = rng.choice(((64, 48), (300, 200), (200, 300), (640, 480)))
    content = encode(draw(rng, size), rng.choice(("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")))
    return _wrap("sound", rng, bounds, content, is_sound=True)


def _send_mutated(rng: random.Random, bounds: Bounds) -> Attack:
    kind = rng.choice(("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"))
    content = mutate_image(rng, encode(draw(rng, (120, 80)), kind))
    return _wrap("mutated picture", rng, bounds, content)


def _send_line(rng: random.Random, bounds: Bounds) -> Attack:
    """A strip is as long as the pixels, or JPEG's sides, allow."""
    short = rng.choice((1, 2, 20, 60, 131, 500))
    long = min(rng.choice((5_000, 20_000, 65_500, 70_000)), 2 * bounds.max_pixels // short)
    width, height = rng.choice(((long, short), (short, long)))
    if rng.random() < 0.3 and long <= 65_500 and long * short <= bounds.max_pixels:
        content = encode(Image.new("L", (width, height)), "JPEG")
    else:
        content = build_png(width, height, *rng.choice(((8, 0), (8, 2), (1, 0), (16, 0))))
    return _wrap("strip", rng, bounds, content)


def _send_large(rng: random.Random, bounds: Bounds) -> Attack:
    """A picture has as many pixels as are allowed, or some more, in each depth and colour."""
    pixels = bounds.max_pixels * rng.choice((0.5, 0.99, 1.01, 4))
    width = int((pixels * rng.uniform(0.3, 3)) ** 0.5)
    height = int(pixels / width)
    if pixels > bounds.max_pixels or rng.random() < 0.5:
        depth, colour = rng.choice(((8, 0), (8, 2), (8, 4), (8, 6), (16, 0), (16, 6), (1, 0)))
        return _wrap(
            "large picture",
            rng,
            bounds,
            build_png(width, height, depth, colour, rng.random() < 0.3),
        )
    image = Image.new(rng.choice(("L", "RGB")), (width, height), 90)
    kind = rng.choice(("JPEG", "WEBP", "TIFF", "GIF", "BMP"))
    compressed = {"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {}
    progressive = {"progressive": True} if kind == "JPEG" and rng.random() < 0.5 else {}
    return _wrap("large picture", rng, bounds, encode(image, kind, **compressed, **progressive))


def _send_bomb(rng: random.Random, bounds: Bounds) -> Attack:
    """A small file asks for much time or memory beside its pixels."""
    build: Callable[[], bytes] = rng.choice(
        (
            lambda: build_tiff_in_tiles(rng.choice((16, 4_096, 16_384)), 8_192),
            lambda: build_tiff_of_pages(rng.choice((2, 1_000, 60_000))),
            lambda: build_png_of_texts(rng.choice((1, 20, 80))),
            lambda: build_jpeg_of_scans(rng.choice((10, 70, 2_000))),
            lambda: encode(
                Image.new("P", (60, 60)),
                "GIF",
                save_all=True,
                append_images=[Image.new("P", (60, 60), i) for i in range(1, 30)],
            ),
        )
    )
    return _wrap("bomb", rng, bounds, build())


def _send_pixels(rng: random.Random, bounds: Bounds) -> Attack:
    """Pixels as JSON have any shape, and once in a while a value that is none."""
    most = bounds.max_body_bytes // 14
    count = int(most ** rng.uniform(0.3, 1.05))
    width = rng.choice((1, count, max(1, int(count**0.5))))
    rows = [f"[{','.join(['[0,7,255]'] * width)}]"] * max(1, count // width)
    if rng.random() < 0.5:
        odd = rng.choice(("[]", "[[1,2]]", "[[1,2,300]]", "[[1,2,0.5]]", "null", "[[[1]]]", "{}"))
        rows[rng.randrange(len(rows))] = odd
    return _ask("JSON pixels", bounds, f'{{"instances":[[{",".join(rows)}]]}}'.encode())


def _send_json(rng: random.Random, bounds: Bounds) -> Attack:
    """Signs of JSON take many times their bytes when they are read."""
    size = int(bounds.max_body_bytes * rng.choice((0.001, 0.02, 0.2, 0.99, 1.1)))
    sign = rng.choice((
        b"[],", b"{},", b'"",', b'"ab",', b"0,", b"1e9,", b"[[],[]],", b'{"a":0},', b"null,",
        b'"\\u4e2d",', b'{"b64":""},', b'{"b64":"QQ"},', "é".encode(), b"[", b"9", b'{"a":',
    ))  # fmt: skip
    head, tail = rng.choice((
        (b'{"instances":[', b"0]}"), (b'{"inputs":[', b"0]}"), (b'{"instances":[{"b64":"', b'"}]}'),
        (b"[", b"0]"), (b'{"instances":', b"}"), (b"", b""),
    ))  # fmt: skip
    return _ask("JSON signs", bounds, head + sign * (size // len(sign)) + tail)


def _send_example(rng: random.Random, bounds: Bounds) -> Attack:
    """A tf.Example holds more, and smaller, values than anybody needs."""
    count = rng.choice((10, 3_000, 120_000))
    features: dict[str, tuple[type, list[object]]] = rng.choice(
        (
            {"image/encoded": (bytes, [b""] * count)},
            {"a": (int, [1] * count), "image/encoded": (bytes, [b"x"])},
            {"a": (float, [0.5] * count)},
            {str(i): (int, []) for i in range(min(count, 20_000))},
        )
    )
    content = bytearray(encode_example(features))
    for _ in range(rng.choice((0, 0, 3))):
        content[rng.randrange(len(content))] = rng.randrange(256)
    text = base64.b64encode(bytes(content)).decode()
    return _ask("tf.Example", bounds, {"instances": [{"tf_example": {"b64": text}}]})


def _send_form(rng: random.Random, bounds: Bounds) -> Attack:
    """A form has too many parts, parts without end, or a boundary that is almost everywhere."""
    size = int(bounds.max_body_bytes * rng.choice((0.001, 0.1, 0.9)))
    mark = "m" * rng.choice((1, 8, 70, 71, 257, 4_000))
    end = f"--{mark}--\r\n".encode()
    content = rng.choice((
        b"\r\n--" * (size // 4), b"\r" * size, b"\r\n" * (size // 2), b"-" * size, bytes(size),
        (b"\r\n--" + mark.encode()[:-1] + b"x") * (size // (len(mark) + 5)),
    ))  # fmt: skip
    body = rng.choice((
        lambda: _part(mark, content) + end,
        lambda: _part(mark, content),
        lambda: _part(mark, content, "score_threshold", None) + end,
        lambda: content + end,
        lambda: _part(mark, b"") * min(size // 80, 20_000) + end,
        lambda: _part(mark, b"1", "x", None) * min(size // 80, 20_000) + end,
        lambda: f"--{mark}\r\nX: {'y' * size}\r\n\r\n\r\n".encode() + end,
        lambda: f"--{mark}\r\n".encode() + b"X: y\r\n" * (size // 6) + b"\r\n" + end,
        lambda: _part(mark, b"x", "f", "\udcff\x00/../" * 100) + end,
    ))  # fmt: skip
    try:
        return Attack("form", headers=_form(mark), body=body())
    except UnicodeEncodeError:
        return Attack("form", headers=_form(mark), body=_part(mark, content, "f", "../" * 300))


def _send_head(rng: random.Random, bounds: Bounds) -> Attack:
    """A head lies, has no end, or is none."""
    first = "POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    body = encode(draw(rng, (32, 32)), "PNG")
    raw = rng.choice((
        f"{first}Content-Length: -1\r\n\r\n",
        f"{first}Content-Length: 1{'0' * 30}\r\n\r\n",
        f"{first}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        f"{first}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nabcdef",
        f"{first}Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde",
        f"{first}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc",
        f"{first}Transfer-Encoding: chunked\r\n\r\n5;{'x' * 30_000}\r\nabcde\r\n0\r\n\r\n",
        f"{first}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        f"{first}X: {'y' * rng.choice((15_000, 17_000, 200_000))}\r\nContent-Length: 0\r\n\r\n",
        first + "X: y\r\n" * rng.choice((100, 3_000, 30_000)) + "Content-Length: 0\r\n\r\n",
        f"POST /predict?{'a=b&' * rng.choice((10, 3_000))} HTTP/1.1\r\nHost: localhost\r\n"
        "Connection: close\r\nContent-Length: 0\r\n\r\n",
        f"GET /{'../' * 1_000} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        f"{first}Content-Type: multipart/form-data; boundary={'q' * 15_000}\r\n"
        "Content-Length: 2\r\n\r\nxx",
        "\r\n" * 20_000,
        "".join(chr(rng.randrange(256)) for _ in range(rng.choice((1, 100, 20_000)))),
    ))  # fmt: skip
    if rng.random() < 0.2:
        raw = f"{first}Content-Type: image/png\r\nContent-Length: {len(body) + 1_000}\r\n\r\n"
        return Attack("head", body=raw.encode() + body, is_raw=True)
    return Attack("head", body=raw.encode("latin-1"), is_raw=True)


_BUILDERS: Final[dict[Callable[[random.Random, Bounds], Attack], int]] = {
    _send_sound: 10,
    _send_mutated: 25,
    _send_line: 8,
    _send_large: 5,
    _send_bomb: 6,
    _send_pixels: 8,
    _send_json: 12,
    _send_example: 6,
    _send_form: 12,
    _send_head: 8,
}
