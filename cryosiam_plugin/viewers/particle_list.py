"""The list of particles: choosing one goes there."""

from __future__ import annotations

import tkinter as tk
from tkinter import ttk
from typing import Callable, Literal

from cryosiam_plugin.viewers.state import ViewerState

_COLUMNS = (("class", 84), ("x", 38), ("y", 38), ("z", 38), ("score", 42))


class ParticleList(ttk.Frame):
    """The particles of the shown classes, a line each.

    Parameters
    ----------
    master
        Where it goes.
    state
        Whose particles they are.
    selected
        Called with the number of the particle that the user chooses.
    """

    def __init__(
        self, master: tk.Misc, state: ViewerState, selected: Callable[[int], None]
    ) -> None:
        super().__init__(master)
        self._state = state
        self._selected = selected
        self._classes_listed: frozenset | None = None
        names = [name for name, _ in _COLUMNS]
        if all(particle.score is None for particle in state.scene.marks.particles):
            names.remove("score")
        self._tree = ttk.Treeview(
            self, columns=names, show="headings", selectmode="browse", height=4
        )
        for name, width in _COLUMNS:
            if name in names:
                anchor: Literal["w", "e"] = "w" if name == "class" else "e"
                self._tree.heading(name, text=name, anchor=anchor)
                self._tree.column(name, width=width, anchor=anchor, stretch=name == "class")
        bar = ttk.Scrollbar(self, command=self._tree.yview)
        self._tree.configure(yscrollcommand=bar.set)
        bar.pack(side="right", fill="y")
        self._tree.pack(side="left", fill="both", expand=True)
        self._tree.bind("<<TreeviewSelect>>", self._chosen)
        self.refresh()

    def refresh(self) -> None:
        """List the particles of the classes that are shown now."""
        shown = frozenset(self._state.shown_classes)
        if shown == self._classes_listed:
            return
        self._classes_listed = shown
        self._tree.delete(*self._tree.get_children())
        for number, particle in enumerate(self._state.scene.marks.particles):
            if particle.class_name not in shown:
                continue
            z, y, x = (f"{p:.0f}" for p in particle.position)
            values = [particle.name, x, y, z]
            if particle.score is not None:
                values.append(f"{particle.score:.3g}")
            self._tree.insert("", "end", iid=str(number), values=values)

    def mark(self, number: int) -> None:
        """Show a particle as the chosen one."""
        item = str(number)
        if self._tree.exists(item) and self._tree.selection() != (item,):
            self._tree.selection_set(item)
            self._tree.see(item)

    def _chosen(self, _: tk.Event) -> None:
        selection = self._tree.selection()
        if selection and int(selection[0]) != self._state.selected:
            self._selected(int(selection[0]))
