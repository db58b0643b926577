"""COCO as a dialect of annotations."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from detflow.data.findings import Finding
from detflow.data.sources.coco.read import MAX_JSON_BYTES, read_annotations, read_categories
from detflow.data.sources.filed import declare_filed_splits
from detflow.data.sources.source import AnnotationSource, DatasetFiles, FileContent
from detflow.data.sources.splits import SplitBy, Splits

_HEAD_BYTES = 1 << 16
_SECTION = re.compile(r'"(images|annotations|categories)"\s*:\s*\[')
# COCO publishes several files for one set of images; `instances` has the boxes of all classes.
_TASK = re.compile(r"(captions|person_keypoints|image_info|stuff|panoptic|instances)_(.+)\.json")


@dataclass(frozen=True)
class Coco(AnnotationSource):
    """JSON files as the COCO challenge has them, and as many tools write them.

    The format is described at https://cocodataset.org/#format-data. Several files are the splits.
    """

    name = "COCO"
    max_file_bytes = MAX_JSON_BYTES
    many_images = True

    @override
    def has_name(self, path: str) -> bool:
        return path.lower().endswith(".json")

    @override
    def prepare(
        self, files: DatasetFiles, classes: Sequence[str] | None
    ) -> tuple[AnnotationSource, DatasetFiles]:
        tasks: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for path in files.annotations:
            folder, _, name = path.rpartition("/")
            if match := _TASK.fullmatch(name):
                tasks[f"{folder}/{match[2]}"][match[1]] = path
        passed = {
            path: f"{instances} has the boxes of its images"
            for by_task in tasks.values()
            if (instances := by_task.get("instances"))
            for path in by_task.values()
            if path != instances
        }
        for path in files.annotations:
            if path not in passed and not is_coco(files.source.read(path, _HEAD_BYTES)):
                passed[path] = "it has neither images nor annotations nor categories"
        findings = [
            Finding("file_passed_over", path, value=value) for path, value in passed.items()
        ]
        kept = tuple(path for path in files.annotations if path not in passed)
        return self, replace(
            files, annotations=kept, findings=(*files.findings, *sorted(findings, key=_path_of))
        )

    @override
    def read(self, data: bytes, path: str) -> FileContent:
        return read_annotations(data, path)

    @override
    def declare_splits(
        self,
        files: DatasetFiles,
        annotations: Sequence[str],
        images: Mapping[str, str],
        split_by: SplitBy,
    ) -> Splits | None:
        return declare_filed_splits(files, annotations, images, split_by)

    @override
    def declare_classes(self, files: DatasetFiles) -> tuple[str, ...] | None:
        ids: dict[str, int] = {}
        for path in files.annotations:
            for category in read_categories(files.source.read(path, MAX_JSON_BYTES)):
                ids.setdefault(category.name, category.id)
        # Files that number their classes differently are read by the names.
        return tuple(sorted(ids, key=lambda name: ids[name])) or None


def is_coco(head: bytes) -> bool:
    """Whether a JSON file looks like COCO by its first 64 KiB."""
    text = head.replace(b"\0", b"").decode("utf-8", "replace").removeprefix("\ufeff").lstrip()
    return text.startswith("{") and _SECTION.search(text) is not None


def _path_of(finding: Finding) -> str:
    return finding.path


COCO = Coco()
