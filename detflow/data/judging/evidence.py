"""Reads what pairing wants to know of files, in the processes that judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from typing_extensions import override

from detflow.data.judging.reading import removed_files
from detflow.data.sources.evidence import DigestReader, Evidence, HeaderSize, SizeReader
from detflow.data.workers.processes import OrderedMap
from detflow.storage.interface import Folder

_BATCH_FILES = 64

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class FileEvidence(Evidence):
    """What files of a dataset say.

    Attributes:
        source: The dataset's folder.
        workers: Where to run.
    """

    source: Folder
    workers: OrderedMap

    @override
    def read_sizes(self, images: Sequence[str]) -> Mapping[str, HeaderSize]:
        sizes = self._run(SizeReader(self.source), images)
        return {image: size for image, size in zip(images, sizes, strict=True) if size is not None}

    @override
    def read_digests(self, files: Sequence[str]) -> Mapping[str, bytes]:
        return dict(zip(files, self._run(DigestReader(self.source), files), strict=True))

    def _run(
        self, reader: Callable[[Sequence[str]], list[Result]], paths: Sequence[str]
    ) -> Iterator[Result]:
        batches = (
            paths[start : start + _BATCH_FILES] for start in range(0, len(paths), _BATCH_FILES)
        )
        with removed_files():
            yield from chain.from_iterable(self.workers(reader, batches, chunk=1))
