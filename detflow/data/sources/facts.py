"""What files themselves say where names leave open which image belongs to which annotation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from detflow.data.sources.choices import Case
from detflow.data.sources.evidence import Evidence, HeaderSize


@dataclass(slots=True)
class Facts:
    """The sizes and digests of files, each read once."""

    evidence: Evidence
    _sizes: dict[str, HeaderSize] = field(default_factory=dict)
    _digests: dict[str, bytes] = field(default_factory=dict)

    def read_sizes(self, images: Iterable[str]) -> None:
        """Reads the sizes of images."""
        needed = sorted({image for image in images if image not in self._sizes})
        if needed:
            self._sizes.update(self.evidence.read_sizes(needed))

    def read_digests(self, files: Iterable[str]) -> None:
        """Reads the digests of files."""
        needed = sorted({file for file in files if file not in self._digests})
        if needed:
            self._digests.update(self.evidence.read_digests(needed))

    def fits(self, case: Case, image: str) -> bool | None:
        """Whether an image has the annotation's `<size>`; None where nobody knows."""
        found = self._sizes.get(image)
        return None if found is None or case.size is None else found.fits(case.size)

    def is_same(self, files: Iterable[str]) -> bool:
        """Whether all of the files are known to hold the same bytes."""
        digests = {self._digests.get(file) for file in files}
        return len(digests) == 1 and None not in digests

    def describe(self, image: str) -> str:
        """Returns an image's name, with its size where that is known."""
        return f"{image} has {self._sizes[image]}" if image in self._sizes else image
