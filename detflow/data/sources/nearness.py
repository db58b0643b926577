"""What the folders of an annotation and of an image say about whether the two belong together.

Nothing is read: a path's words decide. People name the two folders after what lies in them
(`annotations` and `images`, `Annotations` and `JPEGImages`, `a_xml` and `images/a`), so what is
left of two paths without such words is compared.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

# Words by which a folder says only that it holds images, or annotations.
_ROLES = (
    "image images img imgs jpegimages jpg jpgs jpeg jpegs png pngs bmp pic pics picture pictures "
    "photo photos frame frames annotation annotations annot annots ann anns anno annos xml xmls "
    "label labels bbox bboxes voc pascal coco instances"
)
# Words by which a folder says that it holds renditions of images that lie elsewhere.
_RENDITIONS = (
    "mask masks segmentation thumb thumbs thumbnail thumbnails preview previews visualization "
    "visualizations visualisation visualisations vis viz overlay overlays heatmap heatmaps backup "
    "backups bak"
)
_ROLE_WORDS = frozenset(_ROLES.split())
_RENDITION_WORDS = frozenset(_RENDITIONS.split())
_TOKEN = re.compile(r"[\W_]+")
# "JPEGImages" is JPEG and Images, "train2017" is train and 2017.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")


class Nearness(NamedTuple):
    """How near an image's folder is to an annotation's; the greater one is nearer.

    Attributes:
        relation: 2 for the same folder, 1 where only words such as `images` and `annotations` tell
            the two apart, else 0.
        is_voc: Whether it is VOC's `JPEGImages` for `Annotations`.
        shared: How many folders both paths begin with.
        is_mirrored: Whether exactly one folder of the path differs.
    """

    relation: int
    is_voc: bool
    shared: int
    is_mirrored: bool

    @property
    def is_certain(self) -> bool:
        """Whether such folders belong together, whatever else is in the dataset."""
        return self.relation > 0


def folder_of(path: str) -> str:
    """Returns the folder of a path with forward slashes; empty at the top."""
    return path.rpartition("/")[0]


# A dataset has few folders for its files, or each file has its own.
@lru_cache(maxsize=4_096)
def compare_folders(annotation: str, image: str) -> Nearness:
    """Compares the folder of an annotation with the folder of an image."""
    ours, theirs = annotation.split("/"), image.split("/")
    if annotation == image:
        return Nearness(2, False, len(ours), False)
    shared = 0
    for left, right in zip(ours, theirs, strict=False):
        if left != right:
            break
        shared += 1
    differing = sum(left != right for left, right in zip(ours, theirs, strict=False))
    is_voc = (
        len(ours) == len(theirs)
        and differing == 1
        and (ours[shared], theirs[shared]) == ("Annotations", "JPEGImages")
    )
    relation = int(words_of(annotation) == words_of(image))
    return Nearness(relation, is_voc, shared, len(ours) == len(theirs) and differing == 1)


@lru_cache(maxsize=4_096)
def words_of(folder: str) -> tuple[str, ...]:
    """Returns the words of a folder's path that say more than "images" or "annotations"."""
    words = []
    for token in _TOKEN.split(unicodedata.normalize("NFC", folder)):
        if token.casefold() in _ROLE_WORDS:
            continue
        words += [word.casefold() for word in _WORD.findall(token)]
    return tuple(word for word in words if word not in _ROLE_WORDS)


def holds_renditions(annotation: str, image: str) -> bool:
    """Whether an image's folder holds masks, thumbnails, visualisations or a backup.

    A word that the annotation's folder has too says nothing: a dataset of faces may be called
    `mask`.

    Args:
        annotation: The annotation's folder.
        image: The image's folder.
    """
    return bool(_RENDITION_WORDS.intersection(words_of(image)).difference(words_of(annotation)))
