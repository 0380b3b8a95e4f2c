"""From the sample to the tomogram: contrast, noise and the missing wedge, in Fourier space."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import fft

from cryosiam_engine.simulation.settings import SimulationSettings

FloatVolume = npt.NDArray[np.float32]

#: Where the signal has fallen to 1/e, in Å.
RESOLUTION = 25.0
#: Objects much larger than this (Å) lose their contrast, as with phase contrast near focus.
LARGEST_CONTRAST = 220.0
#: What is left of the contrast of very large objects: amplitude contrast.
AMPLITUDE_CONTRAST = 0.07
#: Size in Å of the grains of the noise, and its white part.
GRAIN, WHITE = 36.0, 0.1


def image(
    density: FloatVolume,
    lamella: npt.NDArray[np.uint8],
    settings: SimulationSettings,
    rng: np.random.Generator,
) -> FloatVolume:
    """Image a sample: protein becomes dark, the mean zero.

    Parameters
    ----------
    density
        The sample, ``(z, y, x)``, protein bright.
    lamella
        1 where signal and noise are measured, ``(z, y, x)``.
    settings
        Voxel size, tilt range and signal-to-noise ratio.
    rng
        Gives the noise.

    Returns
    -------
    ndarray
        float32 ``(z, y, x)``.
    """
    frequency = _frequency(settings)
    measured = measured_frequencies(settings.shape, settings.tilt_range)
    signal = -_filtered(density, contrast(frequency) * measured)
    if math.isinf(settings.snr):
        return signal
    noise = rng.standard_normal(settings.shape, dtype=np.float32)
    noise = _filtered(noise, noise_colour(frequency) * measured)
    inside = lamella > 0
    noise *= math.sqrt(signal[inside].var() / (settings.snr * noise[inside].var()))
    return signal + noise


def measured_frequencies(shape: tuple[int, int, int], tilt_range: float) -> npt.NDArray[np.bool_]:
    """Tell which Fourier components a tilt series about the y axis measures.

    A projection at a tilt of t degrees gives the plane through the y axis that is t degrees from
    the x axis; between the last tilt and the z axis (the beam) nothing is measured. The zero
    frequency is left out too: a tomogram's mean means nothing.

    Parameters
    ----------
    shape
        Of the volume, ``(z, y, x)``; voxels are cubes.
    tilt_range
        Largest tilt in degrees; 90 for no missing wedge.

    Returns
    -------
    ndarray
        bool ``(z, y, x // 2 + 1)``, as :func:`numpy.fft.rfftn` orders its result.
    """
    z = np.abs(np.fft.fftfreq(shape[0]))[:, None, None]
    x = np.fft.rfftfreq(shape[2])
    plane = np.ones((shape[0], 1, len(x)), bool)
    if tilt_range < 90:
        # The tolerance keeps the last tilt's own plane whatever the rounding.
        plane = z <= x * math.tan(math.radians(tilt_range)) + 1e-9
    measured = np.repeat(plane, shape[1], axis=1)
    measured[0, 0, 0] = False
    return measured


def contrast(frequency: FloatVolume) -> FloatVolume:
    """Give the strength of the signal at spatial frequencies in 1/Å: a soft band-pass."""
    falloff = np.exp(-((frequency * np.float32(RESOLUTION)) ** 2))
    large = np.exp(-((frequency * np.float32(LARGEST_CONTRAST)) ** 2))
    return falloff * (1 - np.float32(1 - AMPLITUDE_CONTRAST) * large)


def noise_colour(frequency: FloatVolume) -> FloatVolume:
    """Give the strength of the noise at spatial frequencies in 1/Å: grainy, partly white."""
    return np.float32(WHITE) + np.exp(-((frequency * np.float32(GRAIN)) ** 2))


def _frequency(settings: SimulationSettings) -> FloatVolume:
    """Length of the spatial frequency in 1/Å, ``(z, y, x // 2 + 1)``."""
    z, y, x = settings.shape
    size = settings.voxel_size
    squares = (
        np.fft.fftfreq(z, size)[:, None, None] ** 2,
        np.fft.fftfreq(y, size)[:, None] ** 2,
        np.fft.rfftfreq(x, size) ** 2,
    )
    return np.sqrt(sum(part.astype(np.float32) for part in squares))


def _filtered(volume: FloatVolume, transfer: FloatVolume) -> FloatVolume:
    spectrum = fft.rfftn(volume)
    spectrum *= transfer
    return fft.irfftn(spectrum, volume.shape).astype(np.float32, copy=False)
