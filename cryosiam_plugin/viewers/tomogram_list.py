"""The list of a set's tomograms: a double click opens the slice viewer."""

from __future__ import annotations

import tkinter as tk
from tkinter import messagebox, ttk
from typing import Literal, Sequence

from cryosiam_plugin.viewers.scene import SceneFiles, open_scene
from cryosiam_plugin.viewers.slice_window import SliceWindow
from cryosiam_plugin.viewers.volumes import ViewerError

_COLUMNS: tuple[tuple[str, int, Literal["w", "e"]], ...] = (
    ("tomogram", 180, "w"),
    ("beside it", 100, "w"),
    ("masks", 170, "w"),
    ("particles", 80, "e"),
)


class TomogramList:
    """Lists tomograms; each opens in a window of its own.

    Parameters
    ----------
    master
        A window of the program; those opened from the list are its children too, and stay when
        the list is closed.
    title
        Of the set.
    tomograms
        What to list.
    """

    def __init__(self, master: tk.Misc, title: str, tomograms: Sequence[SceneFiles]) -> None:
        self._master = master
        self.window = window = tk.Toplevel(master)
        self._tomograms: list[SceneFiles] = list(tomograms)
        window.title(f"CryoSiam - {title}")
        window.geometry("600x380")
        window.minsize(420, 220)
        top = ttk.Frame(window, padding=(8, 6))
        top.pack(side="top", fill="x")
        ttk.Label(top, text="Name contains").pack(side="left", padx=(0, 6))
        self._filter = tk.StringVar(window)
        entry = ttk.Entry(top, textvariable=self._filter)
        entry.pack(side="left", fill="x", expand=True)
        self._filter.trace_add("write", lambda *_: self._fill())
        bottom = ttk.Frame(window, padding=(8, 6))
        bottom.pack(side="bottom", fill="x")
        self._count = ttk.Label(bottom)
        self._count.pack(side="left")
        ttk.Button(bottom, text="Close", command=window.destroy).pack(side="right")
        ttk.Button(bottom, text="Open", command=self.open_chosen).pack(side="right", padx=6)
        self._build_tree()
        self._fill()
        self.tree.focus_set()

    def _build_tree(self) -> None:
        frame = ttk.Frame(self.window, padding=(8, 0))
        frame.pack(side="top", fill="both", expand=True)
        names = [name for name, _, _ in _COLUMNS]
        self.tree = ttk.Treeview(frame, columns=names, show="headings", selectmode="browse")
        for name, width, anchor in _COLUMNS:
            self.tree.heading(name, text=name, anchor=anchor)
            self.tree.column(name, width=width, anchor=anchor, stretch=True)
        bar = ttk.Scrollbar(frame, command=self.tree.yview)
        self.tree.configure(yscrollcommand=bar.set)
        bar.pack(side="right", fill="y")
        self.tree.pack(side="left", fill="both", expand=True)
        self.tree.bind("<Double-Button-1>", self._double_clicked)
        self.tree.bind("<Return>", lambda _: self.open_chosen())

    def _double_clicked(self, event: tk.Event) -> None:
        if self.tree.identify_row(event.y):
            self.open_chosen()

    def _fill(self) -> None:
        wanted = self._filter.get().strip().lower()
        self.tree.delete(*self.tree.get_children())
        for number, files in enumerate(self._tomograms):
            if wanted and wanted not in files.name.lower():
                continue
            count = "" if files.n_particles is None else files.n_particles
            masks = ", ".join(mask.title for mask in files.masks)
            beside = files.beside_title if files.beside is not None else ""
            values = (files.name, beside, masks, count)
            self.tree.insert("", "end", iid=str(number), values=values)
        shown = self.tree.get_children()
        if shown:
            self.tree.selection_set(shown[0])
            self.tree.focus(shown[0])
        self._count.configure(
            text=f"{len(shown)} of {len(self._tomograms)} tomograms. Double click: look at it."
        )

    def open_chosen(self) -> None:
        """Open the chosen tomogram."""
        for item in self.tree.selection():
            open_window(self._master, self._tomograms[int(item)])


def open_window(master: tk.Misc, files: SceneFiles) -> SliceWindow | None:
    """Open a slice viewer in a new window; None, and a message says why, where it cannot be."""
    try:
        scene = open_scene(files)
    except ViewerError as error:
        messagebox.showerror("CryoSiam", str(error), parent=master)
        return None
    return SliceWindow(tk.Toplevel(master), scene)
