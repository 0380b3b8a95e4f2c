"""``auto`` tiling against ``reference``: how far they differ is printed at the end of the tests.

The reference's tiles see a quarter tile of context and the tomogram's other side beyond its end;
``auto`` sees the whole receptive field and zeros beyond the end. With a margin that holds the
receptive field (the published networks: 28 of 32 voxels) both agree to rounding away from the far
ends; the golden networks' margin is 8 voxels, so there the reference has seams that auto has not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.config import Intensity
from cryosiam_engine.networks import load_network, prepare_for_inference, random_checkpoint
from cryosiam_engine.networks.inference import InferenceNetwork
from cryosiam_engine.preprocessing import prepare_for_denoising
from cryosiam_engine.sliding_window import SlidingWindow, Tiling
from cryosiam_engine.tiling import Region
from cryosiam_engine.volume import read_volume
from torch import Tensor

#: Beyond this far from an axis's end no voxel sees what lies after the end.
END = 24

Record = Callable[[str, object], None]


@dataclass
class Difference:
    """How two predictions differ: all voxels, and those away from the far ends."""

    labels: float
    largest: float
    inner_labels: float
    inner_largest: float
    inner_rms: float

    def __str__(self) -> str:
        return (
            f"label agreement {self.labels:.3%}, largest float difference {self.largest:.2g}; away "
            f"from the far ends {self.inner_labels:.4%}, {self.inner_largest:.2g} "
            f"(rms {self.inner_rms:.2g})"
        )


def predict(
    network: InferenceNetwork, volume: np.ndarray, tiling: Tiling, max_voxels: int | None = None
) -> np.ndarray:
    head = network.head_names[0]
    result = np.empty((network.out_channels, *volume.shape), np.float32)

    def keep(region: Region, outputs: Mapping[str, Tensor]) -> None:
        result[(slice(None), *region)] = outputs[head].numpy()

    slider = SlidingWindow(
        network, torch.device("cpu"), torch.float32, tiling, 2, max_voxels=max_voxels
    )
    plan = slider.run(volume, [head], keep)
    assert tiling == "reference" or max_voxels is None or len(plan.tiles) > 1
    return result


def labels(prediction: np.ndarray) -> np.ndarray:
    return prediction[0] > 0 if len(prediction) == 1 else prediction.argmax(0)


def difference(reference: np.ndarray, auto: np.ndarray) -> Difference:
    scale = reference.std()
    floats = np.abs(reference - auto) / scale
    same = labels(reference) == labels(auto)
    inner = (slice(None, -END),) * 3
    inner_floats = floats[(slice(None), *inner)]
    return Difference(
        same.mean(),
        floats.max(),
        same[inner].mean(),
        inner_floats.max(),
        float(np.sqrt(np.square(inner_floats).mean())),
    )


@pytest.mark.parametrize("name", ["denoising", "lamella", "semantic5"])
def test_golden_networks(golden: Path, name: str, record_property: Record) -> None:
    checkpoint = load_checkpoint(golden / "ckpt" / f"{name}.ckpt")
    network = prepare_for_inference(load_network(checkpoint))
    for stem in ("TS_a", "TS_c"):
        if name == "denoising":
            volume = read_volume(golden / "inputs/tomograms" / f"{stem}.mrc").data
            volume = volume.astype(np.float32)
            prepare_for_denoising(volume, Intensity())
        else:
            volume = read_volume(golden / "01_denoise/out" / f"{stem}.mrc").data
        found = difference(predict(network, volume, "reference"), predict(network, volume, "auto"))
        record_property("auto against reference", f"{name}.ckpt, {stem}: {found}")
        assert found.labels > 0.99
        assert found.inner_labels > 0.998
        assert found.inner_rms < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("task", ["denoising", "semantic"])
def test_a_tomogram_four_tiles_wide(task: str, tmp_path: Path, record_property: Record) -> None:
    """Tiles of 128 voxels as the published networks have: the same numbers."""
    shape = (72, 136, 320)
    out_channels = 5 if task == "semantic" else 1
    checkpoint = random_checkpoint(task, out_channels=out_channels, seed=3, patch_size=128)
    torch.save(checkpoint, tmp_path / "model.ckpt")
    network = prepare_for_inference(load_network(load_checkpoint(tmp_path / "model.ckpt")))
    volume = np.random.default_rng(4).uniform(0, 1, shape).astype(np.float32)
    auto = predict(network, volume, "auto", max_voxels=72 * 136 * 144)
    found = difference(predict(network, volume, "reference"), auto)
    size = " x ".join(map(str, shape))
    record_property("auto against reference", f"128-voxel tiles, {task}, {size}: {found}")
    assert found.inner_largest < 1e-4
    assert found.inner_labels > 0.9999
    assert found.labels > 0.95  # noise: the wrapped end is as unlike zeros as can be
