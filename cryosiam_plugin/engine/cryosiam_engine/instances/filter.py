"""Keep the instances that lie in a part of the tomogram: ``instance_filter``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryosiam_engine.config import InstanceFilterConfig
from cryosiam_engine.errors import ConfigurationError, MaskError
from cryosiam_engine.instances.files import InstanceFiles, find_instance_files, read_instances
from cryosiam_engine.instances.proximity import ids_near
from cryosiam_engine.instances.semantic_foreground import where_labels
from cryosiam_engine.instances.table import (
    measure_instances,
    read_table,
    summarise,
    voxel_volume,
    write_tables,
)
from cryosiam_engine.label_files import read_labels
from cryosiam_engine.preprocessing import slabs
from cryosiam_engine.run import Saved, Tomogram, TomogramCommand
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity, read_status, status_folder
from cryosiam_engine.volume import VolumeHeader, read_header


@dataclass
class LoadedInstances:
    """Instance ids (z, y, x) of a tomogram, and where the mask has one of its labels."""

    tomogram: Tomogram
    header: VolumeHeader | None
    instances: NDArray[np.integer]
    target: NDArray[np.bool_]


@dataclass
class KeptInstances:
    """Instances (z, y, x) that are left, their table, and how many there were."""

    tomogram: Tomogram
    header: VolumeHeader | None
    instances: NDArray[np.integer]
    table: pd.DataFrame
    n_before: int


class InstanceFilterCommand(TomogramCommand[LoadedInstances, KeptInstances]):
    """``instance_filter``: an instance with a voxel near enough to the mask is kept whole.

    Results go to ``<prediction_folder>_filtered``, with the ids they had. The status files lie
    with those of the prediction, in ``<prediction_folder>/status/instance_filter``.

    Parameters
    ----------
    config
        The validated configuration.
    """

    name = "instance_filter"

    def __init__(self, config: InstanceFilterConfig) -> None:
        self._config = config
        self._folder = config.prediction_folder

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """The configuration and the files with the instances and the mask."""
        files = [find_instance_files(self._folder, tomogram.stem)[0], self._mask_file(tomogram)]
        return {
            "config_sha256": self._config.sha256(),
            "inputs": [vars(FileIdentity.of(path)) for path in files],
        }

    def _mask_file(self, tomogram: Tomogram) -> Path:
        """The mask that has the extension asked for: a prediction's, or any with its own name."""
        extension = self._config.filtering_mask_extension
        names = [f"{tomogram.stem}_preds.h5"]
        if extension != ".h5":
            names = [f"{tomogram.stem}{extension}", f"{tomogram.stem}_preds.mrc"]
        paths = [self._config.filtering_mask_folder / name for name in names]
        for path in paths:
            if path.is_file():
                return path
        raise MaskError(
            f"No mask of {tomogram.stem} in {self._config.filtering_mask_folder}; looked for "
            f"{', '.join(names)}.",
            remedy="Correct filtering_mask_folder, or set filtering_mask_extension to .h5, .mrc "
            "or .rec, as the masks are.",
        )

    def load(self, tomogram: Tomogram) -> LoadedInstances:
        """Read the instances and the mask."""
        path = find_instance_files(self._folder, tomogram.stem)[0]
        instances = read_instances(path)
        mask_path = self._mask_file(tomogram)
        mask = read_labels(mask_path)
        if mask.shape != instances.shape:
            raise MaskError(
                f"The mask {mask_path} has the shape {mask.shape} (z, y, x), but the instances "
                f"{path} have {instances.shape}.",
                remedy="Give masks of the same tomograms, in the same size.",
            )
        header = self._geometry(tomogram, instances.shape)
        if header is None and self._config.output_format != "h5":
            raise ConfigurationError(
                f"The voxel size of {tomogram.stem} is not known, and an MRC file needs one.",
                remedy="Give data_folder, where the tomogram is, or set output_format: h5.",
            )
        target = where_labels(mask, self._config.filtering_mask_labels)
        return LoadedInstances(tomogram, header, instances, target)

    def _geometry(self, tomogram: Tomogram, shape: tuple[int, ...]) -> VolumeHeader | None:
        """The tomogram's geometry, from an MRC file or from the status of the prediction."""
        for path in (*find_instance_files(self._folder, tomogram.stem), tomogram.path):
            if path.suffix != ".h5" and path.is_file():
                header = read_header(path)
                if header.shape == shape:
                    return header
        status = read_status(status_folder(self._folder, "instance_predict"), tomogram.stem)
        for output in status.outputs if status else ():
            if output.kind == "instances" and output.voxel_size and output.shape == shape:
                z, y, x = output.shape
                return VolumeHeader((z, y, x), output.voxel_size, (0.0,) * 3, (0,) * 3, mode=2)
        return None

    def compute(self, loaded: LoadedInstances, progress: Progress) -> KeptInstances:
        """Remove the instances that are too far from the mask."""
        instances = loaded.instances
        voxels = _voxels_per_id(instances)
        keep = ids_near(instances, loaded.target, self._config.filtering_mask_expand_voxels)
        for part in slabs(instances.shape):
            instances[part][~keep[instances[part]]] = 0
        table = self._table_from_before(loaded.tomogram.stem, voxels, keep)
        if table is None:
            table = measure_instances(instances)
        n_before = int(np.count_nonzero(voxels[1:]))
        return KeptInstances(loaded.tomogram, loaded.header, instances, table, n_before)

    def _table_from_before(
        self, stem: str, voxels: NDArray[np.int64], keep: NDArray[np.bool_]
    ) -> pd.DataFrame | None:
        """The prediction's table, cut down, if it is of just these instances: it has scores."""
        table = read_table(self._folder, stem)
        ids = np.flatnonzero(voxels[1:]) + 1
        if table is None or not np.array_equal(table["label"], ids):
            return None
        if not np.array_equal(table["area"], voxels[ids]):
            return None
        return table[keep[ids]].reset_index(drop=True)

    def save(self, result: KeptInstances) -> Saved:
        """Write what is left, and its tables."""
        stem, folder = result.tomogram.stem, self._config.filtered_folder
        nm3_per_voxel = voxel_volume(result.header.voxel_size if result.header else None)
        files = InstanceFiles(folder, stem, result.header, self._config.output_format)
        outputs, warnings = files.write(result.instances)
        outputs += write_tables(result.table, folder, stem, nm3_per_voxel)
        summary = summarise(result.table, nm3_per_voxel)
        summary["n_removed"] = result.n_before - len(result.table)
        if result.table.empty:
            warnings.append(self._explain_empty(result.n_before))
        return Saved(outputs, summary, warnings)

    def _explain_empty(self, n_before: int) -> str:
        if not n_before:
            return "NOTHING LEFT: there was no instance to begin with."
        return (
            f"NOTHING LEFT: none of the {n_before} instances is within "
            f"{self._config.filtering_mask_expand_voxels:g} voxels of the labels "
            f"{self._config.filtering_mask_labels} of the mask. Check filtering_mask_labels, or "
            "raise filtering_mask_expand_voxels."
        )


def _voxels_per_id(instances: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count the voxels of every id up to the highest."""
    n_ids = int(instances.max()) + 1
    voxels = np.zeros(n_ids, np.int64)
    for part in slabs(instances.shape):
        ids = instances[part].reshape(-1).astype(np.int64, copy=False)
        voxels += np.bincount(ids, minlength=n_ids)
    return voxels
