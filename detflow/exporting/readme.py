"""README.md of an export: the card for people who meet it in a folder or on a model hub.

It begins with the metadata that model hubs read
(https://huggingface.co/docs/hub/model-cards#model-card-metadata).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import yaml

from detflow.exporting.facts import (
    CLASS_HEADS,
    describe_quality,
    describe_threshold,
    list_class_rows,
    list_contracts,
    list_origin,
    list_warnings,
)
from detflow.exporting.snippets import choose_snippets
from detflow.tables import format_change
from detflow.text import count_noun, escape_unprintable

# What Markdown, or HTML inside of it, would obey. Names of classes and folders come from data.
_MARKS = re.compile(r"([\\`*_{}\[\]<>|#~&!])")
_MAX_CLASSES: Final = 200


def render_readme(card: Mapping[str, Any], name: str) -> str:
    """Returns the text.

    Args:
        card: The content of `model.json`.
        name: What the model is called.
    """
    lines = [
        f"# {_plain(name)}",
        "",
        f"A detector of {count_noun(len(card['classes']), 'class', 'classes')}, "
        f"exported by detflow {_plain(card['versions']['detflow'])} on {card['exported']}.",
        "",
        "## How good it is",
        "",
        _plain(describe_quality(card["quality"])),
        *(f"\n{_plain(warning)}" for warning in list_warnings(card)),
        "",
        *_write_classes(card["quality"]),
        "## Use",
        "",
        _plain(describe_threshold(card)),
        "",
        *_write_snippets(card),
        "## Files",
        "",
        *_write_formats(card["formats"]),
        "## Inputs and outputs",
        "",
        *_write_contract(card["formats"]),
        "## Origin",
        "",
        *_write_table(("what", "value"), list_origin(card).items()),
    ]
    return f"---\n{_write_metadata(card, name)}---\n\n" + "\n".join(lines)


def _write_metadata(card: Mapping[str, Any], name: str) -> str:
    architecture = str(
        ((card["training"] or {}).get("config") or {}).get("model", {}).get("architecture", "")
    )
    tags = ["object-detection", "detflow", architecture, *card["formats"]]
    content: dict[str, Any] = {
        # Only its owner can say under which licence a model is given on.
        "license": "unknown",
        "library_name": "detflow",
        "pipeline_tag": "object-detection",
        "tags": [tag for tag in tags if tag],
        "metrics": ["mean_average_precision"],
    }
    if results := _list_results(card["quality"]):
        content["model-index"] = [{"name": name, "results": results}]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _list_results(quality: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what a hub shows: nothing where there is no AP of pictures that were not learnt."""
    metrics = [
        {"type": "mean_average_precision", "name": title, "value": round(value, 4)}
        for name, title in {"AP": "AP (IoU .5 to .95)", "AP50": "AP50"}.items()
        if (value := quality.get("metrics", {}).get(name)) is not None
    ]
    if not metrics:
        return []
    dataset = {"type": "own", "name": f"{quality['split']} split", "split": quality["split"]}
    task = {"type": "object-detection", "name": "Object detection"}
    return [{"task": task, "dataset": dataset, "metrics": metrics}]


def _write_classes(quality: Mapping[str, Any]) -> Iterator[str]:
    rows = list_class_rows(quality)
    if rows:
        yield from _write_table(CLASS_HEADS, rows[:_MAX_CLASSES])


def _write_snippets(card: Mapping[str, Any]) -> Iterator[str]:
    for title, code in choose_snippets(list(card["formats"])):
        yield from (f"{_plain(title)}:", "", "```python", code.rstrip("\n"), "```", "")


def _write_formats(formats: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    rows = []
    for name, found in formats.items():
        first = next(iter(found["entries"].values()))
        rows.append(
            (
                name,
                ", ".join(found["paths"]),
                f"{found['bytes'] / 1e6:.1f}",
                format_change((found["change"] or {}).get("AP")),
                f"{first['p50_ms']:.1f}" if "p50_ms" in first else "n/a",
            )
        )
    heads = ("format", "files", "MB", "change of AP by the format", "median ms of an image")
    yield from _write_table(heads, rows)


def _write_contract(formats: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    rows = [row for name in formats for row in list_contracts(name)]
    yield from _write_table(("entry", "takes", "gives"), rows)


def _write_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(map(_plain, row))} |"
    yield ""


def _plain(text: str) -> str:
    """Returns text that Markdown shows as it is, on one line."""
    return _MARKS.sub(r"\\\1", escape_unprintable(text))
