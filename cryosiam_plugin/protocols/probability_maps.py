"""Probability maps: from the engine's HDF5 file to one MRC volume per class."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Mapping

import h5py
import mrcfile
import numpy as np

from cryosiam_plugin.protocols.class_lists import class_name


def outputName(class_id: int, names: Mapping[int, str], prefix: str = "probability") -> str:
    """Name of the output of a class: letters, digits and underscores only."""
    return f"{prefix}_{re.sub(r'[^0-9A-Za-z]+', '_', class_name(class_id, names)).strip('_')}"


def writeMaps(hdf5: Path, sampling_rate: float) -> list[tuple[int, Path]]:
    """Write the map of every class beside the file; section by section, in little memory.

    Parameters
    ----------
    hdf5
        ``<tsId>_preds.h5`` with the dataset ``probs`` (classes, z, y, x).
    sampling_rate
        Å per voxel.

    Returns
    -------
    list
        Class number and float32 MRC of each class. The background's map is left out where there
        are others: it follows from them.
    """
    written = []
    with h5py.File(hdf5, "r") as file:
        maps = file["probs"]
        for channel in range(1 if maps.shape[0] > 1 else 0, maps.shape[0]):
            class_id = max(channel, 1)
            stem = hdf5.name[: -len("_preds.h5")]
            target = hdf5.with_name(f"{stem}_probability_{class_id}.mrc")
            partial = target.with_name(f".{target.name}.part")
            shape = maps.shape[1:]
            with mrcfile.new_mmap(partial, shape, mrc_mode=2, overwrite=True) as mrc:
                for z in range(shape[0]):
                    mrc.data[z] = maps[channel, z].astype(np.float32)
                mrc.voxel_size = sampling_rate
            partial.replace(target)
            written.append((class_id, target))
    return written
