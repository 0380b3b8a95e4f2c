"""One picture of what the workflow made of a tomogram, above the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cryosiam_engine.demo.results import Grey, Labels, read_found, read_tomogram, read_truth
from cryosiam_engine.demo.workflow import Folders
from cryosiam_engine.demo_models import CLASS_NAMES
from cryosiam_engine.files import atomic_path
from cryosiam_engine.scores import true_partners

#: Colours (red, green, blue) of the classes 1, 2, ..., told apart by colour-blind eyes too.
COLOURS = np.array(
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66)], np.float32
)
SCALE = 2
CAPTION_HEIGHT = 18
#: What a found instance gets that is no true particle.
_WRONG = np.array((220, 30, 30), np.float32)

Picture = NDArray[np.float32]


def save_picture(folders: Folders, name: str) -> Path:
    """Save the central section of a tomogram after every step, and below it the truth.

    Parameters
    ----------
    folders
        Of the run.
    name
        The tomogram's stem.

    Returns
    -------
    Path
        The PNG file.
    """
    truth, found = read_truth(folders, name), read_found(folders, name)
    grey = _grey(_section(found.denoised))
    partners = true_partners(truth.instances, found.instances)
    wrong = (found.instances > 0) & (partners[found.instances] == 0)
    same_numbers = np.where(wrong, -1, partners[found.instances])
    result = {
        "tomogram": _grey(_section(read_tomogram(folders, name))),
        "denoised": grey,
        "lamella, from the side": _side(found.denoised, found.lamella),
        "classes": _overlay(grey, _section(found.classes), COLOURS),
        "particles": _overlay(grey, _section(same_numbers), _many_colours(truth.instances)),
    }
    clean = _grey(_section(truth.clean))
    true = {
        "": _legend(clean.shape),
        "noise-free": clean,
        "true lamella": _side(truth.clean, truth.lamella),
        "true classes": _overlay(clean, _section(truth.classes), COLOURS),
        "true particles": _overlay(
            clean, _section(truth.instances), _many_colours(truth.instances)
        ),
    }
    path = folders.root / f"{name}.png"
    with atomic_path(path) as partial:
        _tiled([result, true]).save(partial)
    return path


def _section(volume: NDArray) -> NDArray:
    return volume[volume.shape[0] // 2]


def _side(volume: Grey, labels: Labels) -> Picture:
    """The section across the middle with its labels, on white of the height of the others."""
    middle = volume.shape[1] // 2
    section = _overlay(_grey(volume[:, middle]), labels[:, middle], COLOURS)
    depth, height = section.shape[0], volume.shape[1]
    picture = np.full((max(depth, height), *section.shape[1:]), 255, np.float32)
    top = (len(picture) - depth) // 2
    picture[top : top + depth] = section
    # Deeper than high, it is cut to the size of the others.
    return picture[(len(picture) - height) // 2 :][:height]


def _grey(section: NDArray[np.floating]) -> Picture:
    """Grey values stretched between the 1 and 99 percentiles, as (y, x, 3) in [0, 255]."""
    low, high = np.percentile(section, [1, 99])
    stretched = np.clip((section - low) / max(high - low, 1e-6), 0, 1) * 255
    return np.repeat(stretched[..., None], 3, axis=2).astype(np.float32)


def _overlay(picture: Picture, labels: Labels, colours: Picture) -> Picture:
    """Colour the labels 1, 2, ...; -1 is what should not be there."""
    coloured = picture.copy()
    inside = labels != 0
    chosen = colours[(labels[inside].astype(np.int64) - 1) % len(colours)]
    chosen[labels[inside] < 0] = _WRONG
    coloured[inside] = 0.4 * coloured[inside] + 0.6 * chosen
    return coloured


def _many_colours(instances: Labels) -> Picture:
    """A colour for each instance, bright, no two neighbours in number alike."""
    hues = (np.arange(int(instances.max(initial=0)) + 1) * 0.618)[:, None] + (0, 1 / 3, 2 / 3)
    return (128 + 127 * np.cos(2 * np.pi * hues)).astype(np.float32)


def _legend(shape: tuple[int, ...]) -> Picture:
    """The names of the classes in their colours, on white."""
    legend = Image.new("RGB", (shape[1], shape[0]), "white")
    draw = ImageDraw.Draw(legend)
    for index, name in CLASS_NAMES.items():
        if index:
            colour = tuple(int(part) for part in COLOURS[index - 1])
            draw.rectangle((8, 14 * index, 18, 14 * index + 8), fill=colour)
            draw.text((24, 14 * index - 2), name, fill="black")
    return np.asarray(legend, np.float32)


def _tiled(rows: list[dict[str, Picture]]) -> Image.Image:
    """Rows of pictures of one size, each with its caption."""
    height, width = next(iter(rows[0].values())).shape[:2]
    height, width = height * SCALE, width * SCALE
    canvas = Image.new(
        "RGB", (len(rows[0]) * width, len(rows) * (height + CAPTION_HEIGHT)), "white"
    )
    draw = ImageDraw.Draw(canvas)
    for row, panels in enumerate(rows):
        top = row * (height + CAPTION_HEIGHT)
        for column, (caption, pixels) in enumerate(panels.items()):
            panel = Image.fromarray(pixels.astype(np.uint8)).resize((width, height))
            canvas.paste(panel, (column * width, top + CAPTION_HEIGHT))
            draw.text((column * width + 4, top + 3), caption, fill="black")
    return canvas
