"""Where patches are cut from a tomogram, and what their files are called."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from cryosiam_engine.embeddings.patches import Box
from cryosiam_engine.errors import ConfigurationError

_PLACE = re.compile(r"_z(\d+)_y(\d+)_x(\d+)")

#: Folders of patches in ``patches_folder``.
IMAGES, LABELS, NOISY, DISTANCES = "image", "labels", "noisy_image", "distances"


def patch_grid(shape: Sequence[int], patch_size: Sequence[int], overlap: float) -> list[Box]:
    """A regular grid of patches that lie in the tomogram, in raster order.

    The grid begins at the first voxel; what is left beyond the last whole patch is in none. A
    patch is never longer than the tomogram. The same as MONAI's ``iter_patch_slices`` without
    padding.

    Parameters
    ----------
    shape
        Voxels of the tomogram along (z, y, x).
    patch_size
        Voxels of a patch.
    overlap
        Part of a patch that the next one has too.

    Raises
    ------
    ConfigurationError
        When the overlap leaves no step between patches.
    """
    sizes = [min(length, size) for length, size in zip(shape, patch_size, strict=True)]
    steps = [round(size * (1 - overlap)) for size in sizes]
    if min(steps) < 1:
        raise ConfigurationError(
            f"patch_overlap {overlap:g} leaves no step between patches of "
            f"{' x '.join(map(str, sizes))} voxels.",
            remedy="Choose a smaller patch_overlap, 0.5 for example.",
        )
    starts = [
        range(0, length - size + 1, step)
        for length, size, step in zip(shape, sizes, steps, strict=True)
    ]
    return [
        Box((z, y, x), (z + sizes[0], y + sizes[1], x + sizes[2]))
        for z, y, x in itertools.product(*starts)
    ]


def patch_name(stem: str, box: Box) -> str:
    """Name a patch by its first voxel: ``<stem>_z<z>_y<y>_x<x>``."""
    z, y, x = box.start
    return f"{stem}_z{z}_y{y}_x{x}"


def place_of(path: Path) -> tuple[int, int, int]:
    """The first voxel (z, y, x) of a patch in its tomogram, as :func:`patch_name` wrote it."""
    z, y, x = (int(number) for number in _PLACE.findall(path.name)[-1])
    return z, y, x


def patches_of(folder: Path, stem: str, extension: str) -> list[Path]:
    """The patches of one tomogram in a folder, sorted; none of ``TS_1_2`` for ``TS_1``.

    Parameters
    ----------
    folder
        Such as ``patches_folder/image``; may be absent.
    stem
        The tomogram's name.
    extension
        Of the patches.
    """
    name = re.compile(rf"{re.escape(stem)}_z\d+_y\d+_x\d+{re.escape(extension)}")
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if name.fullmatch(path.name))
