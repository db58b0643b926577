"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from detflow.progress import erase_status
from detflow.text import count_noun, escape_unprintable


def format_metric(value: float | None) -> str:
    """Formats a metric for people; what could not be measured reads n/a."""
    return "n/a" if value is None else f"{value:.3f}"


def format_change(change: float | None) -> str:
    """Formats the difference of two metrics with its sign.

    A fall that is too small to show reads +0.0000, just as no change does.
    """
    # Adding zero turns minus zero into zero.
    return "n/a" if change is None else f"{round(change, 4) + 0.0:+.4f}"


def format_difference(difference: float | None) -> str:
    """Formats the difference of two models' metrics with its sign, as precise as the metrics."""
    # Adding zero turns minus zero into zero.
    return "n/a" if difference is None else f"{round(difference, 3) + 0.0:+.3f}"


def format_interval(interval: tuple[float, float] | None, *, signed: bool = False) -> str:
    """Formats where a metric, or with its sign the difference of two, lies.

    What too few images can tell reads n/a.
    """
    if interval is None:
        return "n/a"
    low, high = interval
    if signed:
        return f"{format_difference(low)} to {format_difference(high)}"
    return f"{low:.2f}–{high:.2f}"


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One line of an evaluation's table; None stands for what could not be measured.

    `interval` is where AP lies, as text.
    """

    name: str
    objects: int
    ap: float | None
    interval: str
    ap50: float | None
    precision: float | None
    recall: float | None
    f1: float | None


def print_evaluation(
    title: str,
    rows: Sequence[EvaluationRow],
    total: EvaluationRow,
    rest: Iterable[tuple[str, Mapping[str, float | None]]],
) -> None:
    """Prints an evaluation on one screen.

    Args:
        title: Printed above the table.
        rows: The classes; if there are many, only the worst are printed.
        total: The numbers of all classes.
        rest: Lines below the table: for each a heading, and values by their names.
    """
    console = _open_console()
    table = Table(title=_to_cell(title), title_justify="left")
    table.add_column("class", overflow="fold")
    for name in ("objects", "AP", "range", "AP50", "prec.", "recall", "F1"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = (
        rows
        if len(rows) <= _MAX_ROWS
        else sorted(rows, key=lambda row: (row.ap is None, row.ap))[:_MAX_ROWS]
    )
    for row in shown:
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row(*_cells(total), style="bold")
    console.print(table)
    if len(rows) > len(shown):
        console.print(f"and {count_noun(len(rows) - len(shown), 'better class', 'better classes')}")
    for heading, values in rest:
        line = "  ".join(f"{name} {format_metric(value)}" for name, value in values.items())
        console.print(_to_cell(f"{heading} {line}".strip()), soft_wrap=True)


# A terminal of 24 lines holds the table with its frame, and the lines below it.
_MAX_ROWS = 11


def _to_cell(text: str) -> Text:
    # Names of classes and folders come from data; rich itself lets escape sequences through.
    return Text(escape_unprintable(text))


def _cells(row: EvaluationRow) -> tuple[Text, ...]:
    values = (row.ap50, row.precision, row.recall, row.f1)
    return (
        _to_cell(row.name),
        Text(f"{row.objects:,}"),
        Text(format_metric(row.ap)),
        Text(row.interval),
        *(Text(format_metric(value)) for value in values),
    )


def print_line(text: str) -> None:
    """Prints a line for people; one that is too long goes on below, from a blank on."""
    _open_console().print(_to_cell(text))


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a plain table, with the first column to the left and all others to the right."""
    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_to_cell, row))
    _open_console().print(table)


def print_settings(rows: Iterable[tuple[str, str, str]]) -> None:
    """Prints settings: rows of a name, its default and what it means."""
    table = Table(box=None, pad_edge=False)
    table.add_column("setting", no_wrap=True)
    table.add_column("default", no_wrap=True)
    table.add_column("meaning")
    for row in rows:
        table.add_row(*map(_to_cell, row))
    _open_console().print(table)


def _open_console() -> Console:
    erase_status(is_done=True)
    return Console(highlight=False)
