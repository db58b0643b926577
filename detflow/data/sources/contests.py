"""Who gets an image that several annotations have chosen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from detflow.data.findings import Finding
from detflow.data.sources.candidates import CandidateFinder, Claim, agreement, nearness, take_best
from detflow.data.sources.choices import MAX_NAMED, Case, Choice, Choices
from detflow.data.sources.facts import Facts
from detflow.data.sources.nearness import folder_of, words_of


def settle_contests(
    choices: Choices,
    cases: Mapping[str, Case],
    claims: Mapping[str, Claim],
    settled: Mapping[str, str],
    finder: CandidateFinder,
    facts: Facts,
) -> None:
    """Gives each image to one annotation or to none.

    Args:
        choices: What each annotation has chosen; those that lose their image are taken out.
        cases: The annotations that have chosen, by name.
        claims: How each of them claims its image.
        settled: The images of the annotations that had one before.
        finder: Knows whose own name an image has.
        facts: What the files say.
    """
    _Contests(choices, cases, claims, settled, finder, facts).settle()


@dataclass(frozen=True, slots=True)
class _Contests:
    _choices: Choices
    _cases: Mapping[str, Case]
    _claims: Mapping[str, Claim]
    _settled: Mapping[str, str]
    _finder: CandidateFinder
    _facts: Facts

    def settle(self) -> None:
        """Gives each image to one annotation or to none."""
        claimants: defaultdict[str, list[str]] = defaultdict(list)
        for annotation, choice in self._choices.by_annotation.items():
            claimants[choice.image].append(annotation)
        settled = {
            image: annotation for annotation, image in self._settled.items() if image in claimants
        }
        contested = {
            image: sorted([*annotations, *([settled[image]] if image in settled else [])])
            for image, annotations in claimants.items()
            if len(annotations) > 1 or image in settled
        }
        self._facts.read_sizes(image for image in contested if image not in settled)
        self._facts.read_digests(
            annotation
            for annotation in chain.from_iterable(contested.values())
            if annotation not in self._claims or self._claims[annotation][4]
        )
        for image, rivals in contested.items():
            winner = settled.get(image) or self._find_winner(image, rivals)
            for rival in rivals:
                if rival != winner:
                    self._set_aside(rival, image, winner, rivals)
        self._settle_weak()

    def _find_winner(self, image: str, rivals: Sequence[str]) -> str | None:
        best = take_best(rivals, lambda rival: self._strength(rival, image))
        if len(best) == 1:
            return best[0]
        if not self._facts.is_same(best):
            return None
        return min(best, key=lambda rival: (len(words_of(folder_of(rival))), len(rival), rival))

    def _strength(self, annotation: str, image: str) -> tuple[object, ...]:
        """An annotation with the image's own name has the better right, then the nearer one."""
        case = self._cases[annotation]
        fits = {True: 2, None: 1, False: 0}[self._facts.fits(case, image)]
        return (
            image in case.found.own,
            nearness(case.place, image),
            agreement(case.claim, image),
            fits,
        )

    def _set_aside(
        self, annotation: str, image: str, winner: str | None, rivals: Sequence[str]
    ) -> None:
        choice = self._choices.by_annotation.pop(annotation)
        self._choices.spoken_for.add(image)
        if winner is not None and self._facts.is_same((annotation, winner)):
            self._choices.copies.add(annotation)
            self._choices.findings.append(
                Finding("annotation_copy", annotation, image=image, related=(winner,))
            )
            return
        first = [winner] if winner is not None else []
        others = [rival for rival in rivals[:MAX_NAMED] if rival not in (annotation, winner)]
        self._choices.set_aside_claimed(self._cases[annotation], choice, (*first, *others))

    def _settle_weak(self) -> None:
        """Looks at annotations that got an image which has another one's own name."""
        named: defaultdict[str, list[str]] = defaultdict(list)
        for annotation, choice in self._choices.by_annotation.items():
            if choice.code == "claim_stale":
                for image in self._cases[annotation].found.written:
                    named[image].append(annotation)
        for annotation, choice in list(self._choices.by_annotation.items()):
            if choice.image in self._cases[annotation].found.own:
                continue
            owners = [
                owner
                for owner in self._finder.find_owners(choice.image)
                if owner != annotation and owner not in self._choices.copies
            ]
            rivals = named.get(choice.image, [])
            if any(owner not in self._choices.by_annotation for owner in owners) or rivals:
                # The owner is set aside for another reason; or others name this image in vain.
                del self._choices.by_annotation[annotation]
                self._choices.set_aside_claimed(self._cases[annotation], choice, (*owners, *rivals))
            elif owners and choice.code in (None, "paired_by_case", "paired_by_extension"):
                self._choices.by_annotation[annotation] = Choice(
                    choice.image, "paired_by_filename", choice.related, choice.copies
                )
