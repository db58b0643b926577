"""The experiment's configuration: one schema, read from YAML, checked before anything else happens.

A setting is documented where it is declared; the description is what `detflow config --explain` prints.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from detflow.errors import ConfigError

__all__ = [
    "AugmentConfig",
    "CheckpointConfig",
    "DataConfig",
    "EvaluateConfig",
    "ExperimentConfig",
    "ModelConfig",
    "RuntimeConfig",
    "TrainConfig",
    "explain_config",
    "format_config",
    "parse_config",
    "read_config",
]

_MAX_CONFIG_BYTES = 1 << 20
# Below 16 filters the gradient of a strided 1x1 convolution in TensorFlow 2.20's oneDNN writes outside its memory
# (docs/decisions/0003-onednn.md).
_MIN_RESNET_WIDTH = 0.25
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


def _parse_seconds(value: object) -> object:
    """Reads `12m`, `1h30m` or `90s`; numbers are seconds."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None or not any(match.groups()):
        raise ValueError("expected a duration such as 12m, 1h30m or 90s")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600.0 * hours + 60.0 * minutes + seconds


Seconds = Annotated[float, BeforeValidator(_parse_seconds), Field(gt=0.0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class DataConfig(_Section):
    """Which records are trained on and which choose the best checkpoint."""

    records: str
    """Folder that `detflow make-records` wrote. A relative path is relative to the working directory."""
    train_split: str = "train"
    """Split that is trained on; `train+val` joins two."""
    eval_split: str | None = "val"
    """Split that is evaluated during training and chooses the best checkpoint; null evaluates nothing."""
    overfit: Positive | None = None
    """Train and evaluate on this many first images only, unaugmented: shows whether the path from records to boxes can learn."""
    max_boxes: Positive = 300
    """Most boxes of one image that are trained on; of an image with more, the largest are taken and the run says so."""
    cache_megabytes: Positive = 4096
    """Decoded training images are held in memory up to this size; above it in a file inside the model directory."""


class ModelConfig(_Section):
    """The network: a RetinaNet made of Model Garden's backbone, feature pyramid and head."""

    backbone: Literal["resnet10", "resnet18", "resnet34", "resnet50", "mobilenet_v2"] = "resnet10"
    """Feature extractor. On a CPU a narrow resnet10 trains 2.5 times faster than a mobilenet_v2 of similar size."""
    width_multiplier: PositiveFloat = 0.5
    """Scales the number of filters of the backbone; a resnet takes 0.25 and more."""
    input_size: tuple[Positive, Positive] = (256, 256)
    """[height, width] in pixels that every image is fitted into, keeping its aspect; multiples of 2^max_level."""
    min_level: Annotated[int, Field(ge=2, le=7)] = 3
    """Finest level of the feature pyramid; level l has one cell for each 2^l pixels."""
    max_level: Annotated[int, Field(ge=2, le=7)] = 5
    """Coarsest level of the feature pyramid."""
    num_filters: Positive = 64
    """Filters of the feature pyramid and of the head."""
    num_head_convs: Annotated[int, Field(ge=0, le=8)] = 2
    """Convolutions of the class and of the box branch before their predictions."""
    anchor_scale: PositiveFloat = 4.0
    """Side of the smallest anchor of a level in strides of that level."""
    anchors_per_octave: Annotated[int, Field(ge=1, le=4)] = 1
    """Anchor sizes of one level between its scale and twice its scale."""
    aspect_ratios: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1.0,)
    """Width over height of the anchors."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_level > self.max_level:
            raise ValueError(f"min_level {self.min_level} exceeds max_level {self.max_level}")
        if self.backbone.startswith("resnet") and self.width_multiplier < _MIN_RESNET_WIDTH:
            raise ValueError(
                f"width_multiplier {self.width_multiplier} is below {_MIN_RESNET_WIDTH}, the least for {self.backbone}"
            )
        stride = 2**self.max_level
        if any(side % stride for side in self.input_size):
            raise ValueError(
                f"input_size {list(self.input_size)} must be multiples of {stride}, the stride of max_level {self.max_level}"
            )
        return self


class TrainConfig(_Section):
    """Length, batch and optimiser of the training."""

    steps: Positive = 2400
    """Number of optimiser steps; the learning rate's schedule ends with it."""
    time_budget: Seconds | None = None
    """Train for this long instead (12m, 1h30m, seconds), evaluations included: the first steps are timed and fix train.steps."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Stop after this many evaluations in a row without a gain of evaluate.metric; 0 never stops early."""
    min_delta: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    """What counts as a gain for train.patience."""
    batch_size: Positive = 8
    """Images that are computed at once; batch norm sees as many."""
    accumulate_steps: Positive = 1
    """Batches whose mean gradient makes one optimiser step: as many times batch_size images a step, in the memory of one batch."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """sgd has momentum; it wants another learning_rate and weight_decay (RetinaNet's paper: 0.01 for 16 images, and 0.0001)."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Of sgd."""
    learning_rate: PositiveFloat = 0.002
    """Peak learning rate."""
    schedule: Literal["cosine", "step"] = "cosine"
    """How the learning rate falls after the warm-up: as half a cosine to final_learning_rate, or by decay_factor at decay_at."""
    decay_at: tuple[Share, ...] = (0.667, 0.889)
    """Shares of the steps after the warm-up at which the step schedule lowers the learning rate."""
    decay_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """What the step schedule multiplies the learning rate by, each time."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Steps in which the learning rate rises from zero to its peak."""
    final_learning_rate: Share = 0.01
    """Learning rate at the last step as a share of the peak, under the cosine schedule."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05
    """Decoupled weight decay of the kernels; normalisation and biases have none."""
    clip_norm: PositiveFloat = 10.0
    """Gradients are scaled down to this global norm."""
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.995
    """Decay of the weights' moving average, which is what is evaluated and exported; 0 uses the plain weights."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Initial weights, order of images and augmentation follow from it."""
    init_from: str | None = None
    """Weights to start with: a model directory or checkpoint of an earlier run, another TensorFlow checkpoint, its .tar.gz, an
    http(s) address, or a published name (docs/training.md). What has the same name and shape is taken."""
    init_sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """SHA-256 that the archive or a file of the checkpoint of train.init_from must have."""
    freeze: tuple[str, ...] = ()
    """Parts that stay as they are, batch norm statistics included: backbone, backbone.level1 to level5, decoder, head, or a
    pattern such as backbone.level[12]."""


class AugmentConfig(_Section):
    """Random changes to training images; each is drawn from (seed, step) alone."""

    enabled: bool = True
    """Switches all of them."""
    scale: tuple[PositiveFloat, PositiveFloat] = (0.75, 1.33)
    """Zoom range, log-uniform; below 1 shrinks the image."""
    aspect: Annotated[float, Field(ge=1.0, le=4.0)] = 1.1
    """Largest stretch of width against height, log-uniform in both directions."""
    horizontal_flip: bool = True
    """Mirrors every second image left to right."""
    vertical_flip: bool = False
    """Mirrors every second image top to bottom; for images without an up and a down."""
    gain: Share = 0.15
    """Largest relative change of contrast."""
    channel_gain: Share = 0.075
    """Largest relative change of one colour channel."""
    offset: Share = 0.035
    """Largest change of brightness as a share of white."""
    min_visible: Share = 0.3
    """A box of which less than this share is left inside the image is dropped from that view."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale {list(self.scale)} must be [low, high]")
        return self


class EvaluateConfig(_Section):
    """When the model is evaluated and what counts as a detection."""

    every_steps: Positive = 300
    """Steps between two evaluations on `data.eval_split`; the last step is always evaluated."""
    metric: str = "AP"
    """Metric that chooses the best checkpoint, as named in results.csv."""
    mode: Literal["max", "min"] = "max"
    """Whether the highest or the lowest value of the metric is best."""
    score_threshold: Share = 0.01
    """Detections below this score are dropped."""
    nms_iou: Share = 0.6
    """Of two boxes of one class that overlap by more than this IoU, the one with the lower score is dropped."""
    max_detections: Positive = 100
    """Most detections of one image."""


class CheckpointConfig(_Section):
    """When the state is saved and what is kept."""

    every_steps: Positive = 300
    """Steps between two checkpoints; the last step is always saved."""
    max_to_keep: Positive = 5
    """Newest checkpoints that stay on the disk; the best one stays in any case."""


class RuntimeConfig(_Section):
    """The machine."""

    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of one operation; 0 takes one a core. Another number changes the last bits of the weights."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """What the network computes in while it trains; weights, losses, evaluation and export stay float32. auto takes what the
    hardware is fast in: bfloat16, else float16, else float32."""


class ExperimentConfig(_Section):
    """Everything that decides a training run."""

    data: DataConfig
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    runtime: RuntimeConfig = RuntimeConfig()


def read_config(path: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Reads a YAML file.

    Args:
        path: The file.
        overrides: `a.b=value` each, the value being YAML; applied after the file.

    Raises:
        ConfigError: The file cannot be read, or anything in it is not as the schema says.
    """
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise ConfigError(f"a configuration has at most {_MAX_CONFIG_BYTES:,} bytes", path=path)
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration: {error.strerror}", path=path) from error
    except UnicodeDecodeError as error:
        raise ConfigError("the configuration is not UTF-8 text", path=path) from error
    return parse_config(text, overrides, path=path)


def parse_config(text: str, overrides: Sequence[str] = (), path: Path | None = None) -> ExperimentConfig:
    """Like `read_config`, from text; `path` is named in errors."""
    values, lines = _load_yaml(text, path)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError("a configuration is a mapping of sections", path=path, place=1)
    for override in overrides:
        _apply_override(values, override)
    try:
        return ExperimentConfig.model_validate(values)
    except ValidationError as error:
        raise _first_problem(error, lines, path) from None


def format_config(config: ExperimentConfig) -> str:
    """Returns the configuration with every value, as YAML that `parse_config` reads back to an equal one."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_FlowLists, sort_keys=False, allow_unicode=True)


def explain_config() -> Iterator[tuple[str, str, str]]:
    """Yields (name, default, description) of every setting, in the order of the schema."""
    for section_name in ExperimentConfig.model_fields:
        for name, field in _section_type((section_name,)).model_fields.items():
            default = "required" if field.is_required() else yaml.safe_dump(_plain(field.default), default_flow_style=True)
            yield f"{section_name}.{name}", default.removesuffix("\n").removesuffix("\n..."), field.description or ""


class _FlowLists(yaml.SafeDumper):
    """Writes lists on one line: they are pairs and short."""


_FlowLists.add_representer(list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _load_yaml(text: str, path: Path | None) -> tuple[Any, dict[tuple[str, ...], int]]:
    """Returns the document and the line number of each key, by its path of keys."""
    try:
        # Aliases can make a small file describe a huge document; a configuration needs none.
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = None if event.start_mark is None else event.start_mark.line + 1
                raise ConfigError("YAML aliases are not supported", path=path, place=line)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[tuple[str, ...], int] = {}
        if node is not None:
            _collect_lines(node, (), lines, path)
        return yaml.safe_load(text), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ConfigError(f"not valid YAML: {error.problem}", path=path, place=None if mark is None else mark.line + 1) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"not valid YAML: {str(error).splitlines()[0]}", path=path) from None


def _collect_lines(node: yaml.Node, prefix: tuple[str, ...], lines: dict[tuple[str, ...], int], path: Path | None) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = (*prefix, str(key.value))
        if name in lines:
            raise ConfigError(f"{'.'.join(name)} is set twice", path=path, place=key.start_mark.line + 1)
        lines[name] = key.start_mark.line + 1
        _collect_lines(value, name, lines, path)


def _apply_override(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    keys = name.split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {override}: expected section.name=value")
    value, _ = _load_yaml(text, None)
    section = values
    for key in keys[:-1]:
        inner = section.setdefault(key, {})
        if inner is None:
            inner = section[key] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: {key} is a value, not a section")
        section = inner
    section[keys[-1]] = value


def _first_problem(error: ValidationError, lines: dict[tuple[str, ...], int], path: Path | None) -> ConfigError:
    """Tells the first of a validation's problems; a misspelt name comes before the value that it leaves missing."""
    problem = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    keys = tuple(str(part) for part in problem["loc"])
    line = next((lines[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in lines), None)
    name = ".".join(keys)
    if problem["type"] == "extra_forbidden":
        known = list(_section_type(keys[:-1]).model_fields)
        nearest = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
        remedy = f"did you mean {nearest[0]}?" if nearest else f"known here: {', '.join(known)}"
        return ConfigError(f"unknown setting {name}", path=path, place=line, remedy=remedy)
    if problem["type"] == "missing":
        return ConfigError(f"{name} is missing", path=path, place=line, remedy=f"add it, or pass --set {name}=…")
    message = problem["msg"].removeprefix("Value error, ")
    value = "" if isinstance(problem["input"], dict) else f", got {problem['input']!r}"
    return ConfigError(f"{name}: {message[:1].lower()}{message[1:]}{value}", path=path, place=line)


def _section_type(keys: Sequence[str]) -> type[BaseModel]:
    """Returns the schema of a section by its path of names."""
    section: type[BaseModel] = ExperimentConfig
    for key in keys:
        inner = section.model_fields[key].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            raise TypeError(f"{key} is not a section")
        section = inner
    return section
