"""The course of a training, read from what the engine writes while it goes on."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping

#: In the engine's ``log_dir``: a line for each step and each epoch.
METRICS_FILE = "metrics.jsonl"

_DICE = re.compile(r"val_dice_(\d+)")


@dataclass(frozen=True)
class Step:
    """One step of the optimiser.

    Attributes
    ----------
    number
        From 1.
    loss, rate
        Training loss of its batch, and learning rate.
    """

    number: int
    loss: float
    rate: float


@dataclass(frozen=True)
class Epoch:
    """One whole epoch.

    Attributes
    ----------
    number
        From 1.
    step
        Its last step.
    train_loss, val_loss
        Mean losses; None where there was no validation.
    dice
        Dice coefficient of each class (0 is background) in the validation. A class that is
        neither there nor found has none.
    """

    number: int
    step: int
    train_loss: float | None
    val_loss: float | None
    dice: dict[int, float] = field(default_factory=dict)


@dataclass
class Course:
    """What has happened so far: steps and epochs by number, each once."""

    steps: dict[int, Step] = field(default_factory=dict)
    epochs: dict[int, Epoch] = field(default_factory=dict)

    @property
    def best(self) -> Epoch | None:
        """The epoch with the smallest validation loss; None before the first validation."""
        judged = [epoch for epoch in self.epochs.values() if epoch.val_loss is not None]
        return min(judged, key=lambda epoch: (epoch.val_loss, epoch.number), default=None)


class CourseReader:
    """Reads what is new since the last look.

    Parameters
    ----------
    folder
        The engine's ``log_dir``; it need not exist yet.

    Attributes
    ----------
    course
        All that was read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = Path(folder) / METRICS_FILE
        self._position = 0
        self._file: tuple[int, int] | None = None
        self.course = Course()

    def update(self) -> bool:
        """Read what is new; says whether there was anything.

        A last line that is only half written is left for the next look. A training that goes on
        writes the file anew, without what was after its last whole epoch: then all is read again.
        """
        try:
            state = self._path.stat()
            file = (state.st_dev, state.st_ino)
            again = file != self._file or state.st_size < self._position
            with self._path.open("rb") as stream:
                stream.seek(0 if again else self._position)
                text = stream.read()
        except OSError:
            return False
        if again:
            self._file, self._position, self.course = file, 0, Course()
        whole = text.rfind(b"\n") + 1
        self._position += whole
        for line in text[:whole].decode("utf-8", "replace").splitlines():
            self._take(line)
        return again or whole > 0

    def _take(self, line: str) -> None:
        """Note a line; one that is damaged says nothing."""
        try:
            values = json.loads(line)
            number, epoch = int(values["step"]), int(values["epoch"])
            kind = values["kind"]
            if kind == "step" and values["loss"] is not None:
                self.course.steps[number] = Step(number, float(values["loss"]), float(values["lr"]))
            elif kind == "epoch":
                self.course.epochs[epoch] = _epoch(epoch, number, values)
        except (ValueError, KeyError, TypeError):
            return


def read_course(folder: Path) -> Course:
    """Read the whole course of a training; empty where there is none."""
    reader = CourseReader(folder)
    reader.update()
    return reader.course


def _epoch(number: int, step: int, values: Mapping[str, Any]) -> Epoch:
    dice = {}
    for name, value in values.items():
        found = _DICE.fullmatch(name)
        if found and value is not None:
            dice[int(found.group(1))] = float(value)
    return Epoch(
        number, step, _number(values.get("train_loss")), _number(values.get("val_loss")), dice
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
