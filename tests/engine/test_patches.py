from __future__ import annotations

import numpy as np
import pytest
import torch
from cryosiam_engine.embeddings.patches import Box, cubes_around, cut_patch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import CenterSpatialCrop, SpatialPad

EDGES = st.tuples(*[st.integers(1, 9)] * 3)


def numbered(shape: tuple[int, int, int]) -> np.ndarray:
    """A volume in which every voxel says where it is, and none is 0."""
    z, y, x = np.indices(shape)
    return (1 + z + 100 * y + 10_000 * x).astype(np.float32)


def pad_and_crop(box: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    padded = SpatialPad(size)(torch.from_numpy(box)[None])
    return np.asarray(CenterSpatialCrop(size)(padded)[0])


@given(EDGES, EDGES, st.data())
@settings(max_examples=70, deadline=None)
def test_a_box_is_padded_and_cropped_as_the_original_does(
    shape: tuple[int, int, int], size: tuple[int, int, int], data: st.DataObject
) -> None:
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    box, volume = Box(start, stop), numbered(shape)
    inside = volume[box.slices]
    assert np.array_equal(cut_patch(volume, box, size), pad_and_crop(inside, size))
    mask = np.random.default_rng(0).random(box.shape) < 0.5
    masked = cut_patch(volume, box, size, mask)
    assert np.array_equal(masked, pad_and_crop(inside * mask, size))


@given(EDGES, EDGES, st.tuples(*[st.integers(-12, 12)] * 3), EDGES)
@settings(max_examples=70, deadline=None)
def test_beyond_the_tomogram_there_are_zeros(
    shape: tuple[int, int, int],
    size: tuple[int, int, int],
    start: tuple[int, int, int],
    edges: tuple[int, int, int],
) -> None:
    """The patch is that of a tomogram with a rim of zeros around it."""
    volume, rim = numbered(shape), 24
    wide = np.pad(volume, rim)
    stop = tuple(a + n for a, n in zip(start, edges, strict=True))
    moved = Box(tuple(a + rim for a in start), tuple(b + rim for b in stop))
    expected = pad_and_crop(wide[moved.slices], size)
    assert np.array_equal(cut_patch(volume, Box(start, stop), size), expected)


def density(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A function of position, known also outside the tomogram."""
    return np.sin(0.7 * z) + np.cos(0.4 * y) + 0.1 * x + 3


@pytest.mark.parametrize("edge", [1, 4, 5, 8])
@pytest.mark.parametrize("size", [4, 5, 8])
@pytest.mark.parametrize(
    "center",
    [
        (6, 7, 8),  # the middle
        (0, 0, 0),  # corners
        (12, 14, 16),
        (0, 14, 8),  # an edge
        (6, 0, 8),  # a face
        (5.5, 7.49, -0.5),  # between voxels
        (-2, 7, 18),  # outside, but near
    ],
)
def test_centred_cubes(center: tuple[float, ...], edge: int, size: int) -> None:
    """The patch's middle voxel is the particle's, and each voxel has its own place's density."""
    shape = (13, 15, 17)
    volume = density(*np.indices(shape).astype(float)).astype(np.float32)
    first = cubes_around(np.array([center]), edge)[0]
    box = Box(tuple(first.tolist()), tuple((first + edge).tolist()))
    patch = cut_patch(volume, box, (size, size, size))
    nearest = np.floor(np.array(center) + 0.5).astype(int)
    # Odd and even edges and sizes have their middle voxel at n // 2; where an odd cube is put in
    # an even patch, or the other way round, the padding's odd voxel comes last.
    middle = (size - edge) // 2 + edge // 2 if size > edge else size // 2
    for voxel in np.ndindex(patch.shape):
        offset = np.array(voxel) - middle
        place = nearest + offset
        in_cube = ((offset >= -(edge // 2)) & (offset < edge - edge // 2)).all()
        in_volume = ((place >= 0) & (place < shape)).all()
        expected = density(*place) if in_cube and in_volume else 0
        assert patch[voxel] == pytest.approx(expected, abs=1e-5)


@given(st.floats(-50, 50, allow_nan=False), st.integers(1, 20))
def test_a_cube_is_centred(center: float, edge: int) -> None:
    """The particle is within half a voxel of the cube's middle voxel."""
    first = int(cubes_around(np.array([[center] * 3]), edge)[0, 0])
    assert abs(first + edge // 2 - center) <= 0.5
