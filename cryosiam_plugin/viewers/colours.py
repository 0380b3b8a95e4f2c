"""Colours of the classes, told apart also by the colour-blind."""

from __future__ import annotations

from typing import Tuple

import numpy as np

Colour = Tuple[int, int, int]

#: Okabe and Ito's palette without black and grey, then Tol's muted one: both made for all kinds
#: of colour vision. Beyond these the names, not the colours, tell classes apart.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
    (136, 204, 238),
    (68, 170, 153),
    (153, 153, 51),
    (221, 204, 119),
    (204, 102, 119),
    (136, 34, 85),
    (170, 68, 153),
    (51, 34, 136),
    (17, 119, 51),
)


class ColourTable:
    """Gives each name its colour, in the order in which the names are first asked for."""

    def __init__(self) -> None:
        self._given: dict[str, Colour] = {}

    def colour(self, name: str) -> Colour:
        """The colour of a name as red, green, blue (0 to 255); the same one every time."""
        if name not in self._given:
            self._given[name] = PALETTE[len(self._given) % len(PALETTE)]
        return self._given[name]


#: The golden angle as a part of a turn: the hues of numbers that follow each other lie far apart.
_GOLDEN = 0.6180339887498949
#: Saturation and brightness, in turn: hues that come near each other again still differ.
_SHADES = np.array(
    [(0.9, 1.0), (0.5, 1.0), (0.9, 0.75), (0.6, 0.85), (0.45, 0.95), (1.0, 0.9), (0.7, 0.8)]
)


def object_colours(numbers: np.ndarray) -> np.ndarray:
    """Colours of numbered objects, `(..., 3)` bytes: always the same for the same number.

    Parameters
    ----------
    numbers
        Whole numbers of any shape.
    """
    numbers = np.asarray(numbers, dtype=np.int64)
    hue = (numbers * _GOLDEN) % 1.0
    saturation, value = np.moveaxis(_SHADES[numbers % len(_SHADES)], -1, 0)
    # Red, green and blue are 5, 3 and 1 sixths of a turn apart from where each is brightest.
    turned = (np.array([5.0, 3.0, 1.0]) + hue[..., None] * 6) % 6
    share = np.clip(np.minimum(turned, 4 - turned), 0, 1)
    return np.rint(255 * value[..., None] * (1 - saturation[..., None] * share)).astype(np.uint8)


def hexadecimal(colour: Colour) -> str:
    """A colour as Tk writes it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
