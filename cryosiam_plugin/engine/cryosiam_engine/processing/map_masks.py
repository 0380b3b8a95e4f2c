"""The average map at every particle: ``processing_create_binary_map_after_sta``."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from cryosiam_engine.errors import ConfigurationError, MaskError
from cryosiam_engine.processing.coordinate_files import read_coordinates
from cryosiam_engine.processing.coordinates import Coordinates
from cryosiam_engine.processing.files import process
from cryosiam_engine.processing.particle_masks import (
    Mask,
    MaskInputs,
    ParticleMaskCommand,
    named_tomograms,
)
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.volume import VolumeHeader, read_volume

logger = logging.getLogger(__name__)

#: Sampled points that are held at once.
_POINTS = 2_000_000
#: Voxel sizes that differ by less are the same, written with few digits.
_SAME_SIZE = 0.01


@dataclass(frozen=True)
class AverageMap:
    """An average map and where in it the particle is.

    Attributes
    ----------
    density
        float32 `(z, y, x)`; the particle's origin is the voxel ``size // 2``, as in RELION.
    threshold
        Density from which on a voxel is the particle's.
    voxel_size
        Å; 0 where the file does not say.
    reach
        Voxels of the map from the origin to the particle's farthest voxel.
    """

    density: NDArray[np.float32]
    threshold: float
    voxel_size: float
    reach: float

    @classmethod
    def read(cls, path: Path, threshold: float) -> AverageMap:
        """Read a map.

        Raises
        ------
        TomogramError
            When it cannot be read.
        MaskError
            When no voxel reaches the threshold, or all do.
        """
        volume = read_volume(path)
        density = volume.data.astype(np.float32, copy=False)
        inside = density >= threshold
        if not inside.any() or inside.all():
            raise MaskError(
                f"{'Every' if inside.any() else 'No'} voxel of {path} reaches the threshold "
                f"{threshold:g}; the densities go from {density.min():g} to {density.max():g}.",
                remedy="Choose --map_threshold in a viewer: the level of a good surface.",
            )
        offsets = np.argwhere(inside) - np.asarray(density.shape) // 2
        reach = math.sqrt(int((offsets**2).sum(axis=1).max()))
        return cls(density, threshold, volume.header.voxel_size[0], reach)

    def voxels_per(self, header: VolumeHeader) -> float:
        """Voxels of the map that one voxel of a tomogram is long; 1 where that is not known."""
        if not self.voxel_size or not header.voxel_size[0]:
            return 1.0
        ratio = header.voxel_size[0] / self.voxel_size
        return ratio if abs(ratio - 1) > _SAME_SIZE else 1.0


def place(
    mask: NDArray[np.uint8],
    average: AverageMap,
    centre: NDArray[np.float64],
    matrix: NDArray[np.float64],
    scale: float = 1.0,
) -> tuple[bool, bool]:
    """Stamp the map into a mask, turned and at its exact place within the voxel.

    Parameters
    ----------
    mask
        `(z, y, x)`; voxels of the particle are set to 1.
    average
        The map.
    centre
        z, y, x in voxels of the mask.
    matrix
        Turns x, y, z from the tomogram's frame to the map's, `(3, 3)`.
    scale
        Voxels of the map that one of the mask is long.

    Returns
    -------
    clipped : bool
        Whether the particle may reach beyond the mask.
    outside : bool
        Whether no voxel was set.
    """
    reach = (average.reach + 1) / scale
    shape = np.asarray(mask.shape)
    first = np.ceil(centre - reach).astype(int)
    last = np.floor(centre + reach).astype(int) + 1
    low, high = np.clip(first, 0, shape), np.clip(last, 0, shape)
    if (low >= high).any():
        return True, True
    z, y, x = (np.arange(a, b) - middle for a, b, middle in zip(low, high, centre, strict=True))
    found = False
    step = max(1, _POINTS // (len(y) * len(x)))
    for start in range(0, len(z), step):
        inside = _sampled(average, (z[start : start + step], y, x), matrix * scale)
        box = (
            slice(low[0] + start, low[0] + start + len(inside)),
            slice(low[1], high[1]),
            slice(low[2], high[2]),
        )
        mask[box][inside] = 1
        found = found or bool(inside.any())
    return bool((first < 0).any() or (last > shape).any()), not found


def _sampled(
    average: AverageMap, axes: tuple[NDArray[np.float64], ...], matrix: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether the points of a grid are in the particle; the axes are z, y, x from the centre."""
    z, y, x = np.ix_(*axes)
    points = np.empty((3, z.size, y.size, x.size))
    # Rows of the matrix are x, y, z; the map is indexed z, y, x.
    for row, middle, target in zip(
        matrix[::-1], (n // 2 for n in average.density.shape), points, strict=True
    ):
        target[...] = row[0] * x + row[1] * y + row[2] * z + middle
    density = map_coordinates(
        average.density, points, order=1, mode="constant", cval=-np.inf, output=np.float32
    )
    inside: NDArray[np.bool_] = density >= average.threshold
    return inside


class MapMaskCommand(ParticleMaskCommand):
    """``processing_create_binary_map_after_sta``.

    Parameters
    ----------
    coordinates
        The particles of all tomograms, with orientations.
    average
        The map and the file it was read from.
    tomogram_path, output_dir, pixel_size
        As for :class:`ParticleMaskCommand`.

    Raises
    ------
    ConfigurationError
        When the particles have no orientations.
    """

    name = "processing_create_binary_map_after_sta"

    def __init__(
        self,
        coordinates: Coordinates,
        average: tuple[AverageMap, Path],
        tomogram_path: Path,
        output_dir: Path,
        pixel_size: float | None = None,
    ) -> None:
        self._average, self._map_file = average
        if coordinates.orientations is None:
            raise ConfigurationError(
                f"{coordinates.path} has no orientations (rlnAngleRot, rlnAngleTilt, rlnAnglePsi).",
                remedy="Give the STAR file of the refinement that made the average.",
            )
        settings = {"threshold": self._average.threshold}
        super().__init__(coordinates, tomogram_path, output_dir, pixel_size, settings)

    def other_inputs(self) -> Iterable[Path]:
        """The map."""
        return (self._map_file,)

    def compute(self, loaded: MaskInputs, progress: Progress) -> Mask:
        """Stamp the map at every particle."""
        scale = self._average.voxels_per(loaded.header)
        if scale != 1:
            logger.warning(
                "%s: the map's voxels are %g times smaller than the tomogram's; it is scaled.",
                loaded.stem,
                scale,
            )
        orientations = loaded.particles.orientations
        if orientations is None:
            raise TypeError("particles without orientations")
        mask = np.zeros(loaded.header.shape, np.uint8)
        clipped = outside = 0
        matrices = orientations.as_matrix()
        for done, (centre, matrix) in enumerate(zip(loaded.centres, matrices, strict=True), 1):
            beyond, missed = place(mask, self._average, centre, matrix, scale)
            outside += missed
            clipped += beyond and not missed
            progress(done, len(matrices))
        return Mask(loaded, mask, clipped, outside)


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Returns
    -------
    int
        0: all done; 1: some tomograms failed.

    Raises
    ------
    EngineError
        When the particles or the map cannot be used.
    """
    coordinates = read_coordinates(args.star_file)
    map_file = Path(args.map_file)
    average = AverageMap.read(map_file, args.map_threshold), map_file
    example, output_dir = Path(args.example_tomogram), Path(args.output_dir)
    command = MapMaskCommand(coordinates, average, example, output_dir, args.coordinates_pixel_size)
    return process(command, output_dir, named_tomograms(coordinates, example, args.tomo_name))
