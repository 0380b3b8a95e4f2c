"""The three planes through a tomogram, and where a voxel lies in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

AXES = "zyx"

#: A position in a tomogram `(z, y, x)`, in voxels; whole numbers are centres of voxels.
Position = Tuple[float, float, float]


@dataclass(frozen=True)
class Plane:
    """A plane along two axes of a tomogram.

    Attributes
    ----------
    name
        Its axes, the horizontal one first: ``xy``, ``xz`` or ``yz``.
    axis, row_axis, column_axis
        Array axes (0 z, 1 y, 2 x) across the plane, up the screen, and along it.
    """

    name: str
    axis: int
    row_axis: int
    column_axis: int

    @property
    def across(self) -> str:
        """Name of the axis that one steps along."""
        return AXES[self.axis]

    def row_column(self, position: Position) -> tuple[float, float]:
        """Row (upwards) and column of a position in this plane."""
        return position[self.row_axis], position[self.column_axis]

    def position(self, index: float, row: float, column: float) -> Position:
        """The position `(z, y, x)` at a row and column of the slice with this index."""
        found = [0.0, 0.0, 0.0]
        found[self.axis], found[self.row_axis], found[self.column_axis] = index, row, column
        return found[0], found[1], found[2]

    def shape(self, volume_shape: tuple[int, int, int]) -> tuple[int, int]:
        """Rows and columns of a slice of a volume `(z, y, x)`."""
        return volume_shape[self.row_axis], volume_shape[self.column_axis]


#: In the order of their keys 1, 2 and 3.
PLANES: dict[str, Plane] = {
    "xy": Plane("xy", axis=0, row_axis=1, column_axis=2),
    "xz": Plane("xz", axis=1, row_axis=0, column_axis=2),
    "yz": Plane("yz", axis=2, row_axis=0, column_axis=1),
}
