"""YOLO as a dialect of annotations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from detflow.data.findings import Finding
from detflow.data.sources.declared import declared_splits
from detflow.data.sources.names import may_list_split, split_extension
from detflow.data.sources.source import AnnotationSource, DatasetFiles, FileContent
from detflow.data.sources.splits import SplitBy, Splits
from detflow.data.sources.yolo.names import (
    MAX_SIDE_BYTES,
    Scope,
    choose_names,
    find_declared,
    is_list_of_classes,
    read_scope,
    to_mapping,
)
from detflow.data.sources.yolo.read import MAX_LABEL_BYTES, read_labels

_MAX_LIST_BYTES = 1 << 30
_NO_LABELS = ("readme", "license", "requirements", "changelog")
_ORDER = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


@dataclass(frozen=True)
class Yolo(AnnotationSource):
    """Text files as Darknet and Ultralytics have them, with `data.yaml` or without.

    Attributes:
        scopes: What the files beside the labels say; `prepare` finds it.
    """

    scopes: tuple[Scope, ...] = ()

    name = "YOLO"
    max_file_bytes = MAX_LABEL_BYTES
    claims_by_name = True

    @override
    def has_name(self, path: str) -> bool:
        *folders, name = path.lower().split("/")
        if not name.endswith(".txt") or is_list_of_classes(path) or name.startswith(_NO_LABELS):
            return False
        return "labels" in folders or not may_list_split(path)

    @override
    def prepare(
        self, files: DatasetFiles, classes: Sequence[str] | None
    ) -> tuple[AnnotationSource, DatasetFiles]:
        kept = _find_labels(files)
        others = [path for path in files.annotations if path not in kept]
        findings = []
        scopes = []
        for path in files.sides:
            if is_list_of_classes(path) or path.lower().endswith((".yaml", ".yml")):
                scope = read_scope(files.source.read(path, MAX_SIDE_BYTES + 1), path)
                scopes += [scope] if scope else []
        if not scopes and classes is not None:
            scopes = [Scope("", tuple(enumerate(classes)))]
        if not scopes and kept:
            findings.append(Finding("class_names_missing", "."))
        lists = {
            find_declared(scope, written, (), others)
            for scope in scopes
            for _, written in scope.splits
        }
        findings += [
            Finding("file_passed_over", path, value="no image has its name")
            for path in others
            if path not in lists
        ]
        for scope in scopes:
            findings += _find_same_names(scope)
        # Whoever disagrees is told here, and not in a worker.
        for folder in {path.rpartition("/")[0] for path in kept}:
            choose_names(scopes, f"{folder}/" if folder else "")
        return replace(self, scopes=tuple(scopes)), replace(
            files,
            annotations=tuple(path for path in files.annotations if path in kept),
            sides=(*files.sides, *others),
            findings=(*files.findings, *findings),
        )

    @override
    def read(self, data: bytes, path: str) -> FileContent:
        scope = choose_names(self.scopes, path)
        keypoints = scope.num_keypoint_values if scope else None
        return read_labels(data, path, to_mapping(scope), keypoints)

    @override
    def declare_splits(
        self,
        files: DatasetFiles,
        annotations: Sequence[str],
        images: Mapping[str, str],
        split_by: SplitBy,
    ) -> Splits | None:
        if split_by in (SplitBy.AUTO, SplitBy.LISTS):
            declared = self._read_yaml_splits(files, annotations, images)
            if len(declared.members) >= (2 if split_by is SplitBy.AUTO else 1):
                return declared
        return declared_splits(files, annotations, images, split_by)

    @override
    def declare_classes(self, files: DatasetFiles) -> tuple[str, ...] | None:
        names = {name: None for scope in self.scopes for _, name in scope.names}
        return tuple(names) or None

    def _read_yaml_splits(
        self, files: DatasetFiles, annotations: Sequence[str], images: Mapping[str, str]
    ) -> Splits:
        folders = _find_folders((*files.images, *files.annotations))
        findings = []
        listed: defaultdict[str, set[str]] = defaultdict(set)
        by_image = {image: annotation for annotation, image in images.items()}
        finder = _ImageFinder(by_image)
        lists = frozenset({*files.split_lists, *files.sides})
        for scope in self.scopes:
            for split, written in scope.splits:
                place = find_declared(scope, written, folders, lists)
                if place is None:
                    value = f"{split}: {written[:200]}"
                    findings.append(Finding("split_entry_missing", scope.path, value=value))
                elif place in lists:
                    found, missing = finder.read_list(files, place)
                    listed[split] |= {by_image[image] for image in found}
                    findings += missing
                else:
                    start = f"{place}/" if place else ""
                    listed[split] |= {
                        annotation
                        for annotation in annotations
                        if images.get(annotation, annotation).startswith(start)
                    }
        return _settle(listed, annotations, images, findings)


def _find_labels(files: DatasetFiles) -> frozenset[str]:
    """Returns the text files that hold labels: those below `labels`, or with an image's name."""
    stems = {_own_name(image) for image in files.images}
    return frozenset(
        path
        for path in files.annotations
        if "labels" in path.lower().split("/")[:-1] or _own_name(path) in stems
    )


def _own_name(path: str) -> str:
    return split_extension(path.rpartition("/")[2])[0].casefold()


def _find_same_names(scope: Scope) -> Iterable[Finding]:
    first: dict[str, int] = {}
    for number, name in scope.names:
        if name in first:
            value = f"{name!r} is {first[name]} and {number}"
            yield Finding("class_name_twice", scope.path, value=value)
        first.setdefault(name, number)


def _find_folders(paths: Iterable[str]) -> frozenset[str]:
    folders = {""}
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return frozenset(folders)


def _settle(
    listed: Mapping[str, set[str]],
    annotations: Sequence[str],
    images: Mapping[str, str],
    findings: list[Finding],
) -> Splits:
    """Makes splits of what was declared; a test split that is the validation split is a union."""
    members: dict[str, set[str]] = {}
    unions: dict[str, tuple[str, ...]] = {}
    for split in sorted(listed, key=lambda name: (_ORDER[name], name)):
        same = next((other for other, held in members.items() if held == listed[split]), None)
        if not listed[split]:
            continue
        if same is not None and same != "train":
            unions[split] = (same,)
        else:
            members[split] = listed[split]
    counts: defaultdict[str, list[str]] = defaultdict(list)
    for split, held in members.items():
        for annotation in held:
            counts[annotation].append(split)
    for annotation in annotations:
        splits = counts.get(annotation, [])
        if not splits:
            value = "in no split of data.yaml"
            findings.append(Finding("split_unassigned", annotation, value=value))
        elif len(splits) > 1:
            value = f"listed in {', '.join(splits)}"
            image = images.get(annotation)
            findings.append(Finding("split_leak", annotation, value=value, image=image))
    return Splits(
        SplitBy.LISTS,
        {split: tuple(sorted(held)) for split, held in members.items()},
        unions,
        tuple(findings),
    )


class _ImageFinder:
    """Finds the images that a list of paths means, by the end of each path."""

    def __init__(self, images: Collection[str]) -> None:
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for image in images:
            self._by_name[image.rpartition("/")[2]].append(image)

    def read_list(self, files: DatasetFiles, path: str) -> tuple[list[str], list[Finding]]:
        content = files.source.read(path, _MAX_LIST_BYTES)
        found, findings = [], []
        for number, line in enumerate(
            content.decode("utf-8-sig", "surrogateescape").splitlines(), start=1
        ):
            entry = line.strip().replace("\\", "/").removeprefix("./")
            if not entry:
                continue
            image = self._find(entry)
            if image is None:
                findings.append(Finding("split_entry_missing", path, number, value=entry))
            else:
                found.append(image)
        return found, findings

    def _find(self, entry: str) -> str | None:
        parts = entry.split("/")
        candidates = self._by_name.get(parts[-1], [])
        while len(candidates) > 1 and parts:
            whole = "/" + "/".join(parts)
            exact = [image for image in candidates if f"/{image}".endswith(whole)]
            if exact:
                candidates = exact
                break
            parts = parts[1:]
        return candidates[0] if len(candidates) == 1 else None


YOLO = Yolo()
