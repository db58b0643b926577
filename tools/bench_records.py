#!/usr/bin/env python3
"""Measures make-records against a plain conversion script and against the floor, in one run.

The parts are:

- plain: what users run today. lxml reads, Pillow opens each image and decodes none,
  tf.train.Example is written by TensorFlow's writer.
- floor: reads every file and writes the images with TensorFlow's writer, nothing else.
- strict floor: what strictness costs at least, in one process. It parses each XML, decodes each
  image to 1/8 as make-records does, reads it again, digests image, record and XML, and writes the
  record; it pairs, judges, encodes and compares nothing.
- ours: detflow make-records with strict decoding of every image, duplicates, manifest, index and
  ledger, with and without the page.

Each runs in a process of its own, ROUNDS times in turn; the median counts. Then, on demand, the
same dataset many times larger is converted, for the memory, and a drawn set of many tiny images.
Run it on an idle machine.

    tools/bench_records.py ../shared/data/bccd --copies 10 --grow 10 --synthetic 100000
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
    """Copies a dataset's pairs several times under new names.

    A comment in each JPEG keeps the files distinct.
    """
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


def draw_dataset(target: Path, count: int) -> int:
    """Draws so many JPEGs of 48x32 pixels, no two alike, with one to three objects each."""
    import numpy as np
    import simplejpeg

    random = np.random.default_rng(0)
    (target / "images").mkdir(parents=True)
    (target / "annotations").mkdir()
    for number in range(count):
        coarse = random.integers(0, 256, (16, 24, 3), dtype=np.uint8)
        pixels = np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)
        jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=80)
        (target / "images" / f"{number:06d}.jpg").write_bytes(jpeg)
        objects = "".join(
            f"<object><name>class {name}</name><pose>Unspecified</pose>"
            f"<truncated>0</truncated><difficult>0</difficult><bndbox>"
            f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{left + 12}</xmax><ymax>{top + 9}</ymax>"
            f"</bndbox></object>"
            for name, left, top in zip(
                *(random.integers(1, high, 1 + number % 3) for high in (21, 36, 23)), strict=True
            )
        )
        (target / "annotations" / f"{number:06d}.xml").write_text(
            f"<annotation><filename>{number:06d}.jpg</filename>"
            f"<size><width>48</width><height>32</height><depth>3</depth></size>"
            f"{objects}</annotation>"
        )
    return count


def convert_plain(dataset: Path, output: Path) -> Callable[[], None]:
    """Returns a conversion like the TF Object Detection API's create_pascal_tf_record."""
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
                    "image/object/class/label": of_ints(
                        [ids.setdefault(name, len(ids) + 1) for name in names]
                    ),
                    "image/object/difficult": of_ints(
                        [int(entry.findtext("difficult")) for entry in objects]
                    ),
                    "image/object/truncated": of_ints(
                        [int(entry.findtext("truncated")) for entry in objects]
                    ),
                    "image/object/view": of_bytes(
                        [entry.findtext("pose").encode() for entry in objects]
                    ),
                }
                for tag, side in (
                    ("xmin", width),
                    ("xmax", width),
                    ("ymin", height),
                    ("ymax", height),
                ):
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


def convert_strict_floor(dataset: Path, output: Path) -> Callable[[], None]:
    """Returns the library calls that a strict conversion cannot do without, and no more."""
    import hashlib

    from lxml import etree

    from detflow.data.images.decode import read_image_facts
    from detflow.data.records.tfrecord import frame_record

    def run() -> None:
        shard = hashlib.sha256()
        with open(output, "wb") as file:
            for path in sorted((dataset / "annotations").iterdir()):
                xml = path.read_bytes()
                hashlib.sha256(xml)
                etree.fromstring(xml)
                image = dataset / "images" / f"{path.stem}.jpg"
                read_image_facts(image.read_bytes())
                encoded = image.read_bytes()
                hashlib.sha256(encoded)
                record = frame_record(encoded)
                shard.update(record)
                file.write(record)

    return run


def convert_ours(dataset: Path, output: Path, report: bool) -> Callable[[], None]:
    """Returns detflow's conversion."""
    from detflow.data.making import RecordOptions, publish_records

    def run() -> None:
        publish_records(dataset, output, RecordOptions(report=report))

    return run


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def run_part(part: str, dataset: Path, output: Path) -> None:
    """Runs one conversion in this process and prints what it took, imports aside."""
    build = {
        "plain": convert_plain,
        "floor": convert_floor,
        "strict floor": convert_strict_floor,
        "ours": lambda dataset, output: convert_ours(dataset, output, report=False),
        "ours with report": lambda dataset, output: convert_ours(dataset, output, report=True),
    }[part]
    run = build(dataset, output)
    wall, cpu = time.perf_counter(), _cpu_seconds()
    run()
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": _cpu_seconds() - cpu}))


def measure(part: str, dataset: Path, work_dir: Path) -> dict[str, float]:
    """Runs one conversion in a process of its own.

    Ours runs once more as the command that users run, and that process counts then.
    """
    output = work_dir / "out"
    taken = time_process([__file__, str(dataset), "--part", part, "--output", str(output)], output)
    if part.startswith("ours"):
        report = "--report" if part == "ours with report" else "--no-report"
        command = ["-m", "detflow", "make-records", str(dataset), "--output", str(output), report]
        taken |= time_process(command, output)
    return taken


def time_process(arguments: list[str], output: Path) -> dict[str, float]:
    """Runs Python and returns what it took, with the object that it printed; removes the output."""
    before, began = _cpu_seconds(), time.perf_counter()
    command = ["/usr/bin/env", "time", "-f", "%M", sys.executable, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(result.stderr)
    taken = {"process_wall": time.perf_counter() - began, "process_cpu": _cpu_seconds() - before}
    # The largest process's memory, this one's or another's.
    taken["peak_mb"] = int(result.stderr.split()[-1]) / 1024
    report = output / "report.html"
    taken["report_mb"] = report.stat().st_size / 1e6 if report.is_file() else 0.0
    if output.is_dir():
        shutil.rmtree(output)
    else:
        output.unlink()
    return taken | (json.loads(result.stdout) if result.stdout.startswith("{") else {})


def print_table(count: int, rows: dict[str, dict[str, float]]) -> None:
    """Prints a line for each part."""
    head = ("process s", "CPU s", "conversion s", "CPU s", "images/s", "peak MB", "report MB")
    print(f"{'':18}" + "".join(f"{title:>14}" for title in head))
    for part, row in rows.items():
        values = (row["process_wall"], row["process_cpu"], row["wall"], row["cpu"])
        print(
            f"{part:18}"
            + "".join(f"{value:14.2f}" for value in values)
            + f"{count / row['wall']:14,.0f}{row['peak_mb']:14.0f}"
            f"{row['report_mb']:14.2f}"
        )


def print_ratios(plain: dict[str, float], ours: dict[str, float]) -> None:
    """Prints our conversion against the plain one."""
    print(
        f"against plain: the process is {plain['process_wall'] / ours['process_wall']:.1f} times "
        f"faster; ratio of the conversion's wall time {ours['wall'] / plain['wall']:.2f}, "
        f"of its CPU time {ours['cpu'] / plain['cpu']:.2f}"
    )


def main() -> None:
    """Reads the command line, measures and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, help="a folder of VOC XML and JPEGs")
    parser.add_argument(
        "--copies", type=int, default=10, help="how many times the dataset is repeated (default 10)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often each part runs (default 3)"
    )
    parser.add_argument(
        "--only",
        action="append",
        help="a part to run: plain, floor, 'strict floor', ours, …; default all",
    )
    parser.add_argument(
        "--grow", type=int, metavar="N", help="also convert N times as many copies, with the page"
    )
    parser.add_argument(
        "--synthetic",
        type=int,
        metavar="N",
        help="also convert N drawn images of 48x32 pixels, with the page",
    )
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
        parts = arguments.only or ["plain", "floor", "strict floor", "ours", "ours with report"]
        rounds = [
            {part: measure(part, work_dir / "set", work_dir) for part in parts}
            for _ in range(arguments.rounds)
        ]
        rows = {
            part: {
                key: statistics.median(one[part][key] for one in rounds) for key in rounds[0][part]
            }
            for part in parts
        }
        print_table(count, rows)
        if "plain" in rows and "ours" in rows:
            print_ratios(rows["plain"], rows["ours"])
        shutil.rmtree(work_dir / "set")
        sets = (
            (
                arguments.grow,
                lambda target: repeat_dataset(
                    arguments.dataset, target, arguments.copies * arguments.grow
                ),
            ),
            (arguments.synthetic, lambda target: draw_dataset(target, arguments.synthetic)),
        )
        for wanted, build in sets:
            if wanted:
                count = build(work_dir / "set")
                print(f"{count:,} images, once")
                print_table(
                    count,
                    {"ours with report": measure("ours with report", work_dir / "set", work_dir)},
                )
                shutil.rmtree(work_dir / "set")


if __name__ == "__main__":
    main()
