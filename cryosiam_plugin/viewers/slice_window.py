"""The window of the slice viewer: puts the parts together and knows the keys."""

from __future__ import annotations

import tkinter as tk
from functools import partial
from tkinter import ttk
from typing import Callable

from cryosiam_plugin.viewers.controls import ContrastControls, PercentSlider, SliceBar, notes_label
from cryosiam_plugin.viewers.keys import bind_keys, show_help
from cryosiam_plugin.viewers.legend import Legend
from cryosiam_plugin.viewers.particle_list import ParticleList
from cryosiam_plugin.viewers.planes import PLANES, Position
from cryosiam_plugin.viewers.scene import Scene
from cryosiam_plugin.viewers.slice_canvas import SliceCanvas
from cryosiam_plugin.viewers.state import ViewerState
from cryosiam_plugin.viewers.volumes import ViewerError

_SIDE_WIDTH = 280
_WINDOW = (1240, 740)


class SliceWindow:
    """Shows one tomogram.

    Parameters
    ----------
    window
        An empty window of Tk's.
    scene
        What to show.
    """

    def __init__(self, window: tk.Tk | tk.Toplevel, scene: Scene) -> None:
        self.window = window
        self.state = ViewerState(scene)
        self._pending: str | None = None
        self._fitted = False
        window.title(f"CryoSiam - {scene.name}")
        width = min(_WINDOW[0], window.winfo_screenwidth() - 20)
        height = min(_WINDOW[1], window.winfo_screenheight() - 50)
        window.geometry(f"{width}x{height}")
        window.minsize(720, 480)
        self._build(scene)
        self._bind_keys()
        self.canvases[0].bind("<Configure>", lambda _: self.changed())
        self.canvases[0].bind("<Destroy>", lambda _: self._cancel())
        self.canvases[0].focus_set()

    def _build(self, scene: Scene) -> None:
        buttons = {"Fit": self.fit, "1:1": self.actual_size, "Keys": self.show_help}
        self.slice_bar = SliceBar(
            self.window, self.state, plane=self.set_plane, changed=self.changed, buttons=buttons
        )
        self.slice_bar.pack(side="top", fill="x")
        self._status = ttk.Label(self.window, padding=(6, 3), anchor="w")
        self._status.pack(side="bottom", fill="x")
        self._status_default = f"{scene.facts()}    F1: mouse and keys"
        if scene.notes:
            notes_label(self.window, scene.notes, width=_WINDOW[0]).pack(side="bottom", fill="x")
        side = ttk.Frame(self.window, width=_SIDE_WIDTH, padding=(4, 0))
        side.pack_propagate(False)
        side.pack(side="right", fill="y")
        self._build_side(side, scene)
        self.canvases = self._build_pictures(scene)

    def _build_side(self, side: ttk.Frame, scene: Scene) -> None:
        self.contrast = ContrastControls(side, self.state, self.changed)
        self.contrast.pack(fill="x", pady=(0, 6))
        self.legend: Legend | None = None
        self.particle_list: ParticleList | None = None
        self._masks_shown = tk.BooleanVar(side, self.state.masks_shown)
        self._particles_shown = tk.BooleanVar(side, self.state.particles_shown)
        if not scene.masks and not scene.marks.particles and not len(scene.surfaces):
            return
        frame = ttk.LabelFrame(side, text="Classes (click to hide or show)", padding=(6, 2))
        frame.pack(fill="x", pady=(0, 6))
        switches = ttk.Frame(frame)
        switches.pack(fill="x")
        if scene.masks:
            self._switch(switches, "Masks", self._masks_shown)
        if scene.marks.particles:
            self._switch(switches, "Particles", self._particles_shown)
        elif len(scene.surfaces):
            self._switch(switches, "Surfaces", self._particles_shown)
        self.legend = Legend(frame, self.state, self.changed)
        self.legend.pack(fill="x", pady=2)
        if scene.masks:
            PercentSlider(frame, "Opacity", 100 * self.state.opacity, self._set_opacity).pack(
                fill="x"
            )
        if scene.marks.particles:
            listed = ttk.LabelFrame(side, text="Go to particle (voxels)", padding=(6, 2))
            listed.pack(fill="both", expand=True)
            self.particle_list = ParticleList(listed, self.state, self.select)
            self.particle_list.pack(fill="both", expand=True)

    def _switch(self, master: tk.Misc, text: str, variable: tk.BooleanVar) -> None:
        ttk.Checkbutton(
            master, text=text, variable=variable, command=self._switched, takefocus=False
        ).pack(side="left", padx=(0, 12))

    def _build_pictures(self, scene: Scene) -> list[SliceCanvas]:
        frame = ttk.Frame(self.window)
        frame.pack(side="left", fill="both", expand=True)
        frame.rowconfigure(1, weight=1)
        canvases = []
        for number, (title, volume) in enumerate(scene.pictures):
            # Of equal width, so that the same place is at the same place in both.
            frame.columnconfigure(number, weight=1, uniform="picture")
            ttk.Label(frame, text=f"{title}   ({volume.path.name})", padding=(6, 2)).grid(
                row=0, column=number, sticky="w"
            )
            canvas = SliceCanvas(
                frame,
                self.state,
                number,
                changed=self.changed,
                hovered=self._hovered,
                selected=self.select,
            )
            canvas.grid(row=1, column=number, sticky="nsew", padx=(0, 2))
            canvases.append(canvas)
        return canvases

    def _bind_keys(self) -> None:
        step = self._step
        keys: dict[str, Callable[[], None]] = {
            "Up": lambda: step(1),
            "Down": lambda: step(-1),
            "Prior": lambda: step(10),
            "Next": lambda: step(-10),
            "Home": lambda: step(-self.state.n_slices),
            "End": lambda: step(self.state.n_slices),
            "plus": lambda: self._zoom(1.25),
            "equal": lambda: self._zoom(1.25),
            "KP_Add": lambda: self._zoom(1.25),
            "minus": lambda: self._zoom(0.8),
            "KP_Subtract": lambda: self._zoom(0.8),
            "f": self.fit,
            "a": self.actual_size,
            "m": lambda: self._toggle(self._masks_shown),
            "p": lambda: self._toggle(self._particles_shown),
            "n": lambda: self._next_particle(1),
            "b": lambda: self._next_particle(-1),
            "i": self._invert,
            "F1": self.show_help,
        }
        for number, name in enumerate(PLANES, start=1):
            keys[f"Key-{number}"] = partial(self.set_plane, name)
        bind_keys(self.window, keys)
        self.window.bind("<Control-w>", lambda _: self.window.destroy())

    def changed(self) -> None:
        """Draw anew, once, when the events at hand are dealt with."""
        if self._pending is None:
            self._pending = self.window.after_idle(self._redraw)

    def _cancel(self) -> None:
        if self._pending is not None:
            self.window.after_cancel(self._pending)
            self._pending = None

    def _redraw(self) -> None:
        self._cancel()
        if self.canvases[0].screen[0] <= 1:
            return  # not on the screen yet; its <Configure> comes
        if not self._fitted:
            self._fitted = True
            self.state.viewport.fit(self.state.slice_shape, self.canvases[0].screen)
        try:
            for canvas in self.canvases:
                canvas.draw()
        except ViewerError as error:
            self._status.configure(text=str(error))
            return
        self.slice_bar.refresh()
        if self.particle_list is not None:
            self.particle_list.refresh()
        self._hovered(None)

    def set_plane(self, name: str) -> None:
        """Cut along `xy`, `xz` or `yz`; the whole slice is shown."""
        self.state.set_plane(name)
        self._fitted = False
        # A slice along x touches every block of the file: on a slow disk that takes a while.
        self.window.configure(cursor="watch")
        self.window.update_idletasks()
        self._redraw()
        self.window.configure(cursor="")

    def fit(self) -> None:
        """Show the whole slice."""
        self._fitted = False
        self.changed()

    def actual_size(self) -> None:
        """One pixel of the screen a voxel."""
        self.state.viewport.actual_size()
        self.changed()

    def select(self, number: int) -> None:
        """Go to a particle."""
        self.state.select(number, self.canvases[0].screen)
        if self.particle_list is not None:
            self.particle_list.mark(number)
        self.changed()

    def show_help(self) -> None:
        """What mouse and keys do."""
        show_help(self.window)

    def _step(self, slices: int) -> None:
        self.state.go_to_slice(self.state.index + slices)
        self.changed()

    def _zoom(self, factor: float) -> None:
        width, height = screen = self.canvases[0].screen
        self.state.viewport.zoom(factor, width / 2, height / 2, screen)
        self.changed()

    def _toggle(self, variable: tk.BooleanVar) -> None:
        variable.set(not variable.get())
        self._switched()

    def _switched(self) -> None:
        self.state.masks_shown = self._masks_shown.get()
        self.state.particles_shown = self._particles_shown.get()
        self.changed()

    def _set_opacity(self, percent: float) -> None:
        self.state.opacity = percent / 100
        self.changed()

    def _invert(self) -> None:
        self.state.inverted = not self.state.inverted
        self.contrast.refresh()
        self.changed()

    def _next_particle(self, step: int) -> None:
        number = self.state.neighbour(step)
        if number is not None:
            self.select(number)

    def _hovered(self, position: Position | None) -> None:
        text = self.state.describe(position) if position is not None else ""
        self._status.configure(text=text or self._status_default)
