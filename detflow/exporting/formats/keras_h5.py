"""Writes Keras' weights as HDF5, with what they belong to beside them."""

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import override

from detflow.exporting.formats.base import Draft, FormatWriter, Job
from detflow.exporting.proof.compare import EXACT
from detflow.inference.formats.keras_h5 import KerasH5
from detflow.inference.hdf5 import Description, write_hdf5


class Writer(FormatWriter[KerasH5]):
    """Writes the file."""

    own_gate = EXACT

    @override
    def write(self, job: Job) -> Iterator[Draft]:
        trained = job.trained
        path = job.artifact.path / self.format.entries[0].path
        description = Description(trained.config.model, trained.serving.config, trained.label_map)
        write_hdf5(path, trained.serving.model.network, description)
        yield Draft()
