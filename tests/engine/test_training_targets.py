"""What the heads shall learn from a patch is what it would be in the whole tomogram."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cryosiam_engine.config.train import Transforms
from cryosiam_engine.training.datasets import training_sets
from cryosiam_engine.training.geometry import draw_geometry
from cryosiam_engine.training.samples import PatchSamples
from cryosiam_engine.training.targets import class_distances, instance_targets
from cryosiam_engine.training.tomograms import fresh_split, training_volumes
from cryosiam_engine.volume import read_volume, write_mrc
from training_runs import training_config, write_training_data

#: Margin within which labels beyond a patch count.
_FAR = 7


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("training_targets"))


def sets_of(config):
    return training_sets(config, *training_volumes(config, fresh_split(config)))


@pytest.mark.parametrize("zoom", [0.6, 0.8, 1.0, 1.3])
def test_distances_reach_their_ends_at_every_zoom(tmp_path: Path, zoom: float) -> None:
    grid = np.moveaxis(np.indices((48, 48, 48)), 0, -1)
    labels = (((grid - 24) ** 2).sum(-1) <= 15**2).astype(np.int8)
    for name in ("TS_1", "TS_2"):
        write_mrc(tmp_path / "classes" / f"{name}.mrc", labels, voxel_size=10)
        write_mrc(tmp_path / "tomograms" / f"{name}.mrc", labels.astype(np.float32), voxel_size=10)
    config = training_config(
        tmp_path,
        tmp_path / "log",
        patches={"patch_size": (24, 24, 24), "patches_per_epoch": 12},
        network={"distance_prediction": True, "out_channels": 2},
    )
    config = config.model_copy(update={"transforms": Transforms(zoom=(zoom, zoom))})
    sets = sets_of(config)
    seen = 0
    for number in range(12):
        sample = sets.training[(0, number)]
        found = sample["distances"].numpy() * 5
        expected = class_distances(sample["labels"].numpy(), 2)
        inside = (slice(_FAR, -_FAR),) * 3
        # Both know the surface up to a voxel only.
        errors = np.abs(found - expected)[(slice(None), *inside)]
        assert errors.max() < 2.5
        assert errors.mean() < 0.4
        seen += int((np.abs(expected)[(slice(None), *inside)] == 5).sum())
        assert np.abs(found).max() == pytest.approx(5, abs=1e-4)
    assert seen > 100


def whole_targets(path: Path) -> dict[str, np.ndarray]:
    """Of all of a tomogram, mirrored at its ends as patches are."""
    labels = read_volume(path).data.astype(np.int32)
    targets = instance_targets(np.pad(labels, _FAR, mode="symmetric"))
    return {name: volume[(slice(_FAR, -_FAR),) * 3] for name, volume in targets.items()}


def test_instance_targets_are_those_of_the_whole_volume(data: Path, tmp_path: Path) -> None:
    config = training_config(
        data, tmp_path, "instance", val_files=["TS_3"], patches={"validation_patches": 99}
    )
    sets = sets_of(config)
    assert isinstance(sets.validation, PatchSamples)
    whole = whole_targets(data / "instances" / "TS_3.mrc")
    n_border = 0
    for number in range(len(sets.validation)):
        sample = sets.validation[(0, number)]
        _, centre = sets.validation.places.place((0, number), np.random.default_rng(0))
        place = tuple(slice(middle - 8, middle + 8) for middle in centre)
        for name, target in whole.items():
            assert np.array_equal(sample[name][0], target[place]), (number, name)
        # Cut first, targets of particles beyond the border are not known.
        labels = read_volume(data / "instances" / "TS_3.mrc").data.astype(np.int32)[place]
        alone = instance_targets(labels)
        n_border += any(not np.array_equal(alone[name], whole[name][place]) for name in whole)
    assert n_border == len(sets.validation)


def test_turned_instances_have_targets_up_to_the_border(data: Path, tmp_path: Path) -> None:
    """The same as when a larger patch is turned, and its middle taken."""
    rng_of = np.random.default_rng
    varied = Transforms(rotate=(3.14,) * 3, zoom=(0.8, 1.2), elastic=(20, 60), flip=True)
    labels = read_volume(data / "instances" / "TS_1.mrc").data.astype(np.int32)
    shape = (14, 15, 16)
    for seed in range(8):
        geometry = draw_geometry(rng_of(seed), varied, shape)
        wide = geometry.source_shape(tuple(size + 2 * _FAR for size in shape))
        source = np.resize(np.pad(labels, 30, mode="symmetric"), wide)
        arrays = {"labels": source, "image": source.astype(np.float32)}
        result = geometry.apply(arrays, shape, _FAR)
        assert result["labels"].shape == tuple(size + 2 * _FAR for size in shape)
        assert result["image"].shape == shape
        inner = (slice(_FAR, -_FAR),) * 3
        narrow = geometry.apply(arrays, shape)
        assert np.array_equal(narrow["labels"], result["labels"][inner])
        assert np.array_equal(narrow["image"], result["image"])


@pytest.mark.parametrize("only_classes", [False, True])
@pytest.mark.parametrize("balanced", [False, True])
def test_where_patches_are_drawn(tmp_path: Path, balanced: bool, only_classes: bool) -> None:
    """One frequent class, one rare, far apart: what a patch's middle is near tells its class."""
    labels = np.zeros((16, 16, 160), np.int8)
    labels[4:12, 4:12, 40:60] = 1  # 1280 voxels
    labels[6:10, 6:10, 120:124] = 2  # 64 voxels
    for name in ("TS_1", "TS_2"):
        write_mrc(tmp_path / "classes" / f"{name}.mrc", labels, voxel_size=10)
        write_mrc(tmp_path / "tomograms" / f"{name}.mrc", labels.astype(np.float32), voxel_size=10)
    patches = {
        "patch_size": (8, 8, 8),
        "class_balance": balanced,
        "remove_only_background": only_classes,
    }
    sets = sets_of(training_config(tmp_path, tmp_path / "log", patches=patches))
    assert isinstance(sets.training, PatchSamples)
    drawn: Counter[int] = Counter()
    for number in range(600):
        _, (_, _, x) = sets.training.places.place((0, number), np.random.default_rng(number))
        drawn[1 if 38 <= x < 62 else 2 if 118 <= x < 126 else 0] += 1
    share = {kind: drawn[kind] / 600 for kind in (0, 1, 2)}
    near = pytest.approx
    if only_classes:
        assert share[0] == 0
        assert share[2] == (near(1 / 2, abs=0.08) if balanced else near(64 / 1344, abs=0.03))
    elif balanced:
        assert share[2] == near(1 / 3, abs=0.08)
        assert share[1] > 1 / 3 - 0.05
    else:
        # All voxels alike: by length along x.
        assert share[1] == near(24 / 160, abs=0.06)
        assert share[2] == near(8 / 160, abs=0.04)
