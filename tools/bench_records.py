#!/usr/bin/env python3
"""Measures make-records against a plain conversion script and against the floor, in one run on one dataset.

plain  what users run today: lxml, Pillow opens each image and decodes none, tf.train.Example, TensorFlow's writer
floor  reads every file and writes the images with TensorFlow's writer, nothing else
ours   detflow make-records: strict decode of every image, duplicates, manifest, index, ledger , with and without the page

Each runs in a process of its own, ROUNDS times in turn; the median counts. Run it on an idle machine.

    tools/bench_records.py ../shared/data/bccd --copies 10
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def repeat_dataset(source: Path, target: Path, copies: int) -> int:
    """Copies a dataset's pairs several times under new names; a comment in each JPEG keeps the files distinct."""
    images = {path.stem: path for path in source.rglob("*.jp*g")}
    (target / "images").mkdir(parents=True)
    (target / "annotations").mkdir()
    pairs = [(xml, images[xml.stem]) for xml in sorted(source.rglob("*.xml")) if xml.stem in images]
    for number in range(copies):
        for xml, image in pairs:
            name = f"{number:04d}-{xml.stem}"
            data = image.read_bytes()
            comment = name.encode()
            segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
            (target / "images" / f"{name}.jpg").write_bytes(data[:2] + segment + data[2:])
            text = xml.read_text(encoding="utf-8").replace(image.name, f"{name}.jpg")
            (target / "annotations" / f"{name}.xml").write_text(text, encoding="utf-8")
    return copies * len(pairs)


def convert_plain(dataset: Path, output: Path) -> Callable[[], None]:
    """Returns the conversion in the style of the TF Object Detection API's create_pascal_tf_record."""
    import hashlib
    import io

    import tensorflow as tf
    from lxml import etree
    from PIL import Image

    def of_bytes(values: list[bytes]) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    def of_ints(values: list[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def of_floats(values: list[float]) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    def run() -> None:
        ids: dict[str, int] = {}
        with tf.io.TFRecordWriter(str(output)) as writer:
            for path in sorted((dataset / "annotations").iterdir()):
                root = etree.fromstring(path.read_bytes())
                filename = root.findtext("filename")
                encoded = (dataset / "images" / filename).read_bytes()
                if Image.open(io.BytesIO(encoded)).format != "JPEG":
                    raise ValueError("Image format not JPEG")
                width, height = int(root.findtext("size/width")), int(root.findtext("size/height"))
                objects = root.findall("object")
                names = [entry.findtext("name") for entry in objects]
                feature = {
                    "image/height": of_ints([height]),
                    "image/width": of_ints([width]),
                    "image/filename": of_bytes([filename.encode()]),
                    "image/source_id": of_bytes([filename.encode()]),
                    "image/key/sha256": of_bytes([hashlib.sha256(encoded).hexdigest().encode()]),
                    "image/encoded": of_bytes([encoded]),
                    "image/format": of_bytes([b"jpeg"]),
                    "image/object/class/text": of_bytes([name.encode() for name in names]),
                    "image/object/class/label": of_ints([ids.setdefault(name, len(ids) + 1) for name in names]),
                    "image/object/difficult": of_ints([int(entry.findtext("difficult")) for entry in objects]),
                    "image/object/truncated": of_ints([int(entry.findtext("truncated")) for entry in objects]),
                    "image/object/view": of_bytes([entry.findtext("pose").encode() for entry in objects]),
                }
                for tag, side in (("xmin", width), ("xmax", width), ("ymin", height), ("ymax", height)):
                    feature[f"image/object/bbox/{tag}"] = of_floats(
                        [float(one.findtext(f"bndbox/{tag}")) / side for one in objects]
                    )
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())

    return run


def convert_floor(dataset: Path, output: Path) -> Callable[[], None]:
    """Returns what no conversion can do without: reading every file, writing the images."""
    import tensorflow as tf

    def run() -> None:
        with tf.io.TFRecordWriter(str(output)) as writer:
            for path in sorted((dataset / "annotations").iterdir()):
                path.read_bytes()
                writer.write((dataset / "images" / f"{path.stem}.jpg").read_bytes())

    return run


def convert_ours(dataset: Path, output: Path, report: bool) -> Callable[[], None]:
    """Returns detflow's conversion."""
    from detflow.dataset.convert import ConversionOptions, convert_dataset

    def run() -> None:
        convert_dataset(dataset, output, ConversionOptions(report=report))

    return run


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def run_part(part: str, dataset: Path, output: Path) -> None:
    """Runs one conversion in this process and prints what it took, imports aside."""
    build = {
        "plain": convert_plain,
        "floor": convert_floor,
        "ours": lambda dataset, output: convert_ours(dataset, output, report=False),
        "ours with report": lambda dataset, output: convert_ours(dataset, output, report=True),
    }[part]
    run = build(dataset, output)
    wall, cpu = time.perf_counter(), _cpu_seconds()
    run()
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": _cpu_seconds() - cpu}))


def measure(part: str, dataset: Path, work_dir: Path) -> dict[str, float]:
    """Runs one conversion in a process of its own."""
    output = work_dir / "out"
    command = [sys.executable, __file__, str(dataset), "--part", part, "--output", str(output)]
    before, began = _cpu_seconds(), time.perf_counter()
    result = subprocess.run(["/usr/bin/env", "time", "-f", "%M", *command], capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(result.stderr)
    taken = {"process_wall": time.perf_counter() - began, "process_cpu": _cpu_seconds() - before, **json.loads(result.stdout)}
    if output.is_dir():
        shutil.rmtree(output)
    else:
        output.unlink()
    return {**taken, "peak_mb": int(result.stderr.split()[-1]) / 1024}


def main() -> None:
    """Reads the command line, measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a folder of VOC XML and JPEGs")
    parser.add_argument("--copies", type=int, default=10, help="how many times the dataset is repeated (default 10)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each part runs (default 3)")
    parser.add_argument("--only", action="append", help="a part to run: plain, floor, ours, 'ours with report'; default all")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        run_part(arguments.part, arguments.dataset, arguments.output)
        return
    with tempfile.TemporaryDirectory() as folder:
        work_dir = Path(folder)
        count = repeat_dataset(arguments.dataset, work_dir / "set", arguments.copies)
        size = sum(path.stat().st_size for path in (work_dir / "set" / "images").iterdir())
        print(f"{count:,} images, {size / 1e6:.1f} MB, median of {arguments.rounds}")
        parts = arguments.only or ["plain", "floor", "ours", "ours with report"]
        rounds = [{part: measure(part, work_dir / "set", work_dir) for part in parts} for _ in range(arguments.rounds)]
    print(f"{'':18}{'process s':>10}{'CPU s':>8}{'conversion s':>14}{'CPU s':>8}{'images/s':>10}{'peak MB':>9}")
    for part in parts:
        median = {key: statistics.median(one[part][key] for one in rounds) for key in rounds[0][part]}
        print(
            f"{part:18}{median['process_wall']:10.2f}{median['process_cpu']:8.2f}{median['wall']:14.2f}{median['cpu']:8.2f}"
            f"{count / median['wall']:10,.0f}{median['peak_mb']:9.0f}"
        )


if __name__ == "__main__":
    main()
