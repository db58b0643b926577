"""Where the annotations of each folder have their images, by the votes of all of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from itertools import chain

from detflow.data.sources.candidates import nearness
from detflow.data.sources.choices import Case
from detflow.data.sources.nearness import folder_of


class Homes:
    """The folders in which the annotations of each folder have their images."""

    def __init__(self, cases: Collection[Case], settled: Mapping[str, str]) -> None:
        """Counts the votes.

        Args:
            cases: The annotations whose image is to be found. Each that has one near candidate has
                a vote.
            settled: The images of those that have one.
        """
        self._homes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._votes: dict[str, int] = {}
        if all(nearness(case.place, image).is_certain for case in cases for image in case.near):
            return
        sure = ((case.place, case.near[0]) for case in cases if len(case.near) == 1)
        at_once = ((folder_of(annotation), image) for annotation, image in settled.items())
        for place, image in chain(at_once, sure):
            self._homes[place][folder_of(image)] += 1
        self._votes = {folder: homes.total() for folder, homes in self._homes.items()}

    def is_away(self, case: Case, image: str) -> bool:
        """Whether the annotations of a folder have their images elsewhere than in this one's."""
        near = nearness(case.place, image)
        if near.is_certain:
            return False
        ours = self._homes[case.place][folder_of(image)]
        others = self._votes.get(case.place, 0) - ours
        supporters = ours - (len(case.near) == 1)
        if not others and not supporters:
            return near.shared == 0 and not near.is_mirrored
        return supporters * 4 < others
