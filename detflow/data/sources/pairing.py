"""Which image belongs to which annotation: decided over the whole dataset, by all evidence.

Every annotation has candidates (`detflow.data.sources.candidates`). Mostly all that is known means
one image. Where `<filename>` names one image and the annotation's own name another, the set
decides: of 100,442 public annotations 1,222 were such, and the own name was right wherever the
image that `<filename>` names had an annotation of its own name (1,218), `<filename>` where it had
none (4). Where several images are left, `<size>` and equal bytes decide. What is decided against
some evidence is a finding, and what nothing decides is one with all candidates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from detflow.data.findings import Finding
from detflow.data.sources.candidates import (
    CandidateFinder,
    Claim,
    NameIndex,
    fold,
    is_unsafe,
    name_of,
    nearness,
    own_key,
    split_path,
    stem_of,
)
from detflow.data.sources.choices import MAX_NAMED, Case, Choice, Choices
from detflow.data.sources.contests import settle_contests
from detflow.data.sources.evidence import Evidence
from detflow.data.sources.facts import Facts
from detflow.data.sources.homes import Homes
from detflow.data.sources.names import split_extension
from detflow.data.sources.nearness import folder_of, holds_renditions


@dataclass(frozen=True, slots=True)
class Pairs:
    """The result of pairing.

    Attributes:
        images: The image of each annotation that was found one, by the annotation's name, in the
            order of the claims.
        findings: What was decided against some evidence, and which annotations and images stay
            alone.
        copies: The annotations that are copies of another one, and so in no count.
    """

    images: Mapping[str, str]
    findings: tuple[Finding, ...]
    copies: frozenset[str]


def pair_images(
    claims: Mapping[str, Claim],
    images: Sequence[str],
    evidence: Evidence,
    settled: Mapping[str, str] | None = None,
    settled_paths: Mapping[str, str] | None = None,
    unreadable: Sequence[str] = (),
    *,
    by_own_name: bool = False,
) -> Pairs:
    """Finds each annotation's image. The order of what is given does not matter.

    Args:
        claims: How each annotation claims its image, by the annotation's name.
        images: The images' paths.
        evidence: Reads what names leave open.
        settled: Annotations that have an image already; see `find_own_images`.
        settled_paths: The source paths of those among them that may name another image.
        unreadable: Annotations that could not be read. What has the name of such a one is its
            image, and not unlabelled.
        by_own_name: Whether annotations that name no image belong to those of their own names, so
            that nothing is to be said where they do.
    """
    pairing = _Pairing(claims, images, evidence, settled or {}, unreadable, by_own_name)
    pairing.choose()
    pairing.settle_contests()
    pairing.compare_paths(settled_paths or {})
    return pairing.finish()


@dataclass(slots=True)
class _Pairing:
    claims: Mapping[str, Claim]
    images: Sequence[str]
    evidence: Evidence
    settled: Mapping[str, str]
    unreadable: Sequence[str]
    by_own_name: bool
    _index: NameIndex = field(init=False)
    _finder: CandidateFinder = field(init=False)
    _facts: Facts = field(init=False)
    _homes: Homes = field(init=False)
    _cases: dict[str, Case] = field(default_factory=dict)
    _choices: Choices = field(default_factory=Choices)
    # How many annotations name an image that does not have their own name.
    _num_written: Counter[str] = field(default_factory=Counter)
    _has_stale: bool = False

    def __post_init__(self) -> None:
        self._facts = Facts(self.evidence)
        self._index = NameIndex(self.images, is_image=True)
        names = set()
        for annotation, (filename, source_path, _, _, has_own_name) in self.claims.items():
            if has_own_name:
                names.add(own_key(annotation))
            for text in (filename, source_path):
                names.update(fold(_stem_of_written(part)) for part in split_path(text or "")[-1:])
        named = (annotation for annotation, claim in self.claims.items() if claim[4])
        everybody = chain(named, self.settled, self.unreadable)
        self._finder = CandidateFinder(self._index, NameIndex(everybody, names, is_image=False))

    def choose(self) -> None:
        """Chooses an image for each annotation, whoever else may choose it."""
        for annotation, claim in sorted(self.claims.items(), key=lambda item: item[0]):
            if claim[0] is not None and is_unsafe(claim[0]):
                self._choices.findings.append(
                    Finding("path_unsafe", annotation, value=claim[0][:200])
                )
                continue
            case = Case(annotation, claim, self._finder.find(annotation, claim))
            self._cases[annotation] = case
            self._choices.spoken_for.update(case.found.lesser)
        self._homes = Homes(self._cases.values(), self.settled)
        self._facts.read_sizes(chain.from_iterable(map(self._find_open, self._cases.values())))
        for case in self._cases.values():
            self._reject_strangers(case)
        ties = (self._find_tied(case) for case in self._cases.values())
        self._facts.read_digests(chain.from_iterable(ties))
        for case in self._cases.values():
            if len(case.found.written) == 1 and case.found.written[0] not in case.found.own:
                self._num_written[case.found.written[0]] += 1
        self._has_stale = any(
            fold(stem_of(case.found.written[0])) != fold(stem_of(case.found.own[0]))
            and self._is_anothers(case.found.written[0], case.annotation)
            for case in self._cases.values()
            if case.near and not case.agreed
        )
        for case in self._cases.values():
            choice = self._choose_for(case)
            if isinstance(choice, Choice):
                self._choices.by_annotation[case.annotation] = choice
            else:
                self._choices.findings.append(choice)

    def _find_open(self, case: Case) -> Iterable[str]:
        """Returns the images whose sizes are needed."""
        if case.size is None:
            return ()
        rivals = [
            image for image in case.found.others if not self._is_anothers(image, case.annotation)
        ]
        images = (*case.near, *rivals[:MAX_NAMED])
        if len(images) == 1 and not self._homes.is_away(case, images[0]):
            return ()
        return images

    def _reject_strangers(self, case: Case) -> None:
        """Takes out candidates in folders where nobody else has an image."""
        rejected = tuple(image for image in case.near if self._is_stranger(case, image))
        if rejected:
            case.reject(rejected)

    def _is_stranger(self, case: Case, image: str) -> bool:
        if not self._homes.is_away(case, image):
            return False
        if holds_renditions(case.place, folder_of(image)):
            return True
        return self._facts.fits(case, image) is False

    def _find_tied(self, case: Case) -> Sequence[str]:
        """Returns the images that only their bytes may tell apart."""
        return [
            image
            for group in ((case.agreed,) if case.agreed else (case.found.written, case.found.own))
            for images in (self._take_fitting(case, group),)
            if len(images) > 1
            for image in images
        ]

    def _choose_for(self, case: Case) -> Choice | Finding:
        if not case.near:
            return Finding(
                "image_missing",
                case.annotation,
                value=", ".join([case.written, *map(self._facts.describe, case.rejected)]),
                related=case.rejected,
            )
        if case.agreed:
            return self._choose_among(case)
        return self._choose_between(case)

    def _choose_among(self, case: Case) -> Choice | Finding:
        choice = self._break_tie(case, case.agreed, case.found.code)
        if choice is None:
            return self._ambiguous(case, (*case.agreed, *case.found.others))
        if self._facts.fits(case, choice.image) is not False:
            return choice
        rivals = [
            image
            for image in case.found.others
            if self._facts.fits(case, image) and not self._is_anothers(image, case.annotation)
        ]
        if not rivals:
            return choice
        if len(rivals) > 1 or nearness(case.place, choice.image).is_certain:
            return self._ambiguous(case, (choice.image, *rivals))
        return Choice(rivals[0], "paired_by_size", (choice.image,))

    def _choose_between(self, case: Case) -> Choice | Finding:
        """Chooses between the image that is written and the one of the annotation's own name."""
        everything = (*case.found.own, *case.found.written)
        written = self._break_tie(case, case.found.written, None)
        own = self._break_tie(case, case.found.own, None)
        if written is None or own is None:
            return self._ambiguous(case, everything)
        by_own = Choice(own.image, "claim_stale", case.found.written)
        fits_written, fits_own = (
            self._facts.fits(case, written.image),
            self._facts.fits(case, own.image),
        )
        is_only_written = fits_written is True and fits_own is False
        if (
            self._is_anothers(written.image, case.annotation)
            or self._num_written[written.image] > 1
        ):
            return self._ambiguous(case, everything) if is_only_written else by_own
        is_same_name = fold(stem_of(written.image)) == fold(stem_of(own.image))
        if is_same_name and nearness(case.place, own.image).is_certain:
            by_size = Choice(written.image, "paired_by_size", case.found.own)
            return by_size if is_only_written else by_own
        if fits_own is True and fits_written is False:
            return by_own
        if self._has_stale and not is_only_written:
            # What others say is stale here, so this may be, too.
            return self._ambiguous(case, everything)
        return Choice(written.image, "paired_by_filename", case.found.own)

    def _break_tie(self, case: Case, images: tuple[str, ...], code: str | None) -> Choice | None:
        """Returns the one of several equal images that `<size>` means, or one of equal bytes."""
        fitting = self._take_fitting(case, images)
        if len(fitting) == 1:
            rest = tuple(image for image in images if image != fitting[0])
            return Choice(fitting[0], "paired_by_size" if rest else code, rest)
        if not self._facts.is_same(fitting):
            return None
        first, *copies = sorted(fitting, key=lambda image: (image.count("/"), image))
        return Choice(first, code, (), tuple(copies))

    def _take_fitting(self, case: Case, images: tuple[str, ...]) -> tuple[str, ...]:
        if len(images) < 2:
            return images
        return tuple(image for image in images if self._facts.fits(case, image)) or images

    def settle_contests(self) -> None:
        """Gives each image to one annotation or to none."""
        settle_contests(
            self._choices, self._cases, self.claims, self.settled, self._finder, self._facts
        )

    def compare_paths(self, settled_paths: Mapping[str, str]) -> None:
        """Notes where `<path>` names another image than the one that everything else means."""
        waiting = (
            (annotation, source_path, choice.image)
            for annotation, choice in self._choices.by_annotation.items()
            if (source_path := self.claims[annotation][1])
            and choice.code in (None, "paired_by_case", "paired_by_extension", "paired_by_size")
        )
        at_once = (
            (annotation, source_path, self.settled[annotation])
            for annotation, source_path in settled_paths.items()
        )
        for annotation, source_path, image in chain(waiting, at_once):
            tail = fold("".join(map(_stem_of_written, split_path(source_path)[-1:])))
            others = self._index.find(tail)
            if others and tail != fold(stem_of(image)):
                self._choices.findings.append(
                    Finding(
                        "claim_stale",
                        annotation,
                        value=f"<path> {source_path}",
                        expected=name_of(image),
                        image=image,
                        related=(image, *others[:MAX_NAMED]),
                    )
                )

    def finish(self) -> Pairs:
        """Returns what was found."""
        for annotation, choice in self._choices.by_annotation.items():
            self._describe_choice(annotation, choice)
        spoken_for = self._choices.spoken_for
        spoken_for.update(self.settled.values())
        spoken_for.update(choice.image for choice in self._choices.by_annotation.values())
        for finding in self._choices.findings:
            spoken_for.update(finding.related)
        for annotation in self.unreadable:
            spoken_for.update(self._index.find(own_key(annotation)))
        self._choices.findings.sort(key=lambda finding: (finding.path, finding.code, finding.value))
        unlabelled = [
            Finding("image_unlabelled", image, image=image)
            for image in sorted(self.images)
            if image not in spoken_for
        ]
        images = {
            annotation: self._choices.by_annotation[annotation].image
            for annotation in self.claims
            if annotation in self._choices.by_annotation
        }
        return Pairs(
            images, (*self._choices.findings, *unlabelled), frozenset(self._choices.copies)
        )

    def _describe_choice(self, annotation: str, choice: Choice) -> None:
        case = self._cases[annotation]
        if choice.copies:
            self._choices.findings.append(
                Finding(
                    "image_copies",
                    annotation,
                    image=choice.image,
                    related=(choice.image, *choice.copies[:MAX_NAMED]),
                )
            )
            self._choices.spoken_for.update(choice.copies)
        if choice.code is None or (
            choice.code == "paired_by_stem"
            and self.by_own_name
            and case.claim[:3] == (None, None, None)
        ):
            return
        related: tuple[str, ...] = ()
        if choice.related:
            related = (choice.image, *choice.related)[:MAX_NAMED]
        has_namesake = any(name_of(image) == name_of(choice.image) for image in choice.related)
        self._choices.findings.append(
            Finding(
                choice.code,
                annotation,
                value=self._describe_claim(case, choice),
                expected=choice.image if has_namesake else name_of(choice.image),
                image=choice.image,
                related=related,
            )
        )

    def _describe_claim(self, case: Case, choice: Choice) -> str:
        """Returns what the annotation says that was followed, or not."""
        _, source_path, folder, size, _ = case.claim
        said = [case.written]
        if choice.code == "paired_by_size" and size is not None:
            said.append(f"<size> {size[0]}x{size[1]}")
        elif choice.code == "claim_stale" and any(
            fold(stem_of(image)) == fold(stem_of(choice.image)) for image in choice.related
        ):
            # The names are the same, so the folders are not.
            said += [f"<path> {source_path}"] if source_path else []
            said += [f"<folder> {folder}"] if folder else []
        return ", ".join(said)

    def _ambiguous(self, case: Case, images: Sequence[str]) -> Finding:
        self._choices.spoken_for.update(images)
        related = tuple(dict.fromkeys(images))[:MAX_NAMED]
        return Finding("image_ambiguous", case.annotation, value=case.written, related=related)

    def _is_anothers(self, image: str, annotation: str) -> bool:
        """Whether an image has another annotation's own name."""
        owners = self._finder.find_owners(image)
        return bool(owners) and annotation not in owners


def _stem_of_written(name: str) -> str:
    return split_extension(name)[0]
