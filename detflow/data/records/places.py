"""Where samples come from: their annotations' files and lines, as the index of records has them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from detflow.data.records.manifest import INDEX_NAME, REMAKE
from detflow.errors import ArtifactError


class SamplePlace(NamedTuple):
    """Where a sample comes from.

    Attributes:
        annotation: The annotation's name inside the dataset.
        lines: The line where each of its objects begins, in the record's order.
        split: The split that it is in.
    """

    annotation: str
    lines: Sequence[int]
    split: str


def read_places(records_dir: Path, source_ids: Collection[int]) -> dict[int, SamplePlace]:
    """Returns where samples come from, by their `source_id`.

    Args:
        records_dir: The records directory.
        source_ids: The samples.

    Returns:
        Nothing of samples whose lines the index does not have, or where there is no index: a copy
        of records may lack it.

    Raises:
        ArtifactError: The index is damaged.
    """
    path = records_dir / INDEX_NAME
    if not path.is_file():
        return {}
    wanted, places = set(source_ids), {}
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                entry = json.loads(line)
                # Without lines there is no place to name, and an evaluation needs none.
                if (source_id := entry["source_id"]) in wanted and "lines" in entry:
                    lines = [int(number) for number in entry["lines"]]
                    places[source_id] = SamplePlace(
                        str(entry["annotation"]), lines, str(entry["split"])
                    )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ArtifactError(
            f"the index cannot be read: {type(error).__name__} {error}", path=path, remedy=REMAKE
        ) from None
    return places
