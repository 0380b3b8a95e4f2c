from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from cryosiam_engine import sliding_window, tile_network
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.errors import DeviceError
from cryosiam_engine.networks import load_network, prepare_for_inference, random_checkpoint
from cryosiam_engine.networks.inference import InferenceNetwork
from cryosiam_engine.sliding_window import SlidingWindow, Tiling
from cryosiam_engine.tiling import Region
from torch import Tensor


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> InferenceNetwork:
    return saved_network(tmp_path_factory, {})


def saved_network(
    tmp_path_factory: pytest.TempPathFactory, backbone: dict[str, Any]
) -> InferenceNetwork:
    path = tmp_path_factory.mktemp("model") / "semantic.ckpt"
    torch.save(random_checkpoint("semantic", out_channels=4, seed=5, backbone=backbone), path)
    return prepare_for_inference(load_network(load_checkpoint(path, cache=False), "semantic"))


def window(
    network: InferenceNetwork, tiling: Tiling, batch_size: int = 1, max_voxels: int | None = None
) -> SlidingWindow:
    return SlidingWindow(
        network, torch.device("cpu"), torch.float32, tiling, batch_size, max_voxels
    )


def stitched(slider: SlidingWindow, volume: np.ndarray, **options: Any) -> np.ndarray:
    result = np.full((4, *volume.shape), np.nan, np.float32)

    def keep(region: Region, outputs: Mapping[str, Tensor]) -> None:
        result[(slice(None), *region)] = outputs["logits"].numpy()

    slider.run(volume, ["logits"], keep, **options)
    return result


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(0, 1, shape).astype(np.float32)


def whole(network: InferenceNetwork, volume: np.ndarray) -> np.ndarray:
    """One pass over the volume, padded with zeros at the end up to the pooling grid."""
    padding = [(0, -size % network.alignment) for size in volume.shape]
    batch = torch.from_numpy(np.pad(volume, padding))[None, None]
    with torch.inference_mode():
        logits = network(batch)["logits"][0]
    return logits[(slice(None), *[slice(0, n) for n in volume.shape])].numpy()


@pytest.mark.parametrize(
    "backbone",
    [
        {},
        {"block_type": "basic"},
        {"decoder_type": "bifpn", "fpn_layers": 1},
        {"add_fpn_later_conv": True},
        {"num_layers": [1, 2, 1, 2]},
    ],
    ids=["default", "basic", "bifpn", "later-conv", "deep"],
)
def test_auto_tiles_leave_no_seams(
    tmp_path_factory: pytest.TempPathFactory, backbone: dict[str, Any]
) -> None:
    """Tiled or in one pass: the same, because the margin holds the whole receptive field."""
    network = saved_network(tmp_path_factory, backbone)
    volume = noise(40, 61, 190)
    slider = window(network, "auto", max_voxels=40 * 72 * 120)
    plan = slider.plan(volume.shape)
    assert len(plan.tiles) > 1
    np.testing.assert_allclose(stitched(slider, volume), whole(network, volume), atol=2e-4)


def test_batches_do_not_change_the_result(network: InferenceNetwork) -> None:
    volume = noise(33, 47, 49)
    one = stitched(window(network, "reference", 1), volume)
    many = stitched(window(network, "reference", 5), volume)
    np.testing.assert_allclose(one, many, rtol=1e-5, atol=1e-4)


def test_heads_run_in_slabs_without_seams(
    network: InferenceNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = noise(40, 48, 56)
    at_once = stitched(window(network, "auto"), volume)
    depths: list[int] = []
    heads = InferenceNetwork.heads

    def counted(self: InferenceNetwork, z: Tensor, names: list[str]) -> dict[str, Tensor]:
        depths.append(z.shape[2])
        return heads(self, z, names)

    monkeypatch.setattr(InferenceNetwork, "heads", counted)
    monkeypatch.setattr(sliding_window, "HEAD_SHARE", 1e-6)
    in_slabs = stitched(window(network, "auto", max_voxels=10**6), volume)
    assert len(depths) == 5
    assert max(depths) <= tile_network.SMALLEST_SLAB + 2 * network.head_margin
    np.testing.assert_allclose(in_slabs, at_once, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("tiling", ["reference", "auto"])
def test_smaller_than_a_tile(network: InferenceNetwork, tiling: Tiling) -> None:
    result = stitched(window(network, tiling), noise(9, 17, 12))
    assert np.isfinite(result).all()


def test_tiles_outside_the_mask_are_not_computed(network: InferenceNetwork) -> None:
    volume = noise(32, 64, 64)
    needed = np.zeros(volume.shape, bool)
    needed[:, :20, :20] = True
    seen: list[tuple[int, int]] = []
    slider = window(network, "reference")
    result = stitched(slider, volume, needed=needed, progress=lambda *p: seen.append(p))
    everything = stitched(slider, volume)
    assert seen[-1][0] == seen[-1][1] < len(slider.plan(volume.shape).tiles)
    assert np.array_equal(result[:, needed], everything[:, needed])
    assert np.isnan(result).any()


def test_out_of_memory_halves_the_batch_then_the_tiles(
    network: InferenceNetwork, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that holds at most one tile of 64 x 64 x 96 voxels."""
    volume = noise(64, 64, 320)
    expected = stitched(window(network, "auto", max_voxels=64 * 64 * 96), volume)
    features, tried = InferenceNetwork.features, []

    def limited(self: InferenceNetwork, x: Tensor) -> Tensor:
        tried.append(x.numel())
        if x.numel() > 64 * 64 * 96:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return features(self, x)

    monkeypatch.setattr(InferenceNetwork, "features", limited)
    slider = window(network, "auto", batch_size=2, max_voxels=64 * 64 * 192)
    with caplog.at_level("WARNING", logger="cryosiam_engine"):
        result = stitched(slider, volume)
    np.testing.assert_allclose(result, expected, atol=1e-4)
    assert tried[0] > 64 * 64 * 96
    assert slider.batch_size == 1
    assert sum("Out of memory" in message for message in caplog.messages) >= 2


@pytest.mark.parametrize(("tiling", "remedy"), [("auto", "--device cpu"), ("reference", "auto")])
def test_no_tile_fits(
    network: InferenceNetwork, monkeypatch: pytest.MonkeyPatch, tiling: Tiling, remedy: str
) -> None:
    def full(self: InferenceNetwork, x: Tensor) -> Tensor:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 3 bytes")

    monkeypatch.setattr(InferenceNetwork, "features", full)
    with pytest.raises(DeviceError, match=remedy):
        stitched(window(network, tiling), noise(64, 64, 200))


def test_other_errors_are_not_taken_for_memory(
    network: InferenceNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: InferenceNetwork, x: Tensor) -> Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(InferenceNetwork, "features", broken)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        stitched(window(network, "auto"), noise(32, 32, 32))


def test_the_budget_bounds_the_tiles(
    network: InferenceNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free in (2 * 10**9, 8 * 10**9):
        monkeypatch.setattr(sliding_window, "free_memory", lambda device, free=free: free)
        plan = window(network, "auto").plan((300, 900, 900))
        assert np.prod(plan.tile_shape) * network.feature_bytes_per_voxel(4) <= 0.5 * free


def test_two_dimensional_networks_see_section_by_section(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    network = saved_network(tmp_path_factory, {"spatial_dims": 2})
    volume = noise(5, 70, 61)
    result = stitched(window(network, "auto", max_voxels=2 * 72 * 64), volume)
    padded = np.pad(volume, [(0, 0), (0, -70 % 8), (0, -61 % 8)])
    with torch.inference_mode():
        expected = network(torch.from_numpy(padded)[:, None])["logits"].numpy()
    expected = expected[:, :, :70, :61].transpose(1, 0, 2, 3)
    np.testing.assert_allclose(result, expected, atol=1e-4)
