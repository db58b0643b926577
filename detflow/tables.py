"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["format_metric", "print_evaluation", "print_rows", "print_settings"]


def format_metric(value: float | None) -> str:
    """Formats a metric for people; what could not be measured reads n/a."""
    return "n/a" if value is None else f"{value:.3f}"


def print_evaluation(metrics: Mapping[str, float | None], num_objects: Mapping[str, int], title: str) -> None:
    """Prints metrics, named as `metrics.coco_metrics` does, as a table of classes and a line of the rest."""
    console = Console(highlight=False)
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for name in ("objects", "AP", "AP50"):
        table.add_column(name, justify="right")
    for name, count in num_objects.items():
        table.add_row(Text(name), f"{count:,}", format_metric(metrics[f"AP/{name}"]), format_metric(metrics[f"AP50/{name}"]))
    table.add_section()
    table.add_row(
        "all", f"{sum(num_objects.values()):,}", format_metric(metrics["AP"]), format_metric(metrics["AP50"]), style="bold"
    )
    console.print(table)
    rest = [name for name in metrics if "/" not in name and name not in ("AP", "AP50")]
    console.print("  ".join(f"{name} {format_metric(metrics[name])}" for name in rest), soft_wrap=True)


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a plain table; all columns but the first are numbers or short."""
    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


def print_settings(rows: Iterable[tuple[str, str, str]]) -> None:
    """Prints (name, default, description) rows, as `config.explain_config` yields them."""
    table = Table(box=None, pad_edge=False)
    table.add_column("setting", no_wrap=True)
    table.add_column("default", no_wrap=True)
    table.add_column("meaning")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)
