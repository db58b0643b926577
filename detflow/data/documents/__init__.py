"""What was found, as documents for other programs: JSON, SARIF and JUnit's XML."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from detflow.data.documents.json import render_json
from detflow.data.documents.junit import render_junit
from detflow.data.documents.sarif import render_sarif
from detflow.data.verdict import Verdict

RENDERERS: Mapping[str, Callable[[Sequence[Verdict]], Iterator[str]]] = {
    "json": render_json,
    "sarif": render_sarif,
    "junit": render_junit,
}
"""What yields the pieces of a document, by the document's name."""
