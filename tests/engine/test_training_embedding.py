"""The particles and the pairs of views that embeddings are learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryosiam_engine.config.train import TrainConfig, Transforms
from cryosiam_engine.embeddings.instance_patches import InstanceCutter
from cryosiam_engine.embeddings.regions import boxes_of
from cryosiam_engine.errors import MaskError
from cryosiam_engine.instances.table import measure_instances
from cryosiam_engine.training.datasets import training_sets
from cryosiam_engine.training.instance_boxes import instance_boxes
from cryosiam_engine.training.peak_memory import PeakMemory
from cryosiam_engine.training.subtomograms import ViewPairs, find_particles
from cryosiam_engine.training.tomograms import fresh_split, training_volumes
from cryosiam_engine.volume import read_volume, write_mrc
from training_runs import training_config, write_training_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("training_embedding"))


def config_of(data: Path, transforms: Transforms | None = None, **changes: Any) -> TrainConfig:
    changes = {"patches": {"mean": 0.4, "std": 0.5}, "val_files": ["TS_3"], **changes}
    config = training_config(data, data / "log", "embedding", **changes)
    return config.model_copy(update={"transforms": transforms or Transforms()})


def pairs_of(config: TrainConfig) -> ViewPairs:
    """Of the tomogram for validation: in the order of the particles."""
    sets = training_sets(config, *training_volumes(config, fresh_split(config)))
    assert isinstance(sets.validation, ViewPairs)
    return sets.validation


def instances_of(data: Path, name: str = "TS_3") -> np.ndarray:
    return read_volume(data / "instances" / f"{name}.mrc").data.astype(np.int64)


# ---- which particles -----------------------------------------------------------------------------


@pytest.mark.parametrize("slab", [1, 100, 8_000_000])
def test_boxes_from_slabs_are_those_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slab: int
) -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((12, 9, 10), np.float32)
    for number in (3, 7, 900, 1):
        corner = rng.integers(0, 7, 3)
        labels[tuple(slice(c, c + rng.integers(1, 8)) for c in corner)] = number
    write_mrc(tmp_path / "a.mrc", labels, voxel_size=10)
    monkeypatch.setattr("cryosiam_engine.preprocessing.SLAB_VOXELS", slab)
    found, whole = instance_boxes(tmp_path / "a.mrc"), measure_instances(labels.astype(np.uint32))
    assert len(found) > 2
    for column in found:
        assert found[column].tolist() == whole[column].tolist()
    write_mrc(tmp_path / "empty.mrc", 0 * labels, voxel_size=10)
    assert instance_boxes(tmp_path / "empty.mrc").empty


@pytest.mark.parametrize("value", [-1, 0.5, np.nan])
def test_what_is_no_label_is_refused(tmp_path: Path, value: float) -> None:
    labels = np.zeros((8, 8, 8), np.float32)
    labels[2, 2, 2] = value
    write_mrc(tmp_path / "a.mrc", labels, voxel_size=10)
    with pytest.raises(MaskError, match=r"a\.mrc"):
        instance_boxes(tmp_path / "a.mrc")


def test_large_label_files_are_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight bytes a voxel would be 300 MB here."""
    labels = np.zeros((150, 500, 500), np.int16)
    labels[::9, ::9, ::9] = 1 + np.arange(labels[::9, ::9, ::9].size).reshape(17, 56, 56) % 20_000
    write_mrc(tmp_path / "a.mrc", labels, voxel_size=10)
    monkeypatch.setattr("cryosiam_engine.preprocessing.SLAB_VOXELS", 500_000)
    instance_boxes(tmp_path / "a.mrc")  # imports, and pages of the file that stay mapped
    with PeakMemory(torch.device("cpu")) as memory:
        assert len(instance_boxes(tmp_path / "a.mrc")) == 20_000
    assert memory.n_bytes < 100e6


def test_particles_are_chosen_by_size(data: Path) -> None:
    counts = np.bincount(instances_of(data).ravel())[1:]
    middle = float(np.median(counts))
    config = config_of(data)
    (volume,) = training_volumes(config, fresh_split(config))[1]
    for low, high in ((None, None), (middle, None), (None, middle), (middle, middle)):
        sized = config_of(data, min_particle_size=low, max_particle_size=high)
        found = {particle.label for particle in find_particles([volume], sized)}
        expected = {
            label
            for label, count in enumerate(counts, 1)
            if (low is None or count >= low) and (high is None or count <= high)
        }
        assert found == expected
    with pytest.raises(MaskError, match="particles for training: too few"):
        pairs_of(config_of(data, min_particle_size=1e6))


def test_particles_of_a_divided_tomogram_are_in_one_part(data: Path) -> None:
    config = config_of(data, train_files=["TS_1"], val_files=None, validation_ratio=0.4)
    training, validation = training_volumes(config, fresh_split(config))
    parts = [{p.label for p in find_particles(part, config)} for part in (training, validation)]
    labels = instances_of(data, "TS_1")
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == set(np.unique(labels)) - {0}
    border = training[0].region.stop[2]
    table = measure_instances(labels.astype(np.uint32))
    for label, box in zip(table["label"], boxes_of(table), strict=True):
        middle = (box.start[2] + box.stop[2]) // 2
        assert (label in parts[0]) == (middle < border)


# ---- what the views show -------------------------------------------------------------------------


@pytest.mark.parametrize("masking", [0, 1, 2])
def test_views_show_what_a_prediction_sees(data: Path, masking: int) -> None:
    """Without variation both views are the patch that the trained network will get."""
    config = config_of(data, masking_type=masking)
    pairs = pairs_of(config)
    image = read_volume(data / "tomograms" / "TS_3.mrc").data
    normalised = ((np.clip(image, 0, 1) - 0.4) / 0.5).astype(np.float32)
    labels = instances_of(data)
    cutter = InstanceCutter(normalised, labels, (16, 16, 16), masking, 0.0, False)
    table = measure_instances(labels.astype(np.uint32))
    for number, (label, box) in enumerate(zip(table["label"], boxes_of(table), strict=True)):
        expected, _ = cutter.cut(int(label), box)
        views = pairs[(0, number)]
        for view in ("view_1", "view_2"):
            assert views[view].shape == (1, 16, 16, 16)
            assert np.allclose(views[view][0], expected, atol=1e-6)


def test_dark_voxels_of_a_particle_are_no_holes(tmp_path: Path) -> None:
    """Whatever the filters add to them must stay; what is around must not."""
    image = np.zeros((20, 20, 20), np.float32)
    labels = np.zeros((20, 20, 20), np.int16)
    for number, corner in enumerate((2, 12), 1):
        particle = (slice(corner, corner + 6),) * 3
        labels[particle] = number
        image[particle] = 1
        image[corner + 3, corner + 3, corner + 3] = 0
    image[1, :, :] = 1
    for name in ("TS_1", "TS_3"):
        write_mrc(tmp_path / "tomograms" / f"{name}.mrc", image, voxel_size=10)
        write_mrc(tmp_path / "instances" / f"{name}.mrc", labels, voxel_size=10)
    noise = Transforms(noise_sigma_range=(0.3, 0.3))
    for masking in (0, 1, 2):
        pairs = pairs_of(config_of(tmp_path, noise, masking_type=masking, patches={"mean": 0.0}))
        holes = 0
        for seed in range(8):
            view = pairs[(seed, 0)]["view_1"][0].numpy()
            inside = np.zeros((16, 16, 16), bool)
            inside[5:11, 5:11, 5:11] = True
            assert (view[~inside] == 0).all()
            # The smallest value becomes 0 when noise was added: one voxel.
            holes = max(holes, int((view[inside] == 0).sum() - (view[8, 8, 8] == 0)))
        assert holes <= 1
        values = [float(pairs[(seed, 0)]["view_1"][0, 8, 8, 8]) for seed in range(20)]
        assert len(set(values)) > 3


def test_filters_see_values_from_0_to_1(data: Path) -> None:
    """As those of all other tasks do: noise is as strong whatever mean and std are."""
    noise = Transforms(noise_sigma_range=(0.2, 0.2))
    plain = pairs_of(config_of(data, noise, patches={"mean": 0.0, "std": 1.0}))
    scaled = pairs_of(config_of(data, noise, patches={"mean": 0.5, "std": 0.1}))
    for number in range(3):
        one, other = plain[(0, number)]["view_1"], scaled[(0, number)]["view_1"]
        shown = other != 0
        assert torch.allclose(one[shown], other[shown] * 0.1 + 0.5, atol=1e-5)
        assert one[shown].min() >= 0
        assert one.max() <= 1


def test_views_differ_and_are_reproducible(data: Path) -> None:
    varied = Transforms(rotate=(3.14,) * 3, flip=True, noise_sigma_range=(0.05, 0.1))
    one, other = pairs_of(config_of(data, varied)), pairs_of(config_of(data, varied))
    for number in range(len(one)):
        views = one[(0, number)]
        assert not torch.equal(views["view_1"], views["view_2"])
        again = other[(0, number)]
        assert all(torch.equal(views[name], again[name]) for name in views)
