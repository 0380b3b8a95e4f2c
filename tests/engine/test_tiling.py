from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.tiling import AxisRule, TilePlan, auto_plan, reference_plan
from hypothesis import given, settings
from hypothesis import strategies as st

NAME = re.compile(r"patch_(\d+)x(\d+)x(\d+)__vol_(\d+)x(\d+)x(\d+)")


def source_of_every_voxel(plan: TilePlan) -> np.ndarray:
    """For each voxel of the tomogram, its index inside the tile that decides it."""
    source = np.full((3, *plan.shape), -1)
    for tile in plan.tiles:
        for axis in range(3):
            index = np.arange(tile.keep[axis].start, tile.keep[axis].stop) - tile.start[axis]
            shape = [1, 1, 1]
            shape[axis] = -1
            source[(axis, *tile.keep)] = index.reshape(shape)
    return source


def test_reference_tiles_are_the_originals(golden: Path) -> None:
    files = sorted((golden / "23_tiling").glob("*.npz"))
    assert files
    for file in files:
        pz, py, px, *shape = map(int, NAME.match(file.stem).groups())
        plan = reference_plan(tuple(shape), (pz, py, px))
        stored = np.load(file)
        assert np.array_equal(source_of_every_voxel(plan), stored["src"]), file.stem


def test_reference_refuses_a_patch_without_whole_quarters() -> None:
    with pytest.raises(ConfigurationError, match=r"multiple of 4.*--tiling auto"):
        reference_plan((64, 64, 64), (32, 30, 32))


sizes = st.tuples(*[st.integers(5, 150)] * 3)


@settings(max_examples=60, deadline=None)
@given(
    shape=sizes,
    quarter=st.integers(1, 4),
    alignment=st.sampled_from([4, 8, 16]),
    budget=st.integers(1, 150**3),
)
def test_auto_covers_once_with_real_context(
    shape: tuple[int, int, int], quarter: int, alignment: int, budget: int
) -> None:
    margin = quarter * alignment
    rules = [AxisRule(margin, alignment, smallest=0) for _ in range(3)]
    plan = auto_plan(shape, rules, budget)
    covered = np.zeros(shape, int)
    for tile in plan.tiles:
        covered[tile.keep] += 1
        for axis, size in enumerate(shape):
            start, kept = tile.start[axis], tile.keep[axis]
            end = start + plan.tile_shape[axis]
            assert start % alignment == 0
            assert start >= 0
            assert plan.tile_shape[axis] % alignment == 0
            # Context on each side: the margin, or all that the tomogram has.
            assert kept.start - start >= min(margin, kept.start)
            assert end - kept.stop >= min(margin, size - kept.stop)
            # Beyond the tomogram lies less than one alignment step of padding.
            assert end - size < alignment
    assert (covered == 1).all()


@settings(max_examples=40, deadline=None)
@given(shape=sizes, budget=st.integers(40**3, 150**3))
def test_auto_stays_within_the_budget(shape: tuple[int, int, int], budget: int) -> None:
    rules = [AxisRule(margin=8, alignment=8, smallest=0) for _ in range(3)]
    assert math.prod(auto_plan(shape, rules, budget).tile_shape) <= budget


def test_more_memory_never_computes_more() -> None:
    rules = [AxisRule(margin=32, alignment=8, smallest=128) for _ in range(3)]
    shape = (464, 928, 960)
    computed = [auto_plan(shape, rules, edge**3).computed_voxels for edge in (128, 192, 256, 400)]
    assert computed == sorted(computed, reverse=True)
    reference = reference_plan(shape, (128, 128, 128))
    assert len(reference.tiles) == 7 * 14 * 15
    assert computed[1] < 0.6 * reference.computed_voxels


def test_a_tomogram_that_fits_is_one_tile() -> None:
    rules = [AxisRule(margin=32, alignment=8, smallest=128) for _ in range(3)]
    plan = auto_plan((60, 70, 80), rules, 10**9)
    assert plan.tile_shape == (64, 72, 80)
    assert [tile.keep for tile in plan.tiles] == [(slice(0, 60), slice(0, 70), slice(0, 80))]
