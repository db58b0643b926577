"""Which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detflow.label_map import LabelMap
from detflow.metrics.coco import EvaluatedImage, Ints, overlaps


@dataclass(frozen=True, slots=True)
class ConfusionMatrix:
    """Counts of objects and detections that belong together.

    Attributes:
        counts: [C + 1, C + 1]; row: true class, column: detected class, in the order of the label
            map. The last column has the objects that nothing was detected on, the last row the
            detections where there is no object; their corner is 0.
        iou: Overlap from which on object and detection can belong together.
        score_threshold: Detections with a lower score are left out.
    """

    counts: Ints
    iou: float
    score_threshold: float


def confusion_matrix(
    images: Sequence[EvaluatedImage], label_map: LabelMap, score_threshold: float, iou: float = 0.5
) -> ConfusionMatrix:
    """Assigns detections to objects whatever their classes are, one to one, and counts.

    Pairs of one class come first, then those with the larger overlap: an object counts as confused
    only where no detection of its own class is left for it. Difficult objects come last and do not
    count, and neither does what is assigned to them.

    Args:
        images: Truth and detections.
        label_map: The classes.
        score_threshold: Detections with a lower score are left out.
        iou: The smallest overlap of a pair.
    """
    background = len(label_map)
    counts = np.zeros((background + 1, background + 1), np.int64)
    places = {class_id: place for place, class_id in enumerate(label_map.ids)}
    for image in images:
        kept = [one for one in image.detections if one.score >= score_threshold]
        true = np.array([places[label_map.id_of(one.name)] for one in image.objects], np.int64)
        detected = np.array([places[one.class_id] for one in kept], np.int64)
        difficult = np.array([one.difficult for one in image.objects], bool)
        overlap = overlaps(
            [one.box for one in kept], [one.box for one in image.objects], image.size
        )
        partner_of_truth, free = np.full(len(true), background), np.ones(len(kept), bool)
        rows, columns = np.nonzero(overlap >= iou)
        # The last key is the first that is looked at.
        order = np.lexsort(
            (-overlap[rows, columns], detected[rows] != true[columns], difficult[columns])
        )
        for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
            if free[row] and partner_of_truth[column] == background:
                free[row], partner_of_truth[column] = False, detected[row]
        np.add.at(counts, (true[~difficult], partner_of_truth[~difficult]), 1)
        counts[background] += np.bincount(detected[free], minlength=background + 1)
    return ConfusionMatrix(counts, iou, score_threshold)
