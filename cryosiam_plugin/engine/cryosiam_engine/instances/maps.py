"""The network's maps for instances: which are needed, stitching them, keeping them on disk."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryosiam_engine.config import InstanceConfig
from cryosiam_engine.files import output_error
from cryosiam_engine.hdf5 import StreamedDatasets, read_dataset
from cryosiam_engine.sliding_window import SlidingWindow
from cryosiam_engine.status import (
    FileIdentity,
    Output,
    Status,
    read_status,
    status_folder,
    write_status,
)
from cryosiam_engine.tiling import Region
from cryosiam_engine.volume import VolumeHeader

logger = logging.getLogger(__name__)

#: Every map, in the order of the file: probability, about the distance (voxels) to the particle's
#: surface, probability.
MAPS = ("foreground", "distances", "boundaries")

#: Gives the map of a name, (z, y, x) on the host; each may be asked for once.
TakeMap = Callable[[str], NDArray[np.float32]]


def maps_used(config: InstanceConfig) -> list[str]:
    """The maps that the separation reads; the others need not be computed."""
    used = []
    if config.semantic_predictions is None:
        used.append("foreground")
    if config.distance_type != 2:
        used.append("distances")
    if config.joins_regions:
        used.append("boundaries")
    return used


class MapStitcher:
    """Puts the maps of tiles where they belong, on the device.

    Parameters
    ----------
    window
        Where the tiles are computed.
    shape
        Of the tomogram, (z, y, x).
    names
        Some of :data:`MAPS`.
    mask
        Multiplies all maps; (z, y, x).

    Attributes
    ----------
    is_finite
        One boolean: whether every output seen was a finite number.
    """

    def __init__(
        self,
        window: SlidingWindow,
        shape: tuple[int, ...],
        names: Collection[str],
        mask: NDArray[np.integer] | None,
    ) -> None:
        self._maps = {name: window.canvas(shape, torch.float32) for name in names}
        self._mask = None if mask is None else torch.from_numpy(mask)
        self.is_finite = torch.ones((), dtype=torch.bool, device=window.device)

    def keep(self, region: Region, outputs: Mapping[str, Tensor]) -> None:
        """Take the raw outputs of some voxels, each (1, z, y, x)."""
        for name, stitched in self._maps.items():
            values = outputs[name][0]
            self.is_finite &= values.isfinite().all()
            if name != "distances":
                values = values.sigmoid()
            if self._mask is not None:
                values = values * self._mask[region].to(values.device)
            stitched[region] = values

    def take(self, name: str) -> NDArray[np.float32]:
        """Give a map (z, y, x) away, to the host; until then it may stay on the device."""
        taken: NDArray[np.float32] = self._maps.pop(name).cpu().numpy()
        return taken


class Parked:
    """A volume that waits in a nameless file, not in memory, until it is needed again.

    Parameters
    ----------
    values
        float32; give it away.
    folder
        On whose disk the file is; it vanishes with the process.

    Raises
    ------
    OutputError
        When the system refuses to write.
    """

    def __init__(self, values: NDArray[np.float32], folder: Path) -> None:
        self._shape = values.shape
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed in `back`
            values.tofile(self._file)
        except OSError as error:
            raise output_error(error, folder) from error

    def back(self) -> NDArray[np.float32]:
        """The volume, once."""
        with self._file as file:
            file.seek(0)
            return np.fromfile(file, np.float32).reshape(self._shape)


def parking(take: TakeMap, name: str, folder: Path) -> TakeMap:
    """Park the map that is needed last; the others are given as `take` gives them."""
    parked = Parked(take(name), folder)
    return lambda wanted: parked.back() if wanted == name else take(wanted)


class MapFiles:
    """The maps of tomograms on disk: ``<stem>_preds.h5``, and which of them are still valid.

    A status of its own (``status/instance_maps/<stem>.json``) says what each file was made from,
    so that another threshold needs no network.

    Parameters
    ----------
    folder
        The prediction folder.
    """

    name = "instance_maps"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._status_folder = status_folder(folder, self.name)

    def path(self, stem: str) -> Path:
        """Where the maps of a tomogram lie."""
        return self._folder / f"{stem}_preds.h5"

    def are_valid(self, stem: str, determinants: Mapping[str, Any]) -> bool:
        """Whether the maps on disk are just what the network would give now."""
        status = read_status(self._status_folder, stem)
        return status is not None and status.is_done_for(dict(determinants))

    def read(self, stem: str, name: str) -> NDArray[np.float32]:
        """Read a map of a tomogram, (z, y, x).

        Raises
        ------
        MaskError
            When the file is damaged.
        """
        return read_dataset(self.path(stem), name)

    def write(
        self, take: TakeMap, stem: str, determinants: Mapping[str, Any], header: VolumeHeader
    ) -> list[str]:
        """Write all maps of a tomogram, one by one, and note what they were made from.

        Returns
        -------
        list of str
            A warning where the file replaced one that no instance segmentation wrote.

        Raises
        ------
        OutputError
            When the system refuses to write.
        """
        warnings = self._warn_before_replacing(stem)
        datasets = {name: (header.shape, np.dtype(np.float32)) for name in MAPS}
        with StreamedDatasets(self.path(stem), datasets) as file:
            for name in MAPS:
                file.write(name, (slice(None),), take(name))
        status = Status(self.name, stem, "done", dict(determinants))
        status.outputs = [self.output(stem, header)]
        write_status(self._status_folder, status)
        return warnings

    def output(self, stem: str, header: VolumeHeader) -> Output:
        """The file as an output of a command."""
        shape = (len(MAPS), *header.shape)
        return Output(FileIdentity.of(self.path(stem)), "raw", shape, header.voxel_size)

    def _warn_before_replacing(self, stem: str) -> list[str]:
        path = self.path(stem)
        if not path.exists():
            return []
        status = read_status(self._status_folder, stem)
        if status and FileIdentity.of(path) in [output.file for output in status.outputs]:
            return []
        return [
            f"{path} was there already and is not known to come from this network, input and mask: "
            "it was computed again and replaced."
        ]
