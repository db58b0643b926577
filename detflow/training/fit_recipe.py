"""How long and how a fitted configuration trains: frozen parts, mosaic, repeats, steps.

What the constants were measured on: docs/training.md, "What was tried for fine-tuning".
This file imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detflow.text import count_noun
from detflow.training.fit_shapes import Boxes, Canvases
from detflow.training.fit_text import Choice
from detflow.training.fit_weights import Beginning

_BATCH_SIZE = 8
# Chess: AP .59 in 5 minutes with batches of 4, .52 with 8, .60 with twice the learning rate as
# well; raccoon, few and large objects under mosaics: .48 with batches of 4, .53 with 8.
_DENSE_BATCH_SIZE, _DENSE_LEARNING_RATE = 4, 0.002
# Importing TensorFlow and Model Garden, reading the records.
_IMPORT_SECONDS = 8.0
# Where a clock allows fewer images than this, a smaller canvas is better.
_LEAST_IMAGES = 1_500
# So many times as many images a second from scratch are worth more than weights where images hold
# many small objects: chess was better with weights at 2.2 times, and worse at 4.5 and more.
_SCRATCH_RATIO = 2.5
# Twice the epochs were better by AP .018 on BCCD (docs/decisions/0007-fitted-configuration.md).
_EPOCHS = 120
_MIN_STEPS, _MAX_STEPS = 1_500, 20_000
# What is known already needs fewer.
_FINE_TUNING_EPOCHS = 60
_FINE_TUNING_MIN_STEPS = 600
_EVALUATIONS = 8
# Between two checkpoints: a crash costs at most so much, and saving takes a third of a second.
_SAVE_SECONDS = (120.0, 600.0)
# Share of a time budget that evaluations may take.
_EVALUATION_SHARE = 0.01
_WARMUP_SHARE = 0.12
_WARMUP_STEPS = 100
_SHORT_WARMUP_STEPS = 30
FROZEN = ("backbone.level[12]", "backbone.depthwise", "backbone.statistics")
# A mosaic shows objects at half to the whole of their size, four images on a canvas. It helps where
# images hold few and large objects.
_MOSAIC = 0.5
_MOSAIC_OBJECTS, _MOSAIC_SIDE_PX = 5.0, 24.0
# A class is rare where it is in less than this share of the images that the typical class is in.
# Repeats double the AP50 of a drawn class that is in a 34th of the typical one's images. For BCCD's
# Platelets, in .59 of them, one seed says AP +.014 and AP50 -.003, which is a hint that they do no
# harm (docs/training.md).
_RARE = 0.6


class Speed(NamedTuple):
    """What a machine reaches.

    Attributes:
        images_per_second: In training, augmentation included.
        start_seconds: From the start of a command to its first step, imports left out.
        evaluated_per_second: Images, in evaluation.
    """

    images_per_second: float
    start_seconds: float
    evaluated_per_second: float


@dataclass(frozen=True)
class Clock:
    """What is known of the time that a training takes.

    Attributes:
        budget: `--time-budget` in seconds, or None.
        images_per_second: As measured here; None where nothing was measured.
        start_seconds: From the start of the command to its first step.
        evaluation_seconds: Of one evaluation.
    """

    budget: float | None = None
    images_per_second: float | None = None
    start_seconds: float = 0.0
    evaluation_seconds: float = 0.0

    @classmethod
    def of(cls, budget: float | None, speed: Speed, num_evaluated: int) -> Clock:
        """Returns what follows from a measured speed."""
        return cls(
            budget,
            speed.images_per_second,
            speed.start_seconds + _IMPORT_SECONDS,
            num_evaluated / speed.evaluated_per_second,
        )

    @property
    def stepping_seconds(self) -> float:
        """Seconds of the budget that are left for steps.

        The last step is evaluated, and for the clock's own plan some images are, which takes as
        long in a short run.
        """
        return max(1.0, (self.budget or 0.0) - self._aside_seconds)

    @property
    def is_too_short(self) -> bool:
        """Whether nothing of the budget is left for steps."""
        return self.budget is not None and self.budget <= self._aside_seconds

    @property
    def _aside_seconds(self) -> float:
        return self.start_seconds + 2 * self.evaluation_seconds

    def share_of_least_images(self) -> float:
        """Returns how many images a budget allows, as a share of the least for a large canvas.

        It is infinite where nothing is measured, or there is no budget.
        """
        if self.budget is None or self.images_per_second is None:
            return math.inf
        return self.stepping_seconds * self.images_per_second / _LEAST_IMAGES

    def on_area(self, ratio: float) -> Clock:
        """Returns what holds on canvases of so many times the area; speed follows the pixels."""
        rate = self.images_per_second
        return dataclasses.replace(
            self,
            images_per_second=None if rate is None else rate / ratio,
            evaluation_seconds=self.evaluation_seconds * ratio,
        )


def prefers_scratch(weights: Speed, fresh: Speed) -> bool:
    """Tells whether a set of many small objects learns more from scratch in the same time."""
    return fresh.images_per_second >= _SCRATCH_RATIO * weights.images_per_second


def compare_with_scratch(weights: Speed, fresh: Speed) -> Beginning:
    """Returns the beginning from scratch, with the speeds that speak for it."""
    return Beginning(
        None,
        why=f"images hold many small objects, and this machine trains a small network from scratch "
        f"with {fresh.images_per_second:.1f} images/s, one from weights with "
        f"{weights.images_per_second:.1f}: more steps are worth more than features here",
    )


def choose_parts(beginning: Beginning) -> list[Choice]:
    """Chooses what trains, and how fast."""
    if not beginning.is_mobile:
        return []
    return [
        Choice(
            "train.freeze",
            list(FROZEN),
            "edges and textures are the same in all photos: the two finest levels and the "
            "depthwise kernels stay, and so do the statistics of the batch norms; more steps fit "
            "into the same time",
        ),
    ]


def choose_mosaic(boxes: Boxes, canvases: Canvases) -> Choice:
    """Chooses the share of mosaics, from the number and the size of the objects."""
    objects = len(boxes.names) / max(1, len(boxes.all_sizes))
    side = float(np.median(np.sqrt(boxes.sides_px(canvases).prod(1))))
    helps = objects <= _MOSAIC_OBJECTS and side >= _MOSAIC_SIDE_PX
    return Choice(
        "augment.mosaic",
        _MOSAIC if helps else 0.0,
        f"{objects:.1f} objects an image, the median one of {side:.0f} pixels a side: "
        + (
            "few and large, which mosaics show at other places and sizes"
            if helps
            else "mosaics help where objects are few and large, and cost accuracy elsewhere"
        ),
    )


def choose_repeats(shares: dict[str, float]) -> Choice:
    """Chooses the threshold of the repeat factors.

    Args:
        shares: Share of the training images that have each class, by its name.
    """
    typical = float(np.median(list(shares.values()))) if shares else 0.0
    rare = [name for name, share in shares.items() if share < _RARE * typical]
    if not rare:
        return Choice(
            "data.repeat_threshold",
            0.0,
            f"the typical class is in {typical:.0%} of the images, and every other one in at "
            f"least {_RARE:.0%} as many: nothing is repeated",
        )
    rarest = min(rare, key=lambda name: shares[name])
    factor = (typical / shares[rarest]) ** 0.5
    return Choice(
        "data.repeat_threshold",
        float(f"{typical:.2g}"),
        f"the typical class is in {typical:.0%} of the images, {rarest} in {shares[rarest]:.1%}: "
        f"images with {count_noun(len(rare), 'rare class', 'rare classes')} come up to "
        f"{factor:.1f} times an epoch",
    )


def choose_length(
    beginning: Beginning, num_images: int, clock: Clock, *, is_dense: bool = False
) -> list[Choice]:
    """Chooses budget, steps, batch and warm-up; the reason of the steps says how long they take.

    Args:
        beginning: The weights.
        num_images: Number of training images.
        clock: What is known of the time.
        is_dense: Whether images hold many or small objects, so that mosaics are off.
    """
    choices, rate = [], clock.images_per_second
    is_fresh = beginning.source is None
    is_small = is_dense and not is_fresh
    size = _DENSE_BATCH_SIZE if is_small else _BATCH_SIZE
    if clock.budget is not None:
        choices.append(
            Choice("train.time_budget", clock.budget, "seconds, as asked for by --time-budget")
        )
    if clock.budget is not None and rate is not None:
        steps = max(1, round(clock.stepping_seconds * rate / size))
        why = f"about what fits into the budget at {rate:.1f} images/s, measured on this machine"
        if clock.is_too_short:
            why = (
                f"the budget is too short: until the first step {clock.start_seconds:.0f} s pass "
                f"on this machine, and an evaluation takes {clock.evaluation_seconds:.0f}"
            )
    else:
        epochs, least = (
            (_EPOCHS, _MIN_STEPS) if is_fresh else (_FINE_TUNING_EPOCHS, _FINE_TUNING_MIN_STEPS)
        )
        steps = int(np.clip(round(epochs * num_images / size, -2), least, _MAX_STEPS))
        why = "a time budget fits them to the clock" if clock.budget else "the default length"
        if rate is not None:
            evaluating = _EVALUATIONS * clock.evaluation_seconds
            seconds = clock.start_seconds + steps * size / rate + evaluating
            why += (
                f"; on this machine that takes about {max(1, round(seconds / 60))} min "
                f"({rate:.1f} images/s, measured); `--time-budget 12m` fits them to a clock instead"
            )
    why = f"{steps * size / max(1, num_images):.0f} epochs: {why}"
    is_open = clock.budget is not None and rate is None
    warmup = int(np.clip(round(_WARMUP_SHARE * steps), 10, _WARMUP_STEPS))
    if is_small:
        choices.append(
            Choice("train.learning_rate", _DENSE_LEARNING_RATE, "many objects, few epochs: faster")
        )
    return [
        *choices,
        Choice("train.steps", steps, why),
        Choice(
            "train.batch_size",
            size,
            "each image has many objects to learn from, and the norms need no statistics of the "
            "batch: twice the steps learn more"
            if is_small
            else "the default",
        ),
        Choice(
            "train.warmup_steps",
            _SHORT_WARMUP_STEPS if is_open else warmup,
            "short: nobody knows how many steps the clock allows"
            if is_open
            else f"about an eighth of the steps, at most {_WARMUP_STEPS}",
        ),
    ]


def choose_intervals(
    steps: int, num_evaluated: int, clock: Clock, batch_size: int = _BATCH_SIZE
) -> list[Choice]:
    """Chooses how often the model is evaluated and saved."""
    count = _EVALUATIONS
    if clock.budget is not None:
        seconds = max(0.1, clock.evaluation_seconds)
        count = int(np.clip(_EVALUATION_SHARE * clock.budget / seconds, 1, _EVALUATIONS))
    # A clock may come to more steps than were foreseen: the only evaluation is the last step's.
    every = _round_up(-(-steps // count) if count > 1 else 2 * steps)
    saved = every
    saved_why = (
        "a checkpoint with each evaluation" if num_evaluated else "so that a crash costs little"
    )
    if clock.images_per_second is not None:
        seconds = steps * batch_size / clock.images_per_second
        between = float(np.clip(seconds / _EVALUATIONS, *_SAVE_SECONDS))
        if seconds > between and steps * between / seconds < every:
            saved = _round_up(math.ceil(steps * between / seconds))
            saved_why = (
                f"about every {between / 60:.0f} min, so that a crash costs no more than that"
            )
    if not num_evaluated:
        why = "nothing is evaluated: there is no validation split with objects"
    elif count > 1:
        why = f"about {count} evaluations; the best checkpoint is exported"
    else:
        why = "the last step alone is evaluated"
    if clock.budget is not None and clock.evaluation_seconds:
        why += (
            f"; one of {count_noun(num_evaluated, 'image')} takes about "
            f"{clock.evaluation_seconds:.0f} s of the budget"
        )
    return [
        Choice("evaluate.every_steps", every, why),
        Choice("checkpoint.every_steps", saved, saved_why),
    ]


def _round_up(steps: int) -> int:
    return steps if steps <= 100 else -(-steps // 50) * 50
