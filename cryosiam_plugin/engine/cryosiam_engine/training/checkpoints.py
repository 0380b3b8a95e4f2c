"""The checkpoints of a training: the best model, and the last one to go on from."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from cryosiam_engine.checkpoint.unpickle import unpickle
from cryosiam_engine.checkpoint.values import plain
from cryosiam_engine.errors import CheckpointError, ConfigurationError
from cryosiam_engine.files import PARTIAL_MARK, output_error
from cryosiam_engine.training.modules import Training
from cryosiam_engine.training.stopping import StopOnRequest

logger = logging.getLogger(__name__)

BEST, LAST = "model_best.ckpt", "last.ckpt"

#: What may differ between a training and its continuation.
_MAY_DIFFER = {
    ("pretrained_model",),
    ("parameters", "gpu_devices"),
    ("parameters", "nodes"),
    ("hyper_parameters", "batch_size"),
    ("hyper_parameters", "num_workers"),
    ("hyper_parameters", "early_stopping"),
}


#: What was written where null is now: the old default, which had no effect.
_NULL_WAS: dict[tuple[str, ...], Any] = {("hyper_parameters", "momentum"): 0.9}


def models_folder(log_dir: Path) -> Path:
    """Where the checkpoints of a training are."""
    return log_dir / "model"


def half_written(log_dir: Path) -> list[Path]:
    """Checkpoints that a killed process has left unfinished."""
    return sorted(models_folder(log_dir).glob(f".*{PARTIAL_MARK}*.ckpt"))


class KeepModels(Callback):
    """Writes ``model_best.ckpt`` and ``last.ckpt``; ends the training when it gets no better.

    ``last.ckpt`` is always that of a whole epoch, so that a training that goes on from it is the
    same as one that was never interrupted.

    Parameters
    ----------
    log_dir
        They go to ``log_dir/model``.
    stopping
        Knows whether the current epoch was broken off.
    patience
        Validations without a better one before the training ends; None for no end.

    Attributes
    ----------
    best, best_epoch
        The smallest loss of a validation, and after which epoch (from 1); None before the first.
    ended_early
        Whether it was this that ended the training.
    n_epochs
        Whole epochs so far.
    """

    def __init__(self, log_dir: Path, stopping: StopOnRequest, patience: int | None) -> None:
        self._log_dir, self._folder = log_dir, models_folder(log_dir)
        self._stopping, self._patience = stopping, patience
        self.best: float | None = None
        self.best_epoch = 0
        self.ended_early = False
        self.n_epochs = 0
        self._waited = 0

    @property
    def state_key(self) -> str:
        """The name of this callback in checkpoints."""
        return "KeepModels"

    def state_dict(self) -> dict[str, Any]:
        """What a continued training must know."""
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self._waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As :meth:`state_dict` gave it."""
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self._waited = state_dict["waited"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Clear up after a process that was killed."""
        if trainer.is_global_zero:
            for path in half_written(self._log_dir):
                path.unlink(missing_ok=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End at once what had ended before."""
        self.n_epochs = trainer.current_epoch
        if self._patience and self._waited >= self._patience:
            self.ended_early = trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the model if it is the best so far."""
        if not isinstance(pl_module, Training) or trainer.sanity_checking:
            return
        loss = pl_module.validation["val_loss"]
        if not math.isnan(loss) and (self.best is None or loss < self.best):
            self.best, self.best_epoch, self._waited = loss, trainer.current_epoch + 1, 0
            self._save(trainer, BEST)
            return
        self._waited += 1
        if self._patience and self._waited >= self._patience:
            logger.info("No better validation in %d: the training ends.", self._waited)
            self.ended_early = trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the model to go on from, unless the epoch was broken off."""
        if not self._stopping.requested:
            self.n_epochs = trainer.current_epoch + 1
            self._save(trainer, LAST)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where no validation has judged a model, the last one is the best."""
        if self.best is None:
            self._save(trainer, BEST)

    def _save(self, trainer: Trainer, name: str) -> None:
        path = self._folder / name
        job = os.environ.get("SLURM_JOB_ID", 0)
        partial = self._folder / f".{path.stem}{PARTIAL_MARK}{job}.ckpt"
        try:
            # Every process takes part; the first one writes.
            trainer.save_checkpoint(partial, weights_only=name == BEST)
            if trainer.is_global_zero:
                with partial.open("rb") as stream:
                    os.fsync(stream.fileno())
                partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise output_error(error, path) from error


@dataclass(frozen=True)
class Resumed:
    """A checkpoint to go on from, and how many epochs it has behind it."""

    path: Path
    n_epochs: int


def checkpoint_to_resume(log_dir: Path, description: Mapping[str, Any]) -> Resumed | None:
    """The checkpoint to go on from, looked through for anything but plain data.

    Parameters
    ----------
    log_dir
        Of the training.
    description
        Hyper-parameters of the training that goes on.

    Returns
    -------
    Resumed or None
        None where there is none yet: the training begins.

    Raises
    ------
    CheckpointError
        When the file is damaged, unsafe, or of something else.
    ConfigurationError
        When the training was begun with other settings.
    """
    path = models_folder(log_dir) / LAST
    if not path.is_file():
        return None
    content = unpickle(path)
    before = plain(content.get("hyper_parameters"))
    n_epochs = _epochs_behind(content)
    if "optimizer_states" not in content or not isinstance(before, dict) or n_epochs is None:
        raise CheckpointError(
            f"{path} is no checkpoint that a training can go on from.",
            remedy="Set continue_training to False; to start from this model, set "
            "pretrained_model to it.",
        )
    changed = _differences(before.get("config"), plain(dict(description))["config"])
    if changed:
        raise ConfigurationError(
            f"The training in {log_dir} was begun with other settings: {'; '.join(changed)}.",
            remedy="Go on with the same settings; to train this model in another way, set "
            f"pretrained_model to {models_folder(log_dir) / BEST} and another log_dir.",
        )
    return Resumed(path, n_epochs)


def _epochs_behind(checkpoint: Mapping[str, Any]) -> int | None:
    """Whole epochs, as Lightning counts them; None where it has counted nothing."""
    value = plain(checkpoint.get("loops"))
    for name in ("fit_loop", "epoch_progress", "current", "processed"):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int) else None


def _differences(before: Any, now: Any, place: tuple[str, ...] = ()) -> list[str]:
    if place in _MAY_DIFFER or before == now:
        return []
    if now is None and before == _NULL_WAS.get(place, ...):
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        names = [*before, *(name for name in now if name not in before)]
        return [
            text
            for name in names
            for text in _differences(before.get(name), now.get(name), (*place, name))
        ]
    return [f"{'.'.join(place)} was {before!r} and is {now!r}"]
