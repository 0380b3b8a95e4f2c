"""A smooth surface around every instance, as points of Scipion's meshes."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Mapping, NamedTuple

import mrcfile
import numpy as np
from scipy import ndimage
from skimage.measure import marching_cubes
from tomo.constants import SCIPION
from tomo.objects import MeshPoint, Tomogram

from cryosiam_plugin.convert import file_of, voxel_origin

#: Voxels: takes the steps of single voxels away, and hardly anything of a particle's shape.
_SMOOTHING = 1.0
#: Empty voxels around an instance, so that its surface is closed and the smoothing has room.
_MARGIN = 4
#: How much coarser the grid gets until few enough points are left.
_COARSER = 1.15


def surface_points(inside: np.ndarray, most: int) -> np.ndarray:
    """Points spread evenly over the smoothed surface of an instance.

    The surface encloses as much as the instance does: the smoothing rounds it without shrinking.

    Parameters
    ----------
    inside
        Where the instance is, `(z, y, x)`.
    most
        How many points there may be.

    Returns
    -------
    numpy.ndarray
        `(points, 3)`: z, y, x in voxels of `inside`, on the surface.
    """
    padded = np.pad(inside, _MARGIN).astype(np.float32)
    smooth = ndimage.gaussian_filter(padded, _SMOOTHING)
    n_inside = int(np.count_nonzero(inside))
    values = np.partition(smooth.reshape(-1), (-n_inside - 1, -n_inside))
    # Between the last voxel inside and the first one outside.
    level = float(values[-n_inside] + values[-n_inside - 1]) / 2
    level = min(max(level, 1e-3), 0.999 * float(smooth.max()))
    vertices = marching_cubes(smooth, level)[0]
    return _thinned(vertices, most) - _MARGIN


def _thinned(vertices: np.ndarray, most: int) -> np.ndarray:
    """One vertex of each cell of the finest grid that has few enough cells with vertices."""
    edge = 1.0
    while True:
        cells = np.floor(vertices / edge).astype(np.int64)
        _, numbers, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
        if len(counts) <= most:
            break
        edge *= _COARSER
    numbers = numbers.reshape(-1)
    sums = [np.bincount(numbers, vertices[:, axis], len(counts)) for axis in range(3)]
    means = np.stack(sums, axis=1) / counts[:, None]
    # The mean lies off a curved surface; the vertex nearest to it is on it.
    distances = ((vertices - means[numbers]) ** 2).sum(axis=1)
    order = np.lexsort((distances, numbers))
    first = np.unique(numbers[order], return_index=True)[1]
    return vertices[order[first]]


class Surfaces(NamedTuple):
    """Points of all surfaces of a tomogram: `(points, 3)` voxels z, y, x, and whose they are."""

    indices: np.ndarray
    labels: np.ndarray


def surfaces_of_instances(rows: Iterable[Mapping[str, Any]], mask_path: str, most: int) -> Surfaces:
    """Find the surfaces of a tomogram's instances.

    Parameters
    ----------
    rows
        What :func:`cryosiam_plugin.convert.read_instances` gives.
    mask_path
        MRC with the instances' labels; only their boxes are read.
    most
        Points of a surface.
    """
    indices, labels = [np.zeros((0, 3))], [np.zeros(0, np.int64)]
    with mrcfile.mmap(mask_path, mode="r", permissive=True) as mrc:
        for row in rows:
            first = np.array([row[f"bbox-{axis}"] for axis in range(3)])
            last = np.array([row[f"bbox-{axis + 3}"] for axis in range(3)])
            box = mrc.data[tuple(slice(a, b) for a, b in zip(first, last))]
            inside = np.asarray(box == row["label"])
            if inside.any():
                indices.append(surface_points(inside, most) + first)
                labels.append(np.full(len(indices[-1]), row["label"], np.int64))
    return Surfaces(np.concatenate(indices), np.concatenate(labels))


def mesh_points(surfaces: Surfaces, tomogram: Tomogram) -> Iterator[MeshPoint]:
    """Make Scipion's points of surfaces; the group of each is its instance's label.

    Parameters
    ----------
    surfaces
        Of the tomogram's instances.
    tomogram
        An item of the set that the meshes will have as precedents.
    """
    origin = voxel_origin(tomogram)
    for (z, y, x), label in zip(surfaces.indices.tolist(), surfaces.labels.tolist()):
        point = MeshPoint()
        point.setVolume(tomogram)
        point.setVolumeName(file_of(tomogram))
        point.setPosition(x + origin[0], y + origin[1], z + origin[2], SCIPION)
        point.setGroupId(label)
        yield point
