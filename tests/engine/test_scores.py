from __future__ import annotations

import math

import numpy as np
import pytest
from cryosiam_engine.scores import (
    Matches,
    cluster_agreement,
    correlation,
    dice,
    dice_per_class,
    match_instances,
    match_points,
)
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

LABELS = hnp.arrays(np.uint16, (3, 4, 5), elements=st.integers(0, 4))
MASKS = hnp.arrays(np.bool_, (3, 4, 5))
GREY = hnp.arrays(np.float32, (2, 3, 4), elements=st.integers(-50, 50))
POINTS = hnp.arrays(
    np.float64, st.tuples(st.integers(0, 6), st.just(3)), elements=st.integers(0, 9)
)


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
    one, other = np.zeros((1, 2, 2), int), np.zeros((1, 2, 3), int)
    for score in (match_instances, correlation, dice):
        with pytest.raises(ValueError, match="shape"):
            score(one, other)


# ---- counts --------------------------------------------------------------------------------------


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_scores_of_counts(matched, spurious, missed):
    counts = Matches(matched, spurious, missed)
    swapped = Matches(matched, missed, spurious)
    assert counts.precision == swapped.recall
    assert counts.f1 == swapped.f1
    assert 0 <= counts.average_precision <= counts.f1 <= 1
    if matched:
        precision, recall = counts.precision, counts.recall
        assert counts.f1 == pytest.approx(2 * precision * recall / (precision + recall))


def test_counts_of_tomograms_add_up():
    assert Matches(1, 2, 3) + Matches(10, 20, 30) == Matches(11, 22, 33)
    assert Matches(3, 1, 0).precision == 0.75
    assert Matches(3, 0, 2).recall == 0.6


# ---- points --------------------------------------------------------------------------------------


@given(POINTS, POINTS, st.floats(0, 12))
def test_points_have_one_partner_at_most(truth, found, distance):
    counts = match_points(truth, found, distance)
    assert counts.matched + counts.missed == len(truth)
    assert counts.matched + counts.spurious == len(found)
    assert match_points(found, truth, distance).matched == counts.matched
    assert match_points(truth, found, distance + 1).matched >= counts.matched


@given(POINTS, st.randoms(use_true_random=False))
def test_order_of_points_means_nothing(points, random):
    shuffled = list(points)
    random.shuffle(shuffled)
    counts = match_points(points, np.array(shuffled).reshape(-1, 3), 0)
    assert counts == Matches(len(points), 0, 0)


def test_a_near_point_is_not_taken_from_one_that_has_no_other():
    # Greedily the pair at distance 1 would be made first, and the two others left over.
    truth = [(0, 0, 0), (0, 0, 3)]
    found = [(0, 0, 2), (0, 0, 5)]
    assert match_points(truth, found, 2) == Matches(2, 0, 0)
    assert match_points(truth, found, 1) == Matches(1, 1, 1)


def test_impossible_points_are_refused():
    with pytest.raises(ValueError, match="positions"):
        match_points([(1, 2)], [(1, 2, 3)], 1)
    with pytest.raises(ValueError, match="apart"):
        match_points([], [], -1)


# ---- voxels --------------------------------------------------------------------------------------


@given(MASKS, MASKS)
def test_dice_is_symmetric_and_bounded(one, other):
    assume(one.any() or other.any())
    assert dice(one, other) == dice(other, one)
    assert 0 <= dice(one, other) <= 1
    assert (dice(one, other) == 1) == np.array_equal(one, other)


def test_dice_of_known_overlap():
    truth, found = np.zeros((1, 1, 8), int), np.zeros((1, 1, 8), int)
    truth[..., :4], found[..., 2:4], found[..., 6:] = 1, 1, 2
    by_class = dice_per_class(truth, found, [1, 2, 3])
    assert by_class[1] == pytest.approx(2 * 2 / (4 + 2))
    assert by_class[2] == 0
    assert math.isnan(by_class[3])


@given(GREY, st.integers(1, 5), st.integers(-9, 9))
def test_correlation_ignores_offset_and_scale(volume, scale, offset):
    assume(np.ptp(volume) > 0)
    assert correlation(volume, scale * volume + offset) == pytest.approx(1)
    assert correlation(volume, -scale * volume) == pytest.approx(-1)


@given(GREY, GREY)
def test_correlation_is_symmetric(one, other):
    assume(np.ptp(one) > 0 and np.ptp(other) > 0)
    assert correlation(one, other) == pytest.approx(correlation(other, one))


def test_correlation_counts_only_what_is_inside():
    truth = np.array([[[0.0, 1.0, 2.0, 9.0]]])
    found = np.array([[[5.0, 6.0, 7.0, -9.0]]])
    inside = np.array([[[True, True, True, False]]])
    assert correlation(truth, found) < 0
    assert correlation(truth, found, inside) == pytest.approx(1)
    assert math.isnan(correlation(truth, np.full_like(truth, 0.1)))


# ---- clusters ------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), min_size=1), st.permutations([5, 6, 7, 8]))
def test_names_of_clusters_mean_nothing(kinds, names):
    assert cluster_agreement(kinds, [names[kind] for kind in kinds]) == pytest.approx(1)


def test_one_cluster_for_everything_is_no_agreement():
    assert cluster_agreement([1, 1, 2, 2], [1, 1, 1, 1]) == 0
    assert cluster_agreement([1, 1, 2, 2], [1, 2, 1, 2]) < 0
