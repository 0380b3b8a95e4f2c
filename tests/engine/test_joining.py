from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import h5py
import mrcfile
import numpy as np
import pytest
from cryosiam_engine.dense import RunOptions, load_model
from cryosiam_engine.errors import EngineError
from cryosiam_engine.separation import boundary_graph
from cryosiam_engine.separation.bilateral import bilateral_filter
from cryosiam_engine.separation.boundary_graph import measure_boundaries
from cryosiam_engine.separation.joining import join_regions
from cryosiam_engine.tiling import Region
from elf.segmentation.multicut import multicut_kernighan_lin
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import join_segmentations, watershed
from torch import Tensor

SEEDS = st.integers(0, 2**32 - 1)
#: Above the lowest and below the highest cost that a boundary can have.
JOIN_ALL, CUT_ALL = 1e-4, 1 - 1e-4


def scene(seed: int, balls: int = 25, radius: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Touching balls cut apart midway, ids with gaps, and a boundary map without ties."""
    rng = np.random.default_rng(seed)
    shape = (10, 14, 16)
    centres = rng.uniform(0, 1, (balls, 3)) * shape
    offsets = np.indices(shape)[..., None] - centres.T[:, None, None, None]
    distances = np.linalg.norm(offsets, axis=0)
    ids = np.sort(rng.choice(np.arange(1, 3 * balls), balls, replace=False))
    regions = np.where(distances.min(-1) < radius, ids[distances.argmin(-1)], 0)
    boundaries = ndimage.gaussian_filter(rng.uniform(0, 1, shape), 1)
    boundaries = (boundaries - boundaries.min()) / np.ptp(boundaries)
    return regions.astype(np.uint32), boundaries.astype(np.float32)


def smooth(boundaries: np.ndarray) -> np.ndarray:
    where = np.ones(boundaries.shape, dtype=bool)
    return bilateral_filter(boundaries, slice(0, len(boundaries)), where).reshape(where.shape)


def naive_graph(regions: np.ndarray, smoothed: np.ndarray) -> dict[tuple[int, int], float]:
    """Every face of the volume, one after the other."""
    values = defaultdict(list)
    for axis in range(3):
        for upper in np.argwhere(np.ones(regions.shape)):
            lower = upper - np.eye(3, dtype=int)[axis]
            if lower[axis] < 0:
                continue
            a, b = tuple(lower), tuple(upper)
            if regions[a] != regions[b]:
                pair = tuple(sorted((int(regions[a]), int(regions[b]))))
                values[pair] += [float(smoothed[a]), float(smoothed[b])]
    return {pair: float(np.mean(found)) for pair, found in sorted(values.items())}


def naive_join(regions: np.ndarray, boundaries: np.ndarray, bias: float) -> np.ndarray:
    """The whole-volume sequence: graph, costs, solver, projection, join with the regions."""
    strengths = naive_graph(regions, smooth(boundaries))
    edges = np.array(list(strengths), dtype=np.uint64).reshape(-1, 2)
    q = 0.998 * np.array(list(strengths.values())) + 0.001
    costs = np.log((1 - q) / q) + np.log((1 - bias) / bias)
    graph = SimpleNamespace(number_of_nodes=int(regions.max()) + 1, uv_ids=lambda: edges)
    clusters = multicut_kernighan_lin(graph, costs).astype(np.int64)[regions]
    kept = np.where(clusters == clusters[regions == 0].max(initial=0), regions, 0)
    return join_segmentations(clusters, kept.astype(np.int64))


def without_gaps(regions: np.ndarray) -> np.ndarray:
    return np.unique(np.append(0, regions), return_inverse=True)[1][1:].reshape(regions.shape)


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = np.unique(np.stack([a.ravel(), b.ravel()], axis=1), axis=0)
    return all(len(np.unique(side)) == len(pairs) for side in pairs.T)


def network_maps(golden: Path, name: str) -> dict[str, np.ndarray]:
    """Foreground, distances and boundaries of a denoised tomogram, in the original's tiles."""
    options = RunOptions(device="cpu", precision="fp32", tiling="reference")
    model = load_model(golden / "ckpt/instance.ckpt", "instance", options, batch_size=3)
    with mrcfile.open(golden / "01_denoise/out" / f"{name}.mrc", permissive=True) as file:
        volume = np.array(file.data, dtype=np.float32)
    maps = {
        head: np.zeros(volume.shape, np.float32)
        for head in ("foreground", "distances", "boundaries")
    }

    def keep(region: Region, outputs: Mapping[str, Tensor]) -> None:
        for head, stitched in maps.items():
            output = outputs[head][0]
            stitched[region] = output if head == "distances" else output.sigmoid()

    model.window.run(volume, list(maps), keep)
    return maps


def whole_volume_watershed(maps: dict[str, np.ndarray]) -> np.ndarray:
    """Separation by distance type 1, threshold 0.5, levels 0.5 .. 4, in its plainest form."""
    distances, foreground = (
        ndimage.gaussian_filter(maps[name], 0.5, mode="nearest")
        for name in ("distances", "foreground")
    )
    inside = foreground >= 0.5
    distances[(distances < 0) | ~inside] = 0
    euclidean = np.minimum(ndimage.distance_transform_edt(inside), 5)
    height = (distances + ndimage.gaussian_filter(euclidean, 0.5, mode="nearest")) / 2
    markers = np.zeros(height.shape, np.int64)
    current = label(height >= 0.5, connectivity=3)
    for level in np.arange(1, 4.5, 0.5):
        above = height >= level
        surviving = np.unique(current[above])
        for ended in np.setdiff1d(current[current > 0], surviving):
            markers[current == ended] = markers.max() + 1
        current = label(above, connectivity=3)
    markers[current > 0] = current[current > 0] + markers.max()
    return watershed(-height, markers, mask=inside).astype(np.uint32)


@pytest.mark.parametrize("name", ["TS_c", "TS_edge"])
def test_the_original_s_joined_instances(golden: Path, name: str) -> None:
    maps = network_maps(golden, name)
    regions = whole_volume_watershed(maps)
    joined = join_regions(regions, maps["boundaries"], 0.63)
    with h5py.File(golden / f"13_instance_multicut/out/{name}_instance_preds.h5") as file:
        np.testing.assert_array_equal(joined, file["instances"][()])


@settings(deadline=None, max_examples=8)
@given(SEEDS, st.sampled_from([0.3, 0.5, 0.63]))
def test_same_as_the_whole_volume_sequence(seed: int, bias: float) -> None:
    regions, boundaries = scene(seed)
    joined = join_regions(regions, boundaries, bias, threads=1)
    np.testing.assert_array_equal(joined, naive_join(regions, boundaries, bias))


@settings(deadline=None, max_examples=20)
@given(
    hnp.arrays(
        np.uint32,
        hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5),
        elements=st.sampled_from([0, 1, 2, 7, 70_000, 4_000_000]),
    ),
    SEEDS,
)
def test_graph_of_any_labels(regions: np.ndarray, seed: int) -> None:
    boundaries = np.random.default_rng(seed).uniform(0, 1, regions.shape).astype(np.float32)
    graph = measure_boundaries(regions, boundaries)
    expected = naive_graph(regions, smooth(boundaries))
    assert [tuple(pair) for pair in graph.edges.tolist()] == list(expected)
    np.testing.assert_allclose(graph.strengths, list(expected.values()), atol=1e-7)
    assert graph.number_of_nodes == regions.max() + 1


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.floats(0.05, 0.95))
def test_regions_are_only_ever_joined(seed: int, bias: float) -> None:
    regions, boundaries = scene(seed)
    before = regions.copy(), boundaries.copy()
    joined = join_regions(regions, boundaries, bias, threads=1)
    np.testing.assert_array_equal(joined == 0, regions == 0)
    for region in np.unique(regions):
        assert len(np.unique(joined[regions == region])) == 1
    np.testing.assert_array_equal(np.unique(np.append(0, joined)), np.arange(joined.max() + 1))
    for joint in range(1, joined.max() + 1):
        # What is joined touches: every region joined to the others saves a component.
        parts = np.unique(regions[joined == joint])
        components = sum(label(regions == part, connectivity=1).max() for part in parts)
        assert label(joined == joint, connectivity=1).max() <= components - (len(parts) - 1)
    assert joined.dtype == np.uint32
    np.testing.assert_array_equal(regions, before[0])
    np.testing.assert_array_equal(boundaries, before[1])


@settings(deadline=None, max_examples=15)
@given(SEEDS)
def test_at_either_extreme_of_the_bias_nothing_changes_but_the_gaps(seed: int) -> None:
    regions, boundaries = scene(seed)
    # All are cut apart, or all are joined to the background: then each keeps its own extent.
    for bias in (JOIN_ALL, CUT_ALL):
        joined = join_regions(regions, boundaries, bias, threads=1)
        np.testing.assert_array_equal(joined, without_gaps(regions))


def test_without_background_a_low_bias_joins_everything() -> None:
    regions, boundaries = scene(1)
    regions += 1
    assert np.all(join_regions(regions, boundaries, JOIN_ALL) == 1)
    np.testing.assert_array_equal(join_regions(regions, boundaries, CUT_ALL), without_gaps(regions))


def row_of_boxes(weak: int, strong: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in a row, walled off from the background; every other wall between them is thin."""
    count = weak + strong + 1
    regions = np.zeros((12, 12, 6 + 8 * count), np.uint32)
    boundaries = np.full(regions.shape, 0.95, np.float32)
    for box in range(count):
        start = 3 + 8 * box
        regions[3:9, 3:9, start : start + 8] = box + 1
        boundaries[4:8, 4:8, start + 1 : start + 7] = 0.05
        if box % 2 == 0 and box + 1 < count:
            boundaries[3:9, 3:9, start + 7 : start + 9] = 0.05
    return regions, boundaries


def test_boxes_are_joined_across_the_weak_walls_only_whatever_their_ids() -> None:
    regions, boundaries = row_of_boxes(weak=3, strong=2)
    expected = (regions + 1) // 2
    np.testing.assert_array_equal(join_regions(regions, boundaries, 0.5), expected)
    for seed in range(5):
        new_ids = np.append(0, np.random.default_rng(seed).permutation(200)[:6] + 1)
        renamed = new_ids.astype(np.uint32)[regions]
        assert same_partition(join_regions(renamed, boundaries, 0.5), expected)


@pytest.mark.parametrize("planes", [1, 3, 100])
def test_slabs_and_threads_do_not_matter(planes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    regions, boundaries = scene(2)
    graph = measure_boundaries(regions, boundaries)
    joined = join_regions(regions, boundaries, 0.5, threads=1)
    monkeypatch.setattr(boundary_graph, "SLAB_PLANES", planes)
    other = measure_boundaries(regions, boundaries, threads=2)
    np.testing.assert_array_equal(other.edges, graph.edges)
    np.testing.assert_allclose(other.strengths, graph.strengths, rtol=1e-12)
    np.testing.assert_array_equal(join_regions(regions, boundaries, 0.5, threads=2), joined)


@pytest.mark.parametrize(("region", "expected"), [(0, 0), (5, 1)])
def test_volumes_of_one_region(region: int, expected: int) -> None:
    regions = np.full((3, 4, 5), region, np.uint32)
    boundaries = np.full(regions.shape, 0.5, np.float32)
    assert np.all(join_regions(regions, boundaries, 0.5) == expected)


def test_without_elf_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elf.segmentation.multicut", None)
    with pytest.raises(EngineError, match="python-elf") as raised:
        join_regions(*row_of_boxes(1, 0), 0.5)
    assert "postprocessing" in raised.value.remedy
