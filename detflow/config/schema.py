"""The experiment's configuration: one schema, read from YAML, checked before anything else happens.

A setting is documented where it is declared; the description is what `detflow config --explain`
prints.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ByteSize, Field, model_validator

from detflow.config.backbones import BACKBONES
from detflow.config.presets import PRESETS, TRAINING
from detflow.config.section import (
    OneOf,
    PlaceText,
    Positive,
    PositiveFloat,
    Seconds,
    Section,
    Share,
)


class DataConfig(Section):
    """Which records are trained on and which choose the best checkpoint."""

    records: PlaceText
    """Folder that `detflow make-records` wrote, or its URL. A relative path starts at the folder of
    the configuration file, and in --set and --records at the working directory."""
    train_split: str = "train"
    """Split to train on; `train+val` joins two."""
    eval_split: str | None = "val"
    """Split to evaluate during training, which chooses the best checkpoint; null evaluates
    nothing."""
    overfit: Positive | None = None
    """Trains and evaluates on the first so many images alone, without augmentation, to show whether
    the path from records to boxes can learn; null uses all images."""
    max_boxes: Positive = 300
    """Largest number of boxes of one image to train on. Of an image with more, the largest boxes
    are taken, and the run says so."""
    repeat_threshold: Share = 0.0
    """Images with a rare class are seen more often: where a share f of the training images has the
    class, they come max(1, sqrt(repeat_threshold / f)) times an epoch. 0 repeats none."""
    cache_megabytes: Positive = 4096
    """Decoded training images stay in memory up to this size; larger sets go to a file in the
    model directory."""


class ModelConfig(Section):
    """The network, made of Model Garden's parts."""

    preset: Annotated[str, OneOf(PRESETS)] = "retinanet_resnet10"
    """Starting point that gives the other settings of this section their defaults, and
    train.learning_rate that of a fine-tuning where weights are made for it. `detflow init` chooses
    one by the data and the weights."""
    architecture: Literal["retinanet", "faster_rcnn", "yolo"] = "retinanet"
    """How boxes are made from the backbone's features: retinanet and yolo take one pass;
    faster_rcnn proposes boxes and then judges each."""
    backbone: Annotated[str, OneOf(BACKBONES)] = "resnet10"
    """Feature extractor. On a CPU a narrow resnet10 trains 2.5 times as fast as a mobilenet_v2 of
    similar size."""
    width_multiplier: PositiveFloat = 0.5
    """Scales the number of filters of a resnet (from 0.25) or of a mobilenet. The other backbones
    have one width: 1."""
    input_size: tuple[Positive, Positive] = (256, 256)
    """[height, width] in pixels that each image is fitted into, keeping its aspect. Both are
    multiples of 2^max_level."""
    more_input_sizes: tuple[tuple[Positive, Positive], ...] = ()
    """Further [height, width] of a retinanet, for sets of portrait and landscape images: each image
    takes the size that keeps it largest. A batch has images of one size; a TFLite file takes
    input_size alone."""
    min_level: Annotated[int, Field(ge=2, le=7)] = 3
    """Finest level of the feature pyramid; level l has one cell for each 2^l pixels of a side."""
    max_level: Annotated[int, Field(ge=2, le=7)] = 5
    """Coarsest level of the feature pyramid."""
    num_filters: Positive = 64
    """Number of filters of the feature pyramid and of the head; yolo has its own."""
    num_head_convs: Annotated[int, Field(ge=0, le=8)] = 2
    """Number of convolutions before the predictions: in each branch of a retinanet's head, in the
    second stage of a faster_rcnn."""
    anchor_scale: PositiveFloat = 4.0
    """Side of a level's smallest anchor, as a multiple of that level's stride."""
    anchors_per_octave: Annotated[int, Field(ge=1, le=4)] = 1
    """Number of anchor sizes of one level, from its scale up to twice its scale."""
    aspect_ratios: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1.0,)
    """Width divided by height, of each anchor shape."""
    garden: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Model Garden's own parameters by part, as in {head: {use_separable_conv: true}}. They
    override the settings above."""

    @property
    def canvas_sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) in pixels of each canvas; `geometry.choose_canvas` chooses among them."""
        return (self.input_size, *self.more_input_sizes)

    @property
    def takes_one_canvas(self) -> bool:
        """Whether the network cannot take images of several sizes."""
        family = BACKBONES[self.backbone].family
        return self.architecture != "retinanet" or not family.takes_several_sizes

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        preset = PRESETS.get(str(values.get("preset", cls.model_fields["preset"].default)), {})
        garden = values.get("garden", {})
        if isinstance(garden, dict) and "garden" in preset:
            merged = dict(garden)
            for part, parameters in preset["garden"].items():
                own = garden.get(part, {})
                merged[part] = {**parameters, **own} if isinstance(own, dict) else own
            garden = merged
        return {**preset, **values, "garden": garden}

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_backbone()
        self._check_levels()
        self._check_canvases()
        return self

    def _check_backbone(self) -> None:
        """Refuses an architecture or a width that the backbone cannot be combined with."""
        name, family = self.backbone, BACKBONES[self.backbone].family
        if self.architecture not in family.architectures:
            fitting = [
                other
                for other, backbone in BACKBONES.items()
                if self.architecture in backbone.family.architectures
            ]
            raise ValueError(
                f"backbone {name} does not go with architecture {self.architecture}, "
                f"which takes {', '.join(fitting)}"
            )
        if family.min_width is None and self.width_multiplier != 1.0:
            raise ValueError(f"{name} has one width; set width_multiplier to 1")
        if family.min_width is not None and self.width_multiplier < family.min_width:
            raise ValueError(
                f"width_multiplier {self.width_multiplier} is below {family.min_width}, "
                f"the least for {name}"
            )

    def _check_levels(self) -> None:
        """Refuses levels that are in no order, or that the backbone's features do not have."""
        name, family = self.backbone, BACKBONES[self.backbone].family
        first, last = family.finest_level, family.coarsest_level
        if self.min_level > self.max_level:
            raise ValueError(f"min_level {self.min_level} exceeds max_level {self.max_level}")
        if family.needs_all_levels and (self.min_level, self.max_level) != (first, last):
            raise ValueError(
                f"{name} has levels {first} to {last}; set min_level and max_level to these"
            )
        if self.min_level < first:
            raise ValueError(
                f"{name} has levels {first} to {last}; raise min_level {self.min_level}"
            )
        if self.min_level > last:
            raise ValueError(
                f"the features of {name} end at level {last}; lower min_level {self.min_level}"
            )

    def _check_canvases(self) -> None:
        """Refuses sizes that the network's levels do not fit, and several where it takes one."""
        stride = 2**self.max_level
        for name, size in [
            ("input_size", self.input_size),
            *(("more_input_sizes", size) for size in self.more_input_sizes),
        ]:
            if any(side % stride for side in size):
                near = [max(stride, round(side / stride) * stride) for side in size]
                raise ValueError(
                    f"{name} {list(size)} must be multiples of {stride}, the stride of max_level "
                    f"{self.max_level}; set it to {near}"
                    + (" or lower max_level" if self.max_level > self.min_level else "")
                )
        if not self.more_input_sizes:
            return
        if len(set(self.canvas_sizes)) < len(self.canvas_sizes):
            raise ValueError(
                f"input_size and more_input_sizes {[list(size) for size in self.canvas_sizes]} "
                "hold one size twice"
            )
        if not self.takes_one_canvas:
            return
        taker = self.backbone if self.architecture == "retinanet" else self.architecture
        raise ValueError(
            f"{taker} takes one input_size; leave more_input_sizes out, or choose a retinanet "
            "whose backbone takes several, such as a resnet"
        )


class TrainConfig(Section):
    """Length, batch and optimiser of the training."""

    steps: Positive = 2400
    """Number of optimiser steps; the schedule of the learning rate ends with the last one."""
    time_budget: Seconds | None = None
    """Trains for this long instead of train.steps (12m, 1h30m, seconds), from the start of the
    command to its end; the number of steps is fitted to the clock again and again."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Stops after this many evaluations in a row without a gain in evaluate.metric; those that have
    nothing to measure do not count. 0 never stops early."""
    min_delta: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    """Smallest change of evaluate.metric that train.patience counts as a gain."""
    resume_schedule: Literal["continue", "replace"] = "continue"
    """What another train.steps does to a run that goes on with --accept-changes: continue leads the
    learning rate from where it is through the rest of the schedule, over the steps that are left;
    replace follows the schedule of a run that had the new number from the start, so that the
    learning rate jumps."""
    batch_size: Positive = 8
    """Number of images that are computed at once, which is also what batch norm sees."""
    accumulate_steps: Positive = 1
    """Number of batches whose mean gradient makes one optimiser step: so many times batch_size
    images for each step, in the memory of one batch."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Optimiser. sgd needs another learning_rate and weight_decay; RetinaNet's paper has 0.01 for
    16 images, and 0.0001."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Momentum of sgd; adamw has none."""
    learning_rate: PositiveFloat = 0.002
    """Peak learning rate."""
    schedule: Literal["cosine", "step"] = "cosine"
    """How the learning rate falls after the warm-up: along half a cosine to final_learning_rate, or
    in steps, by decay_factor at each of decay_at."""
    decay_at: tuple[Share, ...] = (0.667, 0.889)
    """Shares of the steps after the warm-up at which the step schedule lowers the learning rate."""
    decay_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Factor by which the step schedule multiplies the learning rate each time."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Number of steps in which the learning rate rises from zero to its peak."""
    final_learning_rate: Share = 0.01
    """Learning rate at the last step as a share of the peak, under the cosine schedule."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05
    """Decoupled weight decay of the kernels; normalisations and biases are not decayed."""
    clip_norm: PositiveFloat = 10.0
    """Largest global norm of the gradients, which are scaled down to it."""
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.995
    """Decay of the moving average of the weights, which is evaluated and exported; 0 uses the
    weights themselves."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Seed of the initial weights, the order of images and the augmentation."""
    init_from: PlaceText | None = None
    """Weights to start with: a model directory or checkpoint of an earlier run, another TensorFlow
    checkpoint, its .tar.gz, an http(s) address, or a name that `detflow weights` lists.
    Variables of the same name and shape are taken."""
    init_sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """SHA-256 that the archive, or a file of the checkpoint, of train.init_from must have."""
    init_licence: Annotated[str, Field(min_length=1)] | None = None
    """Licence of the weights of train.init_from where detflow does not know it, for the model
    card."""
    freeze: tuple[str, ...] = ()
    """Parts that are not trained, the statistics of their batch norms included: backbone,
    backbone.level1 to level5, decoder, head, or a pattern such as backbone.level[12];
    backbone.depthwise stands for its depthwise kernels, and backbone.statistics for nothing but
    the statistics of its batch norms."""


class AugmentConfig(Section):
    """Random changes to training images, each drawn from the seed, the step and its own name."""

    enabled: bool = True
    """Whether training images are changed at all."""
    scale: tuple[PositiveFloat, PositiveFloat] = (0.75, 1.33)
    """Range of the zoom, log-uniform; below 1 the image shrinks."""
    aspect: Annotated[float, Field(ge=1.0, le=4.0)] = 1.1
    """Largest stretch of width against height, or of height against width; log-uniform."""
    horizontal_flip: bool = True
    """Mirrors an image left to right in half of the cases."""
    vertical_flip: bool = False
    """Mirrors an image top to bottom in half of the cases; for images without an up and a down."""
    gain: Share = 0.15
    """Largest relative change of contrast."""
    channel_gain: Share = 0.075
    """Largest relative change of one colour channel."""
    offset: Share = 0.035
    """Largest change of brightness as a share of white."""
    min_visible: Share = 0.3
    """Least share of a box that has to be left in the view; otherwise the box is dropped there."""
    mosaic: Share = 0.0
    """Share of the images that become a mosaic: four images of the batch around a random point."""
    mosaic_scale: tuple[PositiveFloat, PositiveFloat] = (0.5, 1.0)
    """Range of the zoom of the images in a mosaic, log-uniform; at 0.5 a quarter of the canvas
    shows a whole image."""
    mixup: Share = 0.0
    """Share of the images that are blended with another one of the batch; the boxes of both
    count."""
    mix_until: Share = 0.85
    """Share of the steps after which mosaic and mixup are off, so that the run ends on whole
    images; they are never off before step 40."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("scale", "mosaic_scale"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} [{low}, {high}] must be [low, high]")
        return self


class EvaluateConfig(Section):
    """When the model is evaluated and what counts as a detection."""

    every_steps: Positive = 300
    """Number of steps between two evaluations on data.eval_split; the last step is always
    evaluated."""
    metric: str = "AP"
    """Metric that chooses the best checkpoint, by its name in results.csv."""
    mode: Literal["max", "min"] = "max"
    """Whether the highest or the lowest value of the metric is best."""
    score_threshold: Share = 0.01
    """Detections below this score are dropped."""
    nms_iou: Share = 0.6
    """Largest IoU of two detections of one class; above it the one with the lower score is
    dropped."""
    max_detections: Positive = 100
    """Largest number of detections in one image."""


class CheckpointConfig(Section):
    """When checkpoints are saved, and which of them stay."""

    every_steps: Positive = 300
    """Number of steps between two checkpoints; the last step is always saved."""
    max_to_keep: Positive = 5
    """Number of newest checkpoints that stay on the disk; the best one stays in any case."""
    keep_every: Positive | None = None
    """Checkpoints of every so many steps stay for good; a multiple of every_steps. null lets all of
    them go."""
    max_bytes: ByteSize | None = None
    """Largest size of all checkpoints of the run together (2GB, 500MiB, bytes). Above it the oldest
    go first, whatever else would keep them; the newest and the best one stay in any case."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.keep_every and self.keep_every % self.every_steps:
            raise ValueError(
                f"keep_every {self.keep_every} must be a multiple of every_steps {self.every_steps}"
            )
        return self


class RuntimeConfig(Section):
    """How the run uses the machine."""

    threads: Annotated[int, Field(ge=0)] = 0
    """Number of CPU threads of one operation; 0 takes one for each core. Another number changes the
    last bits of the weights."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "auto"
    """Type in which the network computes while it trains; weights, losses, evaluation and export
    stay float32. auto takes what the hardware is fast in: bfloat16, else float16, else float32.
    Another type changes the weights."""
    recompute: bool = False
    """Computes the activations inside the backbone's blocks again in the backward pass instead of
    keeping them: this takes less memory and slower steps, with the same gradients."""


class TrackingConfig(Section):
    """Who else is told about the run."""

    trackers: tuple[Literal["mlflow", "wandb"], ...] = ()
    """Trackers of experiments that get settings, losses, evaluations and files. MLflow is where
    MLFLOW_TRACKING_URI says; W&B takes its own variables. One that fails never stops a run."""
    project: str = "detflow"
    """Experiment of MLflow or project of W&B that the run belongs to."""
    name: str | None = None
    """Name of the run there; null takes the model directory's."""


class ExperimentConfig(Section):
    """Everything that decides a training run."""

    data: DataConfig
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="before")
    @classmethod
    def _fill_training_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        model, train = values.get("model", {}), values.get("train", {})
        preset = str(model.get("preset")) if isinstance(model, dict) else ""
        if not isinstance(train, dict) or preset not in TRAINING:
            return values
        return {**values, "train": {**TRAINING[preset], **train}}
