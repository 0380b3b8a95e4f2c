from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from cryosiam_engine.components import largest_component
from cryosiam_engine.lamella import SMOOTHING_SIGMA, clean_lamella
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.filters import gaussian
from skimage.morphology import convex_hull_image


def raw_segmentation(golden: Path, stem: str, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    with h5py.File(golden / f"05_lamella_internal/out/{stem}_preds.h5") as file:
        probabilities = file["probs"][0]
    return probabilities, (probabilities > threshold).astype(np.uint8)


def expected_labels(golden: Path, case: str, stem: str) -> np.ndarray:
    with h5py.File(golden / case / "out" / f"{stem}_preds.h5") as file:
        return file["labels"][()]


def component_of(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    smooth = gaussian(probabilities, SMOOTHING_SIGMA, mode="constant")
    return largest_component(smooth > threshold)


def clean_shape(shape: np.ndarray, *, hull_3d: bool, labels: np.ndarray | None = None):
    """Clean a volume whose smoothed map exceeds the threshold exactly where `shape` is true."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cryosiam_engine.lamella.gaussian_filter", lambda *args, **kwargs: None)
        labels = np.full(shape.shape, 3, np.uint8) if labels is None else labels
        return clean_lamella(shape.astype(np.float32), labels, threshold=0.5, hull_3d=hull_3d)


@pytest.mark.parametrize("stem", ["TS_small", "TS_edge"])
def test_slices_as_the_original(golden: Path, stem: str) -> None:
    probabilities, labels = raw_segmentation(golden, stem, 0.6)
    result, found = clean_lamella(
        probabilities, labels, threshold=0.6, hull_3d=False, faithful=True
    )
    assert found
    np.testing.assert_array_equal(result, expected_labels(golden, "03_lamella_2d", stem))


@pytest.mark.parametrize(
    ("case", "dtype"), [("04_lamella_3d", "u1"), ("05b_lamella_internal_3d", "i8")]
)
def test_3d_as_the_original(golden: Path, case: str, dtype: str) -> None:
    probabilities, labels = raw_segmentation(golden, "TS_small", 0.6)
    result, found = clean_lamella(
        probabilities, labels.astype(dtype), threshold=0.6, hull_3d=True, faithful=True
    )
    assert found
    expected = expected_labels(golden, case, "TS_small")
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("stem", ["TS_small", "TS_edge"])
def test_default_slices_differ_from_the_original_only_beside_the_component(
    golden: Path, stem: str
) -> None:
    probabilities, labels = raw_segmentation(golden, stem, 0.6)
    component = component_of(probabilities, 0.6)
    result, _ = clean_lamella(probabilities, labels, threshold=0.6, hull_3d=False)
    original = expected_labels(golden, "03_lamella_2d", stem)
    met = component.any(axis=(1, 2))
    np.testing.assert_array_equal(result[met], original[met])
    assert not result[~met].any()


@pytest.mark.parametrize("stem", ["TS_small", "TS_edge"])
def test_default_3d_hull_is_the_hull_of_the_component(golden: Path, stem: str) -> None:
    probabilities, labels = raw_segmentation(golden, stem, 0.6)
    component = component_of(probabilities, 0.6)
    result, found = clean_lamella(probabilities, labels, threshold=0.6, hull_3d=True)
    assert found
    np.testing.assert_array_equal(result, convex_hull_image(component))


@pytest.mark.parametrize("hull_3d", [False, True])
@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("stem", ["TS_small", "TS_edge"])
def test_nothing_above_the_threshold_is_an_empty_mask(
    golden: Path, stem: str, hull_3d: bool, faithful: bool
) -> None:
    # Where nothing exceeds the threshold the original marks everything.
    assert expected_labels(golden, "03b_lamella_2d_thr09", stem).all()
    probabilities, labels = raw_segmentation(golden, stem, 0.9)
    result, found = clean_lamella(
        probabilities, labels, threshold=0.9, hull_3d=hull_3d, faithful=faithful
    )
    assert not found
    assert not result.any()


def test_islands_are_cleared_by_default_and_kept_when_faithful() -> None:
    probabilities = np.zeros((60, 30, 30), np.float32)
    probabilities[10:40] = 1
    labels = (probabilities > 0.5).astype(np.uint8)
    labels[58, 3, 3] = 1
    for faithful in (False, True):
        result, _ = clean_lamella(
            probabilities.copy(), labels.copy(), threshold=0.5, hull_3d=False, faithful=faithful
        )
        assert result[58].any() == faithful
        assert result[25, 15, 15] == 1


def test_memory_of_the_inputs_is_used() -> None:
    probabilities = np.ones((20, 30, 30), np.float32)
    before = probabilities.copy()
    labels = np.ones(probabilities.shape, np.uint8)
    result, _ = clean_lamella(probabilities, labels, threshold=0.2, hull_3d=True)
    assert result is labels
    expected = gaussian(before, SMOOTHING_SIGMA, mode="constant")
    np.testing.assert_array_equal(probabilities, expected)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)))
def test_2d_hull_equals_skimage(plane: np.ndarray) -> None:
    assume(plane.any())
    component = largest_component(plane[None])
    result, _ = clean_shape(plane[None], hull_3d=False)
    np.testing.assert_array_equal(result[0], convex_hull_image(component[0]))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(2, 12)] * 3), st.floats(0.1, 0.6))
def test_3d_hull_equals_skimage(seed: int, shape: tuple[int, int, int], density: float) -> None:
    component = largest_component(np.random.default_rng(seed).random(shape) < density)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = convex_hull_image(component)
    # skimage gives up on flat components and returns nothing; ours have the voxels' extent.
    assume(reference.any())
    result, _ = clean_shape(component, hull_3d=True)
    # Lattice points on a facet are inside for both: the tolerance (1e-10) is far above the
    # rounding of either formula and far below the distance of any other lattice point.
    np.testing.assert_array_equal(result, reference)


@pytest.mark.parametrize("voxels", [[(2, 3, 4)], [(2, 3, 4), (2, 3, 5)], [(1, 1, 1), (2, 2, 2)]])
def test_3d_hull_of_a_flat_component_contains_it(voxels: list[tuple[int, int, int]]) -> None:
    component = np.zeros((5, 6, 7), bool)
    component[tuple(np.transpose(voxels))] = True
    result, found = clean_shape(component, hull_3d=True)
    assert found
    np.testing.assert_array_equal(result.astype(bool), component)


def test_3d_hull_of_a_larger_tilted_slab_with_holes() -> None:
    z, y, x = np.mgrid[:40, :60, :70]
    component = np.abs(z - 20 - 0.2 * (y - 30) + 0.1 * (x - 35)) < 8
    solid = component.copy()
    component[15:25, 20:30, 30:40] = False
    result, _ = clean_shape(component, hull_3d=True)
    np.testing.assert_array_equal(result, convex_hull_image(component))
    assert (result[solid] == 1).all()
