from __future__ import annotations

import warnings

import numpy as np
import pytest
from cryosiam_engine.embeddings.convex_hulls import convex_hull
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.morphology import convex_hull_image

SHAPES = st.tuples(*[st.integers(1, 14)] * 3)


def reference(mask: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about flat and empty sets
        return convex_hull_image(mask)


@given(SHAPES, st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.05, 0.3, 1.0]))
@settings(max_examples=25, deadline=None)
def test_scattered_voxels(shape: tuple[int, int, int], seed: int, density: float) -> None:
    mask = np.random.default_rng(seed).random(shape) < density
    assert np.array_equal(convex_hull(mask, flat=False), reference(mask))


@given(SHAPES, st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_blobs(shape: tuple[int, int, int], seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal(shape)
    mask = gaussian_filter(noise, 1.5) > 0.05
    assert np.array_equal(convex_hull(mask, flat=False), reference(mask))


def test_plane_by_plane_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = gaussian_filter(np.random.default_rng(1).standard_normal((30, 25, 20)), 2) > 0.05
    at_once = convex_hull(mask)
    monkeypatch.setattr("cryosiam_engine.embeddings.convex_hulls._FACET_ROWS", 1)
    assert np.array_equal(convex_hull(mask), at_once)


@given(SHAPES, st.integers(0, 2**32 - 1), st.integers(0, 2))
@settings(max_examples=25, deadline=None)
def test_flat_sets_have_a_hull_in_their_plane(
    shape: tuple[int, int, int], seed: int, axis: int
) -> None:
    """A plane of voxels has the hull that it has as the middle of three equal planes."""
    rng = np.random.default_rng(seed)
    plane = rng.random([n for i, n in enumerate(shape) if i != axis]) < 0.2
    plane.flat[rng.integers(plane.size)] = True
    flat = np.expand_dims(plane, axis)
    thick = np.repeat(flat, 3, axis=axis)
    assert np.array_equal(convex_hull(flat), np.take(convex_hull(thick), [1], axis=axis))
    assert not convex_hull(flat, flat=False).any()
    assert np.array_equal(reference(flat), np.zeros_like(flat))


def test_a_line_and_a_single_voxel() -> None:
    line = np.zeros((5, 6, 7), bool)
    line[2, 3, [1, 5]] = True
    filled = np.zeros_like(line)
    filled[2, 3, 1:6] = True
    assert np.array_equal(convex_hull(line), filled)
    single = np.zeros((3, 3, 3), bool)
    single[1, 2, 0] = True
    assert np.array_equal(convex_hull(single), single)


def test_without_voxels_there_is_no_hull() -> None:
    assert not convex_hull(np.zeros((3, 4, 5), bool)).any()


@given(SHAPES, st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_hull_holds_its_voxels_and_grows_with_them(
    shape: tuple[int, int, int], seed: int
) -> None:
    one, other = np.random.default_rng(seed).random((2, *shape)) < 0.1
    hull, larger = convex_hull(one), convex_hull(one | other)
    assert not (one & ~hull).any()
    assert not (hull & ~larger).any()
