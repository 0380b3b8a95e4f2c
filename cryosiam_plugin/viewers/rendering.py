"""One slice as a picture of the size of the screen: grey levels with masks over them."""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from cryosiam_plugin.viewers.contrast import to_grey
from cryosiam_plugin.viewers.masks import labels_of
from cryosiam_plugin.viewers.viewport import Viewport

BACKGROUND = (32, 32, 32)

#: From here on the voxels themselves are shown, not a smooth picture.
_SHARP_SCALE = 4.0


class Grey(NamedTuple):
    """How values become grey levels: those shown black and white, and whether they swap."""

    limits: tuple[float, float]
    inverted: bool = False


class Overlay(NamedTuple):
    """Labels of a slice `(row, column)` with the colour of each, `(65536, 4)`."""

    labels: np.ndarray
    table: np.ndarray


def paint(
    overlays: Sequence[Overlay], opacity: float, viewport: Viewport, screen: tuple[int, int]
) -> list[Image.Image]:
    """Draw masks: one transparent picture each, for :func:`render` of any volume under them.

    Parameters
    ----------
    overlays
        All of the slice's shape, the uppermost last.
    opacity
        0 to 1.
    viewport
        The part to show.
    screen
        Width and height in pixels.
    """
    layers = []
    for overlay in overlays:
        window = _Window.of(overlay.labels.shape, viewport, screen)
        if window is None:
            continue
        colours = overlay.table[labels_of(window.cut(overlay.labels))]
        if not colours[..., 3].any():
            continue
        colours[..., 3] = (colours[..., 3] * opacity).astype(np.uint8)
        # Where voxels are smaller than pixels, thin membranes must fade, not break up.
        resample = Resampling.BOX if viewport.scale < 1 else Resampling.NEAREST
        layers.append(window.resized(Image.fromarray(colours, "RGBA"), resample))
    return layers


def render(
    values: np.ndarray,
    grey: Grey,
    layers: Sequence[Image.Image],
    viewport: Viewport,
    screen: tuple[int, int],
) -> Image.Image:
    """Draw a slice.

    Parameters
    ----------
    values
        The slice `(row, column)`; rows count up the screen.
    grey
        Contrast.
    layers
        What :func:`paint` drew for the same viewport and screen.
    viewport
        The part to show.
    screen
        Width and height in pixels.
    """
    picture = Image.new("RGB", screen, BACKGROUND)
    window = _Window.of(values.shape, viewport, screen)
    if window is None:
        return picture
    smooth = Resampling.BILINEAR if viewport.scale < _SHARP_SCALE else Resampling.NEAREST
    levels = to_grey(window.cut(values), grey.limits, inverted=grey.inverted)
    resample = Resampling.BOX if viewport.scale < 1 else smooth
    part = window.resized(Image.fromarray(levels), resample).convert("RGB")
    for layer in layers:
        part.paste(layer, mask=layer.getchannel("A"))
    picture.paste(part, window.corner)
    return picture


class _Window(NamedTuple):
    """The visible part of a slice and where it goes on the screen."""

    rows: slice
    columns: slice
    box: tuple[float, float, float, float]
    size: tuple[int, int]
    corner: tuple[int, int]

    @classmethod
    def of(
        cls, shape: tuple[int, ...], viewport: Viewport, screen: tuple[int, int]
    ) -> _Window | None:
        # Screen rectangle of the slice; voxel k covers k - 0.5 to k + 0.5.
        left, bottom = viewport.to_screen(-0.5, -0.5, screen)
        right, top = viewport.to_screen(shape[0] - 0.5, shape[1] - 0.5, screen)
        x0, x1 = max(math.floor(left), 0), min(math.ceil(right), screen[0])
        y0, y1 = max(math.floor(top), 0), min(math.ceil(bottom), screen[1])
        if x1 <= x0 or y1 <= y0:
            return None
        scale = viewport.scale
        column0, column1 = _clipped((x0 - left) / scale, (x1 - left) / scale, shape[1])
        # The picture's first row is the topmost, which is the slice's last.
        from_top0, from_top1 = _clipped((y0 - top) / scale, (y1 - top) / scale, shape[0])
        columns = slice(math.floor(column0), math.ceil(column1))
        tops = slice(math.floor(from_top0), math.ceil(from_top1))
        box = (
            column0 - columns.start,
            from_top0 - tops.start,
            column1 - columns.start,
            from_top1 - tops.start,
        )
        rows = slice(shape[0] - tops.stop, shape[0] - tops.start)
        return cls(rows, columns, box, (x1 - x0, y1 - y0), (x0, y0))

    def cut(self, values: np.ndarray) -> np.ndarray:
        """The visible part of a slice, the topmost row first."""
        return np.ascontiguousarray(values[self.rows, self.columns][::-1])

    def resized(self, part: Image.Image, resample: Resampling) -> Image.Image:
        """A part of the slice as large as on the screen."""
        return part.resize(self.size, resample, box=self.box)


def _clipped(low: float, high: float, size: int) -> tuple[float, float]:
    return max(low, 0.0), min(high, float(size))
