"""What was found as SARIF 2.1.0, which code hosts show beside the lines of a pull request.

The form is OASIS' "Static Analysis Results Interchange Format (SARIF) Version 2.1.0"; paragraphs in
comments are its.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

from detflow.data.findings import Finding
from detflow.data.rules import Action, Rule, Severity
from detflow.data.verdict import Verdict
from detflow.text import escape_unprintable
from detflow.version import __version__

MAX_RESULTS = 25_000
"""GitHub refuses a run with more results."""

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LEVELS = {
    Action.REFUSED: "error",
    Action.QUARANTINED: "error",
    Action.REPAIRED: "warning",
    Action.NOTED: "note",
}
_BASE = "ROOT"


def render_sarif(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yields the pieces of a SARIF log with a run for each thing that was judged.

    A file's address is relative to the working directory where the file lies below it, as a code
    host needs it; else to the folder that was judged, whose own address stands in the run. What is
    worse comes first; beyond `MAX_RESULTS` findings are counted only.

    Args:
        verdicts: What was judged.
    """
    runs = [_build_run(verdict) for verdict in verdicts]
    yield json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": runs}, indent=1)
    yield "\n"


def _build_run(verdict: Verdict) -> dict[str, Any]:
    prefix, base = _find_base(verdict)
    rules: dict[str, int] = {}
    described: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    left_out = 0
    # The findings are gone through once for each severity: in memory there are few.
    for finding in chain.from_iterable(
        (one for one in verdict.findings if one.action.severity is severity)
        for severity in (Severity.ERROR, Severity.WARNING)
    ):
        if len(results) == MAX_RESULTS:
            left_out += 1
            continue
        if finding.code not in rules:
            rules[finding.code] = len(described)
            described.append(_describe_rule(finding.rule))
        results.append(_build_result(finding, rules[finding.code], prefix, base))
    driver = {
        "name": "detflow",
        "version": __version__,
        "rules": described,
    }
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "invocations": [_build_invocation(verdict, left_out)],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    if base is not None:
        run["originalUriBaseIds"] = {_BASE: {"uri": base}}
    return run


def _find_base(verdict: Verdict) -> tuple[str, str | None]:
    """Returns what stands before each file's address, and the address that it is relative to."""
    if "://" in verdict.path:
        return "", f"{_quote(verdict.path, safe=':/').rstrip('/')}/"
    folder = Path(verdict.path).resolve()
    if folder.is_file():
        folder = folder.parent
    try:
        inside = folder.relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return "", f"file://{_quote(folder.as_posix()).rstrip('/')}/"
    return "" if inside == "." else f"{_quote(inside)}/", None


def _quote(path: str, safe: str = "/") -> str:
    # Names need not be UTF-8; Python carries such bytes as lone surrogates.
    return quote(path.encode("utf-8", "surrogateescape"), safe=safe)


def _describe_rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "shortDescription": {"text": _to_sentence(rule.meaning)},
        "help": {"text": _to_sentence(rule.remedy)},
        "defaultConfiguration": {"level": _LEVELS[rule.action]},
        "properties": {"action": rule.action.value},
    }


def _build_result(
    finding: Finding, rule_index: int, prefix: str, base: str | None
) -> dict[str, Any]:
    # §3.4.4: a relative address must not begin with what reads as a scheme; "./" never does.
    uri = prefix + _quote("" if finding.path == "." else finding.path)
    place: dict[str, Any] = {"artifactLocation": {"uri": uri or "./"}}
    if base is not None:
        place["artifactLocation"]["uriBaseId"] = _BASE
    if finding.line is not None:
        place["region"] = {"startLine": max(1, finding.line)}
    location: dict[str, Any] = {"physicalLocation": place}
    details = escape_unprintable(finding.details)
    message = f"{finding.rule.meaning}: {details}" if details else finding.rule.meaning
    # The same finding has the same fingerprint wherever the file is checked.
    identity = json.dumps([finding.code, finding.path, finding.entry, details])
    return {
        "ruleId": finding.code,
        "ruleIndex": rule_index,
        "level": _LEVELS[finding.action],
        "message": {"text": f"{_to_sentence(message)} {_to_sentence(finding.rule.remedy)}"},
        "locations": [location],
        "partialFingerprints": {
            "detflow/v1": hashlib.sha256(identity.encode("utf-8")).hexdigest()[:32]
        },
        "properties": _build_properties(finding),
    }


def _build_properties(finding: Finding) -> dict[str, Any]:
    named = ("entry", "object_index", "image", "related", "before", "after", "record", "offset")
    fields = finding.to_fields()
    return {"action": finding.action.value} | {
        name: fields[name] for name in named if name in fields
    }


def _build_invocation(verdict: Verdict, left_out: int) -> dict[str, Any]:
    # §3.20.14: whether the tool ran to its end, whatever it found.
    invocation: dict[str, Any] = {"executionSuccessful": True}
    notes = []
    if verdict.refusal is not None:
        invocation["exitCode"] = verdict.refusal.exit_code
        notes.append(("error", escape_unprintable(str(verdict.refusal))))
    else:
        invocation["exitCode"] = 0
    if left_out:
        notes.append(("warning", f"{left_out:,} more findings; --format json has all of them"))
    if notes:
        invocation["toolExecutionNotifications"] = [
            {"level": level, "message": {"text": text}} for level, text in notes
        ]
    return invocation


def _to_sentence(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}."
