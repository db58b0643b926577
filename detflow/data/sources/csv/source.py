"""CSV as a dialect of annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import override

from detflow.data.sources.csv.read import MAX_CSV_BYTES, read_table
from detflow.data.sources.filed import declare_filed_splits
from detflow.data.sources.source import AnnotationSource, DatasetFiles, FileContent
from detflow.data.sources.splits import SplitBy, Splits


@dataclass(frozen=True)
class Csv(AnnotationSource):
    """Tables with a row for each object; several files are the splits."""

    name = "CSV"
    max_file_bytes = MAX_CSV_BYTES
    many_images = True

    @override
    def has_name(self, path: str) -> bool:
        return path.lower().endswith(".csv")

    @override
    def read(self, data: bytes, path: str) -> FileContent:
        return read_table(data, path)

    @override
    def declare_splits(
        self,
        files: DatasetFiles,
        annotations: Sequence[str],
        images: Mapping[str, str],
        split_by: SplitBy,
    ) -> Splits | None:
        return declare_filed_splits(files, annotations, images, split_by)


CSV = Csv()
