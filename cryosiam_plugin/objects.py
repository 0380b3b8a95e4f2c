"""The object type that Scipion does not have: a trained CryoSiam model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pwem.objects import EMObject
from pyworkflow.object import Float, Integer, String

SHORT_SHA256 = 8


class CryosiamModel(EMObject):
    """A checkpoint with what the protocols need to know about it.

    Parameters
    ----------
    path : str, optional
        The checkpoint's file.
    task : str, optional
        ``denoising``, ``lamella``, ``semantic``, ``instance``, ``backbone`` or ``embedding``.
    **kwargs
        As of every Scipion object.
    """

    def __init__(self, **kwargs: Any) -> None:
        path = kwargs.pop("path", None)
        task = kwargs.pop("task", None)
        super().__init__(**kwargs)
        self._path = String(path)
        self._task = String(task)
        self._displayName = String()
        self._classNames = String()
        self._nClasses = Integer(0)
        self._samplingRate = Float(0.0)
        self._sha256 = String()

    def getPath(self) -> str:
        """The checkpoint's file."""
        return self._path.get() or ""

    def setPath(self, path: str) -> None:
        """Set the checkpoint's file."""
        self._path.set(str(path))

    def getTask(self) -> str:
        """What the network was trained for."""
        return self._task.get() or ""

    def setTask(self, task: str) -> None:
        """Set what the network was trained for."""
        self._task.set(task)

    def getDisplayName(self) -> str:
        """The name shown to the user; the file's name unless another was given."""
        return self._displayName.get() or Path(self.getPath()).name

    def setDisplayName(self, name: str) -> None:
        """Set the name shown to the user."""
        self._displayName.set(name)

    def getClassNames(self) -> dict[int, str]:
        """Names of the label values (background, 0, is not among them)."""
        text = self._classNames.get()
        return {int(label): str(name) for label, name in json.loads(text).items()} if text else {}

    def setClassNames(self, names: dict[int, str]) -> None:
        """Set the names of label values; values that are not in `names` stay nameless."""
        ordered = {str(int(label)): str(names[label]) for label in sorted(names)}
        self._classNames.set(json.dumps(ordered, ensure_ascii=False))

    def getNClasses(self) -> int:
        """How many label values the network predicts, background not counted; 0 is unknown."""
        return int(self._nClasses.get() or 0)

    def setNClasses(self, number: int) -> None:
        """Set how many label values the network predicts, background not counted."""
        self._nClasses.set(int(number))

    def getSamplingRate(self) -> float:
        """Voxel size of the tomograms it was trained on, in Å; 0 is unknown."""
        return float(self._samplingRate.get() or 0.0)

    def setSamplingRate(self, samplingRate: float) -> None:
        """Set the voxel size of the tomograms it was trained on, in Å."""
        self._samplingRate.set(float(samplingRate))

    def getSha256(self) -> str:
        """The sha256 of the checkpoint's file, 64 hexadecimal digits; empty is unknown."""
        return self._sha256.get() or ""

    def setSha256(self, digest: str) -> None:
        """Set the sha256 of the checkpoint's file."""
        self._sha256.set(digest)

    def getFiles(self) -> set:
        """The files of this object, for Scipion's export."""
        return {self.getPath()} if self.getPath() else set()

    def __str__(self) -> str:
        parts = [self.getTask() or "unknown task"]
        if self.getNClasses():
            parts.append(f"{self.getNClasses()} classes")
        if self.getSamplingRate():
            parts.append(f"{self.getSamplingRate():0.2f} Å/px")
        if self.getSha256():
            parts.append(self.getSha256()[:SHORT_SHA256])
        return f"{self.getClassName()} {self.getDisplayName()} ({', '.join(parts)})"
