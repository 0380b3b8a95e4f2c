"""One picture of the slice viewer: the slice, circles, scale bar, and what the mouse does."""

from __future__ import annotations

import tkinter as tk
from typing import Callable, Literal

from PIL import ImageTk

from cryosiam_plugin.viewers.colours import hexadecimal
from cryosiam_plugin.viewers.planes import Position
from cryosiam_plugin.viewers.rendering import BACKGROUND
from cryosiam_plugin.viewers.state import ViewerState
from cryosiam_plugin.viewers.viewport import scale_bar

_MARGIN = 12
_CLICK_PIXELS = 3
_ZOOM_STEP = 1.25
_CONTROL, _SHIFT = 0x4, 0x1
_TEXT_FONT = ("TkDefaultFont", 10, "bold")


class SliceCanvas(tk.Canvas):
    """Draws one of the scene's pictures.

    Parameters
    ----------
    master
        Where it goes.
    state
        What is drawn; the mouse changes it.
    number
        Of the picture: 0 left, 1 right.
    changed
        Called after the mouse has changed the state.
    hovered
        Called with the position `(z, y, x)` under the mouse, or None.
    selected
        Called with the number of a particle that was clicked on.
    """

    def __init__(
        self,
        master: tk.Misc,
        state: ViewerState,
        number: int,
        *,
        changed: Callable[[], None],
        hovered: Callable[[Position | None], None],
        selected: Callable[[int], None],
    ) -> None:
        super().__init__(
            master, background=hexadecimal(BACKGROUND), highlightthickness=0, width=300, height=300
        )
        self._state = state
        self._number = number
        self._changed, self._hovered, self._selected = changed, hovered, selected
        self._photo: ImageTk.PhotoImage | None = None
        self._pressed: tuple[int, int] | None = None
        self._dragged: tuple[int, int] | None = None
        self._bind_mouse()

    @property
    def screen(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return max(self.winfo_width(), 1), max(self.winfo_height(), 1)

    def draw(self) -> None:
        """Draw everything anew.

        Raises
        ------
        ViewerError
            When a file can no longer be read.
        """
        picture = self._state.picture(self._number, self.screen)
        self._photo = ImageTk.PhotoImage(picture, master=self)
        self.delete("all")
        self.create_image(0, 0, image=self._photo, anchor="nw")
        self._draw_circles()
        self._draw_cross()
        self._draw_scale_bar()
        self._draw_axes()

    def _draw_circles(self) -> None:
        state = self._state
        for circle in state.circles():
            x, y = state.viewport.to_screen(circle.row, circle.column, self.screen)
            radius = max(circle.radius * state.viewport.scale, 2.0)
            name = state.scene.marks.particles[circle.particle].class_name
            colour = hexadecimal(state.scene.colours.colour(name))
            if circle.particle == state.selected:
                self._oval(x, y, radius + 3, "white", 2)
            # Dark below, to be seen on a mask of the same colour.
            self.create_oval(
                x - radius, y - radius, x + radius, y + radius, outline="black", width=4
            )
            self._oval(x, y, radius, colour, 2)
            if circle.central:
                self.create_oval(x - 2, y - 2, x + 2, y + 2, fill=colour, outline="")

    def _oval(self, x: float, y: float, radius: float, colour: str, width: int) -> None:
        box = (x - radius, y - radius, x + radius, y + radius)
        self.create_oval(*box, outline=colour, width=width, tags="circle")

    def _draw_cross(self) -> None:
        row, column = self._state.plane.row_column(self._state.position)
        x, y = self._state.viewport.to_screen(row, column, self.screen)
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            ends = (x + 5 * dx, y + 5 * dy, x + 11 * dx, y + 11 * dy)
            self.create_line(*ends, fill="white", tags="cross")

    def _draw_scale_bar(self) -> None:
        voxel_size = self._state.scene.voxel_size
        width, height = self.screen
        if voxel_size <= 0:
            self._text(_MARGIN, height - _MARGIN, "voxel size unknown", "sw")
            return
        length, pixels = scale_bar(voxel_size, self._state.viewport.scale, width / 4)
        x, y = _MARGIN, height - _MARGIN
        self.create_rectangle(x - 1, y - 5, x + pixels + 1, y + 1, fill="black", outline="")
        self.create_rectangle(x, y - 4, x + pixels, y, fill="white", outline="", tags="bar")
        self._text(x, y - 8, f"{length:g} nm", "sw")

    def _draw_axes(self) -> None:
        across, up = list(self._state.plane.name)
        self._text(self.screen[0] - _MARGIN, self.screen[1] - _MARGIN, f"{across} →  {up} ↑", "se")

    def _text(self, x: float, y: float, text: str, anchor: Literal["sw", "se"]) -> None:
        # Black behind white can be read on every grey.
        for dx, dy, colour in ((1, 1, "black"), (-1, -1, "black"), (0, 0, "white")):
            self.create_text(x + dx, y + dy, text=text, anchor=anchor, fill=colour, font=_TEXT_FONT)

    def _bind_mouse(self) -> None:
        self.bind("<Button-4>", lambda event: self._wheel(event, 1))
        self.bind("<Button-5>", lambda event: self._wheel(event, -1))
        self.bind("<MouseWheel>", lambda event: self._wheel(event, 1 if event.delta > 0 else -1))
        self.bind("<ButtonPress-1>", self._press)
        self.bind("<B1-Motion>", self._drag)
        self.bind("<ButtonRelease-1>", self._release)
        self.bind("<Motion>", self._hover)
        self.bind("<Leave>", lambda _: self._hovered(None))

    def _wheel(self, event: tk.Event, direction: int) -> None:
        modifiers = int(event.state)
        if modifiers & _CONTROL:
            factor = _ZOOM_STEP**direction
            self._state.viewport.zoom(factor, event.x, event.y, self.screen)
        else:
            step = 10 if modifiers & _SHIFT else 1
            self._state.go_to_slice(self._state.index + direction * step)
        self._changed()
        self._hover(event)

    def _press(self, event: tk.Event) -> None:
        self.focus_set()
        self._pressed = self._dragged = (event.x, event.y)

    def _drag(self, event: tk.Event) -> None:
        if self._dragged is None:
            return
        self._state.viewport.pan(event.x - self._dragged[0], event.y - self._dragged[1])
        self._dragged = (event.x, event.y)
        self._changed()

    def _release(self, event: tk.Event) -> None:
        if self._pressed is None:
            return
        moved = max(abs(event.x - self._pressed[0]), abs(event.y - self._pressed[1]))
        self._pressed = self._dragged = None
        if moved > _CLICK_PIXELS:
            return
        row, column = self._state.viewport.to_slice(event.x, event.y, self.screen)
        particle = self._state.particle_near(row, column)
        if particle is not None:
            self._selected(particle)
        else:
            self._state.point_at(row, column)
            self._changed()

    def _hover(self, event: tk.Event) -> None:
        row, column = self._state.viewport.to_slice(event.x, event.y, self.screen)
        self._hovered(self._state.plane.position(self._state.index, row, column))
