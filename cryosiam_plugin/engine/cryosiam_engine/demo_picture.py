"""One picture of what the workflow made of a tomogram, for people who would rather look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cryosiam_engine.files import atomic_path
from cryosiam_engine.hdf5 import read_dataset
from cryosiam_engine.volume import read_volume

#: Colours (red, green, blue) of the classes 1, 2, ..., told apart by colour-blind eyes too.
COLOURS = np.array(
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66)], np.float32
)
SCALE = 3
CAPTION_HEIGHT = 18


def save_picture(folder: Path, name: str) -> Path:
    """Save the central section of a demo tomogram after every step, side by side.

    Parameters
    ----------
    folder
        The demo's folder.
    name
        The tomogram's stem.

    Returns
    -------
    Path
        The PNG file.
    """
    predictions = folder / "predictions"
    raw = _section(read_volume(folder / "tomograms" / f"{name}.mrc").data)
    denoised = _section(read_volume(predictions / "denoised" / f"{name}.mrc").data)
    lamella = _section(read_dataset(predictions / "lamella" / f"{name}_preds.h5", "labels"))
    classes = _section(read_dataset(predictions / "semantic" / f"{name}_preds.h5", "labels"))
    panels = {
        "tomogram": _grey(raw),
        "denoised": _grey(denoised),
        "lamella mask": _overlay(_grey(denoised), lamella),
        "classes": _overlay(_grey(denoised), classes),
    }
    path = folder / f"{name}.png"
    with atomic_path(path) as partial:
        _side_by_side(panels).save(partial)
    return path


def _section(volume: NDArray[np.floating | np.integer]) -> NDArray[np.floating | np.integer]:
    return volume[volume.shape[0] // 2]


def _grey(section: NDArray[np.floating | np.integer]) -> NDArray[np.float32]:
    """Grey values stretched between the 1 and 99 percentiles, as (y, x, 3) in [0, 255]."""
    low, high = np.percentile(section, [1, 99])
    stretched = np.clip((section - low) / max(high - low, 1e-6), 0, 1) * 255
    return np.repeat(stretched[..., None], 3, axis=2).astype(np.float32)


def _overlay(
    picture: NDArray[np.float32], labels: NDArray[np.floating | np.integer]
) -> NDArray[np.float32]:
    coloured = picture.copy()
    for index in range(1, int(labels.max()) + 1):
        inside = labels == index
        coloured[inside] = 0.5 * coloured[inside] + 0.5 * COLOURS[(index - 1) % len(COLOURS)]
    return coloured


def _side_by_side(panels: dict[str, NDArray[np.float32]]) -> Image.Image:
    height, width = next(iter(panels.values())).shape[:2]
    canvas = Image.new(
        "RGB", (len(panels) * width * SCALE, height * SCALE + CAPTION_HEIGHT), "white"
    )
    draw = ImageDraw.Draw(canvas)
    for index, (caption, pixels) in enumerate(panels.items()):
        left = index * width * SCALE
        panel = Image.fromarray(pixels.astype(np.uint8)).resize((width * SCALE, height * SCALE))
        canvas.paste(panel, (left, CAPTION_HEIGHT))
        draw.text((left + 4, 3), caption, fill="black")
    return canvas
