from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from cryosiam_engine.config.train import Transforms
from cryosiam_engine.embeddings.patches import Box
from cryosiam_engine.errors import ConfigurationError, TomogramError
from cryosiam_engine.training.class_places import BalancedPlaces, find_classes
from cryosiam_engine.training.datasets import training_sets
from cryosiam_engine.training.distance_maps import signed_distance
from cryosiam_engine.training.geometry import Geometry, draw_geometry, rotation
from cryosiam_engine.training.grey_values import GreyValues, scaled
from cryosiam_engine.training.losses import DenoisingLoss, SemanticLoss, dice_counts
from cryosiam_engine.training.mapped_volume import cut_mirrored, mapped_volume
from cryosiam_engine.training.order import TrainingOrder, ValidationOrder
from cryosiam_engine.training.split import Split, choose_split, divide, kept_split
from cryosiam_engine.training.targets import class_distances, instance_targets
from cryosiam_engine.training.tomograms import fresh_split, training_volumes
from cryosiam_engine.training.volumes import TrainingVolume
from cryosiam_engine.volume import read_volume, write_mrc
from hypothesis import given
from hypothesis import strategies as st
from training_runs import SHAPE, training_config, write_training_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("training_samples"))


def sets_of(config):
    return training_sets(config, *training_volumes(config, fresh_split(config)))


def test_mapped_volumes_are_the_files(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(-9, 9, (5, 6, 7)).astype(np.int16)
    path = tmp_path / "a.mrc"
    write_mrc(path, volume, voxel_size=1)
    assert np.array_equal(mapped_volume(path), volume)
    with pytest.raises(TomogramError, match="does not exist"):
        mapped_volume(tmp_path / "b.mrc")


@given(
    start=st.tuples(*[st.integers(-8, 12)] * 3),
    size=st.integers(1, 12),
)
def test_cutting_mirrors_beyond_the_region(start: tuple[int, int, int], size: int) -> None:
    volume = np.arange(8 * 9 * 10).reshape(8, 9, 10)
    region = Box((1, 2, 0), (7, 9, 10))
    cut = cut_mirrored(volume, region, start, (size, size, size))
    assert cut.shape == (size, size, size)
    # Every voxel is one of the region, and those inside are in their place.
    assert np.isin(cut, volume[region.slices]).all()
    for index in np.ndindex(cut.shape):
        place = tuple(first + step for first, step in zip(start, index, strict=True))
        inside = zip(region.start, place, region.stop, strict=True)
        if all(low <= voxel < high for low, voxel, high in inside):
            assert cut[index] == volume[place]


def quarter_turn() -> Geometry:
    return Geometry(rotation([np.pi / 2, 0, 0]), 1.0, None, ())


def test_a_quarter_turn_is_exact_for_all_arrays() -> None:
    rng = np.random.default_rng(1)
    image = rng.random((9, 9, 9)).astype(np.float32)
    labels = rng.integers(0, 5, (9, 9, 9)).astype(np.int32)
    source = quarter_turn().source_shape((9, 9, 9))
    pad = [(source[0] - 9) // 2]
    wide = {"image": np.pad(image, pad), "labels": np.pad(labels, pad)}
    turned = quarter_turn().apply(wide, (9, 9, 9))
    turns = [np.rot90(image, k, (1, 2)) for k in (1, 3)]
    errors = [np.abs(turned["image"] - turn).max() for turn in turns]
    assert min(errors) < 1e-4
    expected = np.rot90(labels, 1 if errors[0] < errors[1] else 3, (1, 2))
    assert np.array_equal(turned["labels"], expected)
    assert turned["labels"].dtype == np.int32


def test_zooming_scales_distances_with_the_things() -> None:
    shape = (25, 25, 25)
    geometry = Geometry(np.eye(3) / 1.25, 1.25, None, ())
    source = geometry.source_shape(shape)
    middle = np.array([size // 2 for size in source]).reshape(3, 1, 1, 1)
    radius = np.sqrt(((np.indices(source) - middle) ** 2).sum(0))
    arrays = {"labels": (radius < 6).astype(np.int32), "distances": (6 - radius)[None]}
    zoomed = geometry.apply(arrays, shape)
    grown = np.sqrt(((np.indices(shape) - 12) ** 2).sum(0))
    assert np.abs(zoomed["distances"][0] - (7.5 - grown)).max() < 0.3
    assert (zoomed["labels"][zoomed["distances"][0] > 1] == 1).all()
    assert (zoomed["labels"][zoomed["distances"][0] < -1] == 0).all()


@given(seed=st.integers(0, 10_000))
def test_labels_stay_labels_and_lie_on_the_image(seed: int) -> None:
    settings = Transforms(rotate=(3.14,) * 3, zoom=(0.8, 1.2), elastic=(5, 50), flip=True)
    shape = (12, 14, 16)
    geometry = draw_geometry(np.random.default_rng(seed), settings, shape)
    source = geometry.source_shape(shape)
    grid = np.indices(source) - np.array(source).reshape(3, 1, 1, 1) // 2
    labels = np.where(grid[0] > 0, 2, 0) + np.where(grid[2] > 1, 5, 0)
    image = labels.astype(np.float32)
    result = geometry.apply({"labels": labels.astype(np.int32), "image": image}, shape)
    assert result["labels"].shape == shape
    assert np.isin(result["labels"], [0, 2, 5, 7]).all()
    assert np.abs(result["image"] - result["labels"]).mean() < 0.6
    assert np.median(np.abs(result["image"] - result["labels"])) < 1e-3


def test_rotation_does_not_change_lengths() -> None:
    matrix = rotation([0.3, -1.0, 2.0])
    assert np.allclose(matrix @ matrix.T, np.eye(3))
    assert np.isclose(np.linalg.det(matrix), 1)


def test_each_filter_and_none_are_drawn() -> None:
    settings = Transforms(
        low_pass_sigma_range=(2, 2),
        high_pass_sigma_range=(0.1, 0.1),
        high_pass_sigma2_range=(3, 3),
        noise_sigma_range=(0.3, 0.3),
    )
    patch = np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)
    kinds: Counter[str] = Counter()
    for seed in range(400):
        result = GreyValues(settings).filtered(patch, np.random.default_rng(seed))
        if result is patch:
            kinds["none"] += 1
        elif result.std() < 0.3 * patch.std():
            kinds["low"] += 1
        elif abs(result.mean()) < 0.1:
            kinds["band"] += 1
        else:
            assert result.min() == 0
            assert result.max() == 1
            kinds["noise"] += 1
    assert set(kinds) == {"none", "low", "band", "noise"}
    assert all(60 < count < 140 for count in kinds.values())


def test_grey_values_are_scaled_as_before_a_prediction(data: Path, tmp_path: Path) -> None:
    from cryosiam_engine.preprocessing import normalise

    config = training_config(data, tmp_path, patches={"min": 0.2, "max": 0.7})
    volume = read_volume(data / "tomograms" / "TS_1.mrc").data
    expected = volume.copy()
    normalise(expected, config.patches)
    assert np.allclose(scaled(volume, config.patches), expected)


def test_classes_are_drawn_alike(data: Path) -> None:
    files = {"image": data / "tomograms" / "TS_1.mrc", "labels": data / "classes" / "TS_1.mrc"}
    volume = TrainingVolume.open("TS_1", files)
    labels = read_volume(files["labels"]).data
    found = find_classes(volume, False, 0)
    assert found.counts == {c: int((labels == c).sum()) for c in range(3)}
    rng = np.random.default_rng(0)
    for background in (True, False):
        places = BalancedPlaces([found], with_background=background)
        drawn = Counter(int(labels[places.draw(rng)[1]]) for _ in range(900))
        classes = (0, 1, 2) if background else (1, 2)
        assert set(drawn) == set(classes)
        assert all(abs(n - 900 / len(classes)) < 100 for n in drawn.values())


def test_samples_are_reproducible_and_differ(data: Path, tmp_path: Path) -> None:
    one, other = (sets_of(training_config(data, tmp_path)).training for _ in range(2))
    other[(0, 3)]  # what was drawn before does not matter
    assert all(torch.equal(one[(2, 5)][name], other[(2, 5)][name]) for name in one[(2, 5)])
    assert not torch.equal(one[(2, 5)]["image"], one[(3, 5)]["image"])
    assert not torch.equal(one[(2, 5)]["image"], one[(2, 6)]["image"])


def test_validation_samples_are_the_tomogram(data: Path, tmp_path: Path) -> None:
    config = training_config(data, tmp_path, val_files=["TS_3"], patches={"validation_patches": 99})
    sets = sets_of(config)
    image = read_volume(data / "tomograms" / "TS_3.mrc").data
    labels = read_volume(data / "classes" / "TS_3.mrc").data
    assert len(sets.validation) == 1 * 2 * 2
    assert np.array_equal(sets.validation[(0, 0)]["image"][0], image[:16, :16, :16])
    assert np.array_equal(sets.validation[(0, 3)]["labels"], labels[:16, 16:32, 16:32])


def test_drawn_distances_are_those_of_the_whole_volume(data: Path, tmp_path: Path) -> None:
    network = {"distance_prediction": True, "out_channels": 3}
    config = training_config(data, tmp_path, network=network, val_files=["TS_3"])
    sample = sets_of(config).validation[(0, 3)]
    labels = read_volume(data / "classes" / "TS_3.mrc").data
    for channel in range(3):
        whole = np.pad(labels, 6, mode="symmetric")
        expected = np.clip(signed_distance(whole == channel) / 5, -1, 1)[6:22, 22:38, 22:38]
        assert np.allclose(sample["distances"][channel], expected, atol=1e-6)


def test_distances_without_a_surface() -> None:
    distances = class_distances(np.zeros((4, 4, 4), int), 2)
    assert (distances[0] == 5).all()
    assert (distances[1] == -5).all()


def test_touching_instances_have_a_boundary_between_them() -> None:
    labels = np.zeros((12, 12, 16), np.int32)
    labels[4:8, 4:8, 2:8] = 1
    labels[4:8, 4:8, 8:14] = 2
    targets = instance_targets(labels)
    assert targets["foreground"].sum() > (labels > 0).sum()
    assert (targets["boundaries"][5, 5, 7:9] == 1).all()
    assert targets["boundaries"][5, 5, 4] == 0
    assert targets["distances"][5, 5, 4] > targets["distances"][5, 5, 7] == 1
    assert (targets["distances"][targets["foreground"] == 0] < 0).all()


@given(
    batch=st.integers(1, 4), processes=st.integers(1, 3), n=st.integers(12, 40), epoch=st.just(3)
)
def test_processes_together_take_the_batches_of_one(
    batch: int, processes: int, n: int, epoch: int
) -> None:
    orders = [TrainingOrder(n, batch, rank, processes) for rank in range(processes)]
    for order in orders:
        order.set_epoch(epoch)
    drawn = [list(order) for order in orders]
    assert {len(one) for one in drawn} == {len(orders[0])}
    whole = TrainingOrder(n, batch * processes, 0, 1)
    whole.set_epoch(epoch)
    for step in range(len(drawn[0]) // batch):
        together = [key for one in drawn for key in one[step * batch : (step + 1) * batch]]
        size = batch * processes
        assert together == list(whole)[step * size : (step + 1) * size]
    judged = [key for rank in range(processes) for key in ValidationOrder(n, rank, processes)]
    assert sorted(judged) == [(0, index) for index in range(n)]


def test_splitting() -> None:
    names = [f"TS_{n}.mrc" for n in range(10)]
    split = choose_split(names, None, 0.15, 3)
    assert len(split.validation) == 2
    assert sorted(split.training + split.validation) == names
    assert choose_split(names[::-1], None, 0.15, 3) == split
    assert choose_split(names, None, 0.15, 4) != split
    assert choose_split(names[:2], None, 0.9, 0).training
    with pytest.raises(ConfigurationError, match=r"TS_1\.mrc"):
        choose_split(names, ["TS_1.mrc"], 0.1, 0)


def test_the_split_of_a_training_is_kept(tmp_path: Path) -> None:
    first = Split(["a"], ["b"])
    assert kept_split(tmp_path, first) == first
    assert kept_split(tmp_path, Split(["b"], ["a"])) == first
    with pytest.raises(ConfigurationError, match="other tomograms"):
        kept_split(tmp_path, Split(["a"], ["c"]))


def test_parts_of_one_tomogram_do_not_overlap() -> None:
    first, rest = divide(Box((0, 0, 0), SHAPE), 0.25)
    assert first == Box((0, 0, 0), (24, 32, 30))
    assert rest == Box((0, 0, 30), (24, 32, 40))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_part_for_validation_holds_its_share_of_the_labels(axis: int) -> None:
    shape = [20, 20, 20]
    shape[axis] = 60
    labels = np.zeros(shape, np.uint8)
    # Nothing in the last quarter: it could judge nothing.
    np.moveaxis(labels, axis, 0)[:45, 3:7, 3:7] = 2

    first, rest = divide(Box((0, 0, 0), tuple(shape)), 0.3, labels)

    held = np.count_nonzero(labels[rest.slices]) / np.count_nonzero(labels)
    assert held == pytest.approx(0.3, abs=1 / 45)
    assert first.stop[axis] == rest.start[axis]
    assert rest.stop == tuple(shape)


def test_at_most_half_of_a_tomogram_is_for_validation() -> None:
    labels = np.zeros((60, 20, 20), np.uint8)
    labels[:5] = 1

    first, rest = divide(Box((0, 0, 0), (60, 20, 20)), 0.3, labels)

    assert first.shape[0] == rest.shape[0] == 30


def test_labels_do_not_divide_where_there_are_none() -> None:
    whole = Box((0, 0, 0), (60, 20, 20))
    assert divide(whole, 0.25, np.zeros((60, 20, 20), np.uint8)) == divide(whole, 0.25)


def test_semantic_loss_is_least_for_the_truth() -> None:
    labels = torch.randint(0, 3, (2, 6, 6, 6))
    right = 20 * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float() - 10
    for n_channels, outputs in ((3, right), (1, 20 * (labels > 0).float()[:, None] - 10)):
        parts = SemanticLoss(dice=True)({"logits": outputs}, {"labels": labels})
        assert sum(parts.values()) < 0.01
        wrong = SemanticLoss(dice=True)({"logits": -outputs}, {"labels": labels})
        assert sum(wrong.values()) > 1
        counts = dice_counts({"logits": outputs}, {"labels": labels})
        assert counts is not None
        assert counts.shape == (2, n_channels)
        assert torch.equal(2 * counts[0], counts[1])


@pytest.mark.parametrize("kind", ["l1", "l2", "combined"])
def test_denoising_loss(kind: str) -> None:
    clean = torch.rand(2, 1, 16, 16, 16)
    loss = DenoisingLoss(kind)
    assert sum(loss({"denoised": clean}, {"target": clean}).values()) < 1e-5
    assert sum(loss({"denoised": clean + 0.5}, {"target": clean}).values()) > 0.1
