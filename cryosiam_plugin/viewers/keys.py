"""Keys and mouse of the slice viewer: binding them, and telling the user."""

from __future__ import annotations

import tkinter as tk
from functools import partial
from tkinter import ttk
from typing import Callable, Mapping

_HELP = """\
Mouse
  wheel                 one slice; with Shift ten slices
  Ctrl + wheel          zoom at the mouse
  drag                  move the picture
  click                 set the point through which the other planes pass;
                        on a circle: choose that particle

Keys
  1  2  3               xy, xz, yz
  Up, Down              one slice
  Page Up, Page Down    ten slices
  Home, End             first and last slice
  +  -                  zoom
  F                     whole slice
  A                     one pixel a voxel
  M                     masks on and off
  P                     particles, or surfaces, on and off
  N, B                  next particle, the one before
  I                     invert the grey levels
  Ctrl + W              close

The origin (voxel 0, 0, 0) is at the bottom left. A circle has the diameter of the
box where the slice cuts the particle's centre, and shrinks away from it; a dot
marks the central slice. A click on a line of the legend hides or shows that class."""

_MOVES_IN_LISTS = ("Up", "Down", "Prior", "Next", "Home", "End")


def bind_keys(window: tk.Misc, keys: Mapping[str, Callable[[], None]]) -> None:
    """Let keys do something in a window.

    Parameters
    ----------
    window
        Where they are pressed.
    keys
        Names as Tk has them; letters work with and without Shift.
    """
    for key, action in keys.items():
        for name in {key, key.upper()} if len(key) == 1 else {key}:
            window.bind(f"<{name}>", partial(_pressed, action))


def _pressed(action: Callable[[], None], event: tk.Event) -> None:
    kind = event.widget.winfo_class() if isinstance(event.widget, tk.Misc) else ""
    # Typing a slice number, or walking through a list, is nobody else's business.
    if kind == "TEntry" or (kind == "Treeview" and event.keysym in _MOVES_IN_LISTS):
        return
    action()


def show_help(master: tk.Tk | tk.Toplevel) -> None:
    """Open a window that says what mouse and keys do."""
    window = tk.Toplevel(master)
    window.title("Mouse and keys of the slice viewer")
    tk.Label(window, text=_HELP, justify="left", font="TkFixedFont", padx=16, pady=12).pack()
    ttk.Button(window, text="Close", command=window.destroy).pack(pady=(0, 10))
    window.bind("<Escape>", lambda _: window.destroy())
    window.transient(master)
