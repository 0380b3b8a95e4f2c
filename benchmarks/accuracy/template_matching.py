"""Template matching with the simulator's own densities: the strongest classical picker there is.

It is given what nobody has for real data: the exact density, contrast transfer and missing wedge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from cryosiam_engine.simulation.drawing import EDGE
from cryosiam_engine.simulation.imaging import contrast, measured_frequencies
from cryosiam_engine.simulation.scene import CYTOPLASM
from cryosiam_engine.simulation.species import SPECIES, mass_centre
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial.transform import Rotation
from scipy.special import ndtr

Volume = NDArray[np.float32]

TILT_RANGE = 60.0
#: Å around a particle that are compared too: its dark rim.
MARGIN = 27.0
#: Orientations tried. The capped barrel looks the same from both ends and when turned about its
#: axis, the small cubic one nearly from all sides.
ROTATIONS = {"ribosome": 240, "proteasome": 60, "rubisco": 24}


@dataclass(frozen=True)
class Spectra:
    """A tomogram and its square, in Fourier space."""

    shape: tuple[int, int, int]
    values: NDArray[np.complex64]
    squares: NDArray[np.complex64]


def spectra(tomogram: Volume) -> Spectra:
    """Transform a tomogram `(z, y, x)`, protein bright."""
    normal = (tomogram - tomogram.mean()) / tomogram.std()
    return Spectra(normal.shape, fft.rfftn(normal), fft.rfftn(normal**2))


def score_maps(tomograms: Sequence[Spectra], species: str, voxel_size: float) -> list[Volume]:
    """Highest normalised cross-correlation over all orientations, at every voxel.

    Parameters
    ----------
    tomograms
        All of one shape.
    species
        Whose density.
    voxel_size
        In Å.

    Returns
    -------
    list of numpy.ndarray
        For each tomogram `(z, y, x)`.
    """
    shape = tomograms[0].shape
    transfer = _transfer(shape, voxel_size)
    ball = _placed(_ball((SPECIES[species].radius + MARGIN) / voxel_size), shape)
    inside = ball > 0
    best = [np.full(shape, -np.inf, np.float32) for _ in tomograms]
    for rotation in orientations(species):
        density = fft.rfftn(_placed(template(species, rotation, voxel_size), shape))
        seen = fft.irfftn(density * transfer, shape)
        # Mean zero and length one within the ball: then the correlation is at most one.
        seen = np.where(inside, seen - seen[inside].mean(), 0)
        spectrum = fft.rfftn(seen / np.linalg.norm(seen)).conj()
        for tomogram, highest in zip(tomograms, best, strict=True):
            np.maximum(highest, fft.irfftn(tomogram.values * spectrum, shape), out=highest)
    for tomogram, highest in zip(tomograms, best, strict=True):
        highest /= _local_deviation(tomogram, fft.rfftn(ball))
    return best


def orientations(species: str) -> Iterator[Rotation]:
    """Evenly spread orientations; for the barrel only its axis is turned, over half of the sphere.

    The others by super-Fibonacci spirals (Alexa, 2022).
    """
    n = ROTATIONS[species]
    steps = np.arange(n) + 0.5
    if species == "proteasome":
        height = steps / n
        turn = steps * np.pi * (3 - np.sqrt(5))
        flat = np.sqrt(1 - height**2)
        for x, y, z in np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1):
            yield Rotation.align_vectors([[x, y, z]], [[0, 0, 1]])[0]
        return
    phi, psi = np.sqrt(2), 1.533751168755204288118041
    long, short = np.sqrt(steps / n), np.sqrt(1 - steps / n)
    alpha, beta = 2 * np.pi * steps / phi, 2 * np.pi * steps / psi
    quaternions = [
        long * np.sin(alpha),
        long * np.cos(alpha),
        short * np.sin(beta),
        short * np.cos(beta),
    ]
    yield from Rotation.from_quat(np.stack(quaternions, axis=1))


def template(species: str, rotation: Rotation, voxel_size: float) -> Volume:
    """Density of a particle above the cytoplasm's, in a box with its centre of mass in the middle.

    Parameters
    ----------
    species
        A name of the simulator's species.
    rotation
        From the particle's frame to the tomogram's.
    voxel_size
        In Å.
    """
    kind = SPECIES[species]
    offset = np.asarray(mass_centre(species))
    half = int(np.ceil((kind.radius + np.linalg.norm(offset)) / voxel_size)) + 1
    axis = np.arange(-half, half + 1) * voxel_size
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = np.stack((x, y, z), axis=-1) @ rotation.as_matrix() + offset
    cover = ndtr(-kind.shape(points) / np.hypot(EDGE, 0.4 * voxel_size))
    return (cover * (kind.density - CYTOPLASM)).astype(np.float32)


def _transfer(shape: tuple[int, int, int], voxel_size: float) -> Volume:
    z, y, x = shape
    squares = (
        np.fft.fftfreq(z, voxel_size)[:, None, None] ** 2
        + np.fft.fftfreq(y, voxel_size)[:, None] ** 2
        + np.fft.rfftfreq(x, voxel_size) ** 2
    )
    frequency = np.sqrt(squares).astype(np.float32)
    return contrast(frequency) * measured_frequencies(shape, TILT_RANGE)


def _placed(box: Volume, shape: tuple[int, int, int]) -> Volume:
    """The box in an empty volume, its middle at the first voxel, around the corners."""
    volume = np.zeros(shape, np.float32)
    volume[tuple(slice(size) for size in box.shape)] = box
    return np.roll(volume, [-(size // 2) for size in box.shape], axis=(0, 1, 2))


def _ball(radius: float) -> Volume:
    half = int(np.ceil(radius))
    z, y, x = np.ogrid[-half : half + 1, -half : half + 1, -half : half + 1]
    return (z**2 + y**2 + x**2 <= radius**2).astype(np.float32)


def _local_deviation(tomogram: Spectra, ball: NDArray[np.complex64]) -> Volume:
    """Standard deviation within a ball around every voxel."""
    voxels = float(ball[0, 0, 0].real)
    mean = fft.irfftn(tomogram.values * ball.conj(), tomogram.shape) / voxels
    square = fft.irfftn(tomogram.squares * ball.conj(), tomogram.shape) / voxels
    return np.sqrt(np.maximum(square - mean**2, 1e-6)) * np.sqrt(voxels)
