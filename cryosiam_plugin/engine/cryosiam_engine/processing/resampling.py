"""Fourier resampling of volumes: cropped or extended spectra, one axis after the other.

The band that is kept is a box, so three one-dimensional transforms do the same as one of the
whole volume, and only slabs are ever complex.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from cryosiam_engine.preprocessing import slabs

#: Over so many Fourier voxels the smooth filter fades to 0 at the border of the band.
DECAY = 12


def output_shape(
    shape: Sequence[int], voxel_size: Sequence[float], wanted: float
) -> tuple[int, int, int]:
    """Voxels after resampling: the nearest number, the next even one if that is odd.

    Parameters
    ----------
    shape
        Voxels along (z, y, x).
    voxel_size
        Å along (z, y, x).
    wanted
        Å.
    """
    lengths = [round(n * size / wanted) for n, size in zip(shape, voxel_size, strict=True)]
    z, y, x = (max(2, length + length % 2) for length in lengths)
    return z, y, x


def peak_bytes(shape: Sequence[int], itemsize: int, resampled: Sequence[int], smooth: bool) -> int:
    """Memory that :func:`resample` needs, the volume itself included; small slabs come on top.

    Parameters
    ----------
    shape, itemsize
        Of the volume, and bytes of one voxel.
    resampled
        Its shape afterwards.
    smooth
        As for :func:`resample`.
    """
    half = shape[0] * resampled[1] * resampled[2] * 4
    result = int(np.prod(resampled, dtype=np.int64)) * 4
    before = int(np.prod(shape, dtype=np.int64)) * itemsize
    spectrum = resampled[0] * resampled[1] * (resampled[2] // 2 + 1) * 8
    return max(before + half, half + result, result + spectrum if smooth else 0)


def resample(
    volume: list[NDArray[np.generic]], shape: tuple[int, int, int], *, smooth: bool = False
) -> NDArray[np.float32]:
    """Resample a volume to another number of voxels of the same box.

    Grey values are preserved: a constant stays what it is. The first voxel stays in its place.

    Parameters
    ----------
    volume
        A list with the volume `(z, y, x)` as its only element; it is emptied, so that the volume
        is freed as soon as it is not needed.
    shape
        Voxels (z, y, x) afterwards.
    smooth
        Let the highest frequencies fade out over :data:`DECAY` Fourier voxels inside of an
        ellipsoid, against ringing.

    Returns
    -------
    numpy.ndarray
        float32.
    """
    source = volume.pop()
    before = source.shape
    halfway = np.empty((before[0], shape[1], shape[2]), np.float32)
    for part in slabs(before):
        rows = along_axis(source[part].astype(np.float32), shape[2], 2)
        halfway[part] = along_axis(rows, shape[1], 1)
    del source
    result = np.empty(shape, np.float32)
    for part in _columns((max(before[0], shape[0]), *shape[1:])):
        result[:, part] = along_axis(halfway[:, part], shape[0], 0)
    del halfway
    if smooth:
        band = [min(one, other) for one, other in zip(before, shape, strict=True)]
        fade_out(result, band)
    return result


def along_axis(part: NDArray[np.float32], length: int, axis: int) -> NDArray[np.float32]:
    """Resample one axis to `length` voxels."""
    before = part.shape[axis]
    if before == length:
        return part
    spectrum = np.moveaxis(scipy.fft.rfft(part, axis=axis), axis, 0)
    kept = min(before, length)
    wanted = np.zeros((length // 2 + 1, *spectrum.shape[1:]), np.complex64)
    wanted[: kept // 2 + 1] = spectrum[: kept // 2 + 1]
    if kept % 2 == 0:
        # The highest frequency of an even length stands for two, +N/2 and -N/2.
        wanted[kept // 2] *= 2 if length < before else 0.5
    wanted *= np.float32(length / before)
    moved: NDArray[np.float32] = scipy.fft.irfft(
        np.moveaxis(wanted, 0, axis), n=length, axis=axis, overwrite_x=True
    )
    return moved


def fade_out(volume: NDArray[np.float32], band: Sequence[int]) -> None:
    """Filter a volume `(z, y, x)` in place, with one spectrum of its size beside it.

    Parameters
    ----------
    volume
        float32.
    band
        Voxels along (z, y, x) whose frequencies the volume has: the ellipsoid's axes.
    """
    shape = volume.shape
    spectrum = np.empty((shape[0], shape[1], shape[2] // 2 + 1), np.complex64)
    for part in slabs(shape):
        rows = scipy.fft.rfft(volume[part], axis=2)
        spectrum[part] = scipy.fft.fft(rows, axis=1, overwrite_x=True)
    for part in _columns(spectrum.shape):
        columns = scipy.fft.fft(spectrum[:, part], axis=0)
        columns *= _weights(shape, part, band)
        spectrum[:, part] = scipy.fft.ifft(columns, axis=0, overwrite_x=True)
    for part in slabs(shape):
        rows = scipy.fft.ifft(spectrum[part], axis=1)
        volume[part] = scipy.fft.irfft(rows, n=shape[2], axis=2, overwrite_x=True)


def _columns(shape: tuple[int, ...]) -> list[slice]:
    """Ranges of the second axis, as `slabs` are of the first."""
    return list(slabs((shape[1], shape[0], *shape[2:])))


def _weights(shape: Sequence[int], rows: slice, band: Sequence[int]) -> NDArray[np.float32]:
    """The filter `(z, rows, x // 2 + 1)`: 1 in the middle, a cosine down to 0 at the ellipsoid."""
    frequencies = (
        scipy.fft.fftfreq(shape[0], 1 / shape[0]),
        scipy.fft.fftfreq(shape[1], 1 / shape[1])[rows],
        np.arange(shape[2] // 2 + 1),
    )
    z, y, x = np.ix_(
        *((k / (n / 2)).astype(np.float32) for k, n in zip(frequencies, band, strict=True))
    )
    semi_axis = min(band) / 2
    # A small volume has no twelve voxels to fade over, and its mean must stay.
    decay = min(DECAY, semi_axis / 2)
    inwards = (1 - np.sqrt(z**2 + y**2 + x**2)) * np.float32(semi_axis / decay)
    np.clip(inwards, 0, 1, out=inwards)
    weights: NDArray[np.float32] = 0.5 - 0.5 * np.cos(np.float32(np.pi) * inwards)
    return weights
