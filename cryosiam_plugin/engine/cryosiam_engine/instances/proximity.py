"""Which instances are near to a part of the tomogram, by exact distances in bounded memory."""

from __future__ import annotations

import math

import edt
import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.device import cpu_threads

#: Sections that are looked at together, at least.
_SECTIONS = 32


def ids_near(
    instances: NDArray[np.integer], target: NDArray[np.bool_], distance: float
) -> NDArray[np.bool_]:
    """Find the instances with a voxel within a Euclidean distance of a target voxel.

    The distances are exact; they are computed a few sections at a time.

    Parameters
    ----------
    instances
        Ids (z, y, x), 0 = background.
    target
        Where to be near to, (z, y, x).
    distance
        In voxels, inclusive; 0 for the target voxels themselves.

    Returns
    -------
    numpy.ndarray
        True for every id that is near, indexed by id; False for the background.
    """
    near = np.zeros(int(instances.max()) + 1, dtype=bool)
    limit = _largest_square(distance)
    reach = math.isqrt(limit)
    depth = instances.shape[0]
    step = max(_SECTIONS, reach)
    for start in range(0, depth, step):
        stop = min(start + step, depth)
        first = max(0, start - reach)
        seen = target[first : stop + reach]
        if not seen.any():
            continue
        inside = seen[start - first : stop - first]
        if limit:
            squares = edt.edtsq(~seen, black_border=False, parallel=cpu_threads())
            inside = squares[start - first : stop - first] <= limit
        near[instances[start:stop][inside]] = True
    near[0] = False
    return near


def _largest_square(distance: float) -> int:
    """The largest squared distance between voxels whose root is not above `distance`."""
    square = int(distance * distance) + 1
    while math.sqrt(square) > distance:
        square -= 1
    return square
