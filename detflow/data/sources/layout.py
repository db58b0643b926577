"""Finds what lies in a dataset's folder, at any depth; nothing outside of the folder is opened."""

from __future__ import annotations

import re
from collections.abc import Sequence

from detflow.data.findings import Finding
from detflow.data.images.header import IMAGE_SUFFIXES, find_format
from detflow.data.sources.names import (
    LIST_SUFFIXES,
    is_in_image_sets,
    is_split_name,
    may_list_split,
    split_extension,
)
from detflow.data.sources.source import AnnotationSource, DatasetFiles
from detflow.data.sources.unread import is_unread_image
from detflow.storage.faults import is_fault_of_file, name_fault
from detflow.storage.interface import Entry, Folder

# VOC's masks are named like the images, and so are labelme2voc's pictures of them
# (SegmentationClassPNG, SegmentationObjectVisualization, …); __MACOSX holds shadows of every file
# in a zip made on a Mac, @eaDir the thumbnails of a network drive.
_PASSED_OVER = re.compile(r"Segmentation(Class|Object)\w*|__MACOSX|@eaDir")
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
            is_wanted = dialect.has_name(path) or suffix in IMAGE_SUFFIXES or may_list_split(path)
            if is_folder or is_wanted:
                findings.append(Finding("link_outside", path, value=f"to {outside}"))
        elif is_folder:
            findings.append(Finding("folder_unreadable", path, value="permission denied"))
        elif dialect.has_name(path):
            annotations.append(path)
        elif suffix in IMAGE_SUFFIXES:
            images.append(path)
        elif may_list_split(path):
            split_lists.append(path)
        elif suffix in LIST_SUFFIXES or path.lower().endswith(_SIDE_SUFFIXES):
            sides.append(path)
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
        split_lists=tuple(sorted(_drop_labels(split_lists, annotations, images))),
        sides=tuple(sorted(sides)),
        unread=tuple(sorted(unread)),
        findings=tuple(sorted(findings, key=lambda finding: finding.path)),
    )


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or _PASSED_OVER.fullmatch(name) is not None


def _drop_labels(
    lists: Sequence[str], annotations: Sequence[str], images: Sequence[str]
) -> Sequence[str]:
    """Leaves out text files that are named like an image: "train_7.txt" has YOLO's boxes of it."""
    doubtful = {
        path for path in lists if not is_split_name(_own_name(path)) and not is_in_image_sets(path)
    }
    if not doubtful:
        return lists
    names = {_own_name(path) for paths in (annotations, images) for path in paths}
    return [path for path in lists if path not in doubtful or _own_name(path) not in names]


def _own_name(path: str) -> str:
    return split_extension(path.rpartition("/")[2])[0]
