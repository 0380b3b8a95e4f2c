"""How far a training is: on the terminal, in the log, and in a status file for the host."""

from __future__ import annotations

import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from cryosiam_engine.status import Status, write_status
from cryosiam_engine.training.checkpoints import KeepModels
from cryosiam_engine.training.modules import Training

logger = logging.getLogger(__name__)

#: Seconds between two lines or two status files within an epoch.
_INTERVAL = 15.0


class Report(Callback):
    """Shows progress, and keeps the status file up to date.

    Parameters
    ----------
    folder
        Of the status file.
    status
        Of this training.
    models
        Know the best validation.
    """

    def __init__(self, folder: Path, status: Status, models: KeepModels) -> None:
        self._folder, self._status, self._models = folder, status, models
        self._bar: tqdm | None = None
        self._started = self._last = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to measure."""
        self._started = self._last = time.monotonic()
        self._first_step = trainer.global_step
        if not trainer.is_global_zero:
            return
        self._write(trainer)
        if sys.stderr.isatty():
            total, done = self._n_steps(trainer), trainer.global_step
            self._bar = tqdm(total=total, initial=done, unit=" step", dynamic_ncols=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *arguments: Any
    ) -> None:
        """Show the step."""
        if not trainer.is_global_zero or not isinstance(pl_module, Training):
            return
        if self._bar is not None:
            self._bar.update()
        if not self._is_time():
            return
        # Only now: to ask for a number stops the GPU until it is known.
        loss = float(pl_module.step_losses["loss"])
        self._write(trainer)
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.4g}")
        else:
            logger.info(
                "Epoch %d of %d, step %d of %d: loss %.4g, about %s left",
                trainer.current_epoch + 1,
                trainer.max_epochs,
                trainer.global_step,
                self._n_steps(trainer),
                loss,
                tqdm.format_interval(self._seconds_left(trainer)),
            )

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *arguments: Any
    ) -> None:
        """Show that a long validation goes on."""
        if not trainer.is_global_zero or not self._is_time():
            return
        self._write(trainer)
        done = int(arguments[2]) + 1
        total = int(sum(trainer.num_val_batches))
        if self._bar is not None:
            self._bar.set_postfix_str(f"validation {done}/{total}")
        else:
            logger.info(
                "Epoch %d of %d, validation: batch %d of %d",
                trainer.current_epoch + 1,
                trainer.max_epochs,
                done,
                total,
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what the validation gave."""
        if not trainer.is_global_zero or not isinstance(pl_module, Training):
            return
        results = ", ".join(
            f"{name.removeprefix('val_')} {value:.4g}"
            for name, value in pl_module.validation.items()
            if not math.isnan(value)
        )
        logger.info("Epoch %d, validation: %s", trainer.current_epoch + 1, results)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the epoch."""
        if trainer.is_global_zero:
            self._write(trainer, n_epochs=trainer.current_epoch + 1)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _is_time(self) -> bool:
        """Whether it is long enough ago that something was told."""
        if time.monotonic() - self._last < _INTERVAL:
            return False
        self._last = time.monotonic()
        return True

    def _write(self, trainer: Trainer, n_epochs: int | None = None) -> None:
        self._status.summary |= {
            "epochs": trainer.current_epoch if n_epochs is None else n_epochs,
            "max_epochs": trainer.max_epochs,
            "steps": trainer.global_step,
            "max_steps": self._n_steps(trainer),
            "best_val_loss": self._models.best,
            "best_epoch": self._models.best_epoch,
            "seconds_left": round(self._seconds_left(trainer)),
        }
        write_status(self._folder, self._status)

    def _n_steps(self, trainer: Trainer) -> int:
        return int(trainer.estimated_stepping_batches)

    def _seconds_left(self, trainer: Trainer) -> float:
        done = trainer.global_step - self._first_step
        if not done:
            return 0.0
        each = (time.monotonic() - self._started) / done
        return each * (self._n_steps(trainer) - trainer.global_step)
