"""Surfaces of objects as dots: those of their points that lie near a slice."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from cryosiam_plugin.viewers.colours import object_colours
from cryosiam_plugin.viewers.planes import Plane
from cryosiam_plugin.viewers.viewport import Viewport

#: Voxels from the slice within which points are shown; the farther, the smaller.
REACH = 2.5
_RADIUS_PIXELS = 3.5


class SurfacePoints:
    """Points on the surfaces of a tomogram's objects.

    Parameters
    ----------
    positions
        `(points, 3)`: z, y, x in voxels.
    numbers
        Of the objects, one for each point.
    """

    def __init__(
        self, positions: np.ndarray | None = None, numbers: np.ndarray | None = None
    ) -> None:
        self._positions = np.zeros((0, 3)) if positions is None else np.asarray(positions, float)
        self._numbers = np.zeros(0, np.int64) if numbers is None else np.asarray(numbers, np.int64)

    def __len__(self) -> int:
        return len(self._numbers)

    def near(self, plane: Plane, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The points near a slice.

        Returns
        -------
        points : numpy.ndarray
            `(points, 3)`: row, column and distance from the slice in voxels.
        numbers : numpy.ndarray
            Of their objects.
        """
        distances = np.abs(self._positions[:, plane.axis] - index)
        near = np.flatnonzero(distances < REACH)
        rows, columns = (self._positions[near, a] for a in (plane.row_axis, plane.column_axis))
        return np.stack([rows, columns, distances[near]], axis=1), self._numbers[near]


def draw_points(
    picture: Image.Image, points: np.ndarray, numbers: np.ndarray, viewport: Viewport
) -> None:
    """Draw what :meth:`SurfacePoints.near` gives into a picture of a slice, in place."""
    draw = ImageDraw.Draw(picture)
    for (row, column, distance), colour in zip(points, object_colours(numbers)):
        x, y = viewport.to_screen(row, column, picture.size)
        radius = max(_RADIUS_PIXELS * (1 - distance / REACH), 1.0)
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, fill=tuple(int(c) for c in colour), outline=(0, 0, 0))
