"""What lies beside YOLO's labels: `data.yaml`, and lists of the classes' names."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from detflow.data.sources.names import find_split_word
from detflow.errors import DataError

MAX_SIDE_BYTES = 2_000_000
LISTS_OF_CLASSES = frozenset(
    {"classes.txt", "class_names.txt", "names.txt", "labels.txt", "predefined_classes.txt"}
)
"""Names, in lower case, of text files with a class a line."""

_SPLIT_KEYS = ("train", "val", "valid", "validation", "test")
_SEPARATORS = re.compile(r"[\\/]+")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a file beside the labels says about those in its folder and below.

    Attributes:
        path: The file inside the dataset.
        names: The classes' numbers and names, in ascending order of the numbers.
        splits: (split, path as written) of each folder or list that it declares.
        root: The folder that those paths are relative to, as written; empty where it names none.
        num_keypoint_values: How many values keypoints take in a label's line; None without them.
    """

    path: str
    names: tuple[tuple[int, str], ...]
    splits: tuple[tuple[str, str], ...] = ()
    root: str = ""
    num_keypoint_values: int | None = None

    @property
    def folder(self) -> str:
        """The file's folder, with a slash behind it; empty for the dataset's own."""
        return self.path[: self.path.rfind("/") + 1]


def is_list_of_classes(path: str) -> bool:
    """Whether a file lists classes, by its name: classes.txt, obj.names, _darknet.labels."""
    name = path.rpartition("/")[2].lower()
    return name in LISTS_OF_CLASSES or name.endswith((".names", ".labels"))


def read_scope(data: bytes, path: str) -> Scope | None:
    """Reads a file beside the labels; None where it says nothing about classes.

    Raises:
        DataError: It cannot be read.
    """
    if len(data) > MAX_SIDE_BYTES:
        raise DataError(f"larger than {MAX_SIDE_BYTES:,} bytes", path=path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("not UTF-8 text", path=path, remedy="save it as UTF-8") from None
    if is_list_of_classes(path):
        lines = [" ".join(line.split()) for line in text.splitlines()]
        while lines and not lines[-1]:
            lines.pop()
        return Scope(path, _number(enumerate(lines), path)) if lines else None
    return _read_yaml(text, path)


def _read_yaml(text: str, path: str) -> Scope | None:
    try:
        # The base loader leaves every scalar a text: "no" and "on" are names of classes.
        content = yaml.load(text, yaml.BaseLoader)  # noqa: S506
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if "names" not in text:
            return None
        reason = str(error).split("\n")[0][:200]
        raise DataError(f"not YAML: {reason}", path=path, remedy="correct it") from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        pairs: Any = enumerate(names)
    elif isinstance(names, dict):
        pairs = names.items()
    else:
        return None
    splits = []
    for key in _SPLIT_KEYS:
        value = content.get(key)
        values = value if isinstance(value, list) else [value]
        splits += [(key, one) for one in values if isinstance(one, str) and one.strip()]
    root = content.get("path")
    return Scope(
        path,
        _number(pairs, path),
        tuple(splits),
        root if isinstance(root, str) else "",
        _count_keypoint_values(content.get("kpt_shape")),
    )


def _number(pairs: Any, path: str) -> tuple[tuple[int, str], ...]:
    numbered: dict[int, str] = {}
    for number, name in pairs:
        text = " ".join(name.split()) if isinstance(name, str) else ""
        if not str(number).isdigit() or len(str(number)) > 9 or not text:
            raise DataError(
                f"names: {str(number)[:80]}: {str(name)[:80]!r} is not a number with a name",
                path=path,
            )
        numbered[int(number)] = text
    return tuple(sorted(numbered.items()))


def _count_keypoint_values(shape: Any) -> int | None:
    if isinstance(shape, list) and len(shape) == 2:
        count, dimensions = map(str, shape)
        if count.isdigit() and len(count) < 5 and dimensions in ("2", "3"):
            return int(count) * int(dimensions)
    return None


def choose_names(scopes: Collection[Scope], path: str) -> Scope | None:
    """Returns what names a label file's classes: the nearest above it, or the dataset's only one.

    Raises:
        DataError: Two disagree, and nothing says which one counts.
    """
    above = [scope for scope in scopes if path.startswith(scope.folder)]
    chosen = above or list(scopes)
    if not chosen:
        return None
    # data.yaml says more than a list, so it comes first where both are equally near.
    first = min(chosen, key=lambda scope: (-len(scope.folder), not scope.splits, scope.path))
    for other in chosen:
        shorter, longer = sorted((first.names, other.names), key=len)
        if longer[: len(shorter)] != shorter:
            raise DataError(
                f"it names the classes differently from {other.path}",
                path=first.path,
                remedy="correct or remove one of the two",
            )
    return first


def find_declared(
    scope: Scope, written: str, folders: Collection[str], lists: Collection[str]
) -> str | None:
    """Returns the folder or list inside the dataset that a split's path means; None for none.

    Tools write such paths relative to the file, to its key `path`, to a folder beside the dataset
    (Roboflow's "../train/images"), or as they were on another machine.

    Args:
        scope: The file that declares it.
        written: The path as written.
        folders: The dataset's folders, without a slash at the end.
        lists: Its text files.
    """
    places = [
        _normalise(scope.folder, scope.root, written),
        _normalise(scope.folder, written),
        _normalise(scope.folder, *[part for part in _SEPARATORS.split(written) if part != ".."]),
    ]
    for place in places:
        if place is not None and (place in folders or place in lists):
            return place
    parts = [part for part in _SEPARATORS.split(written) if part not in ("", ".", "..")]
    for start in range(1, len(parts)):
        rest = parts[start:]
        # One that does not name a split may mean any folder.
        place = _normalise(scope.folder, *rest)
        if (place in folders or place in lists) and any(map(find_split_word, rest)):
            return place
    return None


def _normalise(*parts: str) -> str | None:
    plain = [part.replace("\\", "/") for part in parts if part]
    if any(part.startswith("/") or ":" in part for part in plain):
        return None
    place = posixpath.normpath("/".join(plain) or ".")
    return None if place.startswith("..") else "" if place == "." else place


@lru_cache(maxsize=64)
def to_mapping(scope: Scope | None) -> Mapping[int, str]:
    """Returns the names by number; none where nothing names them."""
    return dict(scope.names) if scope else {}
