"""Annotations whose image is to be found, and what is chosen for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from detflow.data.findings import Finding
from detflow.data.sources.candidates import Candidates, Claim, place_of

MAX_NAMED = 20
"""How many rivals a finding names at most."""


@dataclass(frozen=True, slots=True)
class Choice:
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
class Case:
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


@dataclass(slots=True)
class Choices:
    """What is chosen for all annotations, and what has been found on the way.

    Attributes:
        by_annotation: The image that each annotation has until now.
        findings: What was decided against some evidence, and who has no image.
        spoken_for: Images about which something is said, so that they are not unlabelled.
        copies: The annotations that are copies of another one.
    """

    by_annotation: dict[str, Choice] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    spoken_for: set[str] = field(default_factory=set)
    copies: set[str] = field(default_factory=set)

    def set_aside_claimed(self, case: Case, choice: Choice, others: Sequence[str]) -> None:
        """Notes that an annotation has no image because others claim the one that it chose."""
        self.spoken_for.add(choice.image)
        images = (choice.image, *(image for image in choice.related if image != choice.image))
        self.findings.append(
            Finding(
                "image_claimed_twice",
                case.annotation,
                value=case.written,
                image=choice.image,
                related=(*images[:MAX_NAMED], *others[:MAX_NAMED]),
            )
        )
