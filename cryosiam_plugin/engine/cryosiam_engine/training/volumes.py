"""What the training reads: an image, and what is to be learned from it, in one place each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.embeddings.patches import Box, Shape
from cryosiam_engine.errors import MaskError
from cryosiam_engine.training.mapped_volume import cut_mirrored, mapped_volume
from cryosiam_engine.volume import read_header

#: What a network can be given, or be asked for, under these names in every sample.
IMAGE, NOISY, TARGET, LABELS, DISTANCES = "image", "noisy", "target", "labels", "distances"


@dataclass(frozen=True)
class TrainingVolume:
    """One tomogram, or one patch of the patch folder, with all that belongs to it.

    Attributes
    ----------
    stem
        The tomogram's name.
    files
        MRC files by what they hold: image, noisy, target, labels.
    region
        The part that may be used (z, y, x).
    distances
        Distance maps of a patch, ``.npz``.
    """

    stem: str
    files: dict[str, Path]
    region: Box
    distances: Path | None = field(default=None)

    @classmethod
    def open(
        cls, stem: str, files: dict[str, Path], distances: Path | None = None
    ) -> TrainingVolume:
        """Look at the files; the whole volume may be used.

        Raises
        ------
        TomogramError
            When a file is missing or is no volume.
        MaskError
            When their shapes differ.
        """
        shapes = {name: read_header(path).shape for name, path in files.items()}
        shape = shapes[IMAGE]
        for name, other in shapes.items():
            if other != shape:
                raise MaskError(
                    f"{files[name]} has the size {other}, but {files[IMAGE]} {shape} (z, y, x).",
                    remedy="Files of one name must belong to the same reconstruction: same "
                    "binning, same crop.",
                )
        return cls(stem, files, Box((0, 0, 0), shape), distances)

    def cut(self, centre: Sequence[int], shape: Shape) -> dict[str, NDArray[Any]]:
        """Read a box around a voxel, mirrored where it leaves the region.

        Parameters
        ----------
        centre
            Its middle (z, y, x); of an even length, the first voxel of the upper half.
        shape
            Voxels of the box.

        Returns
        -------
        dict
            Copies `(z, y, x)`, distances `(channels, z, y, x)`; labels as whole numbers.
        """
        z, y, x = (middle - size // 2 for middle, size in zip(centre, shape, strict=True))
        cut: dict[str, NDArray[Any]] = {}
        for name, path in self.files.items():
            part = cut_mirrored(mapped_volume(path), self.region, (z, y, x), shape)
            cut[name] = _whole(part) if name == LABELS else part.astype(np.float32, copy=False)
        if self.distances is not None:
            with np.load(self.distances, allow_pickle=False) as archive:
                cut[DISTANCES] = cut_mirrored(archive["data"], self.region, (z, y, x), shape)
        return cut


def _whole(labels: NDArray[Any]) -> NDArray[Any]:
    """CryoSiam writes its labels as floating-point numbers."""
    return np.rint(labels).astype(np.int32) if labels.dtype.kind == "f" else labels.astype(np.int32)
