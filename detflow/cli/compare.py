"""The command for several models on the same images: compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from detflow.cli.options import EXISTING_LOCATION, LOCATION, PATH, FieldOption
from detflow.cli.output import print_data, print_text

if TYPE_CHECKING:
    from detflow.storage.location import Location


@click.command(short_help="Compare models on the same images.")
@click.argument("models", nargs=-1, required=True, type=EXISTING_LOCATION, metavar="A B [C...]")
@click.option("--records", type=LOCATION, required=True, help="Folder that make-records wrote.")
@click.option(
    "--split",
    cls=FieldOption,
    field="detflow.api.comparison:DEFAULT_SPLIT",
    help="Split to judge on; train+val joins two.",
)
@click.option(
    "--page",
    type=PATH,
    metavar="FILE",
    help="Write a page with pictures of images that were won and lost.",
)
@click.option(
    "--fail-if-worse",
    is_flag=True,
    help="Exit with code 4 where A's AP is below another's by more than the images leave open, and "
    "with 3 where fewer than five images have objects.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout instead of a table.")
def compare(
    models: tuple[Location, ...],
    records: Location,
    split: str | None,
    page: Path | None,
    fail_if_worse: bool,
    as_json: bool,
) -> None:
    """Compare A with B, C, … on a split: AP, AP50 and each class, with 90 % intervals.

    A model is a model directory (its best checkpoint), a checkpoint, an exported folder or file, or
    what was detected: an evaluation's folder, predictions.json of evaluate or predict, or COCO's
    results whose image_id is the record's source_id. Of exports size and latency are shown too.
    """
    from detflow.api.comparison import DEFAULT_SPLIT, run_compare
    from detflow.evaluation.comparison_text import describe_comparison, print_comparison

    found = run_compare(models, records, split or DEFAULT_SPLIT, page, shows_progress=True)
    if as_json:
        print_data(json.dumps(describe_comparison(found), indent=2, allow_nan=False))
    else:
        print_comparison(found)
    if page is not None:
        print_text(f"page: {page}", err=True)
    if fail_if_worse:
        found.require_not_worse()
