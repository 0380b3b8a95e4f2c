"""A ball at every particle: ``processing_create_sphere_mask`` and ``..._multiclass``."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.processing.balls import ball_mask
from cryosiam_engine.processing.coordinate_files import read_coordinates
from cryosiam_engine.processing.coordinates import Coordinates
from cryosiam_engine.processing.files import process
from cryosiam_engine.processing.particle_masks import (
    Mask,
    MaskInputs,
    ParticleMaskCommand,
    named_tomograms,
)
from cryosiam_engine.sliding_window import Progress

logger = logging.getLogger(__name__)

BINARY = "processing_create_sphere_mask"
MULTICLASS = "processing_create_sphere_mask_multiclass"

#: Labels are unsigned 16-bit numbers.
_MAX_CLASS = 2**16 - 1


class SphereMaskCommand(ParticleMaskCommand):
    """Both commands.

    Parameters
    ----------
    coordinates
        The particles of all tomograms; with classes where `radii` is a mapping.
    radii
        In voxels: of all particles, or of each class from 1 on.
    tomogram_path, output_dir, pixel_size
        As for :class:`ParticleMaskCommand`.

    Raises
    ------
    ConfigurationError
        When a radius is missing or makes no sense, or a particle has no class.
    """

    def __init__(
        self,
        coordinates: Coordinates,
        radii: float | Mapping[int, float],
        tomogram_path: Path,
        output_dir: Path,
        pixel_size: float | None = None,
    ) -> None:
        self.name = MULTICLASS if isinstance(radii, Mapping) else BINARY
        self._radii = dict(radii) if isinstance(radii, Mapping) else {1: radii}
        _check_radii(self._radii)
        if isinstance(radii, Mapping):
            _check_classes(coordinates, self._radii)
        settings = {"radii": sorted(self._radii.items())}
        super().__init__(coordinates, tomogram_path, output_dir, pixel_size, settings)

    def compute(self, loaded: MaskInputs, progress: Progress) -> Mask:
        """Draw the balls."""
        classes = loaded.particles.classes
        if self.name == BINARY or classes is None:
            classes = np.ones(len(loaded.particles), np.int64)
        mask = ball_mask(loaded.header.shape, loaded.centres, classes, self._radii)
        # uint16 for a single class too: the type says which command wrote the file.
        labels = mask.labels if self.name == BINARY else mask.labels.astype(np.uint16, copy=False)
        return Mask(loaded, labels, mask.clipped, mask.outside)


def run(args: argparse.Namespace) -> int:
    """Run the command that ``args.command`` names.

    Returns
    -------
    int
        0: all done; 1: some tomograms failed.

    Raises
    ------
    ConfigurationError
        When the coordinates cannot be read, or an option makes no sense.
    """
    coordinates = read_coordinates(args.coordinates_file)
    tomogram_path, output_dir = Path(args.tomogram_path), Path(args.output_dir)
    radii = args.sphere_radius if args.command == BINARY else radius_of_class(args.sphere_radius)
    command = SphereMaskCommand(
        coordinates, radii, tomogram_path, output_dir, args.coordinates_pixel_size
    )
    tomograms = named_tomograms(coordinates, tomogram_path, args.tomo_name)
    return process(command, output_dir, tomograms)


def radius_of_class(text: str) -> dict[int, float]:
    """Read ``"3,5.5"``: the radius of each class from 1 on.

    Raises
    ------
    ConfigurationError
        When a part is no number.

    Examples
    --------
    >>> radius_of_class("3,5.5")
    {1: 3.0, 2: 5.5}
    """
    try:
        return {index: float(part) for index, part in enumerate(text.split(","), 1)}
    except ValueError:
        raise ConfigurationError(
            f"--sphere_radius is {text!r}.",
            remedy="Give one number of voxels for each class, as in --sphere_radius 12,5.",
        ) from None


def _check_radii(radii: Mapping[int, float]) -> None:
    if len(radii) > _MAX_CLASS:
        raise ConfigurationError(
            f"A mask holds at most {_MAX_CLASS} classes, not {len(radii)}.",
            remedy="Make several masks.",
        )
    for radius in radii.values():
        if not 0 <= radius < math.inf:
            raise ConfigurationError(
                f"A radius of {radius:g} voxels is impossible.", remedy="Give 0 or more."
            )


def _check_classes(coordinates: Coordinates, radii: Mapping[int, float]) -> None:
    if coordinates.classes is None:
        raise ConfigurationError(
            f"{coordinates.path} does not say of which class a particle is.",
            remedy="Add the column semantic_class (CSV) or rlnClassNumber (STAR).",
        )
    wrong = sorted(set(coordinates.classes.tolist()) - set(radii))
    if wrong:
        shown = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        raise ConfigurationError(
            f"{coordinates.path} has particles of the classes {shown}, and radii are given for "
            f"the classes 1 to {len(radii)}.",
            remedy="Give one radius for each class; classes count from 1 on.",
        )
