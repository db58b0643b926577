"""Little videos, encoded here, and a model that finds a cat everywhere."""

import struct
from fractions import Fraction

import numpy as np
import pytest
import simplejpeg

from detflow.inference import load
from detflow.inference.detector import Detector
from detflow.label_map import LabelMap


def encode_video(
    path, frames, codec="mpeg4", *, times_ms=None, b_frames=0, fps=10, pix_fmt="yuv420p", **add
):
    """Encodes pictures [height, width, 3]; `add` has the container's format and a display turn."""
    import av

    height, width = frames[0].shape[:2]
    with av.open(path, "w", format=add.get("format")) as output:
        stream = output.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.max_b_frames = b_frames
        if times_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        if "matrix" in add:
            stream.set_display_matrix(add["matrix"])
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
            frame.pts = times_ms[number] if times_ms else number
            frame.time_base = Fraction(1, 1000) if times_ms else Fraction(1, fps)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def encode_avi(path, frames, fps=10):
    """Writes an AVI of JPEGs byte by byte; None shows the last frame for longer."""

    def chunk(tag, data):
        return tag + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    height, width = frames[0].shape[:2]
    total, index, movie = len(frames), b"", b"movi"
    for pixels in frames:
        data = b"" if pixels is None else simplejpeg.encode_jpeg(np.ascontiguousarray(pixels))
        index += b"00dc" + struct.pack("<3I", 16, len(movie), len(data))
        movie += chunk(b"00dc", data)
    main = struct.pack("<14I", 1_000_000 // fps, 0, 0, 16, total, 0, 1, 0, width, height, *[0] * 4)
    timing = struct.pack("<2I2H8I4H", *[0] * 4, 0, 1, fps, 0, total, 0, 2**32 - 1, 0, *[0] * 4)
    kind = struct.pack("<3I2H4s5I", 40, width, height, 1, 24, b"MJPG", *[0] * 5)
    stream = b"strl" + chunk(b"strh", b"vidsMJPG" + timing) + chunk(b"strf", kind)
    head = b"hdrl" + chunk(b"avih", main) + chunk(b"LIST", stream)
    parts = chunk(b"LIST", head) + chunk(b"LIST", movie) + chunk(b"idx1", index)
    path.write_bytes(chunk(b"RIFF", b"AVI " + parts))
    return path


@pytest.fixture(scope="session")
def write_video():
    return encode_video


@pytest.fixture(scope="session")
def write_avi():
    return encode_avi


@pytest.fixture(scope="session")
def shades():
    """Twelve frames, each lighter than the one before, with a red edge on the left."""
    frames = []
    for number in range(12):
        pixels = np.full((48, 64, 3), 20 * number, np.uint8)
        pixels[:, :16] = 200, 0, 0
        frames.append(pixels)
    return frames


@pytest.fixture
def find_cats(monkeypatch):
    """Puts a model in the place of whatever lies in a folder."""

    def run(images):
        return {
            "detection_boxes": np.array([[[0.1, 0.1, 0.9, 0.9]]] * len(images), np.float32),
            "detection_scores": np.full((len(images), 1), 0.9, np.float32),
            "detection_classes": np.ones((len(images), 1), np.float32),
            "num_detections": np.ones(len(images), np.float32),
        }

    def install(path):
        detector = Detector(run, LabelMap(("cat",)), path)
        monkeypatch.setattr(load, "load_detector", lambda _: detector)

    return install
