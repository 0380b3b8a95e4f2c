"""The controls of the slice viewer: plane and slice above the pictures, contrast beside them."""

from __future__ import annotations

import tkinter as tk
from tkinter import ttk
from typing import Callable, Sequence

from cryosiam_plugin.viewers.contrast import DEFAULT_PERCENTILES
from cryosiam_plugin.viewers.planes import PLANES
from cryosiam_plugin.viewers.state import ViewerState

_SMALLEST_SPAN = 0.5


class SliceBar(ttk.Frame):
    """Plane, slice, zoom.

    Parameters
    ----------
    master
        Where it goes.
    state
        What is shown.
    plane
        Called with the name of the plane that the user chooses.
    changed
        Called after the slice has changed.
    buttons
        Texts of more buttons and what they do.
    """

    def __init__(
        self,
        master: tk.Misc,
        state: ViewerState,
        *,
        plane: Callable[[str], None],
        changed: Callable[[], None],
        buttons: dict,
    ) -> None:
        super().__init__(master, padding=(6, 4))
        self._state, self._changed = state, changed
        self._plane = tk.StringVar(self, state.plane.name)
        ttk.Label(self, text="Plane").pack(side="left", padx=(0, 4))
        for name in PLANES:
            ttk.Radiobutton(
                self,
                text=name,
                value=name,
                variable=self._plane,
                takefocus=False,
                command=lambda: plane(self._plane.get()),
            ).pack(side="left", padx=3)
        self._title = ttk.Label(self, width=6, anchor="e")
        self._title.pack(side="left", padx=(14, 4))
        for text, command in reversed(list(buttons.items())):
            ttk.Button(self, text=text, command=command, takefocus=False, width=len(text) + 1).pack(
                side="right", padx=2
            )
        self._total = ttk.Label(self, width=7)
        self._total.pack(side="right", padx=(2, 10))
        self._entry = ttk.Entry(self, width=6, justify="right")
        self._entry.pack(side="right")
        self._entry.bind("<Return>", self._typed)
        self._slider = ttk.Scale(self, takefocus=False, command=self._slid)
        self._slider.pack(side="left", fill="x", expand=True, padx=6)
        self.refresh()

    def refresh(self) -> None:
        """Show the present plane and slice."""
        state = self._state
        self._plane.set(state.plane.name)
        self._title.configure(text=f"{state.plane.across} slice")
        self._total.configure(text=f"of {state.n_slices}")
        self._slider.configure(from_=0, to=max(state.n_slices - 1, 1))
        if round(float(self._slider.get())) != state.index:
            self._slider.set(state.index)
        self._entry.delete(0, "end")
        self._entry.insert(0, str(state.index))

    def _slid(self, value: str) -> None:
        index = round(float(value))
        if index != self._state.index:
            self._state.go_to_slice(index)
            self._changed()

    def _typed(self, _: tk.Event) -> None:
        text = self._entry.get().strip()
        if text.isdigit():
            self._state.go_to_slice(int(text))
        self._changed()
        self.winfo_toplevel().focus_set()


class PercentSlider(ttk.Frame):
    """A named slider that shows its value.

    Parameters
    ----------
    master
        Where it goes.
    text
        Its name.
    value
        At first, 0 to 100.
    moved
        Called with the new value.
    """

    def __init__(
        self, master: tk.Misc, text: str, value: float, moved: Callable[[float], None]
    ) -> None:
        super().__init__(master)
        self._moved = moved
        ttk.Label(self, text=text, width=8).pack(side="left")
        self._shown = ttk.Label(self, width=7, anchor="e")
        self._shown.pack(side="right")
        self._slider = ttk.Scale(self, from_=0, to=100, takefocus=False)
        self._slider.pack(side="left", fill="x", expand=True)
        self.set(value)
        self._slider.configure(command=self._slid)

    def set(self, value: float) -> None:
        """Move it without telling anyone."""
        # A ttk.Scale calls its command on set() too.
        command = self._slider.cget("command")
        self._slider.configure(command="")
        self._slider.set(value)
        self._slider.configure(command=command)
        self._shown.configure(text=f"{value:.1f} %")

    def _slid(self, value: str) -> None:
        self._shown.configure(text=f"{float(value):.1f} %")
        self._moved(float(value))


class ContrastControls(ttk.LabelFrame):
    """Black and white point in percentiles of the values.

    Parameters
    ----------
    master
        Where it goes.
    state
        Whose contrast it is.
    changed
        Called after a change.
    """

    def __init__(self, master: tk.Misc, state: ViewerState, changed: Callable[[], None]) -> None:
        super().__init__(master, text="Contrast (percentiles)", padding=(6, 2))
        self._state, self._changed = state, changed
        low, high = state.percentiles
        self._black = PercentSlider(self, "Black at", low, self._set_black)
        self._white = PercentSlider(self, "White at", high, self._set_white)
        self._black.pack(fill="x")
        self._white.pack(fill="x")
        self._inverted = tk.BooleanVar(self, state.inverted)
        ttk.Checkbutton(
            self, text="Invert", variable=self._inverted, command=self._invert, takefocus=False
        ).pack(side="left")
        ttk.Button(self, text="Reset", command=self._reset, takefocus=False, width=6).pack(
            side="right", pady=(2, 0)
        )

    def refresh(self) -> None:
        """Show the present contrast."""
        self._black.set(self._state.percentiles[0])
        self._white.set(self._state.percentiles[1])
        self._inverted.set(self._state.inverted)

    def _set_black(self, value: float) -> None:
        white = max(self._state.percentiles[1], min(value + _SMALLEST_SPAN, 100.0))
        self._set(min(value, 100.0 - _SMALLEST_SPAN), white)

    def _set_white(self, value: float) -> None:
        black = min(self._state.percentiles[0], max(value - _SMALLEST_SPAN, 0.0))
        self._set(black, max(value, _SMALLEST_SPAN))

    def _set(self, black: float, white: float) -> None:
        self._state.percentiles = (black, white)
        self.refresh()
        self._changed()

    def _invert(self) -> None:
        self._state.inverted = self._inverted.get()
        self._changed()

    def _reset(self) -> None:
        self._state.inverted = False
        self._inverted.set(False)
        self._set(*DEFAULT_PERCENTILES)


def notes_label(master: tk.Misc, notes: Sequence[str], *, width: int) -> tk.Label:
    """Notes for the user, in lines of at most `width` pixels."""
    # Dark on pale yellow, with a word: colour alone says nothing to some.
    return tk.Label(
        master,
        text="Note: " + "\n".join(notes),
        background="#fff4cc",
        foreground="#4d3800",
        anchor="w",
        justify="left",
        wraplength=width - 40,
        padx=6,
    )
