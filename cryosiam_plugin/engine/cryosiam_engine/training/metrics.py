"""The course of a training in files: for learning curves, live and afterwards."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tensorboardX import SummaryWriter
from torch import Tensor

from cryosiam_engine.files import output_error, write_text
from cryosiam_engine.training.modules import Training

STEPS_FILE, EPOCHS_FILE = "metrics.jsonl", "epochs.csv"

#: Steps whose losses a GPU is asked for at once, because it has to wait each time.
_STEPS_OF_A_GPU = 10


class MetricsFiles(Callback):
    """Writes losses per step and per epoch.

    ``metrics.jsonl`` has a line for every step (``"kind": "step"``) and every epoch (``"kind":
    "epoch"``), ``epochs.csv`` a row for every epoch, and a file for TensorBoard has the same. A
    continued training drops the lines after the checkpoint that it goes on from, so that every
    step is there once.

    Parameters
    ----------
    log_dir
        Where the files go.
    """

    def __init__(self, log_dir: Path) -> None:
        self._folder = log_dir
        self._stream: TextIO | None = None
        self._board: SummaryWriter | None = None
        self._epochs: list[dict[str, Any]] = []
        self._losses: list[float] = []
        self._pending: list[tuple[int, float, Tensor]] = []
        self._rate = self._started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the files; keep what was written up to this step."""
        if not trainer.is_global_zero:
            return
        kept = [line for line in read_metrics(self._folder) if line["step"] <= trainer.global_step]
        if not trainer.global_step:
            kept = []
        self._epochs = [line for line in kept if line["kind"] == "epoch"]
        path = self._folder / STEPS_FILE
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._stream = path.open("a", encoding="utf-8", buffering=1)
        try:
            # Of an earlier run's file, the steps that are done again are no longer shown.
            self._board = SummaryWriter(
                str(self._folder), purge_step=trainer.global_step + 1, flush_secs=20
            )
        except OSError as error:
            raise output_error(error, self._folder) from error

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._losses, self._pending, self._started = [], [], time.monotonic()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, *arguments: Any
    ) -> None:
        """Note the learning rate of the step: after it there is the next one's."""
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *arguments: Any
    ) -> None:
        """Write the losses of a step, averaged over all processes; on a GPU of several at once."""
        if not isinstance(pl_module, Training):
            return
        names = sorted(pl_module.step_losses)
        values = torch.stack([pl_module.step_losses[name] for name in names])
        self._pending.append((trainer.global_step, self._rate, values))
        if len(self._pending) >= _steps_at_once(values.device):
            self._write_steps(trainer, names)

    def _write_steps(self, trainer: Trainer, names: Sequence[str]) -> None:
        """Write the steps that were not written yet; all processes do so after the same step."""
        if not self._pending:
            return
        values = torch.stack([values for _, _, values in self._pending])
        means = trainer.strategy.reduce(values, reduce_op="mean").tolist()
        for (step, rate, _), row in zip(self._pending, means, strict=True):
            losses = dict(zip(names, row, strict=True))
            self._losses.append(losses["loss"])
            line = {"epoch": trainer.current_epoch + 1, **losses, "lr": rate}
            self._write("step", step, line)
        self._pending = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the mean losses of an epoch and its validation."""
        if not isinstance(pl_module, Training):
            return
        self._write_steps(trainer, sorted(pl_module.step_losses))
        if not self._losses:
            return
        line: dict[str, Any] = {
            "epoch": trainer.current_epoch + 1,
            "train_loss": sum(self._losses) / len(self._losses),
            "seconds": round(time.monotonic() - self._started, 3),
        }
        line |= pl_module.validation
        pl_module.validation = {}
        self._write("epoch", trainer.global_step, line)
        if trainer.is_global_zero:
            self._epochs.append({"step": trainer.global_step, **line})
            write_text(self._folder / EPOCHS_FILE, _table(self._epochs))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the files."""
        if self._stream is not None:
            self._stream.close()
        if self._board is not None:
            self._board.close()
        self._stream = self._board = None

    def _write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        # JSON knows no NaN.
        plain = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }
        if self._stream is None or self._board is None:
            return
        scalars = {f"{kind}/{n}": v for n, v in plain.items() if v is not None and n != "epoch"}
        try:
            self._stream.write(json.dumps({"kind": kind, "step": step, **plain}) + "\n")
            for name, value in scalars.items():
                self._board.add_scalar(name, value, step)
        except OSError as error:
            raise output_error(error, self._folder / STEPS_FILE) from error


def _steps_at_once(device: torch.device) -> int:
    return _STEPS_OF_A_GPU if device.type == "cuda" else 1


def read_metrics(log_dir: Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``; a last line that is only half written is left out.

    Parameters
    ----------
    log_dir
        Of a training that may still be running.

    Returns
    -------
    list of dict
        ``kind`` (step or epoch), ``step``, ``epoch`` and losses; None for what is not a number.
    """
    lines = []
    try:
        text = (log_dir / STEPS_FILE).read_text(encoding="utf-8")
    except OSError:
        return []
    for line in text.splitlines():
        with suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def _table(rows: list[dict[str, Any]]) -> str:
    names = dict.fromkeys(name for row in rows for name in row if name != "kind")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
