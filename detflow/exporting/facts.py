"""What a card says in words: the same on its page, in README.md, and on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from detflow.artifact import CONTRACT, TFLITE_CONTRACT
from detflow.inference.formats import find_format
from detflow.inference.tensors import Tensor
from detflow.models.weights.published import describe_initial_weights
from detflow.tables import format_interval, format_metric
from detflow.text import count_noun

CLASS_HEADS: Final = (
    *("class", "objects", "AP", "range", "AP50"),
    *("threshold", "precision", "recall", "F1"),
)
"""What `list_class_rows` has of each class."""


def describe_quality(quality: Mapping[str, Any]) -> str:
    """Returns how good the model is on pictures that it was not trained on, as sentences."""
    if quality["role"] == "none":
        return f"No AP is stated: {quality['why_not']}."
    metrics, level = quality["metrics"], f"{100 * quality['level']:.0f} %"
    objects = count_noun(quality["objects"], "object")
    if quality["difficult"]:
        objects += f" (and {quality['difficult']:,} difficult, which no number counts)"
    images = count_noun(quality["images"], "image")
    if quality["images"] < quality["images_of_split"]:
        images = f"{quality['images']:,} of {quality['images_of_split']:,} images"
    interval = quality["intervals"]["AP"]
    between = (
        f"{format_interval(interval)} at {level}" if interval else "too few images for a range"
    )
    role = {
        "test": "which had no part in the training",
        "validation": "which chose the checkpoint, so that AP flatters a little; "
        "no other split is left for a test",
    }[quality["role"]]
    return (
        f"AP {format_metric(metrics['AP'])} ({between}), AP50 {format_metric(metrics['AP50'])} on "
        f"split {quality['split']}: {images} with {objects}, {role}."
    )


def list_warnings(card: Mapping[str, Any]) -> list[str]:
    """Returns what makes a number of the card look better than the model is, as sentences."""
    warnings = []
    quality = card["quality"]
    if twins := quality.get("twins"):
        warnings.append(
            f"{count_noun(twins, 'image')} of {quality['split']} "
            f"{'is' if twins == 1 else 'are'} nearly the same as one that the model was trained "
            "on: this AP flatters."
        )
    if (others := card["data"]["other_records"]) and "split" in quality:
        names = ", ".join(fingerprint[:12] for fingerprint in others)
        warnings.append(
            f"Before these records the model was trained on others ({names}): whether images of "
            f"{quality['split']} were among them nobody knows."
        )
    if card["parity"]["role"] == "training":
        warnings.append(
            "The formats were proved on pictures that the model was trained on: their APs say how "
            "alike they are, not how good the model is."
        )
    return warnings


def describe_threshold(card: Mapping[str, Any]) -> str:
    """Returns which score threshold is recommended, as sentences."""
    best = card["quality"].get("best_f1")
    kept = f"The export drops detections below {card['thresholds']['score_threshold']:g}."
    if best is None:
        return f"Nothing was measured that a score threshold could be recommended by. {kept}"
    return (
        f"Recommended score threshold: {best['threshold']:.2f}. There F1 is best: "
        f"precision {format_metric(best['precision'])}, recall {format_metric(best['recall'])} on "
        f"the images of {card['quality']['split']}. {kept}"
    )


def list_class_rows(quality: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Returns a row for each class, as `CLASS_HEADS` names it; none where nothing was measured."""
    rows = []
    for name, found in quality.get("classes", {}).items():
        best = found["best_f1"]
        rows.append(
            (
                name,
                f"{found['objects']:,}",
                format_metric(found["AP"]),
                format_interval(found["interval"]),
                format_metric(found["AP50"]),
                f"{best['threshold']:.2f}" if best else "n/a",
                *(format_metric(best[key] if best else None) for key in ("precision", "recall")),
                format_metric(best["f1"] if best else None),
            )
        )
    return rows


class Contract(NamedTuple):
    """What one way into a format takes and gives, in words."""

    entry: str
    takes: str
    gives: str


def list_contracts(name: str) -> Iterator[Contract]:
    """Yields the ways into a format.

    Args:
        name: Of the format.
    """
    known = find_format(name)
    if known is None:
        return
    for entry in known.entries:
        tensors = known.expected_tensors(entry)
        yield Contract(entry.name, *(_list_tensors(some) for some in tensors))


def _list_tensors(tensors: Sequence[Tensor]) -> str:
    return ", ".join(_describe_tensor(tensor) for tensor in tensors)


def _describe_tensor(tensor: Tensor) -> str:
    # A TFLite file has a second name for each tensor, behind a blank.
    name = tensor.name.split()[0]
    for contract in (CONTRACT, TFLITE_CONTRACT):
        for part in ("inputs", "outputs"):
            if described := contract[part].get(name):
                shape = ", ".join(map(str, described["shape"]))
                return f"{name} {described['dtype']} [{shape}]"
    return f"{tensor.name} {tensor.dtype}"


def list_origin(card: Mapping[str, Any]) -> dict[str, str]:
    """Returns what the model is made from and how it decides, by what each value is."""
    checkpoint, thresholds, canvas = card["checkpoint"], card["thresholds"], card["canvas_size"]
    images = count_noun(card["parity"]["num_images"], "image")
    facts = {
        "exported": f"{card['exported']} by detflow {card['versions']['detflow']}",
        "checkpoint": f"{checkpoint['name']}, step {checkpoint['step']:,}",
        "chosen by": _describe_choice(card),
        "trained on": _describe_data(card["data"]),
        "initial weights": _describe_weights(card["training"] or {}),
        "training took": _describe_effort(card),
        "proved on": f"{card['parity']['source'] or 'synthetic pictures'}, {images}",
        "canvas": f"{_format_size(canvas)} pixels; an image is fitted into it and keeps its aspect",
        "further canvases": _describe_canvases(card["more_canvas_sizes"]),
        "score threshold": f"{thresholds['score_threshold']:g}",
        "overlap (IoU) above which a duplicate goes": f"{thresholds['nms_iou']:g}",
        "most detections of one image": f"{thresholds['max_detections']}",
    }
    return {what: value for what, value in facts.items() if value}


def _describe_choice(card: Mapping[str, Any]) -> str:
    """Returns what made this checkpoint the best one."""
    chosen = card["chosen_by"]
    if not chosen:
        return "nothing was evaluated in training: it is the last one"
    where = ", with pictures that it was trained on" if chosen["is_training"] else ""
    value = format_metric(chosen["value"])
    return f"its {chosen['metric']}, {value}, on split {chosen['split']}{where}"


def _describe_data(data: Mapping[str, Any]) -> str:
    first = f"the first {count_noun(data['overfit'], 'image')} of " if data["overfit"] else ""
    described = (
        f"{first}split {data['split']} of records with the fingerprint {data['fingerprint'][:12]}"
    )
    if data["earlier_splits"]:
        described += f", and before that on {', '.join(data['earlier_splits'])} of them"
    if data["images"] is None:
        return described
    objects = sum((data["objects_per_class"] or {}).values())
    return (
        f"{count_noun(data['images'], 'image')} with {count_noun(objects, 'object')}: {described}"
    )


def _describe_weights(training: Mapping[str, Any]) -> str:
    if not training:
        return ""
    stated = training["config"].get("train", {}).get("init_licence")
    return describe_initial_weights(training.get("initial_weights"), stated)


def _describe_effort(card: Mapping[str, Any]) -> str:
    training = card["training"] or {}
    parts = []
    if (minutes := card["minutes"]) is not None:
        parts.append(f"{minutes:.1f} minutes")
    if threads := training.get("threads"):
        parts.append(f"on {count_noun(threads, 'thread')}")
    if (replicas := training.get("replicas") or 1) > 1:
        parts.append(f"{replicas} devices")
    if precision := training.get("precision"):
        parts.append(str(precision))
    if tensorflow := training.get("tensorflow"):
        parts.append(f"TensorFlow {tensorflow}")
    return ", ".join(parts)


def _describe_canvases(sizes: Sequence[Mapping[str, int]]) -> str:
    if not sizes:
        return ""
    return (
        f"{', '.join(map(_format_size, sizes))}; each image uses the canvas that keeps it largest; "
        "a TFLite file has the first canvas alone"
    )


def _format_size(size: Mapping[str, int]) -> str:
    return f"{size['height']} × {size['width']}"
