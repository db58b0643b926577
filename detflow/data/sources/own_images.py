"""The annotations whose image is certain before the other files are read.

Most annotations have an image of their own name to themselves. Such a one has the best claim to
that image whatever the others say, so it is judged as soon as it is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from detflow.data.findings import Finding
from detflow.data.sources.candidates import (
    NameIndex,
    fold,
    is_unsafe,
    name_of,
    nearness,
    own_name,
    split_path,
    stem_of,
)
from detflow.data.sources.evidence import read_header_size
from detflow.data.sources.names import split_extension
from detflow.data.sources.nearness import folder_of, holds_renditions
from detflow.data.sources.source import ImageNames


def find_own_images(annotations: Sequence[str], images: Sequence[str]) -> dict[str, str]:
    """Returns the image that has a file's own name, for each file that is the only one of its name.

    `pair_images` gives an annotation in such a file that image and no other, provided that it does
    claim it: `has_own_image` tells that from the files' content.

    Args:
        annotations: The paths of files that hold annotations.
        images: The images' paths.
    """
    index = NameIndex(images, is_image=True)
    names = [fold(own_name(annotation)) for annotation in annotations]
    counts = Counter(split_extension(name)[0] for name in names)
    own = {}
    for annotation, name in zip(annotations, names, strict=True):
        # `a.jpg.xml` has two names of its own, of which this pass cannot tell the right one.
        candidates = index.find(name) if counts[name] == 1 else ()
        if (
            len(candidates) == 1
            and fold(stem_of(candidates[0])) == name
            and not holds_renditions(folder_of(annotation), folder_of(candidates[0]))
        ):
            own[annotation] = candidates[0]
    return own


def claims_own_image(annotation: str, names: ImageNames) -> bool:
    """Whether what an annotation says about its image fits the one that `find_own_images` found.

    Args:
        annotation: The annotation's name.
        names: How it claims its image.
    """
    if names.filename is not None and is_unsafe(names.filename):
        return False
    written = split_path(names.filename or "")[-1:] or split_path(names.source_path or "")[-1:]
    return not written or fold(split_extension(written[0])[0]) == fold(own_name(annotation))


def is_stranger(annotation: str, size: tuple[int, int] | None, image: str, data: bytes) -> bool:
    """Whether an image of an annotation's own name may be another's all the same.

    That is so where folders do not say that the two belong together, and the sizes differ; then
    the whole dataset has to be known.

    Args:
        annotation: The annotation's name.
        size: The image's width and height as the annotation has them.
        image: The image's path.
        data: The image file.
    """
    if size is None or 0 in size or nearness(folder_of(annotation), image).is_certain:
        return False
    found = read_header_size(data)
    return found is not None and not found.fits(size)


def describe_own_image(annotation: str, names: ImageNames, image: str) -> Finding | None:
    """Returns what has to be said about an annotation that got the image of its own name.

    Args:
        annotation: The annotation's name.
        names: How it claims its image.
        image: The image.
    """
    actual = name_of(image)
    written = split_path(names.filename or "")[-1:]
    if written == (actual,):
        return None
    if written:
        same = fold(written[0]) == fold(actual)
        code = "paired_by_case" if same else "paired_by_extension"
    else:
        code = "paired_by_path" if split_path(names.source_path or "") else "paired_by_stem"
    value = names.filename or "no <filename>"
    return Finding(code, annotation, value=value, expected=actual, image=image)


def names_other_image(annotation: str, source_path: str) -> bool:
    """Whether the end of an annotation's source path is another name than its own."""
    tail = split_path(source_path)[-1:]
    return bool(tail) and fold(split_extension(tail[0])[0]) != fold(own_name(annotation))
