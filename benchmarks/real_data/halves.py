"""Two halves of a tomogram with expert picks: files for Scipion, scores, and a classical picker."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

VOXEL_SIZE = 31.36
#: A pick is right within so many voxels of an expert's.
DISTANCE = 5.0
#: Picks that a picker may make for each of the expert's.
AT_MOST = 2.0
#: The halves are named so that Scipion leaves their names as they are.
NAMES = ("TS_left", "TS_right")
#: Outliers set the range of an 8-bit tomogram; grey values are those between these percentiles.
PERCENTILES = (0.5, 99.5)

Points = NDArray[np.float64]
Volume = NDArray[np.float32]


@dataclass(frozen=True)
class Half:
    """One half of the tomogram, as if it were all there is.

    Attributes
    ----------
    name
        Its tsId.
    volume
        Grey values `(z, y, x)` in [0, 1], protein bright.
    picks
        The expert's ribosomes, `(n, 3)` (z, y, x) in voxels.
    """

    name: str
    volume: Volume
    picks: Points


def read_halves(tomogram: Path, picks: Path) -> tuple[Half, Half]:
    """Cut a tomogram in the middle of its x axis.

    Parameters
    ----------
    tomogram
        MRC file, protein dark.
    picks
        CSV file whose columns 4 to 6 are x, y, z in voxels.
    """
    with mrcfile.open(tomogram, permissive=True) as mrc:
        volume = -mrc.data.astype(np.float32)
    low, high = np.percentile(volume, PERCENTILES)
    volume = np.clip((volume - low) / (high - low), 0, 1)
    points = np.loadtxt(picks, delimiter=",", comments="#")[:, 5:2:-1]
    middle = volume.shape[2] // 2
    is_left = points[:, 2] < middle
    left = Half(NAMES[0], volume[..., :middle].copy(), points[is_left])
    right = Half(NAMES[1], volume[..., middle:].copy(), points[~is_left] - (0, 0, middle))
    return left, right


def write_half(half: Half, folder: Path) -> None:
    """Write ``<name>.mrc``, and the picks as ``<name>.txt`` (x y z in voxels)."""
    folder.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(folder / f"{half.name}.mrc", half.volume, overwrite=True) as mrc:
        mrc.set_volume()
        mrc.voxel_size = VOXEL_SIZE
    np.savetxt(folder / f"{half.name}.txt", half.picks[:, ::-1].round(), fmt="%d")


def found(expert: Points, picked: Points) -> NDArray[np.bool_]:
    """Tell which expert picks have a pick of their own within :data:`DISTANCE` voxels."""
    hit = np.zeros(len(expert), bool)
    if len(picked):
        distances = np.linalg.norm(expert[:, None] - picked[None], axis=-1)
        near = distances <= DISTANCE
        # Pairs that are too far apart cost more than any number of good ones.
        rows, columns = linear_sum_assignment(np.where(near, distances, 1e6))
        hit[rows] = near[rows, columns]
    return hit


@dataclass(frozen=True)
class DifferenceOfGaussians:
    """The classical picker: maxima of a band-pass filtered tomogram.

    Attributes
    ----------
    sigma
        Of the narrower Gaussian, in voxels.
    ratio
        Of the wider one to it.
    distance
        Smallest distance of two picks along each axis, in voxels.
    per_pick
        So many picks for each that the expert would make.
    """

    sigma: float
    ratio: float
    distance: int
    per_pick: float

    def picks(self, half: Half) -> Points:
        """Pick a half; the expert's number of picks in it is given away."""
        band = ndimage.gaussian_filter(half.volume, self.sigma)
        band -= ndimage.gaussian_filter(half.volume, self.sigma * self.ratio)
        highest = ndimage.maximum_filter(band, size=2 * self.distance + 1) == band
        places, heights = np.argwhere(highest), band[highest]
        best = np.argsort(-heights)[: int(self.per_pick * len(half.picks))]
        return places[best].astype(float)


def tuned(half: Half) -> DifferenceOfGaussians:
    """The settings that find most of the expert's picks in a half."""
    grid = itertools.product((1.5, 2.0, 2.5), (1.3, 2.0, 3.0), (2, 3, 4))
    pickers = [DifferenceOfGaussians(*values, AT_MOST) for values in grid]
    return max(pickers, key=lambda picker: int(found(half.picks, picker.picks(half)).sum()))
