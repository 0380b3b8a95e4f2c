"""From a selection on a map to a run in the project."""

from __future__ import annotations

import queue
import re
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from pathlib import Path
from typing import Any, Callable

from cryosiam_plugin.convert.embedding_files import read_rows
from cryosiam_plugin.protocols import ProtCryosiamSelection
from cryosiam_plugin.protocols.embedding_selection import write_selection
from cryosiam_plugin.protocols.information import counted
from cryosiam_plugin.viewers.map_server import SelectionRefused

#: The output of the map's run that the selection is taken from.
PARTICLES = "particles"

#: Milliseconds between two looks of the window's thread.
_POLL_MS = 200
#: Seconds that another thread waits for the window's.
_PATIENCE_SECONDS = 60.0


class WindowThread:
    """Lets other threads have something done by the one that Scipion's windows live in.

    Neither Tk nor a project may be used by two threads at once.

    Parameters
    ----------
    widget
        Of Scipion's window.
    """

    def __init__(self, widget: Any) -> None:
        # The window that the button was in may be closed long before Scipion is.
        self._root = widget._root()
        self._waiting: queue.Queue[tuple[Future[Any], Callable[[], Any]]] = queue.Queue()
        self._root.after(_POLL_MS, self._look)

    def run(self, function: Callable[[], Any]) -> Any:
        """Have a function called there; gives what it gives, raises what it raises."""
        future: Future[Any] = Future()
        self._waiting.put((future, function))
        try:
            return future.result(_PATIENCE_SECONDS)
        except NoAnswer:
            if not future.cancel():
                return future.result()
            raise SelectionRefused(
                "Scipion's window does not answer. Is it closed, or waiting for you in a dialog?"
            ) from None

    def _look(self) -> None:
        try:
            while True:
                self._do(*self._waiting.get_nowait())
        except queue.Empty:
            self._root.after(_POLL_MS, self._look)

    def _do(self, future: Future[Any], function: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)


def make_selection(project: Any, run: Any, name: str, rows: list[int]) -> tuple[Any, str]:
    """Make and launch a run of *particles from map*.

    Parameters
    ----------
    project
        The open project; the working folder is its own.
    run
        The run whose map it is.
    name
        What the user called the selection; may be empty.
    rows
        Rows of the map.

    Returns
    -------
    protocol
        The new run.
    message : str
        What to tell the user.

    Raises
    ------
    SelectionRefused
        When it cannot be run.
    """
    if project.openedAsReadOnly():
        raise SelectionRefused("The project is open for reading only.")
    _check(run, rows)
    path = _free_path(Path(run._getExtraPath("selections")), name)
    write_selection(path, rows)
    protocol = project.newProtocol(ProtCryosiamSelection, selectionFile=str(path))
    if name:
        protocol.setObjLabel(name)
    protocol.inputParticles.set(run)
    protocol.inputParticles.setExtended(PARTICLES)
    problems = protocol.validate()
    if problems:
        path.unlink()
        raise SelectionRefused(" ".join(problems))
    project.launchProtocol(protocol, wait=False)
    label = protocol.getObjLabel()
    return protocol, (
        f"{counted(len(rows), 'particle')}: Scipion makes the set '{label}' (run "
        f"{protocol.getObjId()})."
    )


def _check(run: Any, rows: list[int]) -> None:
    table = run.particlesTable()
    known = {row.row for row in read_rows(table)} if table is not None else set()
    if not known.issuperset(rows):
        raise SelectionRefused("These rows are not on the map of the run any more.")


def _free_path(folder: Path, name: str) -> Path:
    stem = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:40] or "selection"
    number = 1
    while (folder / f"{stem}_{number}.csv").exists():
        number += 1
    return folder / f"{stem}_{number}.csv"


def show_new_run(window: Any) -> None:
    """Let Scipion's window show runs that it does not know yet."""
    getView = getattr(window, "getViewWidget", None)
    refresh = getattr(getView(), "refreshRuns", None) if getView is not None else None
    if refresh is not None:
        refresh()
