"""Pretraining of a backbone from tomograms alone: views with voxels in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.checkpoint.scan import scan
from cryosiam_engine.config.train import DrawnPatches, TrainConfig
from cryosiam_engine.errors import CheckpointError, ConfigurationError
from cryosiam_engine.networks import DenseSimSiam, describe, load_network, random_checkpoint
from cryosiam_engine.training.command import run
from cryosiam_engine.training.datasets import training_sets
from cryosiam_engine.training.dense_similarity import EmbeddedView, embed_views, view_losses
from cryosiam_engine.training.dense_views import (
    OverlappingViews,
    Window,
    draw_windows,
    largest_block,
    take_shared,
)
from cryosiam_engine.training.metrics import read_metrics
from cryosiam_engine.training.modules import Training, training_module
from cryosiam_engine.training.starting_network import starting_network
from cryosiam_engine.training.tomograms import fresh_split, training_volumes
from cryosiam_engine.volume import read_volume, write_mrc
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from training_runs import (
    arguments,
    same,
    training_config,
    training_values,
    weights,
    write_training_data,
)

#: The network of the reference checkpoint.
BACKBONE = {
    "num_filters": [8, 16, 32, 64],
    "fpn_channels": 16,
    "dim": 64,
    "pred_dim": 32,
    "dense_dim": 8,
    "dense_pred_dim": 16,
}
NO_TRANSFORMS = {"rotate": None, "zoom": None, "noise_sigma_range": None, "flip": False}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("pretraining"))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def config_for(data: Path, log_dir: Path, **changes: Any) -> TrainConfig:
    return training_config(data, log_dir, "backbone", **changes)


def views_of(config: TrainConfig) -> OverlappingViews:
    volumes = training_volumes(config, fresh_split(config))
    sets = training_sets(config, *volumes)
    assert isinstance(sets.training, OverlappingViews)
    return sets.training


# ---- which voxel is which ------------------------------------------------------------------------


def axes(draw: Any) -> tuple[int, int, int, bool, bool]:
    """Length of a view, starts of two views that meet, and whether each is reversed."""
    length = draw(st.integers(1, 9))
    starts = draw(st.integers(0, length - 1)), 0
    if draw(st.booleans()):
        starts = starts[::-1]
    return length, *starts, draw(st.booleans()), draw(st.booleans())


@st.composite
def two_windows(draw: Any) -> tuple[Window, Window, tuple[int, int, int], tuple[int, int, int]]:
    each = [axes(draw) for _ in range(3)]
    size = tuple(one[0] for one in each)
    block = tuple(one[0] + max(one[1], one[2]) for one in each)
    windows = [
        Window(
            tuple(one[1 + own] for one in each),
            tuple(axis for axis, one in enumerate(each) if one[3 + own]),
        )
        for own in (0, 1)
    ]
    return windows[0], windows[1], size, block


@settings(deadline=None)
@given(two_windows())
def test_shared_voxels_are_the_same_voxels(
    drawn: tuple[Window, Window, tuple[int, int, int], tuple[int, int, int]],
) -> None:
    """All of them, and only them: voxels are numbered, so that each can be followed."""
    one, other, size, shape = drawn
    block = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    views = [window.view(block, size) for window in (one, other)]
    assert all(view.shape == size for view in views)
    shared = [one.shared_with(other, size), other.shared_with(one, size)]
    parts = [
        take_shared(torch.from_numpy(view.copy())[None], torch.from_numpy(place))
        for view, place in zip(views, shared, strict=True)
    ]
    assert torch.equal(*parts)
    in_both = np.intersect1d(*views)
    assert sorted(parts[0].flatten().tolist()) == in_both.tolist()
    assert len(in_both) == np.prod(
        [n - abs(a - b) for n, a, b in zip(size, one.start, other.start, strict=True)]
    )


def test_one_axis_by_hand() -> None:
    """A row of ten voxels, two views of six: the second begins at voxel 4 and is reversed."""
    row = np.arange(10).reshape(1, 1, 10)
    one, other = Window((0, 0, 0), ()), Window((0, 0, 4), (2,))
    size = (1, 1, 6)
    assert one.view(row, size).ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert other.view(row, size).ravel().tolist() == [9, 8, 7, 6, 5, 4]
    assert one.shared_with(other, size)[2].tolist() == [4, 6, 1]
    assert other.shared_with(one, size)[2].tolist() == [4, 6, -1]
    reversed_view = torch.from_numpy(other.view(row, size).copy())[None]
    shared = torch.from_numpy(other.shared_with(one, size))
    assert take_shared(reversed_view, shared).flatten().tolist() == [4, 5]


@settings(deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.tuples(*[st.integers(1, 20)] * 3),
    least=st.floats(0.01, 1.0),
)
def test_views_share_as_much_as_asked_for(
    seed: int, size: tuple[int, int, int], least: float
) -> None:
    patches = DrawnPatches(patch_size=size, min_view_overlap=least)
    one, other, block = draw_windows(np.random.default_rng(seed), patches, flip=True)
    shared = one.shared_with(other, size)
    counts = shared[:, 1] - shared[:, 0]
    assert (counts >= np.ceil(least * np.array(size) - 1e-9)).all()
    assert (counts >= 1).all()
    for window in (one, other):
        assert all(0 <= a <= b - n for a, b, n in zip(window.start, block, size, strict=True))
    assert all(a <= b for a, b in zip(block, largest_block(patches), strict=True))


def test_views_of_a_file_show_its_voxels(data: Path, tmp_path: Path) -> None:
    """Through reading, cutting and flipping: every voxel's number is found at its place."""
    shape = (24, 32, 40)
    numbers = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for name in ("a", "b"):
        write_mrc(tmp_path / "numbered" / f"{name}.mrc", numbers, voxel_size=10)
    most = float(numbers.max())
    views = views_of(
        config_for(
            data,
            tmp_path,
            data_folder=tmp_path / "numbered",
            transforms={**NO_TRANSFORMS, "flip": True},
            patches={"max": most, "patches_per_epoch": 40},
        )
    )
    moved = flipped = 0
    for index in range(len(views)):
        sample = views[0, index]
        parts = [take_shared(sample[f"view_{n}"], sample[f"shared_{n}"]) for n in (1, 2)]
        assert torch.equal(*parts)
        box = (parts[0][0] * most).round().long().numpy()
        # Rising along every axis as in the tomogram, whatever the views' own order is.
        assert np.array_equal(box, box[0, 0, 0] + numbers[tuple(map(slice, box.shape))])
        moved += sample["shared_1"][:, :2].tolist() != [[0, 16]] * 3
        flipped += not torch.equal(sample["shared_1"][:, 2], sample["shared_2"][:, 2])
    assert moved > 30
    assert flipped > 10


def test_turned_views_agree_too(data: Path, tmp_path: Path) -> None:
    turned = {**NO_TRANSFORMS, "rotate": (3.0,) * 3, "zoom": (0.8, 1.2), "elastic": (5, 50)}
    views = views_of(config_for(data, tmp_path, transforms={**turned, "flip": True}))
    for index in range(4):
        sample = views[1, index]
        assert sample["view_1"].shape == sample["view_2"].shape == (1, 16, 16, 16)
        parts = [take_shared(sample[f"view_{n}"], sample[f"shared_{n}"]) for n in (1, 2)]
        assert torch.equal(*parts)


def test_grey_values_vary_in_each_view(data: Path, tmp_path: Path) -> None:
    noise = {**NO_TRANSFORMS, "noise_sigma_range": (0.1, 0.2)}
    views = views_of(config_for(data, tmp_path, transforms=noise))
    for index in range(4):
        sample = views[0, index]
        parts = [take_shared(sample[f"view_{n}"], sample[f"shared_{n}"]) for n in (1, 2)]
        if not torch.equal(*parts):
            correlation = torch.corrcoef(torch.stack(parts).flatten(1))[0, 1]
            assert 0.3 < correlation < 0.999
            return
    pytest.fail("noise was never added to one view alone")


def test_noisy_tomograms_stand_for_clean_ones(data: Path, tmp_path: Path) -> None:
    config = config_for(
        data,
        tmp_path,
        data_folder=data / "clean",
        noisy_data_folder=data / "tomograms",
        transforms={**NO_TRANSFORMS, "use_noisy_input": True},
        patches={"patches_per_epoch": 30, "min_view_overlap": 1.0},
    )
    views = views_of(config)
    # Where both views are the same box they differ if and only if one of them is noisy.
    differing = sum(
        not torch.equal(views[0, index]["view_1"], views[0, index]["view_2"])
        for index in range(len(views))
    )
    assert 5 <= differing <= 22  # 2 * 1/3 * 2/3 of 30


def test_samples_depend_on_seed_epoch_and_number_alone(data: Path, tmp_path: Path) -> None:
    views, again = (views_of(config_for(data, tmp_path)) for _ in range(2))
    expected = views[2, 3]
    for key in ((0, 1), (2, 0)):
        again[key]
    assert same(again[2, 3], expected)
    assert not same(again[1, 3], expected)
    other = views_of(config_for(data, tmp_path, seed=1))
    assert not same(other[2, 3], expected)


# ---- the loss ------------------------------------------------------------------------------------


def embedded(seed: int, size: tuple[int, int, int] = (4, 5, 6)) -> EmbeddedView:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    return EmbeddedView(random(2, 3, *size), random(2, 3, *size), random(2, 7), random(2, 7))


def test_the_loss_is_the_one_defined() -> None:
    """Voxel by voxel, with loops instead of slices."""
    one, other, size = embedded(0), embedded(1), (4, 5, 6)
    windows = [
        (Window((0, 1, 0), (0,)), Window((2, 0, 0), (1, 2))),
        (Window((0, 0, 0), ()), Window((0, 0, 5), (2,))),
    ]
    shared = [
        torch.from_numpy(np.stack([pair[n].shared_with(pair[1 - n], size) for pair in windows]))
        for n in (0, 1)
    ]
    losses = view_losses(one, other, *shared)
    expected = []
    for number, pair in enumerate(windows):
        values = []
        block = [n + max(a, b) for n, a, b in zip(size, pair[0].start, pair[1].start, strict=True)]
        ids = [window.view(np.arange(np.prod(block)).reshape(block), size) for window in pair]
        for place in np.ndindex(size):
            for there in np.argwhere(ids[1] == ids[0][place]):
                z, y, x = there
                for a, here, b, far in (
                    (one, place, other, (z, y, x)),
                    (other, (z, y, x), one, place),
                ):
                    p = a.predicted[(number, slice(None), *here)]
                    q = b.projected[(number, slice(None), *far)]
                    values.append(-functional.cosine_similarity(p, q, dim=0).item())
        expected.append(np.mean(values))
    assert losses["dense"].item() == pytest.approx(np.mean(expected), abs=1e-6)
    whole = [
        -functional.cosine_similarity(a.predicted_whole, b.projected_whole).mean()
        for a, b in ((one, other), (other, one))
    ]
    assert losses["whole"].item() == pytest.approx(sum(whole).item() / 2, abs=1e-6)


def test_no_gradient_flows_into_projections() -> None:
    one, other = embedded(0), embedded(1)
    shared = torch.tensor([[[0, 4, 1], [0, 5, 1], [0, 6, 1]]] * 2)
    sum(view_losses(one, other, shared, shared).values()).backward()
    for view in (one, other):
        assert view.projected.grad is None
        assert view.projected_whole.grad is None
        assert view.predicted.grad is not None
        assert view.predicted_whole.grad is not None


def test_the_same_answer_twice_is_the_least_loss() -> None:
    one = embedded(0)
    agreeing = EmbeddedView(
        one.projected, one.projected * 2, one.projected_whole, one.projected_whole * 3
    )
    shared = torch.tensor([[[0, 4, 1], [0, 5, 1], [0, 6, 1]]] * 2)
    losses = view_losses(agreeing, agreeing, shared, shared)
    assert all(loss.item() == pytest.approx(-1) for loss in losses.values())


def test_what_is_learned_is_what_is_used_later(data: Path, tmp_path: Path) -> None:
    """The projected voxels are the very output that heads are trained on."""
    start = starting_network(config_for(data, tmp_path))
    network = start.network.eval()
    assert isinstance(network, DenseSimSiam)
    views = torch.rand(2, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(embed_views(network, views).projected, network(views))


# ---- whole trainings -----------------------------------------------------------------------------


def test_checkpoints_have_the_layout_of_the_original(
    data: Path, tmp_path: Path, golden: Path
) -> None:
    values = training_values(data, tmp_path, "backbone")
    values["backbone"] = BACKBONE
    values["hyper_parameters"]["max_epochs"] = 1
    assert run(TrainConfig.model_validate(values), arguments()).done == ["training"]
    path = golden / "ckpt" / "dense_simsiam_pretrained.ckpt"
    reference = torch.load(path, weights_only=True)
    for name in ("model_best.ckpt", "last.ckpt"):
        assert scan(tmp_path / "model" / name)
        own = torch.load(tmp_path / "model" / name, weights_only=True)
        assert own.keys() >= reference.keys()
        found, expected = (
            {name: (tuple(t.shape), t.dtype) for name, t in one["state_dict"].items()}
            for one in (own, reference)
        )
        assert found == expected
        assert own["hyper_parameters"].keys() == reference["hyper_parameters"].keys()
        for section in ("data", "network"):
            told = own["hyper_parameters"]["config"]["parameters"][section]
            wanted = reference["hyper_parameters"]["config"]["parameters"][section]
            assert told.keys() >= wanted.keys()
        network = own["hyper_parameters"]["config"]["parameters"]["network"]
        assert network == wanted


def test_the_loss_falls_without_collapse(data: Path, tmp_path: Path) -> None:
    schedule = {"max_epochs": 8, "batch_size": 8, "lr": 0.003}
    run(
        config_for(data, tmp_path, patches={"patches_per_epoch": 48}, schedule=schedule),
        arguments(),
    )
    epochs = [line for line in read_metrics(tmp_path) if line["kind"] == "epoch"]
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"] - 0.2
    assert epochs[-1]["val_dense"] < epochs[0]["val_dense"] - 0.2
    network = load_network(load_checkpoint(tmp_path / "model" / "last.ckpt"), "dense_simsiam")
    tomogram = torch.from_numpy(read_volume(data / "tomograms" / "TS_1.mrc").data[None, None])
    with torch.no_grad():
        voxels = functional.normalize(network(tomogram), dim=1).flatten(2)[0]
    # If every voxel were given the same vector this would be 0; if any, 1 / sqrt(4) each.
    assert (voxels.std(dim=1) > 0.15).all()


class Killed(BaseException):
    """Ends a training as a kill does: nothing on the way out may count."""


def test_a_killed_pretraining_goes_on_exactly(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    run(config_for(data, undisturbed), arguments())
    begun = config_for(data, killed)

    def dying(self: Training, batch: object, index: int) -> torch.Tensor:
        if self.trainer.global_step == 3:
            raise Killed
        return original(self, batch, index)

    original = Training.training_step
    with monkeypatch.context() as patched:
        patched.setattr(Training, "training_step", dying)
        with pytest.raises(Killed):
            run(begun, arguments())
    run(begun.model_copy(update={"continue_training": True}), arguments())
    for name in ("last.ckpt", "model_best.ckpt"):
        assert same(weights(killed, name), weights(undisturbed, name))
    fewer = config_for(data, killed, patches={"min_view_overlap": 0.75}, continue_training=True)
    with pytest.raises(ConfigurationError, match=r"min_view_overlap was 0\.5 and is 0\.75"):
        run(fewer, arguments())


def test_a_seed_decides_everything(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(name) + seed * 5)
        run(config_for(data, tmp_path / name, schedule={"max_epochs": 1}, seed=seed), arguments())
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.parametrize("task", ["semantic", "backbone"])
def test_trainings_begin_with_the_result(data: Path, tmp_path: Path, task: str) -> None:
    run(config_for(data, tmp_path / "pretrained", schedule={"max_epochs": 1}), arguments())
    path = tmp_path / "pretrained" / "model" / "model_best.ckpt"
    assert describe(load_checkpoint(path)).task == "dense_simsiam"
    config = training_config(
        data, tmp_path / "log", task, pretrained_model=path, schedule={"max_epochs": 1}
    )
    start = starting_network(config)
    own = getattr(start.network, "backbone", start.network).state_dict()
    expected = weights(tmp_path / "pretrained", "model_best.ckpt")
    assert all(torch.equal(own[name], expected[f"_model.{name}"]) for name in own)
    assert run(config, arguments()).done == ["training"]
    trained = load_checkpoint(tmp_path / "log" / "model" / "last.ckpt")
    load_network(trained, "dense_simsiam" if task == "backbone" else task)
    if task == "semantic":  # the backbone is frozen
        assert (
            trained.hyper_parameters["backbone_config"]["parameters"]["network"]
            == (load_checkpoint(path).hyper_parameters["config"]["parameters"]["network"])
        )
        encoder = "_model_backbone.encoder.conv1.weight"
        assert torch.equal(trained.state_dict[encoder], expected["_model.encoder.conv1.weight"])


@pytest.mark.parametrize("file", ["dense_simsiam_pretrained.ckpt", "denoising.ckpt"])
def test_pretraining_goes_on_from_published_files(
    data: Path, tmp_path: Path, golden: Path, file: str
) -> None:
    path = golden / "ckpt" / file
    start = starting_network(config_for(data, tmp_path, pretrained_model=path))
    pretrained = load_network(load_checkpoint(path))
    theirs = getattr(pretrained, "backbone", pretrained).state_dict()
    assert same(dict(start.network.state_dict()), dict(theirs))
    assert start.is_pretrained


def test_networks_that_cannot_be_pretrained(data: Path, tmp_path: Path) -> None:
    for name, checkpoint, match in (
        ("pooling", random_checkpoint("dense_simsiam", backbone={"no_max_pool": False}), "pooling"),
        ("embedding", random_checkpoint("embedding"), "whole particles"),
    ):
        torch.save(checkpoint, tmp_path / f"{name}.ckpt")
        config = config_for(data, tmp_path, pretrained_model=tmp_path / f"{name}.ckpt")
        with pytest.raises(CheckpointError, match=match):
            starting_network(config)


def test_every_part_of_the_backbone_learns(data: Path, tmp_path: Path) -> None:
    config = config_for(data, tmp_path)
    start = starting_network(config)
    module = training_module(config, start)
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    assert frozen == set()
    # Without labels that the configuration has nevertheless, as for a later step.
    config = config_for(data, tmp_path, labels_folder=data / "absent")
    views_of(config)


def test_impossible_pretrainings(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least two places"):
        run(config_for(data, tmp_path, schedule={"batch_size": 1}), arguments())
    config = config_for(data, tmp_path, patch_source="folder", patches_folder=data)
    with pytest.raises(ConfigurationError, match="no patches for the task backbone"):
        run(config, arguments())


def test_a_dry_run(data: Path, tmp_path: Path) -> None:
    assert run(config_for(data, tmp_path), arguments(dry_run=True)).skipped == ["training"]
    assert '"learning_parameters"' in (tmp_path / "dry_run.json").read_text()
    assert not (tmp_path / "model").exists()
