"""What a run has before it, said before the first step."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf

from detflow.config.schema import ExperimentConfig
from detflow.distributed.team import Team
from detflow.models.precision import is_native
from detflow.process.platform import cpu_name
from detflow.publish import require_space
from detflow.runs.run_dir import RunDir
from detflow.tables import format_metric
from detflow.text import count_noun
from detflow.training.inputs import TrainingImages
from detflow.training.preflight import Start, score_truth
from detflow.training.small_boxes import describe_small_boxes
from detflow.training.state import TrainingState

# Below this factor nobody needs to hear that an image is repeated.
_REPEATED = 1.05


def describe_machine(start: Start, team: Team) -> str:
    """Returns what computes: devices, threads and the precision of numbers."""
    gpus = tf.config.list_physical_devices("GPU")
    names = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus
    ]
    device = ", ".join(dict.fromkeys(names)) or cpu_name() or "CPU"
    threads = count_noun(start.machine.threads, "thread")
    return f"training on {device}: {team}{threads}, {start.machine.precision}"


def forecast(
    start: Start, team: Team, run: RunDir, state: TrainingState, images: TrainingImages
) -> Iterator[str]:
    """Yields lines for people: images, parameters, memory, disk, small boxes and evaluation.

    Raises:
        EnvironmentFault: The checkpoints cannot fit on the disk.
    """
    config, model = start.config, state.model
    # Weights, their average, and the optimiser's moments.
    checkpoint_bytes = sum(_num_bytes(variable) for variable in state.variables)
    disk_bytes = _bytes_on_disk(config, checkpoint_bytes)
    require_space(run.path, disk_bytes)
    trained = sum(variable.shape.num_elements() for variable in model.network.trainable_variables)
    frozen = f", {', '.join(config.train.freeze)} frozen" if config.train.freeze else ""
    yield (
        f"{count_noun(len(images), 'training image')}, "
        f"{trained:,} of {model.network.count_params():,} parameters train{frozen}"
    )
    if len(model.canvas_sizes) > 1:
        counts = zip(model.canvas_sizes, images.bucket_sizes, strict=True)
        shares = ", ".join(f"{height}x{width} {count:,}" for (height, width), count in counts)
        yield f"images by canvas: {shares}"
    if (most := images.repeat_factors.max(initial=1.0)) >= _REPEATED:
        repeated = int((images.repeat_factors >= _REPEATED).sum())
        yield (
            f"{count_noun(repeated, 'image')} of rare classes {'is' if repeated == 1 else 'are'} "
            f"seen up to {most:.1f} times an epoch"
        )
    yield from team.notes()
    if not is_native(start.machine.precision):
        yield (
            f"this machine has no instructions for {start.machine.precision}: "
            "training works, but slower than in float32"
        )
    decoded = f"{images.num_bytes / 1e6:,.0f} MB of decoded images"
    # Each weight that trains has a gradient beside what is saved. The size of activations is not
    # known before the first step.
    state_bytes = checkpoint_bytes + sum(
        _num_bytes(variable) for variable in model.network.trainable_variables
    )
    weights = f"{state_bytes / 1e6:,.0f} MB of weights, average, optimizer and gradients"
    in_memory, on_disk = (f"{decoded}, ", "") if images.in_memory else ("", f"{decoded}, ")
    yield f"memory: {in_memory}{weights}; activations come on top"
    yield f"disk: {on_disk}up to {disk_bytes / 1e6:,.0f} MB of checkpoints"
    if images.num_boxes_left_out:
        yield (
            f"{images.num_boxes_left_out:,} boxes are left out: "
            f"data.max_boxes is {config.data.max_boxes} an image"
        )
    sides, classes = images.box_sides_px()
    names = [start.label_map.names[index] for index in classes]
    yield describe_small_boxes(sides, names, config.model.min_level)
    if start.num_evaluation:
        ceiling = score_truth(start.evaluation_samples(), start.label_map)
        yield (
            f"{count_noun(start.num_evaluation, 'image')} to evaluate on; "
            f"the truth itself scores AP {format_metric(ceiling)}"
        )


def _bytes_on_disk(config: ExperimentConfig, checkpoint_bytes: int) -> int:
    """Returns what the checkpoints take at most.

    Beside those that are kept there are the best one and the one that is being written.
    """
    rules = config.checkpoint
    kept_for_good = config.train.steps // rules.keep_every if rules.keep_every else 0
    num_bytes = (rules.max_to_keep + kept_for_good + 2) * checkpoint_bytes
    if rules.max_bytes is None:
        return num_bytes
    # The newest and the best stay in any case, and the next one is written before an older one
    # goes.
    return min(num_bytes, max(rules.max_bytes, 2 * checkpoint_bytes) + checkpoint_bytes)


def _num_bytes(variable: tf.Variable) -> int:
    return variable.shape.num_elements() * variable.dtype.size  # type: ignore[no-any-return]
