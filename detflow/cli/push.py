"""The command that uploads an export."""

from __future__ import annotations

from pathlib import Path

import click

from detflow.cli.options import FOLDER
from detflow.cli.output import print_text


@click.command(short_help="Upload an export to a model hub.")
@click.argument("export", type=FOLDER, metavar="EXPORT")
@click.argument("destination", metavar="hub:OWNER/NAME")
@click.option("--private", is_flag=True, help="Make a new repository private.")
def push(export: Path, destination: str, private: bool) -> None:
    """Upload an exported folder to a repository of a model hub, with a card that the hub shows.

    All files come in one commit. Push again after an interruption: what has arrived is not sent
    twice. The token is HF_TOKEN's or that of `hf auth login`. Needs the extra `hub`.
    """
    from detflow.api.publishing import push as push_export

    print_text(push_export(export, destination, private=private))
