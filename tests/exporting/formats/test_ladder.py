"""Int8's whole ladder on a trained detector that rounding to 8 bits breaks."""

from unittest.mock import ANY

import numpy as np
import pytest
from PIL import Image

from detflow.config.reading import parse_config
from detflow.data.making import RecordOptions, publish_records
from detflow.exporting.formats import tflite
from detflow.exporting.proof.compare import Gate, Tolerance
from detflow.exporting.run import export_model
from detflow.inference.trained import load_trained_model
from detflow.runs.checkpoints import Checkpoints, WeightAverage
from detflow.runs.run_dir import RunDir
from detflow.training.preflight import prepare_start
from detflow.training.recipe import train

pytestmark = [
    pytest.mark.tf,
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.whole_network,
]

SIDE = 64
STEPS = 300


def draw_stripes(root, splits):
    """Draws squares of any colour; their class is the way their stripes run.

    A colour alone does not tell it.
    """
    random = np.random.default_rng(0)
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, count in splits.items():
        names = [f"{split}{number:03}" for number in range(count)]
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            pixels = random.normal(128, 12, (SIDE, SIDE, 3))
            objects = ""
            for column in (0, 1):
                side = int(random.integers(18, 28))
                left, top = (
                    column * 32 + int(random.integers(0, 32 - side)),
                    int(random.integers(0, SIDE - side)),
                )
                light = np.arange(side) // 3 % 2
                stripes = np.broadcast_to(light, (side, side))
                kind = int(random.integers(0, 2))
                colours = random.integers(0, 256, (2, 3))
                colours[1] = (colours[0] + 128) % 256
                pixels[top : top + side, left : left + side] = colours[
                    stripes.T if kind else stripes
                ]
                corners = {
                    "xmin": left + 1,
                    "ymin": top + 1,
                    "xmax": left + side,
                    "ymax": top + side,
                }
                box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in corners.items())
                name_of_kind = ("upright", "level")[kind]
                objects += f"<object><name>{name_of_kind}</name><bndbox>{box}</bndbox></object>"
            picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            picture.save(root / "JPEGImages" / f"{name}.jpg", quality=95)
            (root / "Annotations" / f"{name}.xml").write_text(
                f"<annotation><filename>{name}.jpg</filename>"
                f"<size><width>{SIDE}</width><height>{SIDE}</height></size>"
                f"{objects}</annotation>"
            )


def unbalance(network):
    """Scales channels between two convolutions by 128 or 1/128, and scales the second one back.

    Floats do not notice. In 8 bits the large channels decide on the steps, and next to nothing is
    left of the others.
    """
    block = [module for module in network.submodules if type(module).__name__ == "ResidualBlock"][1]
    channels = block._conv2.kernel.shape[2]
    factors = np.random.default_rng(1).permutation(
        np.resize(np.float32([128, 1 / 128, 1, 1]), channels)
    )
    for variable in (block._norm1.gamma, block._norm1.beta):
        variable.assign(variable * factors)
    block._conv2.kernel.assign(block._conv2.kernel / factors[:, np.newaxis])


@pytest.fixture(scope="module")
def faulty_dir(tmp_path_factory):
    """A model directory with a detector that was trained for half a minute, unbalanced."""
    root = tmp_path_factory.mktemp("ladder")
    draw_stripes(root / "voc", {"train": 96, "val": 48})
    publish_records(root / "voc", root / "records", RecordOptions(jobs=1, report=False))
    settings = {
        "data.records": str(root / "records"),
        "model.input_size": [SIDE, SIDE],
        "model.width_multiplier": 0.25,
        "model.num_filters": 16,
        "model.num_head_convs": 1,
        "model.max_level": 4,
        "model.anchor_scale": 3,
        "train.steps": STEPS,
        "train.warmup_steps": 20,
        "train.ema_decay": 0.98,
        "evaluate.every_steps": STEPS,
        "augment.scale": [0.9, 1.1],
        "augment.horizontal_flip": False,
    }
    config = parse_config("", [f"{name}={value}" for name, value in settings.items()])
    with RunDir(root / "run").locked() as run:
        train(run, prepare_start(config, run))
    trained = load_trained_model(root / "run")
    network = trained.serving.model.network
    canvas = np.random.default_rng(0).normal(0, 1, (1, SIDE, SIDE, 3)).astype(np.float32)
    before = [output.numpy() for output in network(canvas, training=False)]
    unbalance(network)
    for output, expected in zip(network(canvas, training=False), before, strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-4)
    saved = {"network": network, "average": WeightAverage(network, 0.9)}
    checkpoints = Checkpoints(trained.run, saved, config, trained.state.record)
    checkpoints.save(STEPS + 1, {"AP": 1.0})
    return root / "run"


def test_fine_tuning_mends_what_rounding_breaks(faulty_dir, parse_page, tmp_path, monkeypatch):
    # A detector of so few steps has scores around the threshold, which every further step moves:
    # only AP is asked for.
    gate = Gate(
        Tolerance(score_threshold=0.3, min_iou=0.75, max_score_difference=1.0, min_share=0.0),
        max_ap_drop=0.05,
    )
    write = tflite.Writer
    monkeypatch.setattr(tflite, "Writer", lambda written: write(written, gate))
    files = {path: path.stat().st_mtime_ns for path in faulty_dir.rglob("*")}
    card = export_model(
        str(faulty_dir / f"ckpt-{STEPS + 1}"), tmp_path / "export", formats="tflite_int8"
    )
    assert files == {path: path.stat().st_mtime_ns for path in faulty_dir.rglob("*")}
    found = card["formats"]["tflite_int8"]
    *refused, passed = found["rungs"]
    assert [rung["rung"] for rung in refused] == ["calibrated", "more calibration", "float heads"]
    assert all(rung["failure"].startswith("model_int8.tflite: AP is ") for rung in refused)
    assert (found["rung"], passed["rung"], passed["failure"]) == (
        *["quantisation-aware fine-tuning"] * 2,
        None,
    )
    assert passed["metrics"]["AP"] > max(rung["metrics"]["AP"] for rung in refused) + 0.05
    assert card["parity"]["metrics"]["AP"] > 0.6
    assert passed["fine_tuning"] == {
        "steps": 300,
        "learning_rate": 2e-4,
        "images": 96,
        "seconds": ANY,
    }
    page = parse_page((tmp_path / "export" / "card.html").read_text(encoding="utf-8"))
    *_, ladder = page.find('div[@class="panel"][h3="What was tried for tflite_int8"]')
    rows = [[cell.text_content() for cell in row] for row in ladder.findall(".//tr")[1:]]
    assert [row[1:3] for row in rows] == [
        [f"{rung['metrics']['AP']:.3f}", f"{rung['change']['AP']:+.4f}"] for rung in found["rungs"]
    ]
    assert rows[-1][0].startswith("quantisation-aware fine-tuning, 300 steps at 0.0002, ")
