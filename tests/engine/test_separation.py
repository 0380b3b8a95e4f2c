"""Separation of instances, against the computation on the whole volume and the original's."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from cryosiam_engine.separation import SeparationSettings, separate
from cryosiam_engine.separation.heights import squared_distances
from cryosiam_engine.separation.markers import find_markers
from cryosiam_engine.separation.regions import silent
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.filters import gaussian
from skimage.measure import label
from skimage.segmentation import watershed

separation = import_module("cryosiam_engine.separation.separate")
regions = import_module("cryosiam_engine.separation.regions")

STEMS = ["TS_small", "TS_edge"]


def naive_markers(distance: np.ndarray, low: float, high: float) -> np.ndarray:
    """The loop over levels, word by word."""
    markers = np.zeros(distance.shape, int)
    current = label(distance >= low, connectivity=3)
    for level in np.arange(low + 0.5, high + 0.5, 0.5):
        reached = distance >= level
        surviving = np.unique(current[reached])
        for number in np.setdiff1d(np.unique(current), [0, *surviving]):
            markers[current == number] = markers.max() + 1
        current = label(reached, connectivity=3)
    for number in range(1, current.max() + 1):
        markers[current == number] = markers.max() + 1
    return markers


def naive(foreground: np.ndarray, distances: np.ndarray, chosen: SeparationSettings) -> np.ndarray:
    """Everything on the whole volume, as the original does it."""
    threshold, kind = chosen.threshold_foreground, chosen.distance_type
    smooth = gaussian(foreground, 0.5) if threshold < 1 else foreground
    mask = smooth >= threshold
    distance = gaussian(distances, 0.5)
    distance[(distance < 0) | (smooth < threshold)] = 0
    if kind:
        # Without any background the transform is not defined; all is far from it.
        transform = np.full(mask.shape, 5.0) if mask.all() else ndimage.distance_transform_edt(mask)
        euclidean = gaussian(np.clip(transform, 0, 5), 0.5)
        distance = (distance + euclidean) / 2 if kind == 1 else euclidean
    markers = naive_markers(distance, chosen.min_center_distance, chosen.max_center_distance)
    return watershed(-distance, markers, mask=mask)


def random_maps(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps, at times of few values: then many distances are exactly equal."""
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(0.7, 3)
    foreground = ndimage.gaussian_filter(rng.random(shape), sigma)
    foreground = (foreground - foreground.min()) / (np.ptp(foreground) + 1e-9)
    distances = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
    distances = 1 + 3 * distances / (np.abs(distances).max() + 1e-9)
    if rng.random() < 0.3:
        foreground, distances = foreground > 0.5, np.round(distances * 2) / 2
    return foreground.astype(np.float32), distances.astype(np.float32)


def balls(seed: int, count: int = 25) -> np.ndarray:
    """Equal balls that touch: the hardest for whatever depends on the order among equals."""
    rng = np.random.default_rng(seed)
    grid = np.indices((40, 60, 60))
    radius = rng.integers(4, 8)
    volume = np.zeros(grid.shape[1:], np.float32)
    for _ in range(count):
        centre = rng.integers(0, volume.shape).reshape(3, 1, 1, 1)
        volume[((grid - centre) ** 2).sum(0) <= radius**2] = 1
    return volume


SETTINGS = st.builds(
    lambda threshold, kind, low, extra: SeparationSettings(threshold, kind, low, low + extra),
    st.sampled_from([0.3, 0.5, 0.6, 1]),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([-0.6, 0, 0.005, 0.3, 0.5, 1]),
    st.sampled_from([-1, 0, 0.4, 2, 4]),
)
# skimage turns volumes of one voxel along x or y before it numbers: another order.
SHAPES = st.tuples(st.integers(1, 26), st.integers(2, 30), st.integers(2, 30))


@pytest.mark.parametrize("brick", [8, 64])
def test_identical_to_the_whole_volume(brick: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "BRICK", brick)

    @settings(deadline=None, max_examples=60)
    @given(st.integers(0, 10**6), SHAPES, SETTINGS)
    @example(1, (1, 30, 30), SeparationSettings(0.5, 1, 0.5, 4))
    @example(2, (26, 30, 30), SeparationSettings(0.5, 0, 0.5, 4))
    def check(seed: int, shape: tuple[int, ...], chosen: SeparationSettings) -> None:
        foreground, distances = random_maps(seed, shape)
        given_maps = foreground.copy(), distances.copy()
        ours = separate(foreground, distances, chosen, threads=2)
        assert ours.dtype == np.uint32
        np.testing.assert_array_equal(ours, naive(foreground, distances, chosen))
        np.testing.assert_array_equal(foreground, given_maps[0])
        np.testing.assert_array_equal(distances, given_maps[1])

    check()


@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("probability", [0, 1])
@pytest.mark.parametrize("low", [0, 1])
def test_nothing_and_everything_in_the_foreground(kind: int, probability: float, low: int) -> None:
    foreground = np.full((9, 20, 21), probability, np.float32)
    _, distances = random_maps(3, foreground.shape)
    chosen = SeparationSettings(0.5, kind, low, 4)
    ours = separate(foreground, distances, chosen, threads=1)
    np.testing.assert_array_equal(ours, naive(foreground, distances, chosen))
    assert ours.any() == probability


@pytest.mark.parametrize("seed", range(8))
def test_equal_balls_are_divided_as_in_the_whole_volume(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "BRICK", 16)
    volume = balls(seed)
    chosen = SeparationSettings(0.5, 2, 0.5, 5)
    expected = naive(volume, volume, chosen)
    np.testing.assert_array_equal(separate(volume, None, chosen, threads=2), expected)
    # As pieces that are too large to be copied.
    monkeypatch.setattr(separation, "_SMALL_PIECE", 0)
    np.testing.assert_array_equal(separate(volume, None, chosen, threads=1000), expected)
    # Where memory forbids to flood everything at once only voxels halfway may differ.
    monkeypatch.setattr(separation, "_can_flood_all", lambda pieces: False)
    apart = separate(volume, None, chosen, threads=1)
    np.testing.assert_array_equal(apart > 0, expected > 0)
    assert np.mean(apart != expected) < 1e-3


def test_some_balls_need_the_whole_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the test above would not see whether the order among equals is kept."""
    monkeypatch.setattr(separation, "_can_flood_all", lambda pieces: False)
    chosen = SeparationSettings(0.5, 2, 0.5, 5)
    assert any(
        (separate(volume, None, chosen, threads=1) != naive(volume, volume, chosen)).any()
        for volume in map(balls, range(8))
    )


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_threads_make_no_difference(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "BRICK", 8)
    foreground, distances = random_maps(8, (40, 50, 45))
    chosen = SeparationSettings(0.5, kind, 0.5, 4)
    one, two = (separate(foreground, distances, chosen, threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert one.max() > 5


@settings(deadline=None, max_examples=150)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(2, 6), st.integers(2, 6)),
        elements=st.sampled_from([0, 0.2, 0.5, 0.8, 1, 1.5, 1.7, 2, 3]),
    )
)
def test_plateaus_of_level_numbers_are_what_the_loop_over_levels_finds(
    distance: np.ndarray,
) -> None:
    numbers = np.digitize(distance, np.arange(0.5, 2.5, 0.5)).astype(np.uint8)
    found = find_markers(numbers, np.ones(distance.shape, np.uint8), 1, silent)
    expected = naive_markers(distance, 0.5, 2)
    np.testing.assert_array_equal(found.volume, expected)
    assert found.n_markers == expected.max()


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.tuples(*[st.integers(1, 15)] * 3), st.floats(0, 1))
def test_short_distances_are_exact(seed: int, shape: tuple[int, ...], share: float) -> None:
    mask = np.random.default_rng(seed).random(shape) ** 0.2 > share
    if mask.all():
        expected = np.full(shape, 5.0)
    else:
        expected = np.minimum(ndimage.distance_transform_edt(mask), 5)
    squares = squared_distances(mask.astype(np.uint8))
    np.testing.assert_array_equal(np.sqrt(squares.astype(float)), expected)


def test_distances_are_needed_unless_euclidean() -> None:
    foreground = np.ones((3, 3, 3), np.float32)
    for distances in (None, np.ones((3, 3, 4), np.float32)):
        with pytest.raises(ValueError, match="distances"):
            separate(foreground, distances, SeparationSettings(0.5, 1, 1, 4))


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_progress_ends_complete(kind: int) -> None:
    foreground, distances = random_maps(8, (20, 30, 25))
    seen: list[tuple[int, int]] = []
    chosen = SeparationSettings(0.5, kind, 0.5, 4)
    separate(foreground, distances, chosen, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


def read(path: Path, name: str) -> np.ndarray:
    with h5py.File(path) as file:
        return file[name][()]


def raw_maps(golden: Path, case: str, stem: str) -> tuple[np.ndarray, np.ndarray]:
    """The maps that the case's separation starts from, from those saved without a mask."""
    config = yaml.safe_load((golden / case / "config.yaml").read_text())
    saved = golden / "12_instance_d0_raw/out" / f"{stem}_preds.h5"
    foreground, distances = read(saved, "foreground"), read(saved, "distances")
    # The cached case takes the saved maps as they are, whatever mask is given.
    if "mask_folder" in config and case != "12_instance_cached":
        mask = read(golden / config["mask_folder"] / f"{stem}_preds.h5", "labels") > 0
        foreground, distances = foreground * mask, distances * mask
    if "semantic_predictions" in config:
        classes = read(golden / config["semantic_predictions"] / f"{stem}_preds.h5", "labels")
        wanted = np.isin(classes, config["semantic_foreground_labels"])
        foreground = wanted.astype(np.float32)
    return foreground, distances


@pytest.mark.parametrize(
    ("case", "stem"),
    [
        ("12_instance_cached", "TS_edge"),
        ("12_instance_d0_raw", "TS_small"),
        ("12_instance_d0_raw", "TS_edge"),
        ("12_instance_d1", "TS_small"),
        ("12_instance_d1", "TS_edge"),
        ("12_instance_d1_raw_masked", "TS_small"),
        ("12_instance_d2", "TS_small"),
        ("12_instance_equal", "TS_small"),
        ("12_instance_equal", "TS_edge"),
        ("12_instance_min0", "TS_small"),
        ("12_instance_min0", "TS_edge"),
        ("12_instance_semantic_fg", "TS_small"),
        ("12_instance_semantic_fg", "TS_edge"),
        ("12_instance_thr1", "TS_small"),
    ],
)
def test_same_instances_as_the_original(golden: Path, case: str, stem: str) -> None:
    network = yaml.safe_load((golden / case / "config.yaml").read_text())["parameters"]["network"]
    names = ("threshold_foreground", "distance_type", "min_center_distance", "max_center_distance")
    chosen = SeparationSettings(*(network[name] for name in names))
    ours = separate(*raw_maps(golden, case, stem), chosen, threads=2)
    theirs = read(golden / case / "out" / f"{stem}_instance_preds.h5", "instances")
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_same_stages_as_the_original(golden: Path, stem: str, kind: int) -> None:
    foreground, distances = raw_maps(golden, "12_instance_d0_raw", stem)
    with np.load(golden / "24_instance_stages" / f"{stem}.npz") as stages:
        mask = separation.foreground_mask(foreground, 0.5, 1, silent)
        np.testing.assert_array_equal(mask, stages["mask"])
        heights = separation.Heights(mask, distances, kind)
        used = heights(regions.whole(mask.shape))
        assert used.dtype == stages[f"used_distance_{kind}"].dtype
        np.testing.assert_array_equal(used, stages[f"used_distance_{kind}"])
        levels = SeparationSettings(0.5, kind, 1, 4).levels()
        numbers = separation.level_numbers(heights, levels, mask.shape, 1, silent)
        markers = find_markers(numbers, np.ones_like(mask), 1, silent)
        np.testing.assert_array_equal(markers.volume, stages[f"markers_{kind}"])
        ours = separate(foreground, distances, SeparationSettings(0.5, kind, 1, 4), threads=1)
        np.testing.assert_array_equal(ours, stages[f"watershed_{kind}"])
