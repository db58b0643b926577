"""The commands for published weights: which there are, and a folder of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from detflow.cli.options import PATH
from detflow.cli.output import print_data, print_text
from detflow.cli.talk import talk_options


@click.group(invoke_without_command=True, short_help="List published weights, or fetch some.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
@click.pass_context
def weights(context: click.Context, as_json: bool) -> None:
    """List the weights whose names train.init_from takes.

    For each: size, what it fits, the data that it was trained on, its licence, its quality as
    published, whether it is here, and whether a training of detflow began with it. "Address only"
    means that nobody has.
    """
    if context.invoked_subcommand is not None:
        return
    from detflow.api.weights import list_weights

    entries = list_weights()
    if as_json:
        print_data(json.dumps(entries, indent=2))
        return
    for entry in entries:
        print_text("\n".join(_describe(entry)))


@weights.command(short_help="Download weights into a folder.")
@click.argument("name")
@click.option(
    "--to",
    "folder",
    type=PATH,
    required=True,
    metavar="FOLDER",
    help="Folder to publish, for train.init_from; fetched weights there are replaced.",
)
@talk_options
def fetch(name: str, folder: Path) -> None:
    """Download the weights NAME into a folder that train.init_from takes, here or elsewhere.

    Proxies are those of the environment, such as HTTPS_PROXY. A broken download is taken up again
    by the next command, and the file's SHA-256 is compared where it is known.
    """
    from detflow.api.weights import fetch_weights

    print_text(f"train.init_from: {fetch_weights(name, folder)}")


def _describe(entry: dict[str, Any]) -> list[str]:
    size = "size not known" if entry["bytes"] is None else f"{entry['bytes'] / 1e6:.1f} MB"
    if entry["package"]:
        place = "here" if entry["here"] else "not here"
        place = f"{place}: package {entry['package']}"
    else:
        place = "here: in the cache" if entry["here"] else "not here: one download"
    facts = {
        "fits": entry["fits"] + (f"; preset {entry['preset']}" if entry["preset"] else ""),
        "data": entry["data"],
        "licence": entry["licence"],
        "published": entry["quality"],
        "tried": "yes" if entry["tried"] else "no: address only",
    }
    return [
        f"{entry['name']}: {size}, {place}",
        *(f"  {name:<10}{value}" for name, value in facts.items()),
    ]
