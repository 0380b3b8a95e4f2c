"""Where the user is in a tomogram and what is shown: everything but the window itself."""

from __future__ import annotations

from typing import Iterator, Tuple

import numpy as np
from PIL import Image

from cryosiam_plugin.viewers.contrast import DEFAULT_PERCENTILES, Contrast
from cryosiam_plugin.viewers.marks import Circle, by_class
from cryosiam_plugin.viewers.masks import Mask
from cryosiam_plugin.viewers.planes import AXES, PLANES, Plane, Position
from cryosiam_plugin.viewers.rendering import Grey, Overlay, paint, render
from cryosiam_plugin.viewers.scene import Scene
from cryosiam_plugin.viewers.surfaces import draw_points
from cryosiam_plugin.viewers.viewport import Viewport

Screen = Tuple[int, int]


class ViewerState:
    """The state of one slice viewer.

    Parameters
    ----------
    scene
        What is shown.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.plane: Plane = PLANES["xy"]
        depth, rows, columns = scene.shape
        self.position: Position = (depth // 2, rows // 2, columns // 2)
        self.viewport = Viewport()
        self.percentiles: tuple[float, float] = DEFAULT_PERCENTILES
        self.inverted = False
        self.opacity = 0.45
        self.masks_shown = True
        self.particles_shown = True
        self.shown_classes: set[str] = {name for name, _ in by_class(scene.marks.particles)}
        self.selected: int | None = None
        self._contrasts: list[Contrast | None] = [None] * len(scene.pictures)
        self._tables: dict[int, tuple[frozenset, np.ndarray]] = {}
        self._layers: tuple[tuple, list[Image.Image]] | None = None

    @property
    def index(self) -> int:
        """Of the slice shown."""
        return int(np.floor(self.position[self.plane.axis] + 0.5))

    @property
    def n_slices(self) -> int:
        """Along the axis across the plane."""
        return self.scene.shape[self.plane.axis]

    @property
    def slice_shape(self) -> tuple[int, int]:
        """Rows and columns of the slices."""
        return self.plane.shape(self.scene.shape)

    def set_plane(self, name: str) -> None:
        """Cut along `xy`, `xz` or `yz`, through the present position."""
        self.plane = PLANES[name]

    def go_to_slice(self, index: int) -> None:
        """Show a slice of the present plane; beyond the ends, the last one."""
        moved = list(self.position)
        moved[self.plane.axis] = min(max(index, 0), self.n_slices - 1)
        self.position = (moved[0], moved[1], moved[2])

    def point_at(self, row: float, column: float) -> None:
        """Move the position to a point of the slice shown, if it lies in the tomogram."""
        position = self.plane.position(self.index, round(row), round(column))
        if self.scene.pictures[0][1].contains(position):
            self.position = position

    def select(self, number: int | None, screen: Screen) -> None:
        """Go to a particle: its slice, and its place if that is off the screen."""
        self.selected = number
        if number is None:
            return
        particle = self.scene.marks.particles[number]
        limits = self.scene.shape
        z, y, x = (min(max(round(p), 0), n - 1) for p, n in zip(particle.position, limits))
        self.position = (z, y, x)
        row, column = self.plane.row_column(particle.position)
        if not self.viewport.shows(row, column, screen):
            self.viewport.row, self.viewport.column = row, column

    def neighbour(self, step: int) -> int | None:
        """The next or last but one particle of the list that is shown; None without any."""
        shown = [
            number
            for number, particle in enumerate(self.scene.marks.particles)
            if particle.class_name in self.shown_classes
        ]
        if not shown:
            return None
        if self.selected not in shown:
            return shown[0]
        return shown[(shown.index(self.selected) + step) % len(shown)]

    def particle_near(self, row: float, column: float) -> int | None:
        """The particle whose circle a point of the slice lies in, the nearest of several."""
        distances = [
            ((c.row - row) ** 2 + (c.column - column) ** 2, c.particle)
            for c in self.circles()
            if (c.row - row) ** 2 + (c.column - column) ** 2 <= c.radius**2
        ]
        return min(distances)[1] if distances else None

    def circles(self) -> Iterator[Circle]:
        """Of the shown classes, in the slice shown."""
        if not self.particles_shown:
            return
        for circle in self.scene.marks.circles(self.plane, self.index):
            if self.scene.marks.particles[circle.particle].class_name in self.shown_classes:
                yield circle

    def picture(self, number: int, screen: Screen) -> Image.Image:
        """One of the scene's pictures, as large as the screen it goes to.

        Raises
        ------
        ViewerError
            When a file can no longer be read.
        """
        volume = self.scene.pictures[number][1]
        contrast = self._contrasts[number]
        if contrast is None:
            contrast = self._contrasts[number] = Contrast(volume)
        picture = render(
            volume.slice(self.plane, self.index),
            Grey(contrast.limits(self.percentiles), self.inverted),
            self._painted(screen),
            self.viewport,
            screen,
        )
        if len(self.scene.surfaces) and self.particles_shown:
            draw_points(picture, *self.scene.surfaces.near(self.plane, self.index), self.viewport)
        return picture

    def _painted(self, screen: Screen) -> list[Image.Image]:
        """The masks, drawn once for all pictures."""
        if not self.masks_shown:
            return []
        shown = tuple(frozenset(mask.shown) for mask in self.scene.masks)
        view = (self.viewport.row, self.viewport.column, self.viewport.scale)
        key = (self.plane, self.index, view, screen, self.opacity, shown)
        if self._layers is None or self._layers[0] != key:
            layers = paint(self._overlays(shown), self.opacity, self.viewport, screen)
            self._layers = key, layers
        return self._layers[1]

    def _overlays(self, shown: tuple[frozenset, ...]) -> list[Overlay]:
        found = []
        for number, (mask, labels_shown) in enumerate(zip(self.scene.masks, shown)):
            if not labels_shown:
                continue
            if number not in self._tables or self._tables[number][0] != labels_shown:
                self._tables[number] = labels_shown, mask.lookup_table()
            labels = mask.volume.slice(self.plane, self.index)
            found.append(Overlay(labels, self._tables[number][1]))
        return found

    def _size(self, mask: Mask, label: float) -> str:
        """How large an object of a mask is, where the particles tell."""
        particle = self.scene.marks.numbered(round(label)) if mask.holds_objects else None
        if particle is None or particle.size is None:
            return ""
        text = f"{particle.size} voxels"
        if self.scene.voxel_size > 0:
            text += f", {particle.size * (self.scene.voxel_size / 10) ** 3:.0f} nm³"
        return f" ({text})"

    def describe(self, position: Position) -> str:
        """The status line for a position: voxel, values, labels."""
        if not self.scene.pictures[0][1].contains(position):
            return ""
        voxel = [int(np.floor(p + 0.5)) for p in position]
        parts = ["  ".join(f"{AXES[a]} {voxel[a]}" for a in (2, 1, 0))]
        if self.scene.voxel_size > 0:
            nanometres = [f"{voxel[a] * self.scene.voxel_size / 10:.1f}" for a in (2, 1, 0)]
            parts.append(f"({', '.join(nanometres)} nm)")
        for title, volume in self.scene.pictures:
            parts.append(f"{title}: {volume.value(position):.5g}")
        for mask in self.scene.masks:
            label = mask.volume.value(position)
            if label:
                parts.append(f"{mask.title}: {mask.name(round(label))}{self._size(mask, label)}")
        return "    ".join(parts)
