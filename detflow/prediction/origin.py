"""A published folder of predictions, as images with objects to be written elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import simplejpeg

from detflow.data.images.decode import read_image_facts
from detflow.data.images.header import MAX_IMAGE_BYTES, ImageFault
from detflow.data.images.lossless import find_lossless_suffix
from detflow.data.images.pictures import PictureFile
from detflow.data.images.transcode import Treatment, encode_record_jpeg
from detflow.data.records.schema import to_record_box
from detflow.data.sinks.origin import ImageFacts, LoadedImage, OriginEntry
from detflow.data.sinks.sink import CarriedObject
from detflow.errors import ArtifactError, DataError
from detflow.label_map import LabelMap
from detflow.prediction.files import FRAME_QUALITY, PREDICTIONS_NAME
from detflow.prediction.frames import Frame, read_frames
from detflow.types import Box, ImageSize

_SPLIT = "train"
_MAX_BYTES = 1 << 30


class _Predicted(NamedTuple):
    """A picture or frame with its detections; `encoded` has a frame's JPEG, once it is decoded."""

    path: str
    frame: int | None
    size: ImageSize
    objects: tuple[CarriedObject, ...]
    encoded: bytes = b""


class PredictedReader:
    """Reads pictures from where they lay when the model saw them. It holds nothing."""

    def load(self, payload: _Predicted) -> LoadedImage:
        """See `ImageReader`."""
        if payload.frame is not None:
            return LoadedImage(
                payload.encoded, ".jpg", payload.size, payload.objects, is_encoded_anew=True
            )
        data = _read_file(Path(payload.path))
        try:
            facts = read_image_facts(data)
        except ImageFault as fault:
            raise DataError(str(fault), path=payload.path) from None
        if facts.turned_size != payload.size:
            raise DataError(
                f"the picture is {facts.turned_size}, and was {payload.size} when it was predicted",
                path=payload.path,
                remedy="predict again",
            )
        suffix = find_lossless_suffix(data) if facts.orientation == 1 else None
        if suffix is not None:
            return LoadedImage(data, suffix, payload.size, payload.objects, is_encoded_anew=False)
        plain = facts.is_plain_jpeg and facts.orientation == 1
        encoded = encode_record_jpeg(data, Treatment(not plain, facts.orientation))
        return LoadedImage(
            encoded, ".jpg", payload.size, payload.objects, is_encoded_anew=encoded is not data
        )

    def describe(self, payload: _Predicted) -> ImageFacts:
        """See `ImageReader`."""
        return ImageFacts(payload.size, hashlib.sha256(self.load(payload).encoded).digest()[:16])

    def read_objects(self, payload: _Predicted) -> Sequence[CarriedObject]:
        """See `ImageReader`."""
        return payload.objects


class PredictedOrigin:
    """The images of predictions.json with their detections as objects, all in one split.

    Args:
        path: The file.

    Raises:
        ArtifactError: It is damaged.
    """

    splits: Sequence[str] = (_SPLIT,)
    unions: Mapping[str, Sequence[str]] = {}
    declares_splits = False
    has_flags = False

    def __init__(self, path: Path) -> None:
        self.reader = PredictedReader()
        try:
            content = _read_content(path)
            self.label_map = LabelMap(tuple(content["classes"]))
            self._images = [_read_entry(entry, self.label_map) for entry in content["images"]]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ArtifactError(
                f"the predictions are damaged: {type(error).__name__} {error}",
                path=path,
                remedy="run detflow predict again",
            ) from None
        self.entries: Sequence[OriginEntry] = [
            OriginEntry(f"{number}", _name(image), _SPLIT)
            for number, image in enumerate(self._images)
        ]

    def payloads(self, places: Iterable[int]) -> Iterator[_Predicted]:
        """See `Origin`. Frames of videos are decoded here, each video once where they are in order.

        Raises:
            DataError: A video is not there, or shorter than it was.
        """
        video = ""
        frames: Iterator[Frame] = iter(())
        for place in places:
            image = self._images[place]
            if image.frame is None:
                yield image
                continue
            if image.path != video:
                video, frames = image.path, _read_video(image.path)
            for frame in frames:
                if frame.index == image.frame:
                    yield image._replace(encoded=_encode(frame))
                    break
            else:
                raise DataError(f"frame {image.frame} cannot be decoded", path=video)


def find_predictions(path: Path) -> Path | None:
    """Returns the file that describes predictions; None where there is none.

    Args:
        path: A folder that predict wrote, or the file in it.
    """
    found = path / PREDICTIONS_NAME if path.is_dir() else path
    if found.name != PREDICTIONS_NAME or not found.is_file():
        return None
    with open(found, "rb") as file:
        # An evaluation has a list under the same name.
        return found if file.read(64).lstrip().startswith(b"{") else None


def _read_content(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"larger than {_MAX_BYTES:,} bytes")
    try:
        content = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(content, dict):
        raise TypeError("not an object")
    return content


def _read_entry(entry: Mapping[str, Any], label_map: LabelMap) -> _Predicted:
    frame = entry.get("frame")
    if not isinstance(entry["file"], str) or not (frame is None or isinstance(frame, int)):
        raise TypeError("file must be a text, and frame a number")
    objects = []
    for found in entry["detections"]:
        label_map.id_of(found["name"])
        box = to_record_box(Box(*map(float, found["box"])))
        edges = box.ymin, box.xmin, box.ymax, box.xmax
        objects.append(CarriedObject(found["name"], edges, score=float(found["score"])))
    size = ImageSize(int(entry["width"]), int(entry["height"]))
    return _Predicted(entry["file"], frame, size, tuple(objects))


def _name(image: _Predicted) -> str:
    """Returns a picture's path; for a frame of a video followed by its number."""
    return image.path if image.frame is None else f"{image.path}_{image.frame:06}"


def _read_file(path: Path) -> bytes:
    try:
        if path.is_file():
            if path.stat().st_size > MAX_IMAGE_BYTES:
                raise DataError(f"larger than {MAX_IMAGE_BYTES:,} bytes", path=path)
            return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error
    raise DataError(
        "the picture is not there any more",
        path=path,
        remedy="bring it back, or convert where predict was run: its path may be relative",
    )


def _read_video(path: str) -> Iterator[Frame]:
    faults: list[str] = []
    yield from read_frames(
        [PictureFile(path, Path(path).name)],
        lambda _, reason: faults.append(reason),
        lambda what, done, total: None,
    )
    if faults:
        raise DataError(faults[0])


def _encode(frame: Frame) -> bytes:
    return bytes(
        simplejpeg.encode_jpeg(
            frame.picture.pixels, quality=FRAME_QUALITY, colorspace="RGB", colorsubsampling="444"
        )
    )
