"""Pictures in formats that are not read, beside the annotations that miss an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from detflow.data.findings import Finding
from detflow.data.images.header import UNREAD_SUFFIXES, find_unread_format
from detflow.data.sources.names import split_extension


def is_unread_image(path: str, head: bytes) -> bool:
    """Whether a file is a picture that nothing here reads, by its extension or first bytes."""
    name = path.rpartition("/")[2].lower()
    return name[name.rfind(".") :] in UNREAD_SUFFIXES or find_unread_format(head) is not None


def name_unread_images(findings: Iterable[Finding], unread: Sequence[str]) -> Iterator[Finding]:
    """Adds to each annotation without an image the picture of its name that is not read.

    Args:
        findings: What pairing found.
        unread: Pictures of formats that are not read.
    """
    by_stem: dict[str, str] = {}
    for path in unread:
        by_stem.setdefault(_to_stem(path), path)
    for finding in findings:
        if finding.code == "image_missing" and by_stem:
            own = split_extension(finding.entry or finding.path)[0]
            written = finding.value.split(", ")[0]
            found = by_stem.get(_to_stem(written)) or by_stem.get(own.rpartition("/")[2].lower())
            if found is not None:
                what = f"{found} lies there, in a format that detflow does not read"
                value = f"{finding.value}; {what}" if finding.value else what
                finding = replace(finding, value=value, related=(*finding.related, found))
        yield finding


def _to_stem(path: str) -> str:
    name = path.replace("\\", "/").rpartition("/")[2].lower()
    stem, dot, _ = name.rpartition(".")
    return stem if dot else name
