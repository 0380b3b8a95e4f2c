from __future__ import annotations

import numpy as np
import pytest
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.scores import match_instances
from cryosiam_engine.separation import SeparationSettings, separate
from cryosiam_engine.separation.joining import join_regions
from cryosiam_engine.simulation.touching import ideal_maps, touching_pairs
from scipy.ndimage import binary_dilation

#: What CryoSiam's authors recommend.
PUBLISHED = SeparationSettings(
    threshold_foreground=0.65, distance_type=1, min_center_distance=1, max_center_distance=5
)


@pytest.fixture(scope="module")
def pairs():
    return touching_pairs((48, 120, 120), 6, seed=3)


def test_pairs_touch_each_other_and_nothing_else(pairs):
    assert len(np.unique(pairs)) == 13
    for first in range(1, 13, 2):
        near = binary_dilation(pairs == first)
        assert (pairs[near] == first + 1).any()
        pair = (pairs == first) | (pairs == first + 1)
        around = pairs[binary_dilation(pair, iterations=2) & ~pair]
        assert not around.any()


def test_the_same_seed_gives_the_same_pairs(pairs):
    np.testing.assert_array_equal(pairs, touching_pairs((48, 120, 120), 6, seed=3))
    assert (pairs != touching_pairs((48, 120, 120), 6, seed=4)).any()


def test_too_many_are_refused():
    with pytest.raises(ConfigurationError, match=r"of 40 pairs"):
        touching_pairs((32, 48, 48), 40)


def test_ideal_maps_mean_what_they_say(pairs):
    maps = ideal_maps(pairs)
    assert maps.foreground[pairs > 0].min() > 0.2
    assert np.all((maps.distances > 0) == (pairs > 0))
    assert 6 < maps.distances.max() < 12  # a ribosome's radius is about 11 voxels
    contact = binary_dilation(pairs == 1) & (pairs == 2)
    assert maps.boundaries[contact].mean() > 0.6
    assert maps.distances[contact].max() == 1  # the surface between two particles is one too


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_touching_particles_are_told_apart(noise):
    """The algorithm alone: a perfect network's maps, without and with errors."""
    truth = touching_pairs((48, 120, 120), 8, species="rubisco", voxel_size=7, seed=3)
    maps = ideal_maps(truth, noise=noise, seed=1)
    found = separate(maps.foreground, maps.distances, PUBLISHED)
    assert match_instances(truth, found, iou=0.5).average_precision == 1
    assert match_instances(truth, found, iou=0.75).average_precision == 1


def test_joining_mends_what_was_split_too_far(pairs):
    """Ribosomes fall apart into their subunits, and come together where there is no boundary."""
    maps = ideal_maps(pairs)
    pieces = separate(maps.foreground, maps.distances, PUBLISHED)
    joined = join_regions(pieces, maps.boundaries, 0.4)
    before, after = (match_instances(pairs, found, iou=0.75) for found in (pieces, joined))
    assert before.average_precision < 0.5
    assert after.average_precision > 0.8


def test_without_levels_touching_particles_stay_together(pairs):
    """The score is not blind: one threshold at the surface cannot split what touches."""
    maps = ideal_maps(pairs)
    together = SeparationSettings(0.5, 2, 0.5, 0.5)
    found = separate(maps.foreground, None, together)
    assert match_instances(pairs, found, iou=0.75).average_precision < 0.2
