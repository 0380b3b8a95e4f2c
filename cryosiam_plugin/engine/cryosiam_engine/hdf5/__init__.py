"""CryoSiam's HDF5 files: root datasets, contiguous and uncompressed."""

from __future__ import annotations

from cryosiam_engine.hdf5.reading import read_dataset, update_dataset
from cryosiam_engine.hdf5.writing import StreamedDatasets, write_datasets

__all__ = ["StreamedDatasets", "read_dataset", "update_dataset", "write_datasets"]
