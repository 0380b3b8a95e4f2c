from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest
from cryosiam_engine.separation import bilateral
from cryosiam_engine.separation.bilateral import bilateral_filter
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

VOLUMES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6),
    elements=st.floats(0, 1, width=32),
)


def everywhere(volume: np.ndarray, threads: int = 1) -> np.ndarray:
    where = np.ones(volume.shape, dtype=bool)
    planes = slice(0, len(volume))
    return bilateral_filter(volume, planes, where, threads=threads).reshape(volume.shape)


def one_voxel(volume: np.ndarray, voxel: tuple[int, ...]) -> float:
    """The definition, voxel by voxel; the border is repeated by clamping the index."""
    centre = float(volume[voxel])
    total = norm = 0.0
    for shift in itertools.product(range(-3, 4), repeat=3):
        index = tuple(
            min(max(i + s, 0), n - 1) for i, s, n in zip(voxel, shift, volume.shape, strict=True)
        )
        value = float(volume[index])
        if abs(value - centre) >= 0.4:
            continue
        stair = int(abs(value - centre) * 250) / 250
        weight = np.exp(-sum(s * s for s in shift) / 2) * np.exp(-((stair / 0.1) ** 2) / 2)
        total += weight * value
        norm += weight
    return total / norm


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 1, shape).astype(np.float32)


def test_the_original_s_filtered_map(golden: Path) -> None:
    with h5py.File(golden / "12_instance_d0_raw/out/TS_edge_preds.h5") as file:
        boundaries = file["boundaries"][()]
    reference = np.load(golden / "24_instance_stages/TS_edge.npz")["boundaries_bilateral"]
    np.testing.assert_allclose(everywhere(boundaries), reference, rtol=0, atol=1e-7)


def test_definition_inside_and_at_the_border() -> None:
    volume = noise(9, 8, 10)
    filtered = everywhere(volume)
    for voxel in [(4, 4, 5), (0, 0, 0), (8, 7, 9), (0, 4, 9), (3, 2, 6), (8, 1, 0)]:
        assert filtered[voxel] == pytest.approx(one_voxel(volume, voxel), abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(VOLUMES)
def test_values_stay_between_their_neighbours(volume: np.ndarray) -> None:
    filtered = everywhere(volume)
    assert filtered.min() >= volume.min() - 1e-6
    assert filtered.max() <= volume.max() + 1e-6
    # No direction is special.
    np.testing.assert_allclose(everywhere(volume.T.copy()), filtered.T, atol=1e-6)
    flipped = np.ascontiguousarray(volume[::-1, ::-1, ::-1])
    np.testing.assert_allclose(everywhere(flipped)[::-1, ::-1, ::-1], filtered, atol=1e-6)


def test_a_constant_and_a_high_step_are_kept_and_small_noise_is_not() -> None:
    constant = np.full((5, 6, 7), 0.37, np.float32)
    np.testing.assert_allclose(everywhere(constant), constant, rtol=1e-6)
    step = np.zeros((8, 8, 8), np.float32)
    step[4:] = 0.9
    np.testing.assert_allclose(everywhere(step), step, atol=1e-6)
    noisy = step + 0.05 * noise(8, 8, 8)
    filtered = everywhere(noisy)
    assert filtered[:4].std() < noisy[:4].std() / 2
    assert filtered[4:].min() - filtered[:4].max() > 0.85


@settings(deadline=None, max_examples=40)
@given(VOLUMES, st.data())
def test_only_the_voxels_wanted_in_any_slab(volume: np.ndarray, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(volume) - 1))
    stop = data.draw(st.integers(start + 1, len(volume)))
    where = data.draw(hnp.arrays(bool, (stop - start, *volume.shape[1:])))
    values = bilateral_filter(volume, slice(start, stop), where)
    np.testing.assert_array_equal(values, everywhere(volume)[start:stop][where])


def test_threads_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = noise(6, 11, 13)
    at_once = everywhere(volume)
    monkeypatch.setattr(bilateral, "CHUNK_VOXELS", 50)
    np.testing.assert_array_equal(everywhere(volume), at_once)
    np.testing.assert_array_equal(everywhere(volume, threads=2), at_once)
