from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from cryosiam_engine.centers import CENTER_COLUMNS, particle_centers
from cryosiam_engine.errors import ConfigurationError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label as skimage_label
from skimage.measure import regionprops
from skimage.morphology import binary_erosion

STEMS = ["TS_a", "TS_b", "TS_c", "TS_small", "TS_edge"]


def blocky(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Labels 0..4 in blocks, so that something is left after the erosion."""
    coarse = np.random.default_rng(seed).integers(0, 5, [-(-n // 3) for n in shape])
    fine = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)
    return fine[tuple(map(slice, shape))].astype(np.uint8)


def assert_centers_equal_skimage(labels: np.ndarray, n_classes: int, min_voxels: float) -> None:
    tables = particle_centers(labels, n_classes=n_classes, min_voxels=min_voxels)
    assert sorted(tables) == list(range(1, max(n_classes, 2)))
    for class_index, table in tables.items():
        components = skimage_label(binary_erosion(labels == class_index), connectivity=3)
        expected = [
            (region.label, region.area, *region.centroid)
            for region in regionprops(components)
            if region.area > min_voxels
        ]
        assert tuple(table.columns) == CENTER_COLUMNS
        np.testing.assert_allclose(table.to_numpy(), np.reshape(expected, (-1, 5)), rtol=1e-12)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.integers(2, 14)] * 3),
    st.integers(1, 6),
    st.sampled_from([0, 1, 4]),
)
def test_blocks_as_skimage_class_by_class(
    seed: int, shape: tuple[int, int, int], n_classes: int, min_voxels: float
) -> None:
    assert_centers_equal_skimage(blocky(seed, shape), n_classes, min_voxels)


@settings(deadline=None, max_examples=50)
@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=5),
        elements=st.sampled_from([0, 1, 1, 1, 1, 2, 3]),
    )
)
def test_noise_as_skimage_class_by_class(labels: np.ndarray) -> None:
    assert_centers_equal_skimage(labels, 3, 0)


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("11_semantic_to_centers", {"min_voxels": [3, 20, 40, 5]}),
        ("11b_semantic_to_centers_default", {}),
    ],
)
@pytest.mark.parametrize("stem", STEMS)
def test_centers_as_the_original(golden: Path, case: str, options: dict, stem: str) -> None:
    folder = golden / case / "out"
    with h5py.File(folder / f"{stem}_preds.h5") as file:
        labels = file["labels"][()]
    tables = particle_centers(labels, n_classes=5, **options)
    for class_index in range(1, 5):
        expected = pd.read_csv(folder / f"labels_{class_index}.csv")
        expected = expected[expected["tomo"] == stem]
        table = tables[class_index]
        assert table["label"].tolist() == expected["label"].tolist()
        assert table["area"].tolist() == expected["area"].tolist()
        centroids = ["centroid-0", "centroid-1", "centroid-2"]
        np.testing.assert_allclose(table[centroids], expected[centroids], atol=1e-9)


def test_types_stay_also_without_particles() -> None:
    for labels in (np.zeros((4, 4, 4), np.int64), np.ones((9, 9, 9), np.int64)):
        table = particle_centers(labels, n_classes=2)[1]
        assert table["label"].dtype == np.int64
        assert (table.dtypes.iloc[1:] == np.float64).all()


def test_one_output_channel_means_class_1() -> None:
    tables = particle_centers(np.ones((3, 4, 5), np.uint8), n_classes=1, min_voxels=0)
    assert list(tables) == [1]
    # What lies outside the volume counts as the particle's: nothing is eroded.
    assert tables[1].to_numpy().tolist() == [[1, 60, 1, 1.5, 2]]


def test_the_limit_itself_is_too_small() -> None:
    labels = np.ones((5, 5, 4), np.uint8)
    assert len(particle_centers(labels, n_classes=2)[1]) == 0
    assert len(particle_centers(labels, n_classes=2, min_voxels=99.5)[1]) == 1


def test_labels_are_not_changed() -> None:
    labels = blocky(1, (9, 9, 9))
    before = labels.copy()
    particle_centers(labels, n_classes=5)
    np.testing.assert_array_equal(labels, before)


def test_too_few_limits() -> None:
    with pytest.raises(ConfigurationError, match="2 entries for 4 particle classes"):
        particle_centers(np.zeros((2, 2, 2), np.uint8), n_classes=5, min_voxels=[3, 4])
