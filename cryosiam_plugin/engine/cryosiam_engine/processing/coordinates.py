"""Particle coordinates, with RELION's shifts and orientations, and where they are in a tomogram."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryosiam_engine.errors import TomogramError
from cryosiam_engine.particles_table import tomogram_stem
from cryosiam_engine.volume import VolumeHeader

#: Decimals of a voxel that mean something. Å divided by Å shall not make 9.9999999 of 10.
_DECIMALS = 6


@dataclass(frozen=True)
class Coordinates:
    """The particles of a file, or of one tomogram.

    Attributes
    ----------
    path
        The file, named in errors.
    xyz
        `(n, 3)`: in pixels from the first voxel, or in Å from the tomogram's middle.
    centred
        Whether they are in Å from the middle.
    shifts
        `(n, 3)`, x, y, z in Å along the tomogram's axes: what is to be subtracted.
    tomograms
        `(n,)`, names without folder and extension; None where the file has none.
    classes
        `(n,)`, from 1 on; None where the file has none.
    orientations
        Turn points from the tomogram's frame to the particle's; None where the file has none.
    """

    path: Path
    xyz: NDArray[np.float64]
    centred: bool
    shifts: NDArray[np.float64]
    tomograms: NDArray[np.str_] | None
    classes: NDArray[np.int64] | None
    orientations: Rotation | None

    def __len__(self) -> int:
        return len(self.xyz)

    def of(self, name: str) -> Coordinates:
        """The particles of one tomogram; all, where the file names no tomograms."""
        if self.tomograms is None:
            return self
        chosen = np.flatnonzero(self.tomograms == tomogram_stem(name))
        return replace(
            self,
            xyz=self.xyz[chosen],
            shifts=self.shifts[chosen],
            tomograms=self.tomograms[chosen],
            classes=None if self.classes is None else self.classes[chosen],
            orientations=None if self.orientations is None else self.orientations[chosen],
        )

    def voxels(self, header: VolumeHeader, pixel_size: float | None = None) -> NDArray[np.float64]:
        """Where the particles are in a tomogram.

        Parameters
        ----------
        header
            The tomogram's: its size and voxel size.
        pixel_size
            Å of coordinates in pixels; None: they are the tomogram's voxels.

        Returns
        -------
        numpy.ndarray
            `(n, 3)`, z, y, x in voxels; the first voxel's centre is 0, not rounded.

        Raises
        ------
        TomogramError
            When Å have to be converted and the tomogram has no voxel size.
        """
        in_angstrom = self.centred or pixel_size is not None or bool(self.shifts.any())
        size = np.asarray(header.voxel_size)
        if in_angstrom and not size.all():
            raise TomogramError(
                f"{self.path} has coordinates in Å, and the tomogram has no voxel size.",
                remedy="Write the voxel size into the tomogram's header.",
            )
        if not in_angstrom:
            return self.xyz[:, ::-1]
        if self.centred:
            pixels = self.xyz / size + np.asarray(header.shape[::-1]) / 2
        else:
            pixels = self.xyz * (pixel_size / size if pixel_size is not None else 1.0)
        return np.round(pixels - self.shifts / size, _DECIMALS)[:, ::-1]
