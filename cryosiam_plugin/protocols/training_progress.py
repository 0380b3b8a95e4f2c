"""How far a training is, as the engine's status file says, and how to end it early."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import psutil

from cryosiam_plugin.engine_status import EngineStatus, read_status, status_folder

COMMAND = "semantic_train"
#: Stands in the status where other commands have a tomogram's name.
TRAINING = "training"
#: In the engine's ``log_dir``: ends the training, and the best model so far is kept.
STOP_FILE = "STOP"
#: The engine says that much oftener how it is.
_SILENT_SECONDS = 600.0

WAITING, RUNNING, BROKEN, STOPPED, FAILED, DONE = (
    "waiting",
    "running",
    "broken off",
    "stopped",
    "failed",
    "done",
)


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes
    ----------
    state
        ``waiting`` (for its first step), ``running``, ``broken off`` (its process is gone),
        ``stopped`` on request, ``failed`` or ``done``.
    epochs, max_epochs, steps, max_steps
        Whole epochs and steps so far, and at most.
    seconds_left
        Until the last epoch.
    best_epoch, best_loss
        Of the model that is kept; 0 and None before the first validation.
    problem
        Why it failed; else empty.
    """

    state: str = WAITING
    epochs: int = 0
    max_epochs: int = 0
    steps: int = 0
    max_steps: int = 0
    seconds_left: float = 0.0
    best_epoch: int = 0
    best_loss: float | None = None
    problem: str = ""

    @property
    def can_stop(self) -> bool:
        """Whether it would notice a request to stop, with a model worth keeping."""
        return self.state == RUNNING and self.steps > 0


def training_status(folder: Path) -> EngineStatus | None:
    """The engine's status of the training in a ``log_dir``; None before there is one."""
    return read_status(status_folder(folder, COMMAND), TRAINING)


def read_progress(folder: Path) -> Progress:
    """Read how far the training in a ``log_dir`` is."""
    status = training_status(folder)
    if status is None:
        return Progress()
    said = status.summary
    return Progress(
        _state(status),
        int(said.get("epochs") or 0),
        int(said.get("max_epochs") or 0),
        int(said.get("steps") or 0),
        int(said.get("max_steps") or 0),
        float(said.get("seconds_left") or 0),
        int(said.get("best_epoch") or 0),
        said.get("best_val_loss"),
        status.error_text,
    )


def _state(status: EngineStatus) -> str:
    if status.is_failed:
        return FAILED
    if status.is_done:
        return STOPPED if status.summary.get("stopped_by") else DONE
    return RUNNING if _is_alive(status) else BROKEN


def _is_alive(status: EngineStatus) -> bool:
    """Whether the engine still runs; of another computer only what it wrote can tell."""
    if status.host == socket.gethostname():
        return bool(psutil.pid_exists(status.process))
    try:
        updated = datetime.fromisoformat(status.updated)
    except ValueError:
        return True
    return (datetime.now(timezone.utc) - updated).total_seconds() < _SILENT_SECONDS


def is_stopping(folder: Path) -> bool:
    """Whether the training was asked to stop."""
    return (folder / STOP_FILE).exists()


def ask_to_stop(folder: Path) -> None:
    """Ask the training to end after its current step, and to keep the best model.

    Raises
    ------
    OSError
        When the folder cannot be written.
    """
    (folder / STOP_FILE).touch()


def duration(seconds: float) -> str:
    """A time as a user reads it: ``40 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
