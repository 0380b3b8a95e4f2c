"""Masks over a tomogram: labels, the names of their classes, which of them are shown."""

from __future__ import annotations

from typing import Mapping

import numpy as np

from cryosiam_plugin.viewers.colours import Colour, ColourTable, object_colours
from cryosiam_plugin.viewers.volumes import Volume

#: More labels than this are not classes but objects: they share one line of the legend.
MAX_CLASSES = 64

#: The line of the legend that stands for all labels of a mask of objects.
ALL_OBJECTS = -1
_EACH = {ALL_OBJECTS: "each its own colour"}

_LABELS = 2**16
_SAMPLED_SLICES = 16


class Mask:
    """A volume of labels `(z, y, x)`, 0 = background, over a tomogram.

    Parameters
    ----------
    title
        What it is, for the legend: ``lamella``, ``classes`` ...
    volume
        Whole numbers.
    names
        Of the label values; without any, they are taken from the volume.
    colours
        Where the classes' colours come from.
    shown
        Whether its classes are shown at first.
    objects
        Whether the labels are numbers of objects, such as instances, and not classes; by default
        that is seen from how many there are.
    """

    def __init__(
        self,
        title: str,
        volume: Volume,
        names: Mapping[int, str],
        colours: ColourTable,
        *,
        shown: bool = True,
        objects: bool = False,
    ) -> None:
        self.title = title
        self.volume = volume
        if objects:
            names = {}
        self.names: dict[int, str] = {k: v for k, v in sorted(names.items()) if k > 0}
        if not self.names:
            self.names = dict(_EACH) if objects else _names_from(volume, title)
        self.colours: dict[int, Colour] = {k: colours.colour(v) for k, v in self.names.items()}
        self.shown: set[int] = set(self.names if shown else ())

    @property
    def holds_objects(self) -> bool:
        """Whether its labels are numbers of objects."""
        return ALL_OBJECTS in self.names

    def name(self, label: int) -> str:
        """The name of a label value."""
        if label == 0:
            return "background"
        if self.holds_objects:
            return f"{self.title[:-1] if self.title.endswith('s') else self.title} {label}"
        return self.names.get(label, f"label {label}")

    def lookup_table(self) -> np.ndarray:
        """Red, green, blue and 255 where shown, `(65536, 4)` bytes, one row a label value."""
        table = np.zeros((_LABELS, 4), np.uint8)
        for label in self.shown:
            if label == ALL_OBJECTS:
                table[1:, :3] = object_colours(np.arange(1, _LABELS))
                table[1:, 3] = 255
            else:
                table[label] = (*self.colours[label], 255)
        return table


def labels_of(values: np.ndarray) -> np.ndarray:
    """Label values as indices of a lookup table; what is no label counts as background.

    Numbers beyond the table, which only objects have, begin at its first colour again.
    """
    if values.dtype.kind == "f":
        values = np.nan_to_num(np.rint(values), nan=0.0)
    if values.dtype.kind != "u" or values.dtype.itemsize > 2:
        values = np.maximum(values, 0).astype(np.int64)
        if values.size and values.max() >= _LABELS:
            values = np.where(values > 0, (values - 1) % (_LABELS - 1) + 1, 0)
    return values.astype(np.uint16, copy=False)


def _names_from(volume: Volume, title: str) -> dict[int, str]:
    """Names for the labels of a few slices: a whole volume takes too long to look through."""
    depth = volume.shape[0]
    indices = np.unique(np.linspace(0, depth - 1, min(depth, _SAMPLED_SLICES)).astype(int))
    found: set[int] = set()
    for z in indices:
        found.update(int(label) for label in np.unique(labels_of(volume.data[int(z)])))
    found.discard(0)
    if len(found) > MAX_CLASSES:
        return dict(_EACH)
    if found <= {1}:
        return {1: title}
    return {label: f"label {label}" for label in range(1, max(found) + 1)}
