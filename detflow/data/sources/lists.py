"""Reads one list of a split, whoever wrote it: its encoding, its columns, and what it names.

What a line means is decided by the names that the dataset has: an encoding, a column or a folder
counts where it leads to an annotation, and to one only.
"""

from __future__ import annotations

import codecs
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from detflow.data.sources.names import (
    FILE_SUFFIXES,
    find_split_word,
    fold_name,
    is_image_sets,
    is_in_image_sets,
    is_split_name,
    split_extension,
)
from detflow.storage.interface import Folder

_MAX_LIST_BYTES = 1 << 28
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
# Those of Windows and of older systems; where several decode a list, the names decide.
_LEGACY = (
    "gb18030",
    "cp1252",
    "latin-1",
    "big5",
    "cp932",
    "cp949",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1254",
    "cp1256",
    "koi8-r",
    "cp437",
    "cp850",
)
_MAX_PROBED = 1000
_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_FLAGS = ("1", "0", "-1")
_NUMBERS = re.compile(r"[-+.,\d]+")
_FILE_END = re.compile(rf"(?:{'|'.join(map(re.escape, FILE_SUFFIXES))})(?=[\s,;|\"']|$)", re.I)
_BETWEEN = " \t,;|\"'"
_MAX_COLUMNS = 4
# No path is longer; boxes in columns are.
_MAX_ENTRY = 4096
_COLUMN_ENDS = (re.compile(r"\t"), re.compile(r"[,;|]"), re.compile(r"\s"))
_COMMENTS = ("#", ";", "//", "%")
# YOLO's boxes: the class, then four fractions of the image's sides.
_BOXES = re.compile(r"\d+(?:\s+(?:[01]?\.\d+(?:e-\d+)?|\d(?:\.\d+)?e-\d+|[01])){4,}", re.I)


@dataclass(frozen=True, slots=True)
class SplitList:
    """A list as read.

    Attributes:
        path: The file inside the dataset.
        stem: Its name without the extension.
        word: The split that the name says, in lower case; None where it says none.
        has_flags: Whether each line has VOC's flag for a class behind the name: 1, 0 or -1.
        found: The annotations that it names, in its order.
        missing: The lines that name none, or several, with what they say.
        twice: The lines that repeat an earlier one.
        fault: Why it cannot be read at all; empty where it can.
    """

    path: str
    stem: str
    word: str | None
    has_flags: bool
    found: Mapping[str, None] = field(default_factory=dict)
    missing: tuple[tuple[int, str], ...] = ()
    twice: tuple[tuple[int, str], ...] = ()
    fault: str = ""

    @property
    def is_declared(self) -> bool:
        """Whether its place says that it can be nothing else than a list of a split."""
        return is_in_image_sets(self.path)

    @property
    def is_plain(self) -> bool:
        """Whether its name is a split's and nothing else."""
        return is_split_name(self.stem)

    @property
    def is_of_class(self) -> bool:
        """Whether it is VOC's list of one class, which has a flag for each image of a split."""
        return self.has_flags and not self.is_plain

    @property
    def is_empty(self) -> bool:
        """Whether it has no line."""
        return not self.found and not self.missing and not self.fault


def read_list(source: Folder, path: str, finder: EntryFinder) -> SplitList | None:
    """Reads a list; returns None where the file is none, but has one image's boxes.

    Args:
        source: The dataset's folder.
        path: The file inside the dataset.
        finder: Knows the annotations.
    """
    stem = split_extension(path.rpartition("/")[2])[0]
    word = find_split_word(stem)
    content = source.read(path, _MAX_LIST_BYTES + 1)
    if len(content) > _MAX_LIST_BYTES:
        fault = f"it has more than {_MAX_LIST_BYTES:,} bytes"
        return SplitList(path, stem, word, has_flags=False, fault=fault)
    scope = finder.find_scope(path)
    entries = _read_entries(content, lambda entry: finder.find(entry, scope) is not None)
    if any("." in entry for _, entry in entries) and all(
        _BOXES.fullmatch(entry) for _, entry in entries
    ):
        return None
    parts = [entry.rsplit(maxsplit=1) for _, entry in entries]
    has_flags = bool(parts) and all(len(part) == 2 and part[1] in _FLAGS for part in parts)
    found: dict[str, None] = {}
    missing, twice = [], []
    for (line, entry), part in zip(entries, parts, strict=True):
        annotation = (finder.find(part[0], scope) if has_flags else None) or finder.find(
            entry, scope
        )
        if annotation is None:
            if not entry.startswith(_COMMENTS):
                missing.append((line, entry))
        elif annotation in found:
            twice.append((line, entry))
        else:
            found[annotation] = None
    return SplitList(path, stem, word, has_flags, found, tuple(missing), tuple(twice))


def _read_entries(content: bytes, is_known: Callable[[str], bool]) -> list[tuple[int, str]]:
    """Returns (line, entry) in the encoding in which most of the entries are known."""
    best: tuple[int, list[tuple[int, str]]] | None = None
    texts = list(_decode(content))
    for text in texts:
        lines = enumerate(_LINE_ENDS.split(text), start=1)
        stripped = ((number, line.strip().strip("\ufeff\0").strip()) for number, line in lines)
        entries = [(number, line) for number, line in stripped if line]
        if len(texts) == 1:
            return entries
        # Lines in ASCII are the same in all encodings but the wide ones.
        probed = [entry for _, entry in entries if not entry.isascii()] or [
            entry for _, entry in entries
        ]
        known = sum(map(is_known, probed[:_MAX_PROBED]))
        if best is None or known > best[0]:
            best = known, entries
    return best[1] if best else []


def _decode(content: bytes) -> Iterator[str]:
    """Yields the texts that a list's bytes can be, the likeliest first."""
    for bom, encoding in _BOMS:
        if content.startswith(bom):
            errors = "surrogateescape" if encoding == "utf-8" else "replace"
            yield content[len(bom) :].decode(encoding, errors)
            return
    if b"\0" in content:
        for encoding in (*_WIDE, "utf-8"):
            yield content.decode(encoding, "replace")
        return
    # Files can have names in another encoding, too; their bytes are kept so.
    text = content.decode("utf-8", "surrogateescape")
    yield text
    if text.isascii() or not any("\udc80" <= char <= "\udcff" for char in set(text)):
        return
    for encoding in _LEGACY:
        try:
            yield content.decode(encoding)
        except UnicodeDecodeError:
            continue


class EntryFinder:
    """Finds the annotation that a line of a list means.

    The line is a stem, a file name or a path, of the annotation or of its image, on any machine;
    columns may follow.

    Args:
        annotations: The names of all annotations.
        pairs: The image of each annotation that has one.
    """

    def __init__(self, annotations: Iterable[str], pairs: Mapping[str, str]) -> None:
        self._pairs = pairs
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        self._folders = {""}
        for annotation in annotations:
            names = {fold_name(_own_name(path)) for path in self._paths(annotation)}
            for name in names:
                self._by_name[name].append(annotation)
            folder = annotation.rpartition("/")[0]
            while folder not in self._folders:
                self._folders.add(folder)
                folder = folder.rpartition("/")[0]

    def find_scope(self, path: str) -> str:
        """Returns the folder that a list is about, as paths in it begin.

        That is the nearest one above it that has annotations, and lies above ImageSets.
        """
        folders = path.split("/")[:-1]
        place = next((i for i, name in enumerate(folders) if is_image_sets(name)), len(folders))
        folder = "/".join(folders[:place])
        while folder not in self._folders:
            folder = folder.rpartition("/")[0]
        return f"{folder}/" if folder else ""

    def find(self, entry: str, scope: str) -> str | None:
        """Returns the annotation that an entry means; None where that is none or several.

        Args:
            entry: The line.
            scope: See `find_scope`.
        """
        entry = entry[:_MAX_ENTRY]
        files = list(islice(_files_in(entry), _MAX_COLUMNS))
        if len(files) > 1:
            # An image and its annotation, as "a.jpg a.xml", must agree.
            agreed = {annotation for name in files if (annotation := self._find(name, scope))}
            if agreed:
                return agreed.pop() if len(agreed) == 1 else None
        return next(
            (found for name in _names_in(entry) if (found := self._find(name, scope))), None
        )

    def _find(self, name: str, scope: str) -> str | None:
        return self._match(name, scope) or (
            self._match(name.replace("\\", "/"), scope) if "\\" in name else None
        )

    def _match(self, name: str, scope: str) -> str | None:
        stem = split_extension(name.removeprefix("./"))[0]
        candidates = self._by_name.get(fold_name(stem.rpartition("/")[2]), ())
        if scope:
            candidates = [path for path in candidates if path.startswith(scope)]
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        ranks = [self._rank(path, stem) for path in candidates]
        best = max(ranks)
        chosen = [path for path, rank in zip(candidates, ranks, strict=True) if rank == best]
        return chosen[0] if len(chosen) == 1 else None

    def _rank(self, annotation: str, stem: str) -> tuple[int, bool]:
        """How many last folders an entry shares with an annotation, and whether it is its name."""
        wanted = stem.split("/")
        shared = 0
        for path in self._paths(annotation):
            parts = split_extension(path)[0].split("/")
            count = 0
            for one, other in zip(reversed(parts), reversed(wanted), strict=False):
                if fold_name(one) != fold_name(other):
                    break
                count += 1
            shared = max(shared, count)
        return shared, any(_own_name(path) == wanted[-1] for path in self._paths(annotation))

    def _paths(self, annotation: str) -> Sequence[str]:
        image = self._pairs.get(annotation)
        return (annotation,) if image is None else (annotation, image)


def _names_in(entry: str) -> Iterator[str]:
    """Yields what can be the name in a line, the likeliest first."""
    yield entry
    # Some lists have classes or boxes in columns behind the name.
    name = entry
    while len(parts := name.rsplit(maxsplit=1)) == 2 and _NUMBERS.fullmatch(parts[1]):
        name = parts[0]
    yield name
    yield entry.strip("\"'")
    for file in _files_in(entry):
        yield file
        return
    for end in _COLUMN_ENDS:
        yield end.split(entry, maxsplit=1)[0]


def _files_in(entry: str) -> Iterator[str]:
    """Yields the columns of a line that end like a file's name; they can have white space."""
    start = 0
    for end in _FILE_END.finditer(entry):
        yield entry[start : end.end()].strip(_BETWEEN)
        start = end.end()


def _own_name(path: str) -> str:
    return split_extension(path)[0].rpartition("/")[2]
