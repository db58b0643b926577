#!/usr/bin/env python3
"""Measures detflow's training loop against a tight loop and Model Garden's own trainer.

All of them run on one machine, in one call of this tool:

ours     detflow's `train` as the command runs it, evaluation left out: every step from the first to
         the last, on real records
tight    the same compiled step on one batch that lies in memory, again and again; its losses are
         not read
stock    Model Garden's trainer (`official.core.train_lib`) with its RetinaNet task: the same
         network, batch, canvas and records, with mirroring and scale jitter, which is the nearest
         to our augmentation that it has
inputs   what detflow prepares a batch with, and nothing else: gathering it, then augmentation as a
         graph of its own

Each runs in a process of its own, ROUNDS times in turn; the median counts. The time to the first
step counts from the start of the process. The stock trainer does not tell when its first step
ends: from the end of its first loop the other steps of that loop are subtracted, at its steady
rate. Run it on an idle machine, with bytecode compiled (tools/environment does that).

    tools/bench_train.py --records records/bccd --split trainval
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detflow.config.schema import ExperimentConfig
    from detflow.label_map import LabelMap
    from detflow.training.inputs import TrainingImages

_STARTED = "DETFLOW_BENCH_STARTED"
# The first steps compile and fill caches.
_SETTLED_STEP = 20
# The stock trainer returns to Python once a loop.
_STEPS_PER_LOOP = 20


def build_config(options: argparse.Namespace) -> ExperimentConfig:
    """Returns the configuration that every contestant trains."""
    from detflow.config.reading import parse_config

    return parse_config(
        json.dumps(
            {
                "data": {
                    "records": str(options.records),
                    "train_split": options.split,
                    "eval_split": None,
                },
                "model": {
                    "preset": options.preset,
                    "input_size": options.input_size,
                    "anchor_scale": 2.5,
                },
                "train": {
                    "steps": options.steps,
                    "batch_size": options.batch_size,
                    "warmup_steps": 10,
                    "freeze": options.freeze,
                },
                "checkpoint": {"every_steps": 10**6},
                "runtime": {"precision": options.precision},
            }
        )
    )


def since_start() -> float:
    """Returns seconds since the parent started this process."""
    return time.time() - float(os.environ[_STARTED])


def rate(times: list[float], images: int) -> float:
    """Returns images a second from the times at which steps ended, the first ones left out."""
    settled = times[_SETTLED_STEP:]
    return images * (len(settled) - 1) / (settled[-1] - settled[0])


def run_ours(options: argparse.Namespace) -> dict[str, float]:
    """Trains as the command does, and notes when each step ends."""
    from detflow.process.platform import keep_freed_memory
    from detflow.runs.run_dir import RunDir
    from detflow.training.loop import Action
    from detflow.training.preflight import prepare_start
    from detflow.training.recipe import train

    keep_freed_memory()
    times: list[float] = []

    class Clock(Action):
        def on_step(self, step: Any, course: Any) -> None:
            times.append(since_start())

    with (
        tempfile.TemporaryDirectory(prefix="detflow-bench-") as folder,
        RunDir(Path(folder) / "run").locked() as run,
    ):
        train(run, prepare_start(build_config(options), run), [Clock()])
    return {"images/s": rate(times, options.batch_size), "first step s": times[0]}


def run_tight(options: argparse.Namespace) -> dict[str, float]:
    """Runs the compiled step on one batch, without looking at its losses."""
    from detflow.models.build import build_model
    from detflow.models.freeze import freeze
    from detflow.models.precision import network_precision, resolve_precision
    from detflow.process.platform import keep_freed_memory
    from detflow.runs.checkpoints import WeightAverage
    from detflow.training.optimizer import LearningRate, build_optimizer
    from detflow.training.step import build_step

    keep_freed_memory()
    config, images, label_map = load_images(options)
    precision = resolve_precision(config.runtime.precision)
    with network_precision(precision):
        model = build_model(config.model, len(label_map))
    average = WeightAverage(model.network, config.train.ema_decay)
    freeze(model.parts, config.train.freeze)
    schedule = LearningRate(config.train)
    optimizer = build_optimizer(
        config.train, schedule, model.network.trainable_variables, precision
    )
    take_step = build_step(model, optimizer, schedule, average, config)
    import tensorflow as tf

    batch = [tf.constant(part) for part in images.batch(1, 0, options.batch_size)[:3]]
    for step in range(_SETTLED_STEP):
        take_step(step, *batch)
    float(take_step(_SETTLED_STEP, *batch).total)
    began = time.perf_counter()
    for step in range(_SETTLED_STEP + 1, _SETTLED_STEP + 1 + options.steps):
        losses = take_step(step, *batch)
    float(losses.total)
    return {"images/s": options.steps * options.batch_size / (time.perf_counter() - began)}


def run_inputs(options: argparse.Namespace) -> dict[str, float]:
    """Prepares batches and throws them away."""
    import tensorflow as tf

    from detflow.training.augment.pipeline import augment

    config, images, _ = load_images(options)

    @tf.function(autograph=False, reduce_retracing=True)
    def prepare(pixels: Any, boxes: Any, classes: Any, step: Any) -> Any:
        return augment(
            pixels,
            boxes,
            classes,
            seed=1,
            step=step,
            mixes=tf.constant(value=True),
            input_size=config.model.input_size,
            config=config.augment,
        )

    def take(step: int) -> None:
        pixels, boxes, classes, _ = images.batch(1, step, options.batch_size)
        prepare(
            tf.constant(pixels),
            tf.constant(boxes),
            tf.constant(classes),
            tf.constant(step, tf.int64),
        )

    for step in range(_SETTLED_STEP):
        take(step)
    began = time.perf_counter()
    for step in range(4 * options.steps):
        take(step)
    return {"images/s": 4 * options.steps * options.batch_size / (time.perf_counter() - began)}


def load_images(options: argparse.Namespace) -> tuple[ExperimentConfig, TrainingImages, LabelMap]:
    """Returns the configuration, the decoded training images and the label map."""
    import detflow.models  # noqa: F401
    from detflow.data.records.manifest import read_manifest, resolve_split
    from detflow.data.records.reading import read_samples
    from detflow.training.inputs import TrainingImages

    config = build_config(options)
    manifest = read_manifest(options.records)
    images = TrainingImages(
        read_samples(options.records, manifest, options.split),
        sum(manifest.splits[name].images for name in resolve_split(manifest, options.split)),
        manifest.label_map,
        config.model.canvas_sizes,
        max_boxes=config.data.max_boxes,
        max_bytes=config.data.cache_megabytes << 20,
        scratch_dir=Path(tempfile.gettempdir()),
    )
    return config, images, manifest.label_map


def run_stock(options: argparse.Namespace) -> dict[str, float]:
    """Trains with Model Garden's trainer, and notes when each of its loops ends."""
    # Makes the same settings of TensorFlow for both, so it comes first.
    import detflow.models  # noqa: F401

    # isort: split
    import tensorflow as tf
    from official.core import base_trainer, config_definitions, train_lib
    from official.modeling import optimization
    from official.vision.configs import backbones, common, decoders, retinanet
    from official.vision.tasks.retinanet import RetinaNetTask

    from detflow.data.records.manifest import read_manifest, resolve_split

    manifest = read_manifest(options.records)
    files = [str(options.records / f"{name}-*") for name in resolve_split(manifest, options.split)]
    task = retinanet.RetinaNetTask(
        model=retinanet.RetinaNet(
            num_classes=len(manifest.label_map) + 1,
            input_size=[*options.input_size, 3],
            min_level=3,
            max_level=5,
            anchor=retinanet.Anchor(num_scales=1, aspect_ratios=[1.0], anchor_size=2.5),
            backbone=backbones.Backbone(
                type="resnet", resnet=backbones.ResNet(model_id=10, depth_multiplier=0.5)
            ),
            decoder=decoders.Decoder(
                type="fpn", fpn=decoders.FPN(num_filters=64, use_keras_layer=True)
            ),
            head=retinanet.RetinaNetHead(num_convs=2, num_filters=64),
            norm_activation=common.NormActivation(
                norm_momentum=0.9, norm_epsilon=0.001, use_sync_bn=False
            ),
        ),
        train_data=retinanet.DataConfig(
            input_path=files,
            is_training=True,
            global_batch_size=options.batch_size,
            dtype=options.precision,
            parser=retinanet.Parser(aug_rand_hflip=True, aug_scale_min=0.75, aug_scale_max=1.33),
        ),
    )
    trainer = config_definitions.TrainerConfig(
        train_steps=_STEPS_PER_LOOP * max(3, options.steps // _STEPS_PER_LOOP),
        steps_per_loop=_STEPS_PER_LOOP,
        summary_interval=10**6,
        checkpoint_interval=10**6,
        optimizer_config=optimization.OptimizationConfig(
            {
                "optimizer": {
                    "type": "adamw_experimental",
                    "adamw_experimental": {"weight_decay": 0.05},
                },
                "learning_rate": {
                    "type": "cosine",
                    "cosine": {"initial_learning_rate": 0.002, "decay_steps": 10_000},
                },
            }
        ),
    )
    times: list[float] = []
    original = base_trainer.Trainer.train_loop_end

    def train_loop_end(self: Any) -> Any:
        logs = original(self)
        times.append(since_start())
        return logs

    base_trainer.Trainer.train_loop_end = train_loop_end
    if options.precision != "float32":
        import tf_keras

        tf_keras.mixed_precision.set_global_policy(f"mixed_{options.precision}")
    with tempfile.TemporaryDirectory(prefix="detflow-bench-") as folder:
        train_lib.run_experiment(
            tf.distribute.OneDeviceStrategy("cpu:0"),
            RetinaNetTask(task),
            "train",
            config_definitions.ExperimentConfig(task=task, trainer=trainer),
            folder,
        )
    loop_seconds = (times[-1] - times[0]) / (len(times) - 1)
    return {
        "images/s": options.batch_size * _STEPS_PER_LOOP / loop_seconds,
        "first step s": times[0] - loop_seconds * (_STEPS_PER_LOOP - 1) / _STEPS_PER_LOOP,
    }


CONTESTANTS: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "ours": run_ours,
    "tight": run_tight,
    "stock": run_stock,
    "inputs": run_inputs,
}


def run_once(name: str, arguments: list[str]) -> dict[str, float]:
    """Runs one contestant in a process of its own."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as result:
        environment = {**os.environ, _STARTED: repr(time.time())}
        command = [
            sys.executable,
            __file__,
            *arguments,
            "--contestant",
            name,
            "--result",
            result.name,
        ]
        done = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
        return json.load(result)


def compare(medians: dict[str, dict[str, float]]) -> None:
    """Prints the ratios of those that ran."""
    speeds = {name: figures["images/s"] for name, figures in medians.items()}
    print()
    for one, other in (("ours", "tight"), ("ours", "stock"), ("inputs", "tight")):
        if one in speeds and other in speeds:
            print(f"{one} / {other}: {speeds[one] / speeds[other]:.3f}")
    if "ours" in medians and "stock" in medians:
        share = medians["ours"]["first step s"] / medians["stock"]["first step s"]
        print(f"first step, ours / stock: {share:.2f}")


def main() -> None:
    """Parses the arguments and runs every contestant, or, inside a child, one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--records", type=Path, required=True, help="folder that make-records wrote"
    )
    parser.add_argument("--split", default="train")
    parser.add_argument(
        "--steps", type=int, default=120, help="measured steps of each (default 120)"
    )
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--input-size", type=int, nargs=2, default=[192, 256], metavar=("HEIGHT", "WIDTH")
    )
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--preset", default="retinanet_resnet10", help="model.preset; the stock trainer has its own"
    )
    parser.add_argument(
        "--freeze", nargs="*", default=[], metavar="PART", help="as in train.freeze"
    )
    parser.add_argument(
        "--contestants", nargs="+", choices=CONTESTANTS, help="only these (default: all)"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.records = options.records.resolve()
    if options.contestant:
        figures = CONTESTANTS[options.contestant](options)
        figures["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        options.result.write_text(json.dumps(figures))
        return

    chosen = options.contestants or list(CONTESTANTS)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    for _ in range(options.rounds):
        for name, done in runs.items():
            done.append(run_once(name, sys.argv[1:]))
    medians = {
        name: {key: statistics.median(one[key] for one in done) for key in done[0]}
        for name, done in runs.items()
    }
    height, width = options.input_size
    print(
        f"{options.steps} steps of {options.batch_size} images of {height}x{width}, "
        f"{options.precision}"
    )
    print(
        f"median of {options.rounds}\n\n| | images/s | first step s | peak MB |\n|---|---|---|---|"
    )
    for name, figures in medians.items():
        first = f"{figures['first step s']:.1f}" if "first step s" in figures else ""
        print(f"| {name} | {figures['images/s']:.1f} | {first} | {figures['peak MB']:,.0f} |")
    compare(medians)
    if options.json:
        options.json.write_text(json.dumps({"medians": medians, "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
