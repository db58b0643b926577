"""What `detflow check` says about one dataset, or about one set of TFRecord files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from detflow.data.findings import Finding
from detflow.errors import DetflowError


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in one dataset or in one set of TFRecord files.

    Attributes:
        subject: Which of the two was judged.
        path: Its folder or file, as the user named it.
        text: What was found, as lines for a terminal.
        content: The same numbers for programs, as what `json.dumps` takes.
        refusal: Why the data cannot be used; None where they can.
        findings: What is wrong, one by one; it can be gone through again. All findings in a
            dataset, the first ones of each code in TFRecord files.
    """

    subject: Literal["dataset", "records"]
    path: str
    text: str
    content: dict[str, Any]
    refusal: DetflowError | None
    findings: Iterable[Finding]
