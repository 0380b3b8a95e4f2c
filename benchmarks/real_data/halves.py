"""A tomogram with expert picks and its halves: files for Scipion, scores, a classical picker."""

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
#: Outliers set the range of an 8-bit tomogram; grey values are those between these percentiles.
PERCENTILES = (0.5, 99.5)

Points = NDArray[np.float64]
Volume = NDArray[np.float32]


@dataclass(frozen=True)
class Region:
    """A tomogram, or one half of it as if it were all there is.

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

    @property
    def middle(self) -> int:
        """Where its x axis is cut."""
        return int(self.volume.shape[2] // 2)

    def half(self, side: str) -> Region:
        """The ``left`` or ``right`` half, with its own origin."""
        is_left = in_half(self.picks, "left", self.middle)
        if side == "left":
            return Region("TS_left", self.volume[..., : self.middle].copy(), self.picks[is_left])
        picks = self.picks[~is_left] - (0, 0, self.middle)
        return Region("TS_right", self.volume[..., self.middle :].copy(), picks)


def in_half(points: Points, side: str, middle: int) -> NDArray[np.bool_]:
    """Tell which points of a tomogram are in its ``left`` or ``right`` half."""
    is_left = points[:, 2] < middle
    return is_left if side == "left" else ~is_left


def with_box_inside(points: Points, region: Region, box: int) -> Points:
    """The points around which a box can be cut out, as the plugin's own parameter does it."""
    first = box / 2 - 0.5
    last = np.array(region.volume.shape) - 1 - first
    return points[((points >= first) & (points <= last)).all(axis=1)]


def box_of(expert: Points, region: Region) -> int:
    """The largest even box that fits around each of the expert's picks."""
    ends = np.minimum(expert, np.array(region.volume.shape) - 1 - expert)
    return 2 * int(ends.min() + 0.5)


def read_tomogram(tomogram: Path, picks: Path) -> Region:
    """Read a tomogram and its picks.

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
    return Region("TS_whole", volume, points)


def write_region(region: Region, folder: Path) -> None:
    """Write ``<name>.mrc``, and the picks as ``<name>.txt`` (x y z in voxels)."""
    folder.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(folder / f"{region.name}.mrc", region.volume, overwrite=True) as mrc:
        mrc.set_volume()
        mrc.voxel_size = VOXEL_SIZE
    np.savetxt(folder / f"{region.name}.txt", region.picks[:, ::-1].round(), fmt="%d")


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
    """

    sigma: float
    ratio: float
    distance: int

    def picks(self, region: Region) -> Points:
        """All maxima, the highest first."""
        band = ndimage.gaussian_filter(region.volume, self.sigma)
        band -= ndimage.gaussian_filter(region.volume, self.sigma * self.ratio)
        highest = ndimage.maximum_filter(band, size=2 * self.distance + 1) == band
        places, heights = np.argwhere(highest), band[highest]
        return places[np.argsort(-heights)].astype(float)


def tuned(region: Region) -> DifferenceOfGaussians:
    """The settings that find most of the expert's picks with so many picks as are allowed."""
    grid = itertools.product((1.5, 2.0, 2.5), (1.3, 2.0, 3.0), (2, 3, 4))
    pickers = [DifferenceOfGaussians(*values) for values in grid]
    allowed = int(AT_MOST * len(region.picks))

    def hits(picker: DifferenceOfGaussians) -> int:
        return int(found(region.picks, picker.picks(region)[:allowed]).sum())

    return max(pickers, key=hits)
