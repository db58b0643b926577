"""Which images a model is worst on, and pictures of them."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from detflow.evaluation.analysis import Analysis
from detflow.metrics.coco import EvaluatedImage
from detflow.metrics.errors import DetectionError, ErrorType
from detflow.pages.draw import draw_boxes, fit_picture

_SIDE_PX = 560
_QUALITY = 82
# More boxes of a kind would hide the picture, and placing the names of thousands takes long.
_MAX_BOXES, _MAX_NAMED = 300, 40


@dataclass(frozen=True, slots=True)
class BadImage:
    """An image with errors.

    Attributes:
        index: Place among the analysis' images.
        cost: About how much AP its errors cost.
        errors: Its errors, the worst first.
    """

    index: int
    cost: float
    errors: Sequence[DetectionError]


def worst_images(analysis: Analysis) -> list[BadImage]:
    """Returns all images with errors at the threshold, the worst first."""
    return _rank(analysis, analysis.errors)


def worst_images_of(analysis: Analysis, class_id: int) -> list[BadImage]:
    """Returns the images with errors that hurt a class, and only those errors, the worst first."""
    return _rank(
        analysis, [error for error in analysis.errors if class_id in analysis.error_classes(error)]
    )


def _rank(analysis: Analysis, errors: Iterable[DetectionError]) -> list[BadImage]:
    weights = object_weights(analysis)
    by_image: defaultdict[int, list[tuple[float, DetectionError]]] = defaultdict(list)
    for error in errors:
        by_image[image_of(analysis, error)].append((error_cost(analysis, error, weights), error))
    bad = []
    for index, rated in by_image.items():
        rated.sort(key=lambda pair: -pair[0])
        bad.append(BadImage(index, sum(cost for cost, _ in rated), [error for _, error in rated]))
    return sorted(bad, key=lambda image: (-image.cost, image.index))


def image_of(analysis: Analysis, error: DetectionError) -> int:
    """Returns the place among the analysis' images of the one that an error is on."""
    matches = analysis.matches
    return int(
        matches.truth_images[error.truth]
        if error.detection is None
        else matches.images[error.detection]
    )


def object_weights(analysis: Analysis) -> dict[int, float]:
    """Returns what one object weighs in its class's AP, by the class id.

    A class without objects has no AP; an error of it weighs as little as the data allow.
    """
    totals = {
        class_id: analysis.matches.num_truths(class_id) for class_id in analysis.label_map.ids
    }
    least = 1.0 / max(1, sum(totals.values()))
    return {class_id: 1.0 / total if total else least for class_id, total in totals.items()}


def error_cost(analysis: Analysis, error: DetectionError, weights: Mapping[int, float]) -> float:
    """Returns the weight of a missed object, or that of a false positive times its score."""
    score = 1.0 if error.detection is None else float(analysis.matches.scores[error.detection])
    return score * sum(weights[class_id] for class_id in analysis.error_classes(error))


def describe_errors(analysis: Analysis, bad: BadImage) -> str:
    """Returns an image's errors in words, the most frequent first.

    An example is "3 × cat missed, dog taken for cat".
    """
    phrases = Counter(phrase_error(analysis, error) for error in bad.errors)
    return ", ".join(
        f"{count:,} × {phrase}" if count > 1 else phrase for phrase, count in phrases.most_common()
    )


def phrase_error(analysis: Analysis, error: DetectionError) -> str:
    """Returns an error in a few words, say "dog taken for cat"."""
    names, matches = analysis.label_map, analysis.matches
    true = "" if error.truth is None else names.name_of(int(matches.truth_class_ids[error.truth]))
    if error.detection is None:
        return f"{true} missed"
    detected = names.name_of(int(matches.class_ids[error.detection]))
    return {
        ErrorType.CLASSIFICATION: f"{true} taken for {detected}",
        ErrorType.LOCALISATION: f"{detected} out of place",
        ErrorType.BOTH: f"{detected} out of place beside {true}",
        ErrorType.DUPLICATE: f"{detected} found twice",
        ErrorType.BACKGROUND: f"{detected} where there is none",
    }[error.type]


def draw_errors(analysis: Analysis, bad: BadImage, jpeg: bytes) -> bytes:
    """Draws an image's truth dashed and its detections solid, and names only what is wrong.

    Args:
        analysis: What was measured; detections below its score threshold are not drawn.
        bad: The image, and the errors to name.
        jpeg: The image as a JPEG file's bytes.

    Returns:
        A JPEG file's bytes, of a size for a page.
    """
    image, matches = analysis.images[bad.index], analysis.matches
    false = [int(matches.places[e.detection]) for e in bad.errors if e.detection is not None][
        :_MAX_NAMED
    ]
    missed = [
        int(matches.truth_places[e.truth])
        for e in bad.errors
        if e.detection is None and e.truth is not None
    ][:_MAX_NAMED]
    shown = [
        place
        for place, detection in enumerate(image.detections)
        if detection.score >= analysis.score_threshold
    ]
    picture = fit_picture(Image.open(io.BytesIO(jpeg)), _SIDE_PX)
    picture = _draw_truth(
        picture, analysis, image, _without(range(len(image.objects)), missed), named=False
    )
    picture = _draw_detections(picture, image, _without(shown, false), named=False)
    picture = _draw_truth(picture, analysis, image, missed, named=True)
    picture = _draw_detections(picture, image, false, named=True)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _without(places: Iterable[int], others: Iterable[int]) -> list[int]:
    left_out = set(others)
    return [place for place in places if place not in left_out]


def _draw_truth(
    picture: Image.Image,
    analysis: Analysis,
    image: EvaluatedImage,
    places: Sequence[int],
    *,
    named: bool,
) -> Image.Image:
    chosen = [image.objects[place] for place in places[:_MAX_BOXES]]
    return draw_boxes(
        picture,
        [item.box for item in chosen],
        [f"missed {item.name}" for item in chosen],
        [analysis.label_map.id_of(item.name) for item in chosen],
        style="dashed",
        labels=named,
    )


def _draw_detections(
    picture: Image.Image, image: EvaluatedImage, places: Sequence[int], *, named: bool
) -> Image.Image:
    chosen = [image.detections[place] for place in places[:_MAX_BOXES]]
    return draw_boxes(
        picture,
        [detection.box for detection in chosen],
        [detection.name for detection in chosen],
        [detection.class_id for detection in chosen],
        scores=[detection.score for detection in chosen],
        labels=named,
    )
