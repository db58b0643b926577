"""The front door's comparison of models on the same images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from detflow.api.common import Place, progress_shown, to_location, to_path

if TYPE_CHECKING:
    from detflow.evaluation.comparison import ModelComparison

DEFAULT_SPLIT = "test"
"""The split that models are compared on unless another one is named."""


def compare(
    models: Sequence[Place],
    records: Place,
    *,
    split: str = DEFAULT_SPLIT,
    page: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Judges models on the same images, and says whether the first is better or worse.

    The images are drawn again many times, the same ones for both of two models: a difference is one
    where 90 % of the draws agree on its sign.

    Args:
        models: Two or more model directories (their best checkpoints), checkpoints, exported
            folders or files, evaluations, or files of detections: predictions.json of `evaluate` or
            `predict`, or COCO's results whose `image_id` is the record's `source_id`.
        records: A folder that `make_records` wrote; a path or a URL.
        split: The split to judge on; "train+val" joins two.
        page: A file to write a page to, with pictures of images that were won and lost.
        progress: Whether to draw a progress bar on stderr, where that is a terminal.

    Returns:
        Among others `models`, with `metrics`, `intervals`, and of exports `bytes` and `p50_ms`; and
        `pairs`, the first beside each other one, with `differences` by the metric's name: `change`,
        its `interval`, and the `verdict`: "better", "worse", "the same", "not clear", "too few
        images".

    Raises:
        ConfigError: There are fewer than two models, there is no such split, a model has other
            classes, or detections are of other records or splits.
        DataError: The split has no images, or detections cannot be read.
        ArtifactError: A model or the records are damaged.
        EnvironmentFault: The disk refuses.
    """
    from detflow.evaluation.comparison_text import describe_comparison

    return describe_comparison(run_compare(models, records, split, page, progress))


def run_compare(
    models: Sequence[Place],
    records: Place,
    split: str,
    page: str | os.PathLike[str] | None,
    shows_progress: bool,
) -> ModelComparison:
    """Does what `compare` describes, and returns all that was found."""
    from detflow.evaluation.comparison import compare_models
    from detflow.publish import publish_file, require_writable

    page_path = None if page is None else to_path(page)
    if page_path is not None:
        require_writable(page_path)
    with progress_shown(shows_progress) as shown:
        found, reader = compare_models(
            [to_location(model) for model in models], to_location(records), split, progress=shown
        )
    if page_path is not None:
        from detflow.evaluation.comparison_page import render_comparison

        read = lambda wanted: reader.read_pictures(found.samples, wanted)  # noqa: E731
        publish_file(page_path, render_comparison(found, read))
    return found
