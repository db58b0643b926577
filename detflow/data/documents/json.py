"""What was found as JSON: the numbers, and every finding."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from detflow.data.verdict import Verdict


def render_json(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yields the pieces of one JSON object.

    Where one thing was judged, the object is what `content` has, and `refusal` and `findings`; a
    finding is an object as in a ledger. Where several were, it has `parts`, a list of such objects,
    each with its `path` and `subject`. Findings are written one at a time: a large dataset may
    have millions.

    Args:
        verdicts: What was judged.
    """
    if len(verdicts) == 1:
        yield from _render_verdict({}, verdicts[0])
        yield "\n"
        return
    yield '{"parts": ['
    for number, verdict in enumerate(verdicts):
        yield ",\n" if number else "\n"
        yield from _render_verdict({"path": verdict.path, "subject": verdict.subject}, verdict)
    yield "\n]}\n"


def _render_verdict(named: dict[str, Any], verdict: Verdict) -> Iterator[str]:
    refusal = None if verdict.refusal is None else str(verdict.refusal)
    head = json.dumps({**named, **verdict.content, "refusal": refusal}, indent=2)
    yield head.removesuffix("\n}")
    yield ',\n  "findings": ['
    for number, finding in enumerate(verdict.findings):
        yield f"{',' if number else ''}\n    {finding.to_json()}"
    yield "\n  ]\n}"
