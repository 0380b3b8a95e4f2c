"""Turning, zooming, bending and flipping patches: labels and grey values on the same grid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad

from cryosiam_engine.config.train import Transforms
from cryosiam_engine.embeddings.patches import Shape
from cryosiam_engine.training.volumes import DISTANCES, LABELS

#: How often each transformation is applied.
PROBABILITY = 0.8
#: Range of the smoothness (voxels) of elastic deformations.
_ELASTIC_SIGMA = (5.0, 10.0)


@dataclass(frozen=True)
class Geometry:
    """One transformation of a patch.

    Attributes
    ----------
    matrix
        From an output voxel's place to the input's, both relative to the middle, (z, y, x).
    zoom
        Factor by which things become larger.
    bend
        Displacements in voxels on a coarse grid, `(3, z, y, x)`; None for none.
    flips
        Axes (0, 1, 2) that are reversed.
    """

    matrix: NDArray[np.float64]
    zoom: float
    bend: NDArray[np.float32] | None
    flips: tuple[int, ...]

    @property
    def is_exact(self) -> bool:
        """Whether no voxel is interpolated."""
        return self.bend is None and bool((self.matrix == np.eye(3)).all())

    def source_shape(self, shape: Shape) -> Shape:
        """Voxels that the input must have so that an output of `shape` needs no others."""
        if self.is_exact:
            return shape
        half = np.abs(self.matrix) @ ((np.array(shape) - 1) / 2)
        if self.bend is not None:
            half += np.abs(self.bend).max()
        z, y, x = (2 * math.ceil(value) + 3 for value in half)
        return z, y, x

    def apply(
        self, arrays: Mapping[str, NDArray[Any]], shape: Shape, label_margin: int = 0
    ) -> dict[str, NDArray[Any]]:
        """Transform all arrays of a patch.

        Parameters
        ----------
        arrays
            `(z, y, x)` or `(channels, z, y, x)`, of :meth:`source_shape` for `shape` and its
            margin. ``labels`` take the nearest voxel; ``distances`` grow with the zoom; the rest
            is interpolated linearly.
        shape
            Voxels (z, y, x) of the result.
        label_margin
            Voxels around it that ``labels`` keep, for what is computed from them.
        """
        z, y, x = (slice(label_margin, label_margin + size) for size in shape)
        if self.is_exact:
            arrays = {n: a if n == LABELS else a[..., z, y, x] for n, a in arrays.items()}
        else:
            some = next(iter(arrays.values()))
            wide = self._grid(some.shape[-3:], shape, label_margin)
            grid = wide[:, z, y, x].contiguous()
            arrays = {n: _sampled(a, wide if n == LABELS else grid, n) for n, a in arrays.items()}
            if DISTANCES in arrays:
                arrays = {**arrays, DISTANCES: arrays[DISTANCES] * np.float32(self.zoom)}
        axes = tuple(axis - 3 for axis in self.flips)
        return {
            name: np.ascontiguousarray(np.flip(array, axes)) if axes else array
            for name, array in arrays.items()
        }

    def _grid(self, source: tuple[int, ...], shape: Shape, margin: int) -> Tensor:
        """Places in the input, as :func:`grid_sample` takes them: `(1, z, y, x, 3)`, (x, y, z)."""
        sizes = [size + 2 * margin for size in shape]
        axes = [torch.arange(size, dtype=torch.float32) - (size - 1) / 2 for size in sizes]
        matrix = torch.from_numpy(self.matrix.astype(np.float32))
        places = torch.zeros(*sizes, 3)
        views = [axes[0].view(-1, 1, 1, 1), axes[1].view(1, -1, 1, 1), axes[2].view(1, 1, -1, 1)]
        for column, view in enumerate(views):
            places += view * matrix[:, column]
        if self.bend is not None:
            fine = interpolate(
                torch.from_numpy(self.bend)[None], size=shape, mode="trilinear", align_corners=True
            )
            places += pad(fine, (margin,) * 6, mode="replicate")[0].permute(1, 2, 3, 0)
        places *= 2 / torch.tensor([float(n) for n in source])
        return places.flip(-1)[None]


def draw_geometry(rng: np.random.Generator, settings: Transforms, shape: Shape) -> Geometry:
    """Draw a transformation.

    Parameters
    ----------
    rng
        Of this one sample.
    settings
        Which transformations there are.
    shape
        Voxels of the result; decides how fine a deformation's grid is.
    """
    zoom, matrix = 1.0, np.eye(3)
    bend = None
    if settings.elastic is not None and rng.random() < PROBABILITY:
        bend = _bend(rng, settings.elastic, shape)
    if settings.zoom is not None and rng.random() < PROBABILITY:
        zoom = float(rng.uniform(*settings.zoom))
    if settings.rotate is not None and rng.random() < PROBABILITY:
        matrix = rotation([float(rng.uniform(-angle, angle)) for angle in settings.rotate])
    flips: tuple[int, ...] = ()
    if settings.flip:
        flips = tuple(axis for axis in range(3) if rng.random() < PROBABILITY)
    return Geometry(matrix / zoom, zoom, bend, flips)


def rotation(angles: list[float]) -> NDArray[np.float64]:
    """Rotation matrix for (z, y, x) vectors: about the first axis, then the second, the third."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        one, other = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[one, one] = turn[other, other] = math.cos(angle)
        turn[one, other], turn[other, one] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


def _bend(
    rng: np.random.Generator, magnitude: tuple[float, float], shape: Shape
) -> NDArray[np.float32]:
    """Smooth random displacements: uniform noise, smoothed, times the magnitude.

    Smoothing noise of variance 1/3 with a Gaussian leaves 1 / (3 (4 pi sigma^2)^1.5); drawing the
    result on a grid as coarse as the Gaussian is wide saves the smoothing.
    """
    sigma = float(rng.uniform(*_ELASTIC_SIGMA))
    deviation = float(rng.uniform(*magnitude)) / math.sqrt(3) / (4 * math.pi * sigma**2) ** 0.75
    coarse = tuple(max(2, math.ceil(size / (1.5 * sigma)) + 1) for size in shape)
    return (deviation * rng.standard_normal((3, *coarse))).astype(np.float32)


def _sampled(array: NDArray[Any], grid: Tensor, name: str) -> NDArray[Any]:
    is_label = name == LABELS
    values = torch.from_numpy(array.astype(np.float32, copy=False))
    channels = values[None, None] if values.ndim == 3 else values[None]
    mode = "nearest" if is_label else "bilinear"
    sampled = grid_sample(channels, grid, mode=mode, padding_mode="zeros", align_corners=False)
    result: NDArray[Any] = sampled[0, 0].numpy() if values.ndim == 3 else sampled[0].numpy()
    return result.astype(array.dtype) if is_label else result
