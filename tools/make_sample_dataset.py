#!/usr/bin/env python
"""Draws a dataset in Pascal VOC's layout.

    python tools/make_sample_dataset.py --output sample --images 300 --seed 1
    python tools/make_sample_dataset.py --output sample --defects
    python tools/make_sample_dataset.py --output sample --defects leak,class_typo

The pictures show coins, buttons, bolts and leaves from above, on wood, cloth, stone, cork or paper.
One seed gives the same bytes on one machine. `truth.json` in the dataset's folder holds the counts
that a converter must arrive at, and every planted defect: its kind, its file, and what has to be
done about it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from sample.defects import DEFECTS, MENDABLE, SampleDataset
from sample.scene import CLASSES, encode_jpeg, render
from sample.voc import VocFile, split_names


def make_dataset(
    output: Path,
    num_images: int,
    seed: int,
    size: tuple[int, int],
    kinds: tuple[str, ...] = (),
    progress: bool = False,
) -> dict[str, Any]:
    """Writes the dataset.

    Args:
        output: A folder that does not exist yet, or is empty.
        num_images: How many pictures, before defects add or remove some.
        seed: Seed of everything random.
        size: Width and height in pixels of most pictures.
        kinds: Names from `DEFECTS`.
        progress: Whether to show a counter on stderr.

    Returns:
        The content of truth.json.
    """
    if output.exists() and any(output.iterdir()):
        raise SystemExit(
            f"make_sample_dataset: {output} is not empty; name another folder or remove it"
        )
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (output / name).mkdir(parents=True, exist_ok=True)
    stems = [f"table_{index:05d}" for index in range(num_images)]
    data = SampleDataset(output, seed, size, {}, split_names(stems, seed), [])
    for index, stem in enumerate(stems):
        pixels, objects = render(seed, index, size)
        annotation = VocFile(stem, f"{stem}.jpg", (pixels.shape[1], pixels.shape[0]), objects)
        data.annotations[stem] = annotation
        data.write_image(annotation, encode_jpeg(pixels, seed, index))
        data.write_xml(annotation)
        if progress and (index + 1) % 25 == 0:
            print(f"\r{index + 1}/{num_images} pictures", end="", file=sys.stderr, flush=True)
    if progress:
        print(file=sys.stderr)
    data.untouched = [stems[i] for i in np.random.default_rng([seed, 3]).permutation(num_images)]
    for kind in kinds:
        for _ in range(max(1, num_images // 150)):
            DEFECTS[kind].plant(data)
    for name, members in data.splits.items():
        (output / "ImageSets/Main" / f"{name}.txt").write_text(
            "".join(f"{stem}\n" for stem in members), encoding="utf-8"
        )
    truth = tell_truth(data)
    (output / "truth.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
    return truth


def tell_truth(data: SampleDataset) -> dict[str, Any]:
    """Returns what a converter must arrive at after its repairs, and the planted defects."""
    splits = {}
    for name, stems in data.splits.items():
        usable = [data.annotations[stem] for stem in stems if stem not in data.lost_images]
        counts = Counter(item.name for annotation in usable for item in annotation.objects)
        splits[name] = {
            "images": len(usable),
            "objects": sum(counts.values()),
            "objects_per_class": {class_name: counts[class_name] for class_name in CLASSES},
        }
    return {
        "seed": data.seed,
        "size": list(data.size),
        "classes": list(CLASSES),
        "annotations_found": len(data.annotations),
        "images_found": sum(1 for _ in (data.root / "JPEGImages").iterdir()),
        "usable": splits,
        "defects": data.planted,
    }


def parse_size(text: str) -> tuple[int, int]:
    """Reads WIDTHxHEIGHT."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) >= 64 and int(height) >= 64):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected WIDTHxHEIGHT in pixels, each at least 64, such as 320x240"
        )
    return int(width), int(height)


def parse_kinds(text: str) -> tuple[str, ...]:
    """Reads a comma-separated list of defect kinds."""
    kinds = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [kind for kind in kinds if kind not in DEFECTS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no such kind: {', '.join(unknown)}; there are {', '.join(DEFECTS)}"
        )
    return kinds


def parse_count(text: str) -> int:
    """Reads a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 0")
    return int(text)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    kinds = "\n".join(
        f"  {kind:27} {defect.handling}: {defect.expect}" for kind, defect in DEFECTS.items()
    )
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="kinds of defects, and what a converter has to do about them (the last four are"
        f" planted only when named):\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder that does not exist yet, or is empty",
    )
    parser.add_argument(
        "--images",
        type=parse_count,
        default=300,
        metavar="N",
        help="number of pictures (default 300)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="seed of everything random (default 1)"
    )
    parser.add_argument(
        "--size",
        type=parse_size,
        default=(320, 240),
        metavar="WxH",
        help="size of most pictures (default 320x240)",
    )
    parser.add_argument(
        "--defects",
        type=parse_kinds,
        nargs="?",
        const=MENDABLE,
        default=(),
        metavar="KINDS",
        help="plant every defect that does not stop a converter, or a comma-separated list of"
        " kinds; one of each per 150 pictures",
    )
    options = parser.parse_args(arguments)
    if options.seed < 0:
        parser.error("--seed: expected 0 or more")
    truth = make_dataset(
        options.output,
        options.images,
        options.seed,
        options.size,
        options.defects,
        sys.stderr.isatty(),
    )
    summarise(options.output, truth)


def summarise(output: Path, truth: dict[str, Any]) -> None:
    """Prints what was made, on a few lines."""
    print(f"{output}: {truth['images_found']} pictures, {truth['annotations_found']} annotations")
    for name, split in truth["usable"].items():
        per_class = ", ".join(
            f"{count} {class_name}" for class_name, count in split["objects_per_class"].items()
        )
        print(
            f"  {name:5} {split['images']:5} usable pictures,"
            f" {split['objects']:6} objects: {per_class}"
        )
    counts = Counter(defect["kind"] for defect in truth["defects"])
    if counts:
        print(
            f"  {counts.total()} defects planted: "
            + ", ".join(f"{kind} {count}" for kind, count in counts.items())
        )
    print(f"  what was planted where, and what must come of it: {output / 'truth.json'}")


if __name__ == "__main__":
    main()
