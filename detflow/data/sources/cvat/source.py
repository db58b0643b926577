"""CVAT's XML as a dialect of annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import override

from detflow.data.findings import name_annotation
from detflow.data.sources.cvat.read import MAX_XML_BYTES, read_description, read_images
from detflow.data.sources.filed import declare_filed_splits
from detflow.data.sources.source import AnnotationSource, DatasetFiles, FileContent
from detflow.data.sources.splits import SplitBy, Splits


@dataclass(frozen=True)
class Cvat(AnnotationSource):
    """Files of CVAT's format "CVAT for images 1.1"; the subsets of a project are the splits."""

    name = "CVAT"
    max_file_bytes = MAX_XML_BYTES
    many_images = True

    @override
    def has_name(self, path: str) -> bool:
        return path.lower().endswith(".xml")

    @override
    def read(self, data: bytes, path: str) -> FileContent:
        return read_images(data, path)

    @override
    def declare_splits(
        self,
        files: DatasetFiles,
        annotations: Sequence[str],
        images: Mapping[str, str],
        split_by: SplitBy,
    ) -> Splits | None:
        subsets: dict[str, str] = {}
        for path in files.annotations:
            described = read_description(files.source.read(path, MAX_XML_BYTES + 1))
            subsets.update(
                (name_annotation(path, entry), subset.lower())
                for entry, subset in described.subsets.items()
                if subset
            )
        return declare_filed_splits(files, annotations, images, split_by, subsets or None)

    @override
    def declare_classes(self, files: DatasetFiles) -> tuple[str, ...] | None:
        names: dict[str, None] = {}
        for path in files.annotations:
            described = read_description(files.source.read(path, MAX_XML_BYTES + 1))
            names.update(dict.fromkeys(described.labels))
        return tuple(names) or None


CVAT = Cvat()
