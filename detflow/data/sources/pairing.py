"""Which image belongs to which annotation: decided over the whole dataset, by all evidence.

Every annotation has candidates (`detflow.data.sources.candidates`). Mostly all that is known means
one image. Where `<filename>` names one image and the annotation's own name another, the set
decides: of 100,442 public annotations 1,222 were such, and the own name was right wherever the
image that `<filename>` names had an annotation of its own name (1,218), `<filename>` where it had
none (4). Where several images are left, `<size>` and equal bytes decide. What is decided against
some evidence is a finding, and what nothing decides is one with all candidates.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from detflow.data.findings import Finding
from detflow.data.sources.candidates import (
    CandidateFinder,
    Candidates,
    Claim,
    NameIndex,
    agreement,
    fold,
    is_unsafe,
    name_of,
    nearness,
    own_key,
    place_of,
    split_path,
    stem_of,
    take_best,
)
from detflow.data.sources.evidence import Evidence, HeaderSize
from detflow.data.sources.names import split_extension
from detflow.data.sources.nearness import folder_of, holds_renditions, words_of

_MAX_NAMED = 20


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


@dataclass(frozen=True, slots=True)
class _Choice:
    """The image that an annotation has if nobody has a better right to it.

    Attributes:
        image: The image.
        code: The rule under which it was chosen; None where nothing speaks against it.
        related: The candidates that were not chosen.
        copies: Images with the same bytes.
    """

    image: str
    code: str | None = None
    related: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()


@dataclass(slots=True)
class _Case:
    """An annotation whose image is to be found.

    Attributes:
        annotation: Its name.
        claim: How it claims its image.
        found: Its candidates.
        near: Those that names and folders leave.
        agreed: Those that all names mean, or those of the one name that means any; none where the
            names contradict each other.
        size: The image's width and height as written, where they may be true.
        rejected: Candidates that cannot be the image.
        place: The folder that it stands for.
    """

    annotation: str
    claim: Claim
    found: Candidates
    near: tuple[str, ...] = field(init=False)
    agreed: tuple[str, ...] = field(init=False)
    size: tuple[int, int] | None = field(init=False)
    place: str = field(init=False)
    rejected: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size = self.claim[3]
        self.size = size if size is not None and 0 not in size else None
        self.place = place_of(self.annotation, self.claim)
        self._compare()

    def reject(self, images: tuple[str, ...]) -> None:
        """Takes candidates out."""
        self.rejected = images
        written = tuple(image for image in self.found.written if image not in images)
        self.found = replace(
            self.found,
            written=written,
            own=tuple(image for image in self.found.own if image not in images),
            code=self.found.code if written else "paired_by_stem",
        )
        self._compare()

    def _compare(self) -> None:
        written, own = self.found.written, self.found.own
        if written == own or not own:
            self.near = self.agreed = written
        elif not written:
            self.near = self.agreed = own
        else:
            self.near = tuple(dict.fromkeys((*written, *own)))
            self.agreed = tuple(image for image in written if image in own)

    @property
    def written(self) -> str:
        """What the annotation says about its image, for findings."""
        filename, source_path, _, _, _ = self.claim
        return filename or (f"<path> {source_path}" if source_path else "no <filename>")


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
    _cases: dict[str, _Case] = field(default_factory=dict)
    _choices: dict[str, _Choice] = field(default_factory=dict)
    _findings: list[Finding] = field(default_factory=list)
    _spoken_for: set[str] = field(default_factory=set)
    _copies: set[str] = field(default_factory=set)
    _homes: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _votes: dict[str, int] = field(default_factory=dict)
    _sizes: dict[str, HeaderSize] = field(default_factory=dict)
    _digests: dict[str, bytes] = field(default_factory=dict)
    # How many annotations name an image that does not have their own name.
    _num_written: Counter[str] = field(default_factory=Counter)
    _has_stale: bool = False

    def __post_init__(self) -> None:
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
                self._findings.append(Finding("path_unsafe", annotation, value=claim[0][:200]))
                continue
            case = _Case(annotation, claim, self._finder.find(annotation, claim))
            self._cases[annotation] = case
            self._spoken_for.update(case.found.lesser)
        self._vote()
        self._read_sizes(chain.from_iterable(map(self._find_open, self._cases.values())))
        for case in self._cases.values():
            self._reject_strangers(case)
        ties = (self._find_tied(case) for case in self._cases.values())
        self._read_digests(chain.from_iterable(ties))
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
            if isinstance(choice, _Choice):
                self._choices[case.annotation] = choice
            else:
                self._findings.append(choice)

    def _vote(self) -> None:
        """Counts where the annotations of each folder have their images."""
        cases = self._cases.values()
        if all(nearness(case.place, image).is_certain for case in cases for image in case.near):
            return
        sure = ((case.place, case.near[0]) for case in cases if len(case.near) == 1)
        settled = ((folder_of(annotation), image) for annotation, image in self.settled.items())
        for place, image in chain(settled, sure):
            self._homes[place][folder_of(image)] += 1
        self._votes = {folder: homes.total() for folder, homes in self._homes.items()}

    def _is_away(self, case: _Case, image: str) -> bool:
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

    def _find_open(self, case: _Case) -> Iterable[str]:
        """Returns the images whose sizes are needed."""
        if case.size is None:
            return ()
        rivals = [
            image for image in case.found.others if not self._is_anothers(image, case.annotation)
        ]
        images = (*case.near, *rivals[:_MAX_NAMED])
        if len(images) == 1 and not self._is_away(case, images[0]):
            return ()
        return images

    def _reject_strangers(self, case: _Case) -> None:
        """Takes out candidates in folders where nobody else has an image."""
        rejected = tuple(image for image in case.near if self._is_stranger(case, image))
        if rejected:
            case.reject(rejected)

    def _is_stranger(self, case: _Case, image: str) -> bool:
        if not self._is_away(case, image):
            return False
        if holds_renditions(case.place, folder_of(image)):
            return True
        return self._fits(case, image) is False

    def _find_tied(self, case: _Case) -> Sequence[str]:
        """Returns the images that only their bytes may tell apart."""
        return [
            image
            for group in ((case.agreed,) if case.agreed else (case.found.written, case.found.own))
            for images in (self._take_fitting(case, group),)
            if len(images) > 1
            for image in images
        ]

    def _choose_for(self, case: _Case) -> _Choice | Finding:
        if not case.near:
            return Finding(
                "image_missing",
                case.annotation,
                value=", ".join([case.written, *map(self._describe, case.rejected)]),
                related=case.rejected,
            )
        if case.agreed:
            return self._choose_among(case)
        return self._choose_between(case)

    def _choose_among(self, case: _Case) -> _Choice | Finding:
        choice = self._break_tie(case, case.agreed, case.found.code)
        if choice is None:
            return self._ambiguous(case, (*case.agreed, *case.found.others))
        if self._fits(case, choice.image) is not False:
            return choice
        rivals = [
            image
            for image in case.found.others
            if self._fits(case, image) and not self._is_anothers(image, case.annotation)
        ]
        if not rivals:
            return choice
        if len(rivals) > 1 or nearness(case.place, choice.image).is_certain:
            return self._ambiguous(case, (choice.image, *rivals))
        return _Choice(rivals[0], "paired_by_size", (choice.image,))

    def _choose_between(self, case: _Case) -> _Choice | Finding:
        """Chooses between the image that is written and the one of the annotation's own name."""
        everything = (*case.found.own, *case.found.written)
        written = self._break_tie(case, case.found.written, None)
        own = self._break_tie(case, case.found.own, None)
        if written is None or own is None:
            return self._ambiguous(case, everything)
        by_own = _Choice(own.image, "claim_stale", case.found.written)
        fits_written, fits_own = self._fits(case, written.image), self._fits(case, own.image)
        is_only_written = fits_written is True and fits_own is False
        if (
            self._is_anothers(written.image, case.annotation)
            or self._num_written[written.image] > 1
        ):
            return self._ambiguous(case, everything) if is_only_written else by_own
        is_same_name = fold(stem_of(written.image)) == fold(stem_of(own.image))
        if is_same_name and nearness(case.place, own.image).is_certain:
            by_size = _Choice(written.image, "paired_by_size", case.found.own)
            return by_size if is_only_written else by_own
        if fits_own is True and fits_written is False:
            return by_own
        if self._has_stale and not is_only_written:
            # What others say is stale here, so this may be, too.
            return self._ambiguous(case, everything)
        return _Choice(written.image, "paired_by_filename", case.found.own)

    def _break_tie(self, case: _Case, images: tuple[str, ...], code: str | None) -> _Choice | None:
        """Returns the one of several equal images that `<size>` means, or one of equal bytes."""
        fitting = self._take_fitting(case, images)
        if len(fitting) == 1:
            rest = tuple(image for image in images if image != fitting[0])
            return _Choice(fitting[0], "paired_by_size" if rest else code, rest)
        digests = {self._digests.get(image) for image in fitting}
        if len(digests) > 1 or None in digests:
            return None
        first, *copies = sorted(fitting, key=lambda image: (image.count("/"), image))
        return _Choice(first, code, (), tuple(copies))

    def _take_fitting(self, case: _Case, images: tuple[str, ...]) -> tuple[str, ...]:
        if len(images) < 2:
            return images
        return tuple(image for image in images if self._fits(case, image)) or images

    def settle_contests(self) -> None:
        """Gives each image to one annotation or to none."""
        claimants: defaultdict[str, list[str]] = defaultdict(list)
        for annotation, choice in self._choices.items():
            claimants[choice.image].append(annotation)
        settled = {
            image: annotation for annotation, image in self.settled.items() if image in claimants
        }
        contested = {
            image: sorted([*annotations, *([settled[image]] if image in settled else [])])
            for image, annotations in claimants.items()
            if len(annotations) > 1 or image in settled
        }
        self._read_sizes(image for image in contested if image not in settled)
        self._read_digests(
            annotation
            for annotation in chain.from_iterable(contested.values())
            if annotation not in self.claims or self.claims[annotation][4]
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
        digests = {self._digests.get(rival) for rival in best}
        if len(digests) > 1 or None in digests:
            return None
        return min(best, key=lambda rival: (len(words_of(folder_of(rival))), len(rival), rival))

    def _strength(self, annotation: str, image: str) -> tuple[object, ...]:
        """An annotation with the image's own name has the better right, then the nearer one."""
        case = self._cases[annotation]
        fits = {True: 2, None: 1, False: 0}[self._fits(case, image)]
        return (
            image in case.found.own,
            nearness(case.place, image),
            agreement(case.claim, image),
            fits,
        )

    def _set_aside(
        self, annotation: str, image: str, winner: str | None, rivals: Sequence[str]
    ) -> None:
        choice = self._choices.pop(annotation)
        self._spoken_for.add(image)
        digest = self._digests.get(annotation)
        if winner is not None and digest is not None and digest == self._digests.get(winner):
            self._copies.add(annotation)
            self._findings.append(
                Finding("annotation_copy", annotation, image=image, related=(winner,))
            )
            return
        first = [winner] if winner is not None else []
        others = [rival for rival in rivals[:_MAX_NAMED] if rival not in (annotation, winner)]
        self._claimed_twice(annotation, choice, (*first, *others))

    def _claimed_twice(self, annotation: str, choice: _Choice, others: Sequence[str]) -> None:
        self._spoken_for.add(choice.image)
        images = (choice.image, *(image for image in choice.related if image != choice.image))
        self._findings.append(
            Finding(
                "image_claimed_twice",
                annotation,
                value=self._cases[annotation].written,
                image=choice.image,
                related=(*images[:_MAX_NAMED], *others[:_MAX_NAMED]),
            )
        )

    def _settle_weak(self) -> None:
        """Looks at annotations that got an image which has another one's own name."""
        named: defaultdict[str, list[str]] = defaultdict(list)
        for annotation, choice in self._choices.items():
            if choice.code == "claim_stale":
                for image in self._cases[annotation].found.written:
                    named[image].append(annotation)
        for annotation, choice in list(self._choices.items()):
            if choice.image in self._cases[annotation].found.own:
                continue
            owners = [
                owner
                for owner in self._finder.find_owners(choice.image)
                if owner != annotation and owner not in self._copies
            ]
            rivals = named.get(choice.image, [])
            if any(owner not in self._choices for owner in owners) or rivals:
                # The owner is set aside for another reason; or others name this image in vain.
                del self._choices[annotation]
                self._claimed_twice(annotation, choice, (*owners, *rivals))
            elif owners and choice.code in (None, "paired_by_case", "paired_by_extension"):
                self._choices[annotation] = _Choice(
                    choice.image, "paired_by_filename", choice.related, choice.copies
                )

    def compare_paths(self, settled_paths: Mapping[str, str]) -> None:
        """Notes where `<path>` names another image than the one that everything else means."""
        waiting = (
            (annotation, source_path, choice.image)
            for annotation, choice in self._choices.items()
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
                self._findings.append(
                    Finding(
                        "claim_stale",
                        annotation,
                        value=f"<path> {source_path}",
                        expected=name_of(image),
                        image=image,
                        related=(image, *others[:_MAX_NAMED]),
                    )
                )

    def finish(self) -> Pairs:
        """Returns what was found."""
        for annotation, choice in self._choices.items():
            self._describe_choice(annotation, choice)
        spoken_for = self._spoken_for
        spoken_for.update(self.settled.values())
        spoken_for.update(choice.image for choice in self._choices.values())
        for finding in self._findings:
            spoken_for.update(finding.related)
        for annotation in self.unreadable:
            spoken_for.update(self._index.find(own_key(annotation)))
        self._findings.sort(key=lambda finding: (finding.path, finding.code, finding.value))
        unlabelled = [
            Finding("image_unlabelled", image, image=image)
            for image in sorted(self.images)
            if image not in spoken_for
        ]
        images = {
            annotation: self._choices[annotation].image
            for annotation in self.claims
            if annotation in self._choices
        }
        return Pairs(images, (*self._findings, *unlabelled), frozenset(self._copies))

    def _describe_choice(self, annotation: str, choice: _Choice) -> None:
        case = self._cases[annotation]
        if choice.copies:
            self._findings.append(
                Finding(
                    "image_copies",
                    annotation,
                    image=choice.image,
                    related=(choice.image, *choice.copies[:_MAX_NAMED]),
                )
            )
            self._spoken_for.update(choice.copies)
        if choice.code is None or (
            choice.code == "paired_by_stem"
            and self.by_own_name
            and case.claim[:3] == (None, None, None)
        ):
            return
        related: tuple[str, ...] = ()
        if choice.related:
            related = (choice.image, *choice.related)[:_MAX_NAMED]
        has_namesake = any(name_of(image) == name_of(choice.image) for image in choice.related)
        self._findings.append(
            Finding(
                choice.code,
                annotation,
                value=self._describe_claim(case, choice),
                expected=choice.image if has_namesake else name_of(choice.image),
                image=choice.image,
                related=related,
            )
        )

    def _describe_claim(self, case: _Case, choice: _Choice) -> str:
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

    def _ambiguous(self, case: _Case, images: Sequence[str]) -> Finding:
        self._spoken_for.update(images)
        related = tuple(dict.fromkeys(images))[:_MAX_NAMED]
        return Finding("image_ambiguous", case.annotation, value=case.written, related=related)

    def _is_anothers(self, image: str, annotation: str) -> bool:
        """Whether an image has another annotation's own name."""
        owners = self._finder.find_owners(image)
        return bool(owners) and annotation not in owners

    def _fits(self, case: _Case, image: str) -> bool | None:
        """Whether an image has the annotation's `<size>`; None where nobody knows."""
        found = self._sizes.get(image)
        return None if found is None or case.size is None else found.fits(case.size)

    def _describe(self, image: str) -> str:
        return f"{image} has {self._sizes[image]}" if image in self._sizes else image

    def _read_sizes(self, images: Iterable[str]) -> None:
        needed = sorted({image for image in images if image not in self._sizes})
        if needed:
            self._sizes.update(self.evidence.read_sizes(needed))

    def _read_digests(self, files: Iterable[str]) -> None:
        needed = sorted({file for file in files if file not in self._digests})
        if needed:
            self._digests.update(self.evidence.read_digests(needed))


def _stem_of_written(name: str) -> str:
    return split_extension(name)[0]
