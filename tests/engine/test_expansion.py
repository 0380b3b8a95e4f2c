from __future__ import annotations

import numpy as np
import pytest
from cryosiam_engine.embeddings import expansion
from cryosiam_engine.embeddings.expansion import blocks, expand_all, expanded, own_voxels
from cryosiam_engine.embeddings.patches import Box
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.segmentation import expand_labels

SHAPES = st.tuples(*[st.integers(1, 12)] * 3)
DISTANCES = st.sampled_from([0.0, 0.9, 1.0, 1.5, 2.0, 3.0, 4.5])


def random_instances(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 6, shape) * (rng.random(shape) < rng.choice([0.01, 0.05, 0.3]))
    ids.flat[rng.integers(ids.size)] = 1  # without any label the reference grows nothing at all
    return ids.astype(np.uint32)


@given(SHAPES, st.integers(0, 2**32 - 1), DISTANCES, st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_blocks_agree_with_the_whole(
    shape: tuple[int, int, int], seed: int, distance: float, edge: int
) -> None:
    """Also where several instances are equally near."""
    instances = random_instances(shape, seed)
    whole = expand_labels(instances, distance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expansion, "BLOCK_EDGE", edge)
        assert np.array_equal(expand_all(instances, distance), whole)
        for label in np.unique(whole[whole > 0]):
            box = Box((0, 0, 0), shape)
            assert np.array_equal(own_voxels(instances, label, box, distance), whole == label)


@given(SHAPES, st.integers(0, 2**32 - 1), DISTANCES, st.data())
@settings(max_examples=30, deadline=None)
def test_any_box(
    shape: tuple[int, int, int], seed: int, distance: float, data: st.DataObject
) -> None:
    instances = random_instances(shape, seed)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    box = Box(start, stop)
    expected = expand_labels(instances, distance)[box.slices]
    assert np.array_equal(expanded(instances, box, distance), expected)
    assert np.array_equal(own_voxels(instances, 1, box, distance), expected == 1)


@given(SHAPES, st.integers(1, 5))
def test_blocks_cover_a_box_once(shape: tuple[int, int, int], edge: int) -> None:
    seen = np.zeros(shape, int)
    for block in blocks(Box((0, 0, 0), shape), edge):
        assert max(block.shape) <= edge
        seen[block.slices] += 1
    assert (seen == 1).all()
