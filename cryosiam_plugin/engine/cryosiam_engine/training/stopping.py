"""Ending a training early on request, with the best model kept."""

from __future__ import annotations

import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

logger = logging.getLogger(__name__)

STOP_FILE = "STOP"

#: Sites that warn their jobs of the time limit mostly do so by SIGUSR1.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_SECONDS_BETWEEN_LOOKS = 1.0


class StopOnRequest(Callback):
    """Ends the training after the current step when somebody asks for it.

    Asking is a file ``log_dir/STOP``, SIGTERM or SIGUSR1 (queues send them) or Ctrl-C; a second
    Ctrl-C ends the process at once.

    Parameters
    ----------
    log_dir
        Where the file is looked for.

    Attributes
    ----------
    requested
        By what; empty as long as nobody has asked.
    """

    def __init__(self, log_dir: Path) -> None:
        self._file = log_dir / STOP_FILE
        self.requested = ""
        self._before: dict[int, Any] = {}
        self._next_look = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for signals: only now, because Lightning sets handlers of its own before."""
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._notice) for one in _SIGNALS}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *arguments: Any
    ) -> None:
        """Look whether somebody has asked; all processes agree on the step to end after."""
        if trainer.is_global_zero and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _SECONDS_BETWEEN_LOOKS
            if self._file.exists():
                self.requested = self.requested or f"the file {self._file}"
        stop = trainer.strategy.reduce_boolean_decision(bool(self.requested), all=False)
        if stop and not trainer.should_stop:
            self.requested = self.requested or "another process"
            logger.info("Asked to stop by %s: the best model is kept.", self.requested)
            trainer.should_stop = True
            # No validation of an epoch that is not whole: who stops does not want to wait.
            trainer.limit_val_batches = 0

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen no longer."""
        self._restore()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Listen no longer."""
        self._restore()

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.requested:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
