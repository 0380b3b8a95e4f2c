"""Writing the patches of one tomogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.embeddings.patches import Box
from cryosiam_engine.files import atomic_path
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.training.patch_grid import DISTANCES, LABELS, patch_name
from cryosiam_engine.volume import VolumeHeader, write_mrc


@dataclass
class PatchSet:
    """The patches of one tomogram that are on the disk.

    Attributes
    ----------
    files
        Path, kind and shape of every patch.
    summary, warnings
        For the status file.
    """

    files: list[tuple[Path, str, tuple[int, ...]]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass
class PatchWriter:
    """Writes patches and notes them.

    Attributes
    ----------
    folder
        ``patches_folder``.
    stem
        The tomogram's name.
    patches
        Where they are noted.
    progress, total
        What is told about each patch, and how many there will be.
    """

    folder: Path
    stem: str
    patches: PatchSet
    progress: Progress
    total: int

    def write_volume(
        self,
        name: str,
        volume: NDArray[Any],
        header: VolumeHeader,
        boxes: Sequence[Box],
        extension: str,
    ) -> None:
        """Write patches of a volume `(z, y, x)` as float32, each with its own origin.

        Parameters
        ----------
        name
            The folder of this kind of patches.
        volume, header
            What is cut, and its geometry.
        boxes
            Where.
        extension
            Of the files.

        Raises
        ------
        OutputError
            When the system refuses to write.
        """
        kind = "labels" if name == LABELS else "tomogram"
        for box in boxes:
            path = self.folder / name / f"{patch_name(self.stem, box)}{extension}"
            data = volume[box.slices].astype(np.float32)
            x, y, z = (
                start + size * first
                for start, size, first in zip(
                    header.origin, header.voxel_size, box.start[::-1], strict=True
                )
            )
            write_mrc(path, data, voxel_size=header.voxel_size, origin=(x, y, z))
            self._note(path, kind, data.shape)

    def write_distances(self, maps: NDArray[np.float32], boxes: Sequence[Box]) -> None:
        """Write patches of distance maps `(channels, z, y, x)`, key ``data``, compressed.

        Raises
        ------
        OutputError
            When the system refuses to write.
        """
        for box in boxes:
            path = self.folder / DISTANCES / f"{patch_name(self.stem, box)}.npz"
            data = np.ascontiguousarray(maps[(slice(None), *box.slices)], dtype=np.float32)
            with atomic_path(path) as partial:
                np.savez_compressed(partial, data=data)
            self._note(path, "distances", data.shape)

    def _note(self, path: Path, kind: str, shape: tuple[int, ...]) -> None:
        self.patches.files.append((path, kind, shape))
        self.progress(len(self.patches.files), self.total)
