"""A few lines of code for each way into a format; the card shows them, and a test runs each."""

from __future__ import annotations

from typing import Final

from detflow.inference.formats import find_format

_DETFLOW: Final = """import detflow

detector = detflow.load_detector(".")
for detection in detector.predict("photo.jpg"):
    print(detection.name, detection.score, detection.box)
"""


def choose_snippets(names: list[str]) -> list[tuple[str, str]]:
    """Returns (title, code) pairs for an exported folder.

    Args:
        names: Names of the formats in it.
    """
    chosen = [("detflow, whatever is in the folder", _DETFLOW)]
    shown = set()
    for known in filter(None, map(find_format, names)):
        for entry in known.entries:
            code = known.snippet(entry)
            # Formats of one class are run alike, so the first of them is enough.
            kind = (type(known), entry.signature)
            if code is not None and kind not in shown:
                shown.add(kind)
                chosen.append((f"{entry.signature or known.runtime_title}: {entry.path}", code))
    return chosen
