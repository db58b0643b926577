"""What is kept of each judgement until the whole set has decided, so that it can be made again.

An annotation is judged as soon as it is read, by what is known until then; nearly always the whole
set agrees. Where it does not, the annotation is read and judged again, but its image is not: what
was found in it stays here, some forty bytes for each.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from detflow.data.judging.rulings import Rest, Ruling, Rulings
from detflow.data.judging.testimony import Group

_UNCHANGEABLE = 0


class Look(NamedTuple):
    """What an image file holds, but for its size: few sets have more than some dozens."""

    format: str
    kind: str
    orientation: int
    is_plain_jpeg: bool
    remarks: tuple[tuple[str, str], ...] = ()


class Basis(NamedTuple):
    """What a judgement rests on.

    Attributes:
        group: The annotation's group.
        ruling: What was taken as given.
        rest: Which parts of that mattered.
        look: What the image file holds.
        width: The image's width in pixels as stored.
        height: Its height.
    """

    group: Group
    ruling: Ruling
    rest: Rest
    look: Look
    width: int
    height: int


class KnownImage(NamedTuple):
    """An image that was examined before.

    Attributes:
        path: Its path inside the dataset.
        num_bytes: Its size in bytes.
        sha256: Its SHA-256, 32 bytes.
        hash: Its perceptual hash, 32 bytes.
        look: What it holds.
        width: Its width in pixels as stored.
        height: Its height.
    """

    path: str
    num_bytes: int
    sha256: bytes
    hash: bytes
    look: Look
    width: int
    height: int


@dataclass(slots=True)
class Provisional:
    """The judgements in the order in which they were made, in parallel columns.

    Attributes:
        names: The annotations' names.
        images: Their images' paths.
        kinds: The index of what each one rests on, among all that occur.
        widths: The images' widths.
        heights: Their heights.
        set_aside: The size in bytes, the SHA-256 and the perceptual hash of images without a
            sample, by the judgement's number.
    """

    names: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    kinds: array[int] = field(default_factory=lambda: array("I"))
    widths: array[int] = field(default_factory=lambda: array("I"))
    heights: array[int] = field(default_factory=lambda: array("I"))
    set_aside: dict[int, tuple[int, bytes, bytes]] = field(default_factory=dict)
    _starts: array[int] = field(default_factory=lambda: array("Q"))
    _lengths: array[int] = field(default_factory=lambda: array("I"))
    _known: dict[tuple[Group, Ruling, Rest, Look] | None, int] = field(
        default_factory=lambda: {None: _UNCHANGEABLE}
    )

    def add(self, name: str, image: str, basis: Basis | None, begin: int, length: int) -> None:
        """Adds a judgement.

        Args:
            name: The annotation's name.
            image: The image's path.
            basis: What it rests on; None where nothing can change it.
            begin: Where its findings begin in their file.
            length: How long they are.
        """
        self.names.append(name)
        self.images.append(image)
        self._starts.append(begin)
        self._lengths.append(length)
        if basis is None:
            self.kinds.append(_UNCHANGEABLE)
            self.widths.append(0)
            self.heights.append(0)
            return
        group, ruling, rest, look, width, height = basis
        kind = (group, ruling, rest, look)
        self.kinds.append(self._known.setdefault(kind, len(self._known)))
        self.widths.append(width)
        self.heights.append(height)

    def set_image_aside(self, num_bytes: int, sha256: bytes, image_hash: bytes) -> None:
        """Keeps what no sample holds of the last judgement's image."""
        self.set_aside[len(self.names) - 1] = (num_bytes, sha256, image_hash)

    def find_span(self, number: int) -> tuple[int, int]:
        """Returns where a judgement's findings begin in their file, and how long they are."""
        return self._starts[number], self._lengths[number]

    def find_changed(
        self, rulings: Rulings, decided: Collection[str] = ()
    ) -> Iterator[tuple[int, Look]]:
        """Yields the number of each judgement that may be another one now, and its image's look.

        Args:
            rulings: What the whole set has decided.
            decided: The names of annotations about which a person has decided.
        """
        changed: dict[int, Look] = {}
        looks: dict[int, Look] = {}
        for kind, index in self._known.items():
            if kind is not None:
                group, ruling, rest, look = kind
                looks[index] = look
                if ruling.changes(rulings.find(group), rest):
                    changed[index] = look
        if changed or decided:
            for number, index in enumerate(self.kinds):
                if index in changed or (index in looks and self.names[number] in decided):
                    yield number, looks[index]
