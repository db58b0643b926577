"""What was found as JSON: the numbers, and every finding."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from detflow.data.verdict import Verdict


def render_json(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yields the pieces of one JSON object.

    Where one thing was judged, the object is what `content` has, and `refusal` and `findings`; a
    finding is an object as in a ledger. Where several were, it is about the dataset, if there is
    one, and has the TFRecord sets as a list of such objects, `records`. Findings are written one at
    a time: a large dataset may have millions.

    Args:
        verdicts: What was judged.
    """
    if len(verdicts) == 1:
        yield from _render_verdict(verdicts[0])
        yield "\n}\n"
        return
    records = [verdict for verdict in verdicts if verdict.subject == "records"]
    yield "{"
    for verdict in verdicts:
        if verdict.subject == "dataset":
            pieces = _render_verdict(verdict)
            yield next(pieces).removeprefix("{")
            yield from pieces
            yield ","
    yield '\n  "records": ['
    for number, verdict in enumerate(records):
        yield ",\n" if number else "\n"
        yield from _render_verdict(verdict)
        yield "\n}"
    yield "\n]}\n"


def _render_verdict(verdict: Verdict) -> Iterator[str]:
    """Yields the pieces of an object but for its last bracket."""
    refusal = None if verdict.refusal is None else str(verdict.refusal)
    head = json.dumps({**verdict.content, "refusal": refusal}, indent=2)
    yield head.removesuffix("\n}")
    yield ',\n  "findings": ['
    for number, finding in enumerate(verdict.findings):
        yield f"{',' if number else ''}\n    {finding.to_json()}"
    yield "\n  ]"
