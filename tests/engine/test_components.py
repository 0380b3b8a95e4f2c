from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from cryosiam_engine.components import (
    label_components,
    largest_component,
    remove_small_components,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label as skimage_label

# skimage turns volumes with an axis of length 1 before it numbers: another order, same components.
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=7)
LABELS = hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 3))
MASKS = hnp.arrays(bool, SHAPES)


def read_labels(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["labels"][()]


@settings(deadline=None, max_examples=60)
@given(LABELS)
def test_components_are_those_of_skimage_numbered_in_raster_order(labels: np.ndarray) -> None:
    components = label_components(labels)
    reference = skimage_label(labels, connectivity=3)
    np.testing.assert_array_equal(components.volume, reference)
    np.testing.assert_array_equal(components.voxels, np.bincount(reference.ravel()))
    for number in range(1, len(components.classes)):
        inside = reference == number
        assert set(labels[inside]) == {components.classes[number]}
        np.testing.assert_allclose(components.centroids[number], np.argwhere(inside).mean(axis=0))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64])
def test_every_label_type_is_accepted(dtype: type) -> None:
    # This flat volume makes the labelling library fail when it is told that it is binary.
    labels = np.array([1, 0, 1, 1, 1, 0, 1], dtype=dtype).reshape(1, 1, 7)
    components = label_components(labels)
    assert components.voxels.tolist() == [2, 1, 3, 1]
    assert components.classes.tolist() == [0, 1, 1, 1]


@settings(deadline=None, max_examples=60)
@given(MASKS)
def test_largest_component(mask: np.ndarray) -> None:
    kept = largest_component(mask)
    reference = skimage_label(mask, connectivity=3)
    assert kept.dtype == bool
    if not mask.any():
        assert not kept.any()
        return
    # argmax takes the first of equals, and the numbers run in raster order.
    biggest = 1 + np.argmax(np.bincount(reference.ravel())[1:])
    np.testing.assert_array_equal(kept, reference == biggest)


def test_largest_component_of_equals_is_the_first() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 3] = mask[3, 0, 0] = True
    assert np.argwhere(largest_component(mask)).tolist() == [[0, 0, 3]]


@pytest.mark.parametrize("stem", ["TS_a", "TS_b", "TS_c", "TS_small", "TS_edge"])
def test_small_components_are_removed_as_by_the_original(golden: Path, stem: str) -> None:
    labels = read_labels(golden / f"06_semantic_masked/out/{stem}_preds.h5")
    before = labels.copy()
    removed = remove_small_components(labels, [-1, 30, 120, -1, 60])
    expected = read_labels(golden / f"10_semantic_postprocessing/out/{stem}_preds.h5")
    np.testing.assert_array_equal(labels, expected)
    assert set(removed) == {1, 2, 4}
    gone = before * (labels == 0)
    for class_index, count in removed.items():
        assert count == skimage_label(gone == class_index, connectivity=3).max()


def test_small_components_of_a_file_with_probabilities(golden: Path) -> None:
    labels = read_labels(golden / "07_semantic_internal/out/TS_edge_preds.h5")
    remove_small_components(labels, [-1, 30, 120, -1, 60])
    expected = golden / "10b_semantic_postprocessing_internal/out/TS_edge_preds.h5"
    np.testing.assert_array_equal(labels, read_labels(expected))


def two_bars() -> np.ndarray:
    labels = np.zeros((3, 3, 8), np.uint8)
    labels[0, 0, :4] = 1
    labels[2, 2, :5] = 2
    return labels


def test_the_size_itself_is_removed_and_one_more_is_not() -> None:
    labels = two_bars()
    assert remove_small_components(labels, [-1, 4, 4]) == {1: 1, 2: 0}
    assert np.unique(labels).tolist() == [0, 2]


def test_classes_without_a_size_stay() -> None:
    for sizes in ([], [9], [-1, -1, -1], [99, -1]):
        labels = two_bars()
        assert remove_small_components(labels, sizes) == {}
        np.testing.assert_array_equal(labels, two_bars())


def test_more_sizes_than_classes() -> None:
    labels = two_bars()
    assert remove_small_components(labels, [-1, -1, -1, 7, 7]) == {3: 0, 4: 0}
    np.testing.assert_array_equal(labels, two_bars())


def test_touching_components_of_different_classes_are_counted_apart() -> None:
    labels = np.ones((2, 2, 4), np.uint8)
    labels[0, 0, 0] = 2
    assert remove_small_components(labels, [-1, -1, 1]) == {2: 1}
    assert labels[0, 0, 0] == 0
    assert np.count_nonzero(labels == 1) == 15
