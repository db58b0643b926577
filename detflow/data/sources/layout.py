"""What lies in a dataset folder: annotations, images, split lists, at any depth. Nothing outside the folder is ever opened."""

from __future__ import annotations

from dataclasses import dataclass

from detflow.data.images.decode import IMAGE_SUFFIXES, find_format
from detflow.data.judging.rules import Finding
from detflow.storage.folders import Folder

__all__ = ["SPLIT_NAMES", "DatasetFiles", "find_files", "split_extension"]

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
        "eval",
    }
)
"""Names of folders and lists that declare a split (in lower case)."""

_KNOWN_SUFFIXES = frozenset({*IMAGE_SUFFIXES, ".xml", ".txt"})
# VOC's masks are named like the images; __MACOSX holds shadows of every file in a zip made on a
# Mac.
_PASSED_OVER = frozenset({"SegmentationClass", "SegmentationObject", "__MACOSX"})
_HEAD_BYTES = 32


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """The files of a dataset. Paths are relative to its folder, with forward slashes, sorted.

    Attributes:
        source: The dataset's folder.
        annotations: XML files, by extension or by content.
        images: Image files, by extension or by content.
        split_lists: Text files that may declare splits.
        findings: Links and keys that lead out of the dataset.
    """

    source: Folder
    annotations: tuple[str, ...]
    images: tuple[str, ...]
    split_lists: tuple[str, ...]
    findings: tuple[Finding, ...]


def find_files(source: Folder) -> DatasetFiles:
    """Walks a dataset's folder. Hidden files and folders are passed over, and so are links to folders inside it."""
    annotations: list[str] = []
    images: list[str] = []
    split_lists: list[str] = []
    findings: list[Finding] = []
    for path, outside, is_folder in source.walk(_is_passed_over):
        suffix = split_extension(path.rpartition("/")[2])[1].lower()
        if outside is not None:
            if is_folder or suffix == ".xml" or suffix in IMAGE_SUFFIXES:
                findings.append(Finding("link_outside", path, value=f"to {outside}"))
        elif suffix == ".xml":
            annotations.append(path)
        elif suffix == ".txt":
            if _may_declare_split(path):
                split_lists.append(path)
        elif suffix in IMAGE_SUFFIXES:
            images.append(path)
        else:
            # Some sets leave the extensions out.
            head = source.read(path, _HEAD_BYTES)
            if find_format(head) is not None:
                images.append(path)
            elif head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<annotation"):
                annotations.append(path)
    return DatasetFiles(
        source=source,
        annotations=tuple(sorted(annotations)),
        images=tuple(sorted(images)),
        split_lists=tuple(sorted(split_lists)),
        findings=tuple(sorted(findings, key=lambda finding: finding.path)),
    )


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name in _PASSED_OVER


def split_extension(name: str) -> tuple[str, str]:
    """Splits a file name or path before an extension that is an image's or XML's; other dots belong to the name."""
    stem, dot, tail = name.rpartition(".")
    suffix = dot + tail
    return (stem, suffix) if stem and suffix.lower() in _KNOWN_SUFFIXES else (name, "")


def _may_declare_split(path: str) -> bool:
    *folders, name = path.split("/")
    if "ImageSets" in folders:
        # VOC's other lists (Layout, Segmentation, Action) have the same names and divide other
        # images.
        return folders[-2:] == ["ImageSets", "Main"] or folders[-1] == "ImageSets"
    return split_extension(name)[0].lower() in SPLIT_NAMES
