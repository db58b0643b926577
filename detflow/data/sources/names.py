"""What files in a dataset are called: extensions, and the names of splits."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from detflow.data.images.header import IMAGE_SUFFIXES

SPLIT_NAMES = frozenset(
    {
        "train",
        "training",
        "val",
        "valid",
        "validation",
        "test",
        "testing",
        "trainval",
        "dev",
        "development",
        "eval",
        "evaluation",
    }
)
"""Names, in lower case, by which folders and lists declare a split."""
LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})
"""Extensions, in lower case, of lists of splits."""
FILE_SUFFIXES = (*sorted(IMAGE_SUFFIXES), ".xml")
"""Extensions, in lower case, of images and annotations."""
# Other dots are part of a name.
_KNOWN_SUFFIXES = frozenset({*FILE_SUFFIXES, *LIST_SUFFIXES})
# "trainImages2017" has the words train, images and 2017.
_WORDS = re.compile(r"\d+|[A-Z]+(?![a-z])|[^\W\d_][^\W\dA-Z_]*")
_GLUED = re.compile(
    rf"({'|'.join(sorted(SPLIT_NAMES))})(?:lists?|sets?|images|imgs|files|data|ids)"
)
_YEAR = re.compile(r"(?:19|20)\d\d")
# VOC has lists of other tasks under the same names; they divide other images.
_OTHER_TASKS = frozenset({"segmentation", "segmentationclass", "layout", "action", "person"})
# What lies beside lists and is none.
_NO_LISTS = frozenset({"classes", "labels", "names", "readme", "predefinedclasses", "classnames"})


def split_extension(name: str) -> tuple[str, str]:
    """Splits a file's name or path before its extension, where that is one of a dataset's files."""
    stem, dot, tail = name.rpartition(".")
    suffix = dot + tail
    return (stem, suffix) if stem and suffix.lower() in _KNOWN_SUFFIXES else (name, "")


def fold_name(name: str) -> str:
    """Returns a name without case and Unicode form, which file systems change on the way."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name.casefold())


@lru_cache(maxsize=4096)
def find_split_word(name: str) -> str | None:
    """Returns the split that a folder or a list names, in lower case.

    The name is that of a split ("Train", "train_val"), or has it among its words: "train_images",
    "val2017", "Training Set", "2007_test", "trainlist". One with several is none.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    words = [found[1] if (found := _GLUED.fullmatch(word)) else word for word in words]
    splits = [word for word in words if word in SPLIT_NAMES]
    if splits == ["train", "val"] and "train_val" in "_".join(words):
        return "trainval"
    return splits[0] if len(set(splits)) == 1 else None


def is_split_name(name: str) -> bool:
    """Whether a name is that of a split and nothing else."""
    return _join(name) in SPLIT_NAMES


def is_image_sets(folder: str) -> bool:
    """Whether a folder is where VOC keeps its lists, ImageSets."""
    return _join(folder) in ("imagesets", "imageset")


def is_in_image_sets(path: str) -> bool:
    """Whether a file lies below such a folder."""
    return any(map(is_image_sets, path.split("/")[:-1]))


def is_of_other_task(path: str) -> bool:
    """Whether a list is VOC's for another task than detection."""
    folders = path.split("/")[:-1]
    return is_in_image_sets(path) and any(_join(folder) in _OTHER_TASKS for folder in folders)


def may_list_split(path: str) -> bool:
    """Whether a text file may declare a split, by its path.

    Below ImageSets that is any list; elsewhere its name has to say so. Files that belong to one
    image have its number in their names ("train_000012.txt").
    """
    stem, suffix = split_extension(path.rpartition("/")[2])
    if is_in_image_sets(path):
        is_list = suffix.lower() in ("", *LIST_SUFFIXES) and "." not in stem
        return is_list and _join(stem) not in _NO_LISTS
    if suffix.lower() not in LIST_SUFFIXES or find_split_word(stem) is None:
        return False
    numbers = [word for word in _WORDS.findall(stem) if word.isdigit()]
    return all(len(number) < 3 or _YEAR.fullmatch(number) for number in numbers)


def _join(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()
