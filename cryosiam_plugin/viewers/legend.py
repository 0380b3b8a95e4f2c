"""The legend: every class with its colour, to be shown or hidden by a click."""

from __future__ import annotations

import tkinter as tk
from tkinter import ttk
from typing import Callable, Union

from PIL import Image, ImageDraw, ImageTk

from cryosiam_plugin.viewers.colours import Colour
from cryosiam_plugin.viewers.marks import by_class
from cryosiam_plugin.viewers.state import ViewerState

_SIZE = 14
_HIDDEN = (150, 150, 150)

_Key = Union[int, str]


class Legend(ttk.Frame):
    """A line for each class of each mask and of the particles.

    Parameters
    ----------
    master
        Where it goes.
    state
        What is shown; clicks change it.
    changed
        Called after a click.
    """

    def __init__(self, master: tk.Misc, state: ViewerState, changed: Callable[[], None]) -> None:
        super().__init__(master)
        self._changed = changed
        self._images: list[ImageTk.PhotoImage] = []
        #: Per line: the set of what is shown, and which of its members this line stands for.
        self._lines: dict[str, tuple[set, list[_Key]]] = {}
        self._swatches: dict[str, tuple[ImageTk.PhotoImage, ImageTk.PhotoImage]] = {}
        self._tree = ttk.Treeview(self, show="tree", selectmode="none", height=5)
        bar = ttk.Scrollbar(self, command=self._tree.yview)
        self._tree.configure(yscrollcommand=bar.set)
        self._tree.pack(side="left", fill="both", expand=True)
        bar.pack(side="right", fill="y")
        self._fill(state)
        self._tree.configure(height=min(max(len(self._lines), 2), 9))
        self._tree.bind("<Button-1>", self._clicked)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be shown or hidden."""
        return not self._lines

    def _fill(self, state: ViewerState) -> None:
        for mask in state.scene.masks:
            keys: list[_Key] = list(mask.names)
            group = self._group(f"Mask: {mask.title}", mask.shown, keys)
            for label, name in mask.names.items():
                self._line(group, name, mask.colours[label], mask.shown, label, filled=True)
        classes = by_class(state.scene.marks.particles)
        if not classes:
            return
        group = self._group("Particles", state.shown_classes, [name for name, _ in classes])
        for name, count in classes:
            colour = state.scene.colours.colour(name)
            text = f"{name}  ({count})"
            self._line(group, text, colour, state.shown_classes, name, filled=False)

    def _group(self, text: str, shown: set, keys: list[_Key]) -> str:
        item = self._tree.insert("", "end", text=text, open=True)
        self._lines[item] = shown, keys
        return item

    def _line(
        self, group: str, text: str, colour: Colour, shown: set, key: _Key, *, filled: bool
    ) -> None:
        pair = tuple(
            ImageTk.PhotoImage(_swatch(colour, filled=filled, shown=on), master=self)
            for on in (False, True)
        )
        item = self._tree.insert(group, "end", text=" " + text, image=pair[key in shown])
        self._swatches[item] = pair[0], pair[1]
        self._lines[item] = shown, [key]

    def _clicked(self, event: tk.Event) -> str:
        item = self._tree.identify_row(event.y)
        # The little triangle of a group folds it, as everywhere.
        if item not in self._lines or "indicator" in self._tree.identify_element(event.x, event.y):
            return ""
        shown, keys = self._lines[item]
        if shown.issuperset(keys):
            shown.difference_update(keys)
        else:
            shown.update(keys)
        self._refresh()
        self._changed()
        return "break"

    def _refresh(self) -> None:
        for item, pair in self._swatches.items():
            shown, keys = self._lines[item]
            self._tree.item(item, image=pair[shown.issuperset(keys)])


def _swatch(colour: Colour, *, filled: bool, shown: bool) -> Image.Image:
    """A square for a mask, a ring for particles; an empty grey outline where hidden."""
    image = Image.new("RGBA", (_SIZE, _SIZE), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    box = (1, 1, _SIZE - 2, _SIZE - 2)
    if filled:
        outline = (60, 60, 60) if shown else _HIDDEN
        draw.rectangle(box, fill=colour if shown else None, outline=outline)
    else:
        draw.ellipse(box, outline=colour if shown else _HIDDEN, width=3 if shown else 1)
    return image
