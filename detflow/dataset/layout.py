"""What lies in a dataset folder: annotations, images, split lists, at any depth. Nothing outside the folder is ever opened."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from detflow.dataset.findings import Finding
from detflow.dataset.images import IMAGE_SUFFIXES, find_format

__all__ = ["SPLIT_NAMES", "DatasetFiles", "find_files", "split_extension"]

SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "trainval", "dev", "eval"})
"""Names of folders and lists that declare a split (in lower case)."""

_KNOWN_SUFFIXES = frozenset({*IMAGE_SUFFIXES, ".xml", ".txt"})
# VOC's masks are named like the images; __MACOSX holds shadows of every file in a zip made on a Mac.
_PASSED_OVER = frozenset({"SegmentationClass", "SegmentationObject", "__MACOSX"})


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """The files of a dataset. Paths are relative to `root`, with forward slashes, sorted.

    Attributes:
        root: The dataset's folder, with links resolved.
        annotations: XML files, by extension or by content.
        images: Image files, by extension or by content.
        split_lists: Text files that may declare splits.
        findings: Links that lead out of the dataset.
    """

    root: Path
    annotations: tuple[str, ...]
    images: tuple[str, ...]
    split_lists: tuple[str, ...]
    findings: tuple[Finding, ...]


def find_files(root: Path) -> DatasetFiles:
    """Walks a dataset's folder. Hidden files and folders are passed over, and so are links to folders inside it."""
    root = root.resolve()
    annotations: list[str] = []
    images: list[str] = []
    split_lists: list[str] = []
    findings: list[Finding] = []
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name.startswith(".") or entry.name in _PASSED_OVER:
                    continue
                suffix = split_extension(entry.name)[1].lower()
                if entry.is_symlink():
                    of_interest = entry.is_dir() or suffix == ".xml" or suffix in IMAGE_SUFFIXES
                    if of_interest and not Path(entry.path).resolve().is_relative_to(root):
                        findings.append(Finding("link_outside", path, value=f"to {os.readlink(entry.path)}"))
                        continue
                    if entry.is_dir():
                        continue
                if entry.is_dir():
                    folders.append(path)
                elif not entry.is_file():
                    continue
                elif suffix == ".xml":
                    annotations.append(path)
                elif suffix == ".txt":
                    if _may_declare_split(path):
                        split_lists.append(path)
                elif suffix in IMAGE_SUFFIXES:
                    images.append(path)
                else:
                    # Some sets leave the extensions out.
                    head = _read_head(Path(entry.path), root)
                    if find_format(head) is not None:
                        images.append(path)
                    elif head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<annotation"):
                        annotations.append(path)
    return DatasetFiles(
        root=root,
        annotations=tuple(sorted(annotations)),
        images=tuple(sorted(images)),
        split_lists=tuple(sorted(split_lists)),
        findings=tuple(sorted(findings, key=lambda finding: finding.path)),
    )


def split_extension(name: str) -> tuple[str, str]:
    """Splits a file name or path before an extension that is an image's or XML's; other dots belong to the name."""
    stem, dot, tail = name.rpartition(".")
    suffix = dot + tail
    return (stem, suffix) if stem and suffix.lower() in _KNOWN_SUFFIXES else (name, "")


def _may_declare_split(path: str) -> bool:
    *folders, name = path.split("/")
    if "ImageSets" in folders:
        # VOC's other lists (Layout, Segmentation, Action) have the same names and divide other images.
        return folders[-2:] == ["ImageSets", "Main"] or folders[-1] == "ImageSets"
    return split_extension(name)[0].lower() in SPLIT_NAMES


def _read_head(path: Path, root: Path) -> bytes:
    """Returns a file's first bytes; none of what lies outside."""
    if not path.resolve().is_relative_to(root):
        return b""
    with open(path, "rb") as file:
        return file.read(32)
