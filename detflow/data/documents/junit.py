"""What was found as JUnit's XML, which servers for continuous integration show as tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from detflow.data.findings import Finding
from detflow.data.rules import Severity
from detflow.data.verdict import Verdict
from detflow.text import escape_unprintable


def render_junit(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yields the pieces of a document with a suite for each thing that was judged.

    Each finding is a test with the file's name, which fails where the file cannot be used; so is
    the question whether the whole can be used, so that a suite is never empty.

    Args:
        verdicts: What was judged.
    """
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n'
    for verdict in verdicts:
        yield from _render_suite(verdict)
    yield "</testsuites>\n"


def _render_suite(verdict: Verdict) -> Iterator[str]:
    tests, failures = 1, int(verdict.refusal is not None)
    for finding in verdict.findings:
        tests += 1
        failures += finding.action.severity is Severity.ERROR
    name = f"detflow check {verdict.path}"
    yield (
        f'<testsuite name={_quote(name)} tests="{tests}" failures="{failures}" errors="0" '
        'skipped="0">\n'
    )
    case = _begin_case("detflow", f"the {verdict.subject} can be used", verdict.path, None)
    if verdict.refusal is None:
        yield f"{case}/>\n"
    else:
        message = _quote(str(verdict.refusal))
        yield f'{case}><failure type="refused" message={message}/></testcase>\n'
    for finding in verdict.findings:
        yield _render_finding(finding)
    yield "</testsuite>\n"


def _render_finding(finding: Finding) -> str:
    code, rule = finding.code, finding.rule
    details = f" ({finding.details})" if finding.details else ""
    text = f"{rule.meaning}{details}; {rule.remedy}"
    case = _begin_case(f"detflow.{code}", finding.subject, finding.path, finding.line)
    if finding.action.severity is Severity.ERROR:
        return f"{case}><failure type={_quote(code)} message={_quote(text)}/></testcase>\n"
    return (
        f"{case}><system-out>{_escape(f'{finding.action.value}: {text}')}</system-out></testcase>\n"
    )


def _begin_case(class_name: str, name: str, path: str, line: int | None) -> str:
    place = "" if line is None else f' line="{line}"'
    return (
        f"<testcase classname={_quote(class_name)} name={_quote(name)} "
        f'file={_quote(path)}{place} time="0"'
    )


def _quote(text: str) -> str:
    return _to_ascii(quoteattr(escape_unprintable(text)))


def _escape(text: str) -> str:
    return _to_ascii(escape(escape_unprintable(text)))


def _to_ascii(markup: str) -> str:
    # XML has no way to write control characters and lone surrogates, which are escaped before; it
    # has one for all others, so that the document passes through terminals of any encoding.
    return markup.encode("ascii", "xmlcharrefreplace").decode("ascii")
