"""Small pictures of particles, collected in sheets so that 100,000 of them are a few files."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

#: Particles across and down a sheet; a page decodes one sheet (about 4 MB) to show a particle.
COLUMNS, ROWS = 8, 16
PER_SHEET = COLUMNS * ROWS
#: Central sections of a particle, side by side: xy, xz, yz.
SECTIONS = 3
MIDDLE_GREY = 128
_QUALITY = 50


class Thumbnails:
    """Sheets of the three central sections (xy, xz, yz) of particles, built one by one.

    Memory holds one sheet; finished sheets wait in a temporary folder until the page is written,
    and go when the object goes (or at :meth:`close`).

    Parameters
    ----------
    size
        Edge of a section in pixels. Larger patches are made smaller; smaller ones are kept and
        enlarged to it.
    folder
        Where the temporary folder is made; the system's default otherwise.

    Examples
    --------
    >>> with Thumbnails(size=8) as thumbnails:
    ...     thumbnails.add(np.zeros((8, 8, 8)))
    ...     len(thumbnails)
    1
    """

    def __init__(self, *, size: int = 48, folder: str | Path | None = None) -> None:
        self.size = size
        # JPEG only where pillow was built without WebP: a third larger at the same quality.
        self.format = "webp" if features.check("webp") else "jpeg"
        self._folder = tempfile.TemporaryDirectory(prefix="cryosiam-map-", dir=folder)
        self._sheets: list[Path] = []
        self._count = 0
        self._sheet = self._empty()

    @classmethod
    def from_patches(
        cls, patches: Iterable[NDArray[np.floating | np.integer] | None], *, size: int = 48
    ) -> Thumbnails:
        """Build the thumbnails of all `patches`, holding one of them at a time.

        Parameters
        ----------
        patches
            As :meth:`add` takes them.
        size
            Edge of a section in pixels.
        """
        thumbnails = cls(size=size)
        for patch in patches:
            thumbnails.add(patch)
        return thumbnails

    def add(self, patch: NDArray[np.floating | np.integer] | None) -> None:
        """Add the next particle.

        Parameters
        ----------
        patch
            `(z, y, x)` voxels, or None where the particle cannot be shown (its tomogram is gone):
            plain grey.
        """
        row, column = divmod(self._count % PER_SHEET, COLUMNS)
        if patch is not None:
            top, left = row * self.size, column * self.size * SECTIONS
            picture = central_sections(patch, self.size)
            self._sheet[top : top + self.size, left : left + picture.shape[1]] = picture
        self._count += 1
        if self._count % PER_SHEET == 0:
            self._finish_sheet()

    def __len__(self) -> int:
        return self._count

    def sheets(self) -> list[Path]:
        """Files of all sheets so far, in order; add no particle afterwards."""
        if self._count > len(self._sheets) * PER_SHEET:
            self._finish_sheet()
        return list(self._sheets)

    def close(self) -> None:
        """Remove the temporary files."""
        self._folder.cleanup()

    def __enter__(self) -> Thumbnails:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _empty(self) -> NDArray[np.uint8]:
        shape = (ROWS * self.size, COLUMNS * SECTIONS * self.size)
        return np.full(shape, MIDDLE_GREY, np.uint8)

    def _finish_sheet(self) -> None:
        used = self._count - len(self._sheets) * PER_SHEET
        height = -(-used // COLUMNS) * self.size
        encoded = io.BytesIO()
        Image.fromarray(self._sheet[:height]).save(encoded, self.format, quality=_QUALITY)
        path = Path(self._folder.name) / f"sheet-{len(self._sheets):05d}.{self.format}"
        path.write_bytes(encoded.getvalue())
        self._sheets.append(path)
        self._sheet = self._empty()


def central_sections(patch: NDArray[np.floating | np.integer], size: int) -> NDArray[np.uint8]:
    """Draw the three central sections of a patch side by side.

    Parameters
    ----------
    patch
        `(z, y, x)` voxels; NaN is drawn grey.
    size
        Edge of a section in pixels.

    Returns
    -------
    NDArray
        `(size, 3 * size)` grey values of the sections xy (rows y), xz (rows z) and yz (rows z).
        One contrast for the three, between their 1 and 99 percentiles, so that they compare.
    """
    z, y, x = (length // 2 for length in patch.shape)
    sections = [np.asarray(s, np.float32) for s in (patch[z], patch[:, y], patch[:, :, x])]
    values = np.concatenate([section.ravel() for section in sections])
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, [1, 99]) if values.size else (0.0, 0.0)
    return np.concatenate([_picture(section, low, high, size) for section in sections], axis=1)


def _picture(section: NDArray[np.float32], low: float, high: float, size: int) -> NDArray[np.uint8]:
    if not high > low:
        return np.full((size, size), MIDDLE_GREY, np.uint8)
    known = np.where(np.isfinite(section), section, (low + high) / 2)
    grey = (np.clip((known - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)
    if grey.shape == (size, size):
        return grey
    # A flat patch keeps its proportions, centred on grey.
    scale = size / max(grey.shape)
    height, width = (max(1, round(length * scale)) for length in grey.shape)
    resized = Image.fromarray(grey).resize((width, height), Image.Resampling.LANCZOS)
    picture = np.full((size, size), MIDDLE_GREY, np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    picture[top : top + height, left : left + width] = np.asarray(resized)
    return picture
