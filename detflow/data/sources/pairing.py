"""Which image belongs to which annotation.

A match counts only if it is the only one; nothing is guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from detflow.data.findings import Finding
from detflow.data.sources.names import split_extension
from detflow.data.sources.source import ImageNames

_SEPARATORS = re.compile(r"[\\/]+")
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Pairs:
    """The result of pairing.

    Attributes:
        images: The image of each annotation that has one, by the annotation's name, in the given
            order.
        findings: What was mended, and which annotations and images stay alone.
    """

    images: Mapping[str, str]
    findings: tuple[Finding, ...]


def find_own_images(annotations: Sequence[str], images: Sequence[str]) -> dict[str, str]:
    """Returns the image that has a file's own name, for each file that is the only one of its name.

    An annotation in such a file has the best claim to that image whatever the other files say, so
    it need not wait for them, provided that it does claim the image: `has_own_image` tells that
    from its content.

    Args:
        annotations: The paths of files that hold annotations.
        images: The images' paths.
    """
    index = _build_index(images)
    names = [_fold(_own_name(annotation)) for annotation in annotations]
    counts = Counter(names)
    own = {}
    for annotation, name in zip(annotations, names, strict=True):
        # `a.jpg.xml` has two names of its own, of which this pass cannot tell the right one.
        candidates = (
            index.get(name, []) if counts[name] == 1 and not split_extension(name)[1] else []
        )
        if len(candidates) == 1 and _fold(_own_name(candidates[0])) == name:
            own[annotation] = candidates[0]
    return own


def has_own_image(annotation: str, names: ImageNames) -> bool:
    """Whether an annotation claims the image that `find_own_images` has found.

    If so, `pair_images` gives it that image and no other.

    Args:
        annotation: The annotation's name.
        names: How it claims its image.
    """
    filename, source_path = names
    if filename is not None and _is_unsafe(filename):
        return False
    source = filename or source_path
    return source is None or _fold(_own_name(_SEPARATORS.sub("/", source))) == _fold(
        _own_name(annotation)
    )


@dataclass(frozen=True, slots=True)
class _Claim:
    annotation: str
    image: str
    code: str | None
    value: str

    @property
    def strength(self) -> tuple[bool, int]:
        """An annotation that has the image's own name, and the nearer one, has the better right."""
        own = _fold(_own_name(self.annotation)) == _fold(_own_name(self.image))
        return own, _shared_folders(self.annotation, self.image)


def pair_images(
    names: Mapping[str, tuple[str | None, str | None]],
    images: Sequence[str],
    unreadable: Sequence[str] = (),
    *,
    by_own_name: bool = False,
) -> Pairs:
    """Finds each annotation's image.

    Tried in this order: `<filename>`; the same in another case; with another extension or none; the
    end of `<path>`; the annotation's own name. Where several images have the name, the nearest
    folder counts, then the one mirrored folder (`annotations/train` beside `images/train`); what is
    still ambiguous is a finding.

    Args:
        names: The file name and the source path (see `ImageNames`) by which each annotation claims
            its image, by the annotation's name.
        images: The images' paths.
        unreadable: Annotations that could not be read; an image with such a one's name is not
            unlabelled.
        by_own_name: Whether annotations that name no image belong to those of their own names, so
            that nothing is mended where that is followed.
    """
    index = _build_index(images)
    findings: list[Finding] = []
    claims: list[_Claim] = []
    for annotation, (filename, source_path) in names.items():
        found = _find_image(annotation, filename, source_path, index)
        if isinstance(found, _Claim):
            claims.append(found)
        else:
            findings.append(found)
    paired = _settle(claims, findings)
    for claim in paired:
        if claim.code is not None and not (by_own_name and names[claim.annotation][0] is None):
            expected = _name(claim.image)
            findings.append(
                Finding(
                    claim.code,
                    claim.annotation,
                    value=claim.value,
                    expected=expected,
                    image=claim.image,
                )
            )
    # An image that a quarantined annotation names is not an unlabelled one.
    spoken_for = {claim.image for claim in claims} | {
        image for finding in findings for image in finding.related
    }
    spoken_for |= {
        image for annotation in unreadable for image in index.get(_fold(_own_name(annotation)), ())
    }
    findings.extend(
        Finding("image_unlabelled", image, image=image)
        for image in images
        if image not in spoken_for
    )
    return Pairs({claim.annotation: claim.image for claim in paired}, tuple(findings))


def _find_image(
    annotation: str, filename: str | None, source_path: str | None, index: Mapping[str, list[str]]
) -> _Claim | Finding:
    if filename is not None and _is_unsafe(filename):
        return Finding("path_unsafe", annotation, value=filename[:200])
    own = _own_name(annotation)
    tail = _SEPARATORS.split(source_path)[-1] if source_path else None
    written = filename or "no <filename>"
    for source, code in ((filename, None), (tail, "paired_by_path"), (own, "paired_by_stem")):
        if not source:
            continue
        for level, candidates in enumerate(_levels(source, index)):
            nearest = _nearest(annotation, candidates)
            if len(nearest) > 1:
                return Finding(
                    "image_ambiguous",
                    annotation,
                    value=written,
                    related=tuple(nearest[:_MAX_NAMED]),
                )
            if nearest:
                by_level = (None, "paired_by_case", "paired_by_extension")[level]
                return _Claim(annotation, nearest[0], code or by_level, written)
    return Finding("image_missing", annotation, value=written)


def _is_unsafe(filename: str) -> bool:
    """Whether a POSIX path leaves its folder.

    A drive letter leads nowhere here; the last part behind it is a name like any other.
    """
    return (
        filename.startswith("/")
        or "\0" in filename
        or (".." in filename and ".." in _SEPARATORS.split(filename))
    )


def _levels(source: str, index: Mapping[str, list[str]]) -> Iterable[list[str]]:
    """Yields the images with the exact name, those in another case, those of another extension."""
    parts = [part for part in _SEPARATORS.split(source) if part not in ("", ".")]
    if not parts:
        return
    name = parts[-1]
    candidates = index.get(_fold(split_extension(name)[0]), [])
    folders = "/".join(parts[:-1]) + "/" if len(parts) > 1 else ""
    if folders:
        candidates = [
            image for image in candidates if f"/{image}".endswith(f"/{folders}{_name(image)}")
        ] or candidates
    yield [image for image in candidates if _name(image) == name]
    yield [image for image in candidates if _fold(_name(image)) == _fold(name)]
    yield candidates


def _nearest(annotation: str, candidates: Sequence[str]) -> list[str]:
    if len(candidates) < 2:
        return list(candidates)
    depth = max(_shared_folders(annotation, image) for image in candidates)
    nearest = [image for image in candidates if _shared_folders(annotation, image) == depth]
    if len(nearest) == 1:
        return nearest
    mirrored = [image for image in nearest if _is_mirrored(annotation, image)]
    return mirrored if len(mirrored) == 1 else nearest


def _shared_folders(one: str, other: str) -> int:
    count = 0
    for left, right in zip(one.split("/")[:-1], other.split("/")[:-1], strict=False):
        if left != right:
            break
        count += 1
    return count


def _is_mirrored(annotation: str, image: str) -> bool:
    ours, theirs = annotation.split("/")[:-1], image.split("/")[:-1]
    return (
        len(ours) == len(theirs)
        and sum(left != right for left, right in zip(ours, theirs, strict=True)) == 1
    )


def _settle(claims: Sequence[_Claim], findings: list[Finding]) -> list[_Claim]:
    """Returns the claims that stand: an image goes to one annotation or to none."""
    counts = Counter(claim.image for claim in claims)
    contested: defaultdict[str, list[_Claim]] = defaultdict(list)
    for claim in claims:
        if counts[claim.image] > 1:
            contested[claim.image].append(claim)
    settled = []
    for claim in claims:
        if counts[claim.image] == 1:
            settled.append(claim)
            continue
        rivals = contested[claim.image]
        best = max(rival.strength for rival in rivals)
        wins = claim.strength == best and sum(rival.strength == best for rival in rivals) == 1
        if wins:
            settled.append(claim)
        else:
            others = [rival.annotation for rival in rivals if rival is not claim]
            related = (claim.image, *others[:_MAX_NAMED])
            findings.append(
                Finding(
                    "image_claimed_twice",
                    claim.annotation,
                    value=claim.value,
                    image=claim.image,
                    related=related,
                )
            )
    return settled


def _build_index(images: Sequence[str]) -> dict[str, list[str]]:
    index: defaultdict[str, list[str]] = defaultdict(list)
    for image in images:
        name = _name(image)
        stem, suffix = split_extension(name)
        index[_fold(stem)].append(image)
        if not suffix and "." in name:
            # An image by content with an unknown extension.
            index[_fold(name.rpartition(".")[0])].append(image)
    return dict(index)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _own_name(path: str) -> str:
    return _name(split_extension(path)[0])


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
