"""Masks made from particles: what balls and placed maps have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.errors import ConfigurationError, MaskError
from cryosiam_engine.particles_table import tomogram_stem
from cryosiam_engine.processing.coordinates import Coordinates
from cryosiam_engine.processing.files import refuse_overwriting, tomogram_file
from cryosiam_engine.run import Saved, Tomogram, TomogramCommand
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity, Output
from cryosiam_engine.volume import VolumeHeader, read_header, write_mrc_like


@dataclass(frozen=True)
class MaskInputs:
    """Size and particles of one tomogram.

    `centres` are `(n, 3)`, z, y, x in voxels, in the order of `particles`.
    """

    stem: str
    header: VolumeHeader
    particles: Coordinates
    centres: NDArray[np.float64]


@dataclass(frozen=True)
class Mask:
    """A mask `(z, y, x)` and how many particles are outside or cut by the border."""

    inputs: MaskInputs
    labels: NDArray[np.unsignedinteger]
    clipped: int
    outside: int


class ParticleMaskCommand(TomogramCommand[MaskInputs, Mask]):
    """A command that draws particles into a mask of the tomogram's size.

    Parameters
    ----------
    coordinates
        The particles of all tomograms.
    tomogram_path
        A tomogram that stands for all, or a folder of tomograms.
    output_dir
        Where the masks go.
    pixel_size
        As for :meth:`Coordinates.voxels`.
    settings
        What else decides the result, as JSON values.
    """

    def __init__(
        self,
        coordinates: Coordinates,
        tomogram_path: Path,
        output_dir: Path,
        pixel_size: float | None,
        settings: dict[str, Any],
    ) -> None:
        self._coordinates = coordinates
        self._tomogram_path = tomogram_path
        self._output_dir = output_dir
        self._pixel_size = pixel_size
        self._settings = settings

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """The options, the coordinates file and the tomogram."""
        file = tomogram_file(self._tomogram_path, tomogram.stem)
        files = (self._coordinates.path, file, *self.other_inputs())
        return {
            "settings": {**self._settings, "pixel_size": self._pixel_size},
            "inputs": [vars(FileIdentity.of(path)) for path in files if path.exists()],
        }

    def other_inputs(self) -> Iterable[Path]:
        """Files that decide the result besides the coordinates and the tomogram."""
        return ()

    def load(self, tomogram: Tomogram) -> MaskInputs:
        """Look up the size of the tomogram and its particles."""
        file = tomogram_file(self._tomogram_path, tomogram.stem)
        refuse_overwriting(self._file(tomogram.stem), file)
        header = read_header(file)
        particles = self._coordinates.of(tomogram.stem)
        if not len(particles):
            raise MaskError(
                f"{self._coordinates.path} has no particles of {tomogram.stem}.",
                remedy="Compare the tomogram names in it with the files' names.",
            )
        centres = particles.voxels(header, self._pixel_size)
        return MaskInputs(tomogram.stem, header, particles, centres)

    @abstractmethod
    def compute(self, loaded: MaskInputs, progress: Progress) -> Mask:
        """Draw the particles."""

    def save(self, result: Mask) -> Saved:
        """Write the mask; warn where particles miss the tomogram."""
        inputs = result.inputs
        n_particles = len(inputs.particles)
        if result.outside == n_particles:
            raise MaskError(
                f"All {n_particles} particles of {inputs.stem} are outside the tomogram.",
                remedy="The coordinates are of another binning: give their pixel size with "
                "--coordinates_pixel_size.",
            )
        path = self._file(inputs.stem)
        write_mrc_like(path, result.labels, inputs.header)
        warnings = []
        if result.outside:
            warnings.append(
                f"{result.outside} of {n_particles} particles are outside the tomogram and not in "
                "the mask: check that the coordinates are of this binning."
            )
        identity = FileIdentity.of(path)
        outputs = [Output(identity, "labels", result.labels.shape, inputs.header.voxel_size)]
        summary = {
            "particles": n_particles,
            "cut_by_the_border": result.clipped,
            "outside": result.outside,
        }
        return Saved(outputs, summary, warnings)

    def _file(self, stem: str) -> Path:
        return self._output_dir / f"{stem}.mrc"


def named_tomograms(
    coordinates: Coordinates, tomogram_path: Path, tomo_name: str | None
) -> list[Tomogram]:
    """The tomograms that get a mask: the named one, else all that the coordinates name.

    Parameters
    ----------
    coordinates
        Of all tomograms.
    tomogram_path
        A tomogram, or a folder of tomograms.
    tomo_name
        The only one to process.

    Raises
    ------
    ConfigurationError
        When nothing says which tomograms the particles are in, or there are no particles.
    """
    if not len(coordinates):
        raise ConfigurationError(
            f"{coordinates.path} has no particles.", remedy="Give a file with coordinates."
        )
    if tomo_name:
        names = [tomogram_stem(tomo_name)]
    elif coordinates.tomograms is not None:
        names = sorted(set(coordinates.tomograms.tolist()))
    elif tomogram_path.is_dir():
        raise ConfigurationError(
            f"{coordinates.path} does not say which tomograms its particles are in.",
            remedy="Give one tomogram instead of a folder, or --tomo_name, or add a column: "
            "tomo (CSV), rlnTomoName or rlnMicrographName (STAR).",
        )
    else:
        names = [tomogram_stem(tomogram_path.name)]
    return [Tomogram(tomogram_path, name) for name in names]
