"""How samples are varied: noisy inputs, filters, grey values, and all that belongs together."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryosiam_engine.config.train import Transforms
from cryosiam_engine.training.datasets import TrainingSets, training_sets
from cryosiam_engine.training.grey_values import GreyValues
from cryosiam_engine.training.tomograms import fresh_split, training_volumes
from cryosiam_engine.volume import write_mrc
from scipy.ndimage import gaussian_filter
from training_runs import SHAPE, training_config, write_training_data

IMAGE, NOISY, CLEAN = 0.25, 0.75, 0.5


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("training_variation"))


@pytest.fixture(scope="session")
def even(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one grey value each, which tells what a sample shows."""
    folder = tmp_path_factory.mktemp("even")
    shutil.copytree(data / "classes", folder / "classes")
    for name, value in (("tomograms", IMAGE), ("noisy", NOISY), ("clean", CLEAN)):
        for number in (1, 2, 3):
            volume = np.full(SHAPE, value, np.float32)
            write_mrc(folder / name / f"TS_{number}.mrc", volume, voxel_size=10)
    return folder


def sets_of(data: Path, transforms: Transforms, task: str = "semantic", **changes: Any):
    config = training_config(data, data / "log", task, **changes)
    config = config.model_copy(update={"transforms": transforms})
    return training_sets(config, *training_volumes(config, fresh_split(config)))


def shown(sets: TrainingSets, number: int, kind: str = "image", part: str = "training") -> float:
    values = np.unique(getattr(sets, part)[(number // 8, number % 8)][kind].numpy())
    assert len(values) == 1
    return float(values[0])


@pytest.mark.parametrize("task", ["semantic", "denoising"])
def test_noisy_inputs_have_their_odds(even: Path, task: str) -> None:
    """One of three in training, every second in validation; what shall be learned stays."""
    folder = {"noisy_data_folder": even / "noisy"}
    sets = sets_of(even, Transforms(use_noisy_input=True), task, **folder)
    drawn = Counter(shown(sets, number) for number in range(600))
    assert set(drawn) == {IMAGE, NOISY}
    assert drawn[NOISY] == pytest.approx(200, abs=45)
    judged = [shown(sets, number, part="validation") for number in range(4)]
    assert judged == [IMAGE, NOISY] * 2
    if task == "denoising":
        assert {shown(sets, number, "target") for number in range(60)} == {CLEAN}
    never = sets_of(even, Transforms(), task, **folder)
    assert {shown(never, number) for number in range(60)} == {IMAGE}


def test_without_clean_tomograms_the_input_itself_is_learned(even: Path) -> None:
    """Noisy or not, the target is the tomogram of data_folder."""
    sets = sets_of(
        even,
        Transforms(use_noisy_input=True),
        "denoising",
        gt_folder=None,
        noisy_data_folder=even / "noisy",
    )
    assert {shown(sets, number) for number in range(60)} == {IMAGE, NOISY}
    assert {shown(sets, number, "target") for number in range(60)} == {IMAGE}


def test_all_filters_may_be_combined() -> None:
    """Each alone, none, or all: first smoothed, then noisier."""
    settings = {"low_pass_sigma_range": (2, 2), "noise_sigma_range": (0.05, 0.05)}
    patch = np.random.default_rng(0).random((16, 16, 16)).astype(np.float32)
    fine = patch - gaussian_filter(patch, 2)

    def kind_of(combined: bool, seed: int) -> str:
        grey = GreyValues(Transforms(**settings, combine_transforms=combined))
        result = grey.filtered(patch, np.random.default_rng(seed))
        if result is patch:
            return "none"
        is_fine = np.corrcoef(result.ravel(), fine.ravel())[0, 1] > 0.5
        is_stretched = result.min() == 0 and result.max() == 1
        return {
            (False, False): "smooth",
            (True, True): "noisier",
            (False, True): "all",
        }[bool(is_fine), bool(is_stretched)]

    together = Counter(kind_of(True, seed) for seed in range(400))
    assert set(together) == {"none", "smooth", "noisier", "all"}
    assert all(count == pytest.approx(100, abs=35) for count in together.values())
    alone = Counter(kind_of(False, seed) for seed in range(300))
    assert set(alone) == {"none", "smooth", "noisier"}
    assert all(count == pytest.approx(100, abs=35) for count in alone.values())


def test_grey_values_become_brighter_or_darker() -> None:
    """Of four in five patches."""
    grey = GreyValues(Transforms(scale_intensity_factors=(-0.4, 0.2)))
    patch = np.ones((2, 2, 2), np.float32)
    factors = np.array(
        [grey.rescaled(patch, np.random.default_rng(seed))[0, 0, 0] for seed in range(1000)]
    )
    assert (factors == 1).mean() == pytest.approx(0.2, abs=0.04)
    changed = factors[factors != 1]
    assert changed.min() == pytest.approx(0.6, abs=0.01)
    assert changed.max() == pytest.approx(1.2, abs=0.01)
    assert changed.mean() == pytest.approx(0.9, abs=0.02)


def test_the_target_of_denoising_is_not_made_brighter(even: Path) -> None:
    varied = Transforms(scale_intensity_factors=(-0.4, 0.2), noise_sigma_range=None)
    sets = sets_of(even, varied, "denoising")
    assert {shown(sets, number, "target") for number in range(40)} == {CLEAN}
    assert len({shown(sets, number) for number in range(40)}) > 20


@pytest.mark.parametrize(
    "varied",
    [
        Transforms(rotate=(3.14,) * 3),
        Transforms(flip=True),
        Transforms(elastic=(60, 100)),
        Transforms(rotate=(3.14,) * 3, zoom=(0.7, 1.3), elastic=(20, 60), flip=True),
    ],
    ids=["turned", "flipped", "bent", "all"],
)
def test_distances_go_with_their_labels(data: Path, varied: Transforms) -> None:
    """Positive in the class, negative outside, and turned together with it."""
    sets = sets_of(data, varied, network={"distance_prediction": True, "out_channels": 3})
    n_surfaces = 0
    for number in range(16):
        sample = sets.training[(0, number)]
        labels, distances = sample["labels"].numpy(), sample["distances"].numpy()
        assert distances.shape == (3, 16, 16, 16)
        assert np.abs(distances).max() <= 1
        for channel in range(3):
            inside = labels == channel
            n_surfaces += bool(inside.any() and not inside.all())
            # Nearer than a voxel to the surface both may be rounded.
            clear = np.abs(distances[channel]) > 0.25
            assert ((distances[channel] > 0) == inside)[clear].mean() > 0.99
    assert n_surfaces > 20
