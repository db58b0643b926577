"""VOC as a dialect of annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import override

from detflow.data.sources.declared import declared_splits
from detflow.data.sources.source import AnnotationSource, DatasetFiles, FileContent
from detflow.data.sources.splits import SplitBy, Splits
from detflow.data.sources.voc.parse import MAX_XML_BYTES, is_annotation_head
from detflow.data.sources.voc.read import read_annotation


@dataclass(frozen=True)
class Voc(AnnotationSource):
    """XML files as the PASCAL VOC challenge had them, and as many tools write them.

    The format is described in the challenge's development kit (2012, section 3); splits lie in
    `ImageSets/Main`, or are folders.
    """

    name = "VOC"
    max_file_bytes = MAX_XML_BYTES

    @override
    def has_name(self, path: str) -> bool:
        return path.lower().endswith(".xml")

    @override
    def has_head(self, head: bytes) -> bool:
        return is_annotation_head(head)

    @override
    def read(self, data: bytes, path: str) -> FileContent:
        return read_annotation(data, path)

    @override
    def declare_splits(
        self,
        files: DatasetFiles,
        annotations: Sequence[str],
        images: Mapping[str, str],
        split_by: SplitBy,
    ) -> Splits | None:
        return declared_splits(files, annotations, images, split_by)


VOC = Voc()
