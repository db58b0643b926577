"""Finds what lies in a dataset's folder, at any depth; nothing outside of the folder is opened."""

from __future__ import annotations

from collections.abc import Sequence

from detflow.data.findings import Finding
from detflow.data.images.header import IMAGE_SUFFIXES, find_format
from detflow.data.sources.names import SPLIT_NAMES, split_extension
from detflow.data.sources.source import AnnotationSource, DatasetFiles
from detflow.data.sources.unread import is_unread_image
from detflow.storage.faults import is_fault_of_file, name_fault
from detflow.storage.interface import Entry, Folder

# VOC's masks are named like the images; __MACOSX holds shadows of every file in a zip made on a
# Mac.
_PASSED_OVER = frozenset({"SegmentationClass", "SegmentationObject", "__MACOSX"})
# As much as a declaration and a comment may take before an annotation begins.
_HEAD_BYTES = 1_024
# What may name classes or declare splits beside annotations of some dialect.
_SIDE_SUFFIXES = (".yaml", ".yml", ".names", ".labels", ".pbtxt")


def walk_dataset(source: Folder) -> list[Entry]:
    """Lists a dataset's folder; hidden files and folders and links to folders are passed over.

    A folder that cannot be opened is in the list, and leads nowhere outside. A link that leads
    nowhere is in it as a file: reading it says what is wrong.
    """
    closed: list[Entry] = []
    found = list(source.walk(_is_passed_over, lambda entry, error: closed.append(entry)))
    return sorted([*found, *closed])


def find_files(
    source: Folder, dialect: AnnotationSource, entries: Sequence[Entry] | None = None
) -> DatasetFiles:
    """Sorts the files of a dataset.

    Args:
        source: The dataset's folder.
        dialect: Which files hold annotations.
        entries: What `walk_dataset` has found; None walks.
    """
    sides: list[str] = []
    annotations: list[str] = []
    images: list[str] = []
    split_lists: list[str] = []
    unread: list[str] = []
    findings: list[Finding] = []
    for path, outside, is_folder in walk_dataset(source) if entries is None else entries:
        suffix = split_extension(path.rpartition("/")[2])[1].lower()
        if outside is not None:
            if is_folder or dialect.has_name(path) or suffix in IMAGE_SUFFIXES:
                findings.append(Finding("link_outside", path, value=f"to {outside}"))
        elif is_folder:
            findings.append(Finding("folder_unreadable", path, value="permission denied"))
        elif dialect.has_name(path):
            annotations.append(path)
        elif suffix == ".txt":
            if _may_declare_split(path):
                split_lists.append(path)
            else:
                sides.append(path)
        elif path.lower().endswith(_SIDE_SUFFIXES):
            sides.append(path)
        elif suffix in IMAGE_SUFFIXES:
            images.append(path)
        else:
            # Some sets leave the extensions out.
            try:
                head = source.read(path, _HEAD_BYTES)
            except OSError as error:
                if not is_fault_of_file(error):
                    raise
                findings.append(Finding("file_unseen", path, value=name_fault(error)))
                continue
            if find_format(head) is not None:
                images.append(path)
            elif dialect.has_head(head):
                annotations.append(path)
            elif is_unread_image(path, head):
                unread.append(path)
    return DatasetFiles(
        source=source,
        annotations=tuple(sorted(annotations)),
        images=tuple(sorted(images)),
        split_lists=tuple(sorted(split_lists)),
        sides=tuple(sorted(sides)),
        unread=tuple(sorted(unread)),
        findings=tuple(sorted(findings, key=lambda finding: finding.path)),
    )


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name in _PASSED_OVER


def _may_declare_split(path: str) -> bool:
    *folders, name = path.split("/")
    if "ImageSets" in folders:
        # VOC has lists of other tasks (Layout, Segmentation, Action) under the same names; they
        # divide other images.
        return folders[-2:] == ["ImageSets", "Main"] or folders[-1] == "ImageSets"
    return split_extension(name)[0].lower() in SPLIT_NAMES
