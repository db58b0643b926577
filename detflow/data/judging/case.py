"""An annotation beside its image while the two are judged: what is noted about them."""

from __future__ import annotations

from typing import Any

from detflow.data.findings import Finding
from detflow.data.sources.source import RawAnnotation, RawObject
from detflow.types import CornerFrame

_TAGS = ("xmin", "ymin", "xmax", "ymax")


class Case:
    """An annotation with the image that belongs to it.

    Attributes:
        annotation: The annotation as written.
        image: The image's path inside the dataset.
        findings: What was found so far, by reading the annotation and by judging the two.
    """

    def __init__(self, annotation: RawAnnotation, image: str) -> None:
        self.annotation = annotation
        self.image = image
        self.findings = list(annotation.findings)

    def note(self, code: str, *, line: int | None = None, **fields: Any) -> None:
        """Adds a finding about the annotation.

        Args:
            code: The code of a rule.
            line: The line in the annotation's file.
            **fields: Further attributes of `Finding`.
        """
        path, entry = self.annotation.path, self.annotation.entry
        self.findings.append(Finding(code, path, line, image=self.image, entry=entry, **fields))

    def note_image(self, code: str, **fields: Any) -> None:
        """Adds a finding about the image's file, whatever the annotation says."""
        self.findings.append(Finding(code, self.image, image=self.image, **fields))

    def note_box(self, code: str, raw: RawObject, frame: CornerFrame, **fields: Any) -> None:
        """Adds a finding about an object's box, with the corners as written.

        Args:
            code: The code of a rule.
            raw: The object, its corners in pixels.
            frame: What they count.
            **fields: Further attributes of `Finding`.
        """
        corners = zip(_TAGS, raw.corners, strict=True)
        written = ", ".join(f"{tag} {corner:g}" for tag, corner in corners)
        fields.setdefault("value", f"{raw.name}: {written}")
        self.note(
            code,
            line=raw.line,
            object_index=raw.number,
            before=raw.corners,
            frame=None if frame is CornerFrame.VOC else frame,
            **fields,
        )
