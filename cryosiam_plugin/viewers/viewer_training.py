"""Where Scipion meets the learning curves: Analyze Results of a training, and of its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from pyworkflow.viewer import DESKTOP_TKINTER, View, Viewer

from cryosiam_plugin.protocols.protocol_train_semantic import ProtCryosiamTrainSemantic


class CryosiamTrainingView(View):
    """The window with the learning curves, to be opened.

    Parameters
    ----------
    folder
        The engine's ``log_dir``.
    names
        Of the classes.
    title
        Of the run.
    master
        A window of the program that asks; without any, showing returns when ours is closed.
    """

    def __init__(self, folder: Path, names: Mapping[int, str], title: str, master: Any) -> None:
        super().__init__()
        self.folder, self.names = folder, dict(names)
        self._title, self._master = title, master

    def show(self) -> None:
        """Open the window."""
        # Here, not above: whoever looks only at which viewers there are needs no Tk.
        import tkinter

        from cryosiam_plugin.viewers.training_window import TrainingWindow

        master = self._master or getattr(tkinter, "_default_root", None)
        if master is None:
            root = tkinter.Tk()
            TrainingWindow(root, self.folder, self.names, self._title)
            root.mainloop()
            return
        TrainingWindow(tkinter.Toplevel(master), self.folder, self.names, self._title)


class CryosiamTrainingViewer(Viewer):
    """Analyze Results of a training that runs, or has run."""

    _targets = [ProtCryosiamTrainSemantic]  # noqa: RUF012 - Scipion's own attribute
    _environments = [DESKTOP_TKINTER]  # noqa: RUF012
    _name = "CryoSiam learning curves"

    def _visualize(self, obj: Any, **kwargs: Any) -> list[View]:
        folder = Path(obj._predictionFolder())
        return [CryosiamTrainingView(folder, obj._classNames(), obj.getRunName(), self.getTkRoot())]
