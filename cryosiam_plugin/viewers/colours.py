"""Colours of the classes, told apart also by the colour-blind."""

from __future__ import annotations

from typing import Tuple

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


def hexadecimal(colour: Colour) -> str:
    """A colour as Tk writes it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
