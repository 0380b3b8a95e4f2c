"""Which part of a slice is on the screen: zoom, pan, and the scale bar that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass

#: Screen pixels per voxel.
_SMALLEST, _LARGEST = 0.02, 64.0

_BAR_STEPS = (1.0, 2.0, 5.0)


@dataclass
class Viewport:
    """Maps a slice `(row upwards, column)` to the screen `(x, y downwards)`.

    Attributes
    ----------
    row, column
        The slice's point in the middle of the screen.
    scale
        Screen pixels per voxel.
    """

    row: float = 0.0
    column: float = 0.0
    scale: float = 1.0

    def fit(self, slice_shape: tuple[int, int], screen: tuple[int, int]) -> None:
        """Show a whole slice of `(rows, columns)` on a screen of `(width, height)` pixels."""
        rows, columns = slice_shape
        width, height = screen
        self.row, self.column = (rows - 1) / 2, (columns - 1) / 2
        self._set_scale(min(width / columns, height / rows))

    def to_screen(self, row: float, column: float, screen: tuple[int, int]) -> tuple[float, float]:
        """Where the centre of a voxel is on the screen."""
        width, height = screen
        x = (column - self.column) * self.scale + width / 2
        return x, height / 2 - (row - self.row) * self.scale

    def to_slice(self, x: float, y: float, screen: tuple[int, int]) -> tuple[float, float]:
        """The row and column at a point of the screen."""
        width, height = screen
        column = (x - width / 2) / self.scale + self.column
        return (height / 2 - y) / self.scale + self.row, column

    def zoom(self, factor: float, x: float, y: float, screen: tuple[int, int]) -> None:
        """Zoom by a factor; the point of the screen stays over the same voxel."""
        row, column = self.to_slice(x, y, screen)
        self._set_scale(self.scale * factor)
        new_row, new_column = self.to_slice(x, y, screen)
        self.row += row - new_row
        self.column += column - new_column

    def pan(self, x: float, y: float) -> None:
        """Move the picture by so many pixels right and down."""
        self.column -= x / self.scale
        self.row += y / self.scale

    def actual_size(self) -> None:
        """One screen pixel a voxel."""
        self._set_scale(1.0)

    def shows(self, row: float, column: float, screen: tuple[int, int]) -> bool:
        """Whether a voxel is on the screen."""
        x, y = self.to_screen(row, column, screen)
        return 0 <= x < screen[0] and 0 <= y < screen[1]

    def _set_scale(self, scale: float) -> None:
        self.scale = min(max(scale, _SMALLEST), _LARGEST)


def scale_bar(voxel_size: float, scale: float, longest: float) -> tuple[float, float]:
    """The longest round scale bar that fits.

    Parameters
    ----------
    voxel_size
        In Å.
    scale
        Screen pixels per voxel.
    longest
        Room for it in screen pixels.

    Returns
    -------
    tuple of float
        Its length in nm (1, 2 or 5 times a power of ten) and in screen pixels.
    """
    pixels_per_nm = scale * 10.0 / voxel_size
    room = longest / pixels_per_nm
    power = 1.0
    while power > room:
        power /= 10
    while power * 10 <= room:
        power *= 10
    nanometres = max(power * step for step in _BAR_STEPS if power * step <= room)
    return nanometres, nanometres * pixels_per_nm
