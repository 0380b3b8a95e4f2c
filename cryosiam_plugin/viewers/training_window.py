"""The window with the learning curves of a training that may still be running."""

from __future__ import annotations

import tkinter as tk
from pathlib import Path
from tkinter import messagebox, ttk
from typing import Mapping

from matplotlib.backends.backend_tkagg import FigureCanvasTkAgg
from matplotlib.figure import Figure

from cryosiam_plugin.protocols.training_course import CourseReader
from cryosiam_plugin.protocols.training_progress import (
    BROKEN,
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    WAITING,
    Progress,
    ask_to_stop,
    duration,
    is_stopping,
    read_progress,
)
from cryosiam_plugin.viewers.training_curves import draw_curves

#: Milliseconds between two looks at the files.
REFRESH = 3000
_WINDOW = (1000, 640)
_STOP = "Stop now and keep the best"
_SURE = (
    "End this training now?\n\nIt ends after its current step. The best model so far becomes the "
    "result of the run."
)


class TrainingWindow:
    """Shows how a training goes, and can end it.

    Parameters
    ----------
    window
        An empty window of Tk's.
    folder
        The engine's ``log_dir``.
    names
        Of the classes.
    title
        Of the run.
    """

    def __init__(
        self, window: tk.Tk | tk.Toplevel, folder: Path, names: Mapping[int, str], title: str
    ) -> None:
        self.window = window
        self._folder, self._names = folder, names
        self._reader = CourseReader(folder)
        self._pending: str | None = None
        window.title(f"CryoSiam - {title}")
        width = min(_WINDOW[0], window.winfo_screenwidth() - 20)
        height = min(_WINDOW[1], window.winfo_screenheight() - 50)
        window.geometry(f"{width}x{height}")
        window.minsize(640, 420)
        self._build()
        window.bind("<Control-w>", lambda _: window.destroy())
        self.canvas.get_tk_widget().bind("<Destroy>", lambda _: self._cancel())
        self._draw(read_progress(folder))
        self.refresh()

    def _build(self) -> None:
        head = ttk.Frame(self.window, padding=(10, 8, 10, 2))
        head.pack(side="top", fill="x")
        self.state = ttk.Label(head, font=("TkDefaultFont", 11, "bold"))
        self.state.pack(anchor="w")
        # What the engine says when it fails may be long.
        head.bind("<Configure>", lambda event: self.state.configure(wraplength=event.width - 20))
        self.best = ttk.Label(head)
        self.best.pack(anchor="w")
        foot = ttk.Frame(self.window, padding=(10, 4, 10, 8))
        foot.pack(side="bottom", fill="x")
        self.stop_button = ttk.Button(foot, text=_STOP, command=self.stop)
        self.stop_button.pack(side="left")
        self.hint = ttk.Label(foot, padding=(10, 0))
        self.hint.pack(side="left")
        ttk.Button(foot, text="Close", command=self.window.destroy).pack(side="right")
        self.figure = Figure(layout="constrained")
        self.canvas = FigureCanvasTkAgg(self.figure, master=self.window)
        self.canvas.get_tk_widget().pack(side="top", fill="both", expand=True)

    def refresh(self) -> None:
        """Look at the files, show what is new, and come again."""
        self._cancel()
        progress = read_progress(self._folder)
        if self._reader.update():
            self._draw(progress)
        self.state.configure(text=_state_text(progress))
        self.best.configure(text=self._best_text(progress))
        stopping = is_stopping(self._folder) and progress.state == RUNNING
        can_stop = progress.can_stop and not stopping
        self.stop_button.state(["!disabled" if can_stop else "disabled"])
        self.hint.configure(text="Stopping after the current step..." if stopping else "")
        self._pending = self.window.after(REFRESH, self.refresh)

    def stop(self) -> None:
        """End the training, if the user is sure."""
        if not messagebox.askyesno("Stop the training", _SURE, parent=self.window):
            return
        try:
            ask_to_stop(self._folder)
        except OSError as error:
            messagebox.showerror("Stop the training", str(error), parent=self.window)
        self.refresh()

    def _draw(self, progress: Progress) -> None:
        per_epoch = progress.max_steps / progress.max_epochs if progress.max_epochs else 0.0
        draw_curves(self.figure, self._reader.course, self._names, per_epoch)
        self.canvas.draw_idle()

    def _best_text(self, progress: Progress) -> str:
        best = self._reader.course.best
        if best is None:
            return "No validation yet: the first one is after the first epoch."
        return f"Best: epoch {best.number}, validation loss {best.val_loss:.4g}."

    def _cancel(self) -> None:
        if self._pending is not None:
            self.window.after_cancel(self._pending)
            self._pending = None


def _state_text(progress: Progress) -> str:
    whole = f"{progress.epochs} of {progress.max_epochs} epochs"
    if progress.state == RUNNING:
        now = min(progress.epochs + 1, progress.max_epochs)
        return (
            f"Epoch {now} of {progress.max_epochs}, step {progress.steps} of "
            f"{progress.max_steps}. About {duration(progress.seconds_left)} left."
        )
    return {
        WAITING: "The training has not begun yet: the masks are looked at first.",
        BROKEN: f"Broken off after {whole}. Press Continue in Scipion to go on.",
        STOPPED: f"Stopped on request after {whole}. The best model is kept.",
        FAILED: f"Failed after {whole}: {progress.problem}",
        DONE: f"Finished after {whole}.",
    }[progress.state]
