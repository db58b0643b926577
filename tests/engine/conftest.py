"""A tiny records directory and a tiny training, shared by the engine's tests."""

import numpy as np
import pytest
from PIL import Image

from detflow.config import parse_config
from detflow.dataset.convert import ConversionOptions, convert_dataset

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def write_voc(root, splits, num_objects=None, sizes=((48, 48),)):
    """Draws a bright or a dark square, one an image, and annotates it.

    `num_objects` repeats the object, each time a little narrower; 0 leaves out those of all splits but train. Two images after each
    other have one of the sizes (height, width), the next two the next one.
    """
    random = np.random.default_rng(0)
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    number = 0
    for split, count in splits.items():
        names = []
        for _ in range(count):
            number += 1
            name = f"image{number:03}"
            names.append(name)
            height, width = sizes[number // 2 % len(sizes)]
            pixels = random.integers(90, 130, (height, width, 3), dtype=np.uint8)
            left, top = (int(value) for value in random.integers(2, 24, 2))
            kind = number % 2
            pixels[top : top + 20, left : left + 20] = (240, 240, 60) if kind else (20, 20, 160)
            Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
            copies = 1 if num_objects is None or (num_objects == 0 and split == "train") else num_objects
            objects = ""
            for copy in range(copies):
                corners = (left + 1, top + 1, left + 20 - 0.001 * copy, top + 20)
                box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(CORNERS, corners, strict=True))
                objects += f"<object><name>{('dark', 'light')[kind]}</name><bndbox>{box}</bndbox></object>"
            (root / "Annotations" / f"{name}.xml").write_text(
                f"<annotation><filename>{name}.jpg</filename><size><width>{width}</width><height>{height}</height><depth>3</depth>"
                f"</size>{objects}</annotation>"
            )
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")


@pytest.fixture(scope="session")
def tiny_records(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    write_voc(root / "voc", {"train": 10, "val": 4, "test": 4})
    convert_dataset(root / "voc", root / "records", ConversionOptions(jobs=1))
    return root / "records"


@pytest.fixture(scope="session")
def mixed_records(tmp_path_factory):
    """Portrait and landscape images."""
    root = tmp_path_factory.mktemp("mixed")
    write_voc(root / "voc", {"train": 10, "val": 4}, sizes=((48, 72), (72, 48)))
    convert_dataset(root / "voc", root / "records", ConversionOptions(jobs=1))
    return root / "records"


@pytest.fixture
def voc_writer():
    """Makes records of a drawn dataset: (folder, images by split, objects an image) → records directory."""

    def write(folder, splits, num_objects):
        write_voc(folder / "voc", splits, num_objects)
        convert_dataset(folder / "voc", folder / "records", ConversionOptions(jobs=1, report=False))
        return folder / "records"

    return write


@pytest.fixture(scope="session")
def tiny_config(tiny_records):
    """Builds a configuration of a network that takes milliseconds a step; keyword arguments override, as in train_steps=9."""

    def build(**overrides):
        settings = {
            "data.records": str(tiny_records),
            "model.input_size": [32, 32],
            "model.width_multiplier": 0.25,
            "model.num_filters": 8,
            "model.num_head_convs": 1,
            "model.max_level": 4,
            "train.steps": 8,
            "train.batch_size": 2,
            "train.warmup_steps": 2,
            "evaluate.every_steps": 4,
            "checkpoint.every_steps": 2,
            "checkpoint.max_to_keep": 2,
        }
        settings.update({name.replace("_", ".", 1): value for name, value in overrides.items()})
        return parse_config("", [f"{name}={value}" for name, value in settings.items()])

    return build


@pytest.fixture
def sums_without_order():
    """Tells whether a graph adds two tensors at a time everywhere: of more, AddN takes first whichever is free first."""

    def check(graph):
        definition = graph.as_graph_def()
        nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
        sums = [node for node in nodes if node.op == "AddN"]
        assert sums
        return all(node.attr["N"].i == 2 for node in sums)

    return check
