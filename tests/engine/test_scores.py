from __future__ import annotations

import numpy as np
import pytest
from cryosiam_engine.scores import match_instances
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

LABELS = hnp.arrays(np.uint16, (3, 4, 5), elements=st.integers(0, 4))


@given(LABELS)
def test_every_object_matches_itself_under_any_names(labels):
    renamed = np.array([0, 40, 7, 19, 3], np.uint32)[labels]
    found = match_instances(labels, renamed, iou=0.75)
    assert found.average_precision == 1
    assert found.matched == len(np.unique(labels[labels > 0]))


@given(LABELS, LABELS, st.floats(0.5, 1))
def test_against_counting_one_by_one(truth, predicted, iou):
    matched = set()
    for t in np.unique(truth[truth > 0]):
        for p in np.unique(predicted[predicted > 0]):
            union = np.sum((truth == t) | (predicted == p))
            if np.sum((truth == t) & (predicted == p)) / union >= iou and union:
                matched.add((t, p))
    found = match_instances(truth, predicted, iou=iou)
    distinct = min(len({t for t, _ in matched}), len({p for _, p in matched}))
    assert found.matched == distinct
    assert found.matched + found.missed == len(np.unique(truth[truth > 0]))
    assert found.matched + found.spurious == len(np.unique(predicted[predicted > 0]))


def test_two_merged_particles_are_one_miss_too_many():
    truth = np.zeros((1, 4, 8), np.uint8)
    truth[:, :, :4], truth[:, :, 4:] = 1, 2
    merged = (truth > 0).astype(np.uint8)
    found = match_instances(truth, merged, iou=0.75)
    assert (found.matched, found.spurious, found.missed) == (0, 1, 2)


def test_nothing_found_and_nothing_there():
    empty = np.zeros((2, 2, 2), np.uint8)
    assert match_instances(empty, empty).average_precision == 1
    assert match_instances(empty + 1, empty).average_precision == 0


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        match_instances(np.zeros((1, 2, 2), int), np.zeros((1, 2, 3), int))
