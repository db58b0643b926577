#!/usr/bin/env python
"""Measures what a detector takes for phone photos and for small pictures, with one thread.

    tools/bench_predict.py exports/raccoon raccoon/images
    tools/yolo_shapes.py yolo11n.onnx
    tools/bench_predict.py exports/raccoon raccoon/images --yolo yolo11n.onnx

The photos are twenty of the pictures, enlarged to 12 megapixels, with grain as a sensor has it.
Each is read and detected on in three ways, which take turns: as `detflow predict` does it; decoded
whole and resized by the model's graph; and decoded whole and resized by OpenCV, which does not
filter. With --yolo there is a fourth one: a network of YOLO11n's shapes sees them on 640×640 pixels
as Ultralytics prepares them. The small pictures are read as they are. Times are CPU time, because
it does not count what other work takes away. Then `detflow predict` runs on either folder in a
process of its own, whose highest memory is told. It takes about a minute on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from detflow.data.images.decode import decode_pixels
from detflow.data.images.pictures import find_pictures
from detflow.geometry import fitted_size
from detflow.inference.detector import Detector
from detflow.inference.load import load_detector

NUM_PHOTOS = 20
PHOTO_SIZE = (4000, 3000)
GRAIN = 6
SMALL_SIDE = 640
ROUNDS = 3
YOLO_SIDE = 640

_MEMORY = """
import sys
from detflow.cli.main import run
code = run(sys.argv[1:])
[peak] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(peak)
sys.exit(code)
"""


def write_photos(sources: Sequence[Path], folder: Path, count: int) -> list[Path]:
    """Writes enlarged pictures; returns their paths."""
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        with Image.open(sources[number % len(sources)]) as image:
            large = image.convert("RGB").resize(PHOTO_SIZE, Image.Resampling.BICUBIC)
        noise = random.normal(0, GRAIN, (*PHOTO_SIZE[::-1], 1)).astype(np.float32)
        pixels = np.clip(np.asarray(large) + noise, 0, 255).astype(np.uint8)
        paths.append(folder / f"{number:02}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


def write_small(sources: Sequence[Path], folder: Path, count: int) -> list[Path]:
    """Writes pictures of at most `SMALL_SIDE` pixels a side; returns their paths."""
    paths = []
    for number, source in enumerate(sources[:count]):
        with Image.open(source) as image:
            small = image.convert("RGB")
        small.thumbnail((SMALL_SIDE, SMALL_SIDE))
        paths.append(folder / f"{number:02}.jpg")
        small.save(paths[-1], quality=90)
    return paths


def time_in_turns(
    actions: dict[str, Callable[[Path], object]], paths: Sequence[Path]
) -> dict[str, float]:
    """Returns the median CPU milliseconds of each action on a file."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for action in actions.values():
        action(paths[0])
    for _ in range(ROUNDS):
        for path in paths:
            for name, action in actions.items():
                begin = time.process_time()
                action(path)
                times[name].append((time.process_time() - begin) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def load_yolo(file: Path) -> Callable[[Path], object]:
    """Returns what decodes a picture, fits it as Ultralytics does, and runs the network on it."""
    import cv2

    # It would tell its maker of each model that it runs.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        os.fspath(file), settings, providers=["CPUExecutionProvider"]
    )

    def run(path: Path) -> object:
        pixels = cv2.cvtColor(cv2.imread(os.fspath(path)), cv2.COLOR_BGR2RGB)
        canvas = np.full((YOLO_SIDE, YOLO_SIDE, 3), 114, np.uint8)
        rows, columns = fitted_size(pixels.shape[:2], (YOLO_SIDE, YOLO_SIDE))
        top, left = (YOLO_SIDE - rows) // 2, (YOLO_SIDE - columns) // 2
        canvas[top : top + rows, left : left + columns] = cv2.resize(
            pixels, (columns, rows), interpolation=cv2.INTER_LINEAR
        )
        values = canvas.transpose(2, 0, 1)[np.newaxis].astype(np.float32) / 255
        return session.run(None, {"images": values})

    return run


def measure_memory(export: Path, folder: Path) -> float:
    """Returns the highest memory of `detflow predict` on a folder, in MB."""
    with tempfile.TemporaryDirectory() as output:
        arguments = [str(folder), "--model", str(export), "--output", f"{output}/found"]
        done = subprocess.run(
            [sys.executable, "-c", _MEMORY, "predict", *arguments, "--no-overlays"],
            check=True,
            capture_output=True,
            text=True,
        )
    return int(done.stdout.split()[-1]) / 1024


def main() -> None:
    """Runs the benchmark."""
    import cv2

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("export", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--photos", type=int, default=NUM_PHOTOS, help="number of either kind")
    parser.add_argument("--yolo", type=Path, metavar="FILE", help="of tools/yolo_shapes.py")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    detector = load_detector(options.export, threads=1)
    whole = Detector(detector.run, detector.label_map, detector.source)
    [canvas] = detector.canvas_sizes[:1]

    def with_opencv(path: Path) -> object:
        pixels = cv2.cvtColor(cv2.imread(os.fspath(path)), cv2.COLOR_BGR2RGB)
        rows, columns = fitted_size(pixels.shape[:2], canvas)
        return whole.predict(cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_LINEAR))

    actions: dict[str, Callable[[Path], object]] = {
        "as detflow predict": detector.predict,
        "decoded whole, the graph's resize": whole.predict,
        "decoded whole, OpenCV's linear resize": with_opencv,
    }
    if options.yolo:
        actions["YOLO11n's shapes, decoded whole, 640x640"] = load_yolo(options.yolo)
    sources = [file.path for file in find_pictures(str(options.pictures))]
    with tempfile.TemporaryDirectory() as folder:
        print(f"canvas {canvas[0]}x{canvas[1]}, CPU ms a picture, median", flush=True)
        for title, write in (("12 megapixels", write_photos), ("small", write_small)):
            place = Path(folder, title.replace(" ", "-"))
            place.mkdir()
            paths = write(sources, place, options.photos)
            reading: dict[str, Callable[[Path], object]] = {
                "reading alone": lambda path: decode_pixels(
                    path.read_bytes(), canvas_sizes=detector.canvas_sizes
                )
            }
            for name, value in time_in_turns(reading | actions, paths).items():
                print(f"{title:14} {name:40} {value:7.1f}")
            peak = measure_memory(options.export, place)
            print(f"{title:14} {'memory of detflow predict, MB':40} {peak:7.0f}")


if __name__ == "__main__":
    main()
