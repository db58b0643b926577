"""TFRecord files of other tools as a dialect of annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from typing_extensions import override

from detflow.data.findings import Finding
from detflow.data.records.lint.find import is_record_name, read_split_name
from detflow.data.sources.filed import declare_filed_splits, find_file_split
from detflow.data.sources.source import AnnotationSource, DatasetFiles, FileContent
from detflow.data.sources.splits import SplitBy, Splits
from detflow.data.sources.tfrecord.folder import RecordFolder, list_records
from detflow.data.sources.tfrecord.read import list_classes, read_record
from detflow.errors import DataError
from detflow.label_map import LabelMap

# A message of protobuf's has at most so many.
_MAX_RECORD_BYTES = 2**31 - 1
_MAX_MAP_BYTES = 4 << 20
_MAX_RECORDS = 10_000_000


@dataclass(frozen=True)
class TfRecord(AnnotationSource):
    """Records with the TF Object Detection API's fields, and the label map beside them.

    So the OD API's own scripts write them, and Roboflow and CVAT export them. The images are in the
    records.

    Attributes:
        label_maps: (folder, classes) of each label map, the deepest folder first; `prepare` finds
            them.
    """

    label_maps: tuple[tuple[str, LabelMap], ...] = ()

    name = "TFRecord"
    max_file_bytes = _MAX_RECORD_BYTES
    claims_by_name = True

    @override
    def has_name(self, path: str) -> bool:
        return is_record_name(path.rpartition("/")[2])

    @override
    def prepare(
        self, files: DatasetFiles, classes: Sequence[str] | None
    ) -> tuple[AnnotationSource, DatasetFiles]:
        root = files.source.location
        if not isinstance(root, Path):
            raise DataError(
                "TFRecord files are read from a file system only",
                path=str(root),
                remedy="copy them to this machine",
            )
        findings = list(files.findings)
        annotations: list[str] = []
        images: list[str] = []
        for path in files.annotations:
            if path.lower().endswith(".gz"):
                findings.append(Finding("file_malformed", path, value="packed by gzip: unpack it"))
                continue
            for record in list_records(root, path):
                if len(annotations) + len(findings) >= _MAX_RECORDS:
                    raise DataError(f"more than {_MAX_RECORDS:,} records", path=path)
                if record.fault is not None:
                    value = record.fault
                    findings.append(Finding("file_malformed", record.annotation, value=value))
                    continue
                annotations.append(record.annotation)
                images += [] if record.image is None else [record.image]
        label_maps = _read_label_maps(files)
        if annotations and not label_maps and classes is None:
            findings.append(Finding("class_names_missing", "."))
        return TfRecord(label_maps), replace(
            files,
            source=RecordFolder(files.source, root),
            annotations=tuple(sorted(annotations)),
            images=tuple(sorted(images)),
            findings=tuple(findings),
        )

    @override
    def read(self, data: bytes, path: str) -> FileContent:
        return read_record(data, path, self._choose_map(path))

    @override
    def declare_splits(
        self,
        files: DatasetFiles,
        annotations: Sequence[str],
        images: Mapping[str, str],
        split_by: SplitBy,
    ) -> Splits | None:
        splits = {}
        for annotation in annotations:
            folder, _, name = annotation.rsplit("/", 2)[0].rpartition("/")
            splits[annotation] = find_file_split(f"{folder}/{read_split_name(name)}".strip("/"))
        return declare_filed_splits(files, annotations, images, split_by, splits)

    @override
    def declare_classes(self, files: DatasetFiles) -> tuple[str, ...] | None:
        names: dict[str, None] = {}
        for _, label_map in self.label_maps:
            names.update(dict.fromkeys(list_classes(label_map)))
        return tuple(names) or None

    def _choose_map(self, path: str) -> LabelMap | None:
        """Returns the label map in the nearest folder above a record, or the dataset's only one."""
        above = [label_map for folder, label_map in self.label_maps if path.startswith(folder)]
        if above:
            return above[0]
        return self.label_maps[0][1] if len(self.label_maps) == 1 else None


def _read_label_maps(files: DatasetFiles) -> tuple[tuple[str, LabelMap], ...]:
    found: dict[str, tuple[str, LabelMap]] = {}
    for path in files.sides:
        if not path.lower().endswith(".pbtxt"):
            continue
        data = files.source.read(path, _MAX_MAP_BYTES + 1)
        if len(data) > _MAX_MAP_BYTES:
            raise DataError(f"larger than {_MAX_MAP_BYTES:,} bytes", path=path)
        try:
            label_map = LabelMap.from_pbtxt(data.decode("utf-8"), path)
        except UnicodeDecodeError:
            raise DataError("not UTF-8 text", path=path, remedy="save it as UTF-8") from None
        folder = path[: path.rfind("/") + 1]
        if folder in found and found[folder][1] != label_map:
            raise DataError(
                f"it names the classes differently from {found[folder][0]}",
                path=path,
                remedy="remove the label map that is not the records'",
            )
        found.setdefault(folder, (path, label_map))
    maps = ((folder, label_map) for folder, (_, label_map) in found.items())
    return tuple(sorted(maps, key=lambda item: (-len(item[0]), item[0])))


TFRECORD = TfRecord()
