from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cryosiam_engine import preprocessing
from cryosiam_engine.preprocessing import normalise, percentiles, prepare_for_denoising
from cryosiam_engine.volume import read_volume
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


@dataclass
class Intensity:
    min: float = 0.0
    max: float = 1.0
    mean: float | None = 0.0
    std: float | None = 1.0


DEFAULT = Intensity()
CUSTOM = Intensity(0.1, 0.9, 0.35, 0.8)  # of the golden configuration 02_denoise_raw


@pytest.mark.parametrize(
    ("case", "intensity"), [("default", DEFAULT), ("custom", CUSTOM)], ids=["default", "custom"]
)
def test_equals_the_original(golden: Path, case: str, intensity: Intensity) -> None:
    files = sorted((golden / "22_preprocess").glob(f"{case}_*.npz"))
    assert files
    for file in files:
        stored = np.load(file)
        name = file.stem.removeprefix(f"{case}_")
        raw = read_volume(golden / "inputs" / "tomograms" / f"{name}.mrc").data.astype(np.float32)
        prepare_for_denoising(raw, intensity)
        np.testing.assert_allclose(raw, stored["denoise"][0], atol=2e-6)


@given(
    values=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=12),
        elements=st.floats(-1000, 1000, width=32),
    ),
    low=st.floats(0, 49),
    high=st.floats(51, 100),
)
def test_percentiles_equal_numpy(values: np.ndarray, low: float, high: float) -> None:
    found = percentiles(values, low, high)
    expected = np.percentile(values.astype(np.float64), [low, high])
    np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-5, atol=1e-3)


def test_percentiles_over_several_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocessing, "SLAB_VOXELS", 1000)
    values = np.random.default_rng(0).normal(size=(20, 30, 40)).astype(np.float32)
    found = percentiles(values, 0.1, 99.9)
    expected = np.percentile(values, [0.1, 99.9])
    np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-6)


def test_slabs_cover_the_volume_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocessing, "SLAB_VOXELS", 50)
    parts = list(preprocessing.slabs((23, 5, 4)))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(23))
    assert len(parts) > 5


def test_normalise_measures_what_is_null() -> None:
    volume = np.random.default_rng(1).uniform(0, 2, (10, 11, 12)).astype(np.float32)
    normalise(volume, Intensity(0, 2, None, None))
    assert abs(volume.mean()) < 1e-5
    assert abs(volume.std() - 1) < 1e-5


def test_normalise_without_a_range_only_subtracts() -> None:
    volume = np.array([[[1.0, 2.0, 7.0]]], np.float32)
    normalise(volume, Intensity(2.0, 2.0, 0.0, 0.0))
    assert volume.tolist() == [[[-1.0, 0.0, 5.0]]]


def test_denoising_makes_protein_bright() -> None:
    volume = np.random.default_rng(2).normal(10, 1, (16, 16, 16)).astype(np.float32)
    volume[4:8, 4:8, 4:8] -= 8  # a dark particle in the raw tomogram
    prepare_for_denoising(volume, DEFAULT)
    assert volume[4:8, 4:8, 4:8].mean() > volume[10:].mean()
    assert volume.min() == 0
    assert volume.max() == 1
