"""The object types that Scipion does not have: a trained CryoSiam model, embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pwem.objects import EMObject
from pyworkflow.object import Float, Integer, Pointer, String

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


class CryosiamEmbeddings(EMObject):
    """Numbers that describe particles: what one run of _subtomogram embeddings_ computed.

    The numbers themselves stay in the engine's files, one for each tomogram. The object knows
    where they are, and the particles and tomograms that they belong to.

    Parameters
    ----------
    folder : str, optional
        The engine's folder, inside the run that made it.
    **kwargs
        As of every Scipion object.
    """

    def __init__(self, **kwargs: Any) -> None:
        folder = kwargs.pop("folder", None)
        super().__init__(**kwargs)
        self._folder = String(folder)
        self._dim = Integer(0)
        self._size = Integer(0)
        self._patchSize = Integer(0)
        self._modelName = String()
        self._sha256 = String()
        self._particlesPointer = Pointer()
        self._tomogramsPointer = Pointer()

    def getFolder(self) -> str:
        """The engine's folder, relative to the project."""
        return self._folder.get() or ""

    def getDim(self) -> int:
        """How many numbers describe a particle."""
        return int(self._dim.get() or 0)

    def getSize(self) -> int:
        """How many particles there are."""
        return int(self._size.get() or 0)

    def setShape(self, dim: int, size: int) -> None:
        """Set how many numbers describe a particle, and how many particles there are."""
        self._dim.set(int(dim))
        self._size.set(int(size))

    def getPatchSize(self) -> int:
        """Edge of the cubes that the network saw, in voxels."""
        return int(self._patchSize.get() or 0)

    def setPatchSize(self, edge: int) -> None:
        """Set the edge of the cubes that the network saw, in voxels."""
        self._patchSize.set(int(edge))

    def getModelName(self) -> str:
        """The model that computed them."""
        return self._modelName.get() or ""

    def getSha256(self) -> str:
        """The sha256 of the model's file; empty is unknown."""
        return self._sha256.get() or ""

    def setModel(self, name: str, sha256: str) -> None:
        """Set the name of the model that computed them and the sha256 of its file."""
        self._modelName.set(name)
        self._sha256.set(sha256)

    def getParticles(self) -> Any:
        """The set of particles, each with its number among the embeddings of its tomogram."""
        return self._particlesPointer.get()

    def getParticlesPointer(self) -> Pointer:
        """The pointer to the particles."""
        return self._particlesPointer

    def setParticles(self, pointer: Pointer) -> None:
        """Set the pointer to the particles."""
        self._particlesPointer.copy(pointer)

    def getTomograms(self) -> Any:
        """The tomograms that the particles were seen in."""
        return self._tomogramsPointer.get()

    def setTomograms(self, pointer: Pointer) -> None:
        """Set the pointer to the tomograms that the particles were seen in."""
        self._tomogramsPointer.copy(pointer)

    def __str__(self) -> str:
        parts = [f"{self.getSize()} items", f"{self.getDim()} numbers each"]
        if self.getModelName():
            parts.append(self.getModelName())
        return f"{self.getClassName()} ({', '.join(parts)})"
