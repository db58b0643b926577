"""losses.csv and results.csv of a run that goes on: cut to its steps, and mended where they can be.

Does not import TensorFlow.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from detflow.errors import environment_faults
from detflow.publish import publish_file
from detflow.runs.states import Metrics
from detflow.text import count_noun

Row = Sequence[Any]


def mend_losses(
    path: Path,
    columns: Sequence[str],
    steps: int,
    read_events: Callable[[Collection[int]], Mapping[int, Sequence[float | None]]],
) -> list[str]:
    """Leaves one row for each step that a run has taken.

    Rows of later steps are cut off: the steps are taken again. A row that is missing is taken from
    TensorBoard's events, which have every twentieth step; what is not there either stays empty
    behind its step, so that nobody takes the curve for whole.

    Args:
        path: losses.csv.
        columns: Its header.
        steps: Steps that the run has taken.
        read_events: Returns the rows of the steps that it knows, without the step itself.

    Returns:
        What there is to say about it.
    """
    aside, rows = _read_rows(path, columns, steps) if steps else ("", {})
    missing = [step for step in range(1, steps + 1) if step not in rows]
    notes = [aside] if aside else []
    if missing:
        found = read_events(set(missing))
        for step in missing:
            rows[step] = (step, *found.get(step, [None] * (len(columns) - 1)))
        empty = len(missing) - len(found)
        notes.append(
            f"{path.name} lacked {count_noun(len(missing), 'step')} of {steps:,}: "
            f"{len(found):,} come from TensorBoard's events, {empty:,} stay empty"
        )
    _write(path, columns, rows)
    return notes


def mend_results(
    path: Path, columns: Sequence[str], evaluations: Sequence[tuple[int, Metrics]]
) -> list[str]:
    """Leaves one row for each evaluation that the newest checkpoint remembers.

    Args:
        path: results.csv.
        columns: Its header: the step, then metrics.
        evaluations: Each step that was evaluated, with its metrics.

    Returns:
        What there is to say about it.
    """
    rows: dict[int, Row] = {
        step: (step, *(metrics.get(name) for name in columns[1:])) for step, metrics in evaluations
    }
    notes = []
    if rows:
        aside, present = _read_rows(path, columns, max(rows))
        notes = [aside] if aside else []
        as_text = {step: _format(row) for step, row in rows.items()}
        lost = [step for step, text in as_text.items() if _format(present.get(step, ())) != text]
        if lost:
            notes.append(
                f"{path.name} lacked {count_noun(len(lost), 'evaluation')} of {len(rows):,}: "
                "the newest checkpoint remembers them"
            )
    _write(path, columns, rows)
    return notes


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Appends rows to a file."""
    with environment_faults(path), open(path, "a", newline="", encoding="utf-8") as file:
        file.write("".join(map(_format, rows)))


def _read_rows(path: Path, columns: Sequence[str], steps: int) -> tuple[str, dict[int, Row]]:
    """Reads the rows up to a step that are whole; the last one of a step counts.

    Returns:
        What there is to say, and the rows by their steps. A file of other columns is kept beside
        the new one.
    """
    if not path.is_file():
        return "", {}
    text = path.read_bytes().decode("utf-8", "replace").replace("\0", "\ufffd")
    try:
        lines = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error:
        lines = []
    if text and (not lines or tuple(lines[0]) != tuple(columns)):
        aside = _set_aside(path)
        return f"{path.name} has other columns than this run, and is kept as {aside.name}", {}
    # A row without its end may have lost digits.
    whole = lines[1:] if text.endswith("\n") else lines[1:-1]
    return "", {
        int(line[0]): line for line in whole if _is_row(line, columns) and int(line[0]) <= steps
    }


def _is_row(line: Sequence[str], columns: Sequence[str]) -> bool:
    """Tells whether a line has a step, and numbers or nothing behind it."""
    if len(line) != len(columns) or not line[0].isascii() or not line[0].isdecimal():
        return False
    if len(line[0]) > 15 or int(line[0]) < 1:
        return False
    try:
        return all(not cell or math.isfinite(float(cell)) for cell in line[1:])
    except ValueError:
        return False


def _set_aside(path: Path) -> Path:
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    with environment_faults(path):
        os.rename(path, target)
    return target


def _write(path: Path, columns: Sequence[str], rows: Mapping[int, Row]) -> None:
    text = "".join(map(_format, [columns, *(rows[step] for step in sorted(rows))]))
    if not path.is_file() or path.read_bytes() != text.encode():
        publish_file(path, text)


def _format(row: Row) -> str:
    # csv writes floats with repr(), which Python reads back to the same bits.
    text = io.StringIO()
    csv.writer(text).writerow(row)
    return text.getvalue()
