"""Images of a split that have a twin in another one, as the records' ledger tells of them.

A model that was trained on a twin has seen the picture, or nearly: what it scores on the other one
flatters.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from detflow.data.records.manifest import INDEX_NAME, LEDGER_NAME, REMAKE
from detflow.errors import ArtifactError

_CODES = ("split_near_leak", "split_leak_allowed")


def count_twins(records_dir: Path, judged: Collection[str], learnt: Collection[str]) -> int | None:
    """Returns how many images of some splits are nearly the same as one of other splits.

    Args:
        records_dir: The records directory.
        judged: Names of the splits whose images are counted.
        learnt: Names of the splits in which a twin counts.

    Returns:
        The number; None where there is no ledger, which the copy of records at a URL lacks.

    Raises:
        ArtifactError: Ledger or index are damaged.
    """
    ledger = records_dir / LEDGER_NAME
    if not ledger.is_file() or not (records_dir / INDEX_NAME).is_file():
        return None
    pairs = list(_read_pairs(ledger))
    if not pairs:
        return 0
    splits = _read_splits(records_dir / INDEX_NAME, {image for pair in pairs for image in pair})
    twins = set()
    for pair in pairs:
        for image, other in (pair, pair[::-1]):
            if splits[image] & set(judged) and splits[other] & set(learnt):
                twins.add(image)
    return len(twins)


def _read_pairs(ledger: Path) -> Iterator[tuple[str, str]]:
    for entry in _read_lines(ledger, _CODES):
        related = entry.get("related")
        if entry.get("code") in _CODES and isinstance(related, list) and len(related) > 1:
            yield str(entry.get("image")), str(related[1])


def _read_splits(index: Path, images: Collection[str]) -> defaultdict[str, set[str]]:
    """Returns the splits of images: more than one where the same file was let into several."""
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for entry in _read_lines(index):
        if (image := str(entry.get("image"))) in images:
            splits[image].add(str(entry.get("split")))
    return splits


def _read_lines(path: Path, words: Collection[str] = ("",)) -> Iterator[dict[str, Any]]:
    """Yields the objects of the lines that hold one of some words."""
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if any(word in line for word in words):
                    entry = json.loads(line)
                    if not isinstance(entry, dict):
                        raise ValueError("a line that is no object")
                    yield entry
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"it cannot be read: {error}", path=path, remedy=REMAKE) from None
