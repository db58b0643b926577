"""Uploads an exported folder to a model hub, with a card that the hub reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from detflow.artifact import LABEL_MAP_NAME, MANIFEST_NAME, ArtifactDir
from detflow.inference.formats import FORMATS
from detflow.storage.hub import parse_repository, upload_files
from detflow.tables import format_change, format_metric
from detflow.text import count_noun

CARD_NAME: Final = "README.md"
"""The card's file in the repository."""

_README = """---
library_name: detflow
pipeline_tag: object-detection
tags:
- object-detection
{tags}
---

# {name}

Detects {classes}. Exported by detflow {version} from {checkpoint}; every format was proved in a
fresh process to detect what the checkpoint detects.

{table}

{proof}

## Use

```python
from huggingface_hub import snapshot_download

import detflow

detector = detflow.load_detector(snapshot_download("{repository}"))
for detection in detector.predict("photo.jpg"):
    print(detection.name, detection.score, detection.box)
```

`card.html` has code for each runtime, examples and the contract; `model.json` has the proof, the
digest of every file and where the model comes from.
"""
_MAX_NAMED: Final = 12


def push_export(path: Path, destination: str, *, private: bool = False) -> str:
    """Uploads an export in one commit; files of an export that stood there before go.

    Files that no export has are left alone. A push that is repeated sends only what the hub does
    not have yet.

    Args:
        path: The exported folder, whose files are compared with its manifest first.
        destination: `hub:owner/name`; the repository is made where there is none.
        private: Whether a repository that is made is private.

    Returns:
        The commit's address.

    Raises:
        ConfigError: The destination is no repository's name.
        ArtifactError: The folder is no export, or damaged.
        EnvironmentFault: The extra `hub` is not installed, or the hub refuses or cannot be reached.
    """
    repository = parse_repository(destination)
    artifact = ArtifactDir(path)
    card = artifact.verify()
    files: dict[str, Path | bytes] = {
        name: path / name for name in (*artifact.list_files(card), MANIFEST_NAME)
    }
    files.setdefault(CARD_NAME, build_readme(card, repository).encode())
    return upload_files(
        repository, files, _is_of_an_export, f"Upload {path.resolve().name}", private=private
    )


def build_readme(card: Mapping[str, Any], repository: str) -> str:
    """Returns a model card as hubs read it: metadata in YAML, then Markdown.

    Args:
        card: The content of `model.json`.
        repository: `owner/name`.
    """
    classes = card["classes"]
    named = ", ".join(_escape(name) for name in classes[:_MAX_NAMED])
    more = len(classes) - _MAX_NAMED
    metrics = card["parity"]["metrics"] or {}
    images = count_noun(card["parity"]["num_images"], "image")
    measured = ", ".join(f"{name} {format_metric(value)}" for name, value in metrics.items())
    return _README.format(
        tags="\n".join(f"- {json.dumps(runtime)}" for runtime in _list_runtimes(card)),
        name=repository.partition("/")[2],
        classes=named + (f" and {more:,} more classes" if more > 0 else ""),
        version=card["versions"]["detflow"],
        checkpoint=f"{card['checkpoint']['name']}, step {card['checkpoint']['step']:,}",
        table=_build_table(card["formats"]),
        proof=f"The checkpoint on the proof's {images}: {measured}."
        if measured
        else (f"The proof ran on {images} without known objects: no AP was measured."),
        repository=repository,
    )


def _list_runtimes(card: Mapping[str, Any]) -> list[str]:
    return sorted({found["runtime"] for found in card["formats"].values()})


def _build_table(formats: Mapping[str, Mapping[str, Any]]) -> str:
    rows = ["| format | file | MB | AP | change |", "|---|---|---|---|---|"]
    for name, found in formats.items():
        metrics, change = found["metrics"] or {}, found["change"] or {}
        rows.append(
            f"| {name} | `{found['paths'][0]}` | {found['bytes'] / 1e6:.1f} | "
            f"{format_metric(metrics.get('AP'))} | {format_change(change.get('AP'))} |"
        )
    return "\n".join(rows)


def _escape(name: str) -> str:
    """Returns a class name that Markdown shows as it is."""
    return "".join(f"\\{sign}" if sign in r"\`*_{}[]<>()#+-.!|~&" else sign for sign in name)


def _is_of_an_export(name: str) -> bool:
    """Tells whether a file in a repository is one that only an export has."""
    own = {MANIFEST_NAME, LABEL_MAP_NAME, "card.html", "config.yaml"}
    folders = {path for known in FORMATS for path in known.paths}
    return name.partition("/")[0] in own | folders
