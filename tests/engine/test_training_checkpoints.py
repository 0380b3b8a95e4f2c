from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.checkpoint.scan import scan
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.errors import CheckpointError, ConfigurationError
from cryosiam_engine.networks import load_network
from cryosiam_engine.training.command import run
from cryosiam_engine.training.model_files import export_model
from cryosiam_engine.training.modules import DenseTraining, training_module
from cryosiam_engine.training.starting_network import starting_network
from cryosiam_engine.training.synchronised_norm import SynchronisedNorm, synchronise
from torch.nn.modules.batchnorm import _BatchNorm
from training_runs import arguments, training_config, training_values, write_training_data

#: The network of the reference checkpoints.
BACKBONE = {
    "num_filters": [8, 16, 32, 64],
    "fpn_channels": 16,
    "dim": 64,
    "pred_dim": 32,
    "dense_dim": 8,
    "dense_pred_dim": 16,
}
REFERENCES = {
    "semantic": ("semantic5.ckpt", {"out_channels": 5, "filters": [32, 64]}),
    "lamella": ("lamella.ckpt", {"out_channels": 1, "filters": [32, 64]}),
    "denoising": ("denoising.ckpt", {"filters": [12, 20]}),
    "instance": ("instance.ckpt", {"filters": [8, 12]}),
    "embedding": ("simsiam_plain.ckpt", {}),
}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("training_checkpoints"))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def shapes(state_dict: dict[str, torch.Tensor]) -> dict[str, tuple[Any, ...]]:
    return {name: (tuple(t.shape), t.dtype) for name, t in state_dict.items()}


def keys_of(values: Any, place: str = "") -> set[str]:
    """All places in nested dictionaries."""
    if not isinstance(values, dict):
        return {place}
    return {found for name in values for found in keys_of(values[name], f"{place}.{name}")}


@pytest.mark.parametrize("kind", REFERENCES)
def test_checkpoints_have_the_layout_of_the_original(
    data: Path, tmp_path: Path, golden: Path, kind: str
) -> None:
    file, network = REFERENCES[kind]
    task = "semantic" if kind == "lamella" else kind
    values = training_values(data, tmp_path, task)
    values["backbone"], values["parameters"]["network"] = BACKBONE, dict(network)
    if kind == "lamella":  # binary labels
        values["labels_folder"] = str(binary(data, tmp_path))
    if task == "embedding":
        values["parameters"]["data"]["patch_size"] = [16, 16, 16]
    values["hyper_parameters"] |= {"max_epochs": 1, "batch_size": 8}
    run(TrainConfig.model_validate(values), arguments())
    reference = torch.load(golden / "ckpt" / file, weights_only=True)
    for name in ("model_best.ckpt", "last.ckpt"):
        path = tmp_path / "model" / name
        assert scan(path)
        # Without any of the additional names that our own reader answers: plain data only.
        own = torch.load(path, weights_only=True)
        assert own.keys() >= reference.keys()
        assert shapes(own["state_dict"]) == shapes(reference["state_dict"])
        assert own["hparams_name"] == reference["hparams_name"]
        assert own["hyper_parameters"].keys() == reference["hyper_parameters"].keys()
        assert keys_of(own["loops"]) == keys_of(reference["loops"])
        for section, values in reference["hyper_parameters"].items():
            told = own["hyper_parameters"][section]
            theirs = keys_of(values["parameters"]["network"])
            assert keys_of(told["parameters"]["network"]) >= theirs
            assert keys_of(told["parameters"]["data"]) >= keys_of(values["parameters"]["data"])
            assert keys_of(told["hyper_parameters"]) >= (
                keys_of(values["hyper_parameters"]) - {".cache_rate"}
            )


def binary(data: Path, folder: Path) -> Path:
    from cryosiam_engine.volume import read_volume, write_mrc

    for path in (data / "classes").iterdir():
        labels = (read_volume(path).data > 0).astype("int8")
        write_mrc(folder / "binary" / path.name, labels, voxel_size=10)
    return folder / "binary"


@pytest.mark.parametrize("file", ["dense_simsiam_pretrained.ckpt", "denoising.ckpt"])
def test_training_begins_with_the_original_backbone(
    data: Path, tmp_path: Path, golden: Path, file: str
) -> None:
    path = golden / "ckpt" / file
    config = training_config(data, tmp_path, pretrained_model=path)
    start = starting_network(config)
    pretrained = load_network(load_checkpoint(path))
    theirs = getattr(pretrained, "backbone", pretrained).state_dict()
    own = start.network.backbone.state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[name], theirs[name]) for name in own)
    assert start.is_pretrained


def test_training_goes_on_with_the_heads_of_the_same_task(
    data: Path, tmp_path: Path, golden: Path
) -> None:
    path = golden / "ckpt" / "semantic5.ckpt"
    network = {"out_channels": 5, "filters": (32, 64)}
    config = training_config(data, tmp_path, pretrained_model=path, network=network)
    own = starting_network(config).network.head.state_dict()
    theirs = load_network(load_checkpoint(path)).head.state_dict()
    assert all(torch.equal(own[name], theirs[name]) for name in theirs)
    fewer = training_config(
        data, tmp_path, pretrained_model=path, network={**network, "out_channels": 3}
    )
    own = starting_network(fewer).network.head.state_dict()
    kept = {name for name in own if own[name].shape == theirs[name].shape}
    assert {name.rpartition(".")[0] for name in own.keys() - kept} == {
        "semantic_head.6",
        "distance_head.6",
    }
    assert all(torch.equal(own[name], theirs[name]) for name in kept)


def test_the_dense_dim_must_be_that_of_the_backbone(
    data: Path, tmp_path: Path, golden: Path
) -> None:
    path = golden / "ckpt" / "dense_simsiam_pretrained.ckpt"
    config = training_config(data, tmp_path, pretrained_model=path, network={"dense_dim": 64})
    with pytest.raises(ConfigurationError, match="dense_dim is 64"):
        starting_network(config)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("part", ["heads", "decoder", "backbone"])
def test_frozen_parts_keep_still(
    data: Path, tmp_path: Path, golden: Path, part: str, keep: bool
) -> None:
    network = {
        "unfreeze_decoder": part != "heads",
        "unfreeze_backbone": part == "backbone",
        "freeze_normalisation": keep,
        "out_channels": 3,
    }
    config = training_config(
        data,
        tmp_path,
        pretrained_model=golden / "ckpt" / "dense_simsiam_pretrained.ckpt",
        network=network,
        schedule={"max_epochs": 1},
    )
    before = training_module(config, starting_network(config)).state_dict()
    run(config, arguments())
    after = torch.load(tmp_path / "model" / "last.ckpt", weights_only=True)["state_dict"]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    learned = {name for name in moved if "running" not in name and "tracked" not in name}
    statistics = moved - learned
    places = {
        "heads": ("_model.semantic_head.",),
        "decoder": ("_model.semantic_head.", "_model_backbone.decoder", "_model_backbone.proj"),
        "backbone": ("_model.semantic_head.", "_model_backbone."),
    }[part]
    assert all(name.startswith(places) for name in learned)
    for place in places:
        assert any(name.startswith(place) for name in learned)
    if keep:
        assert all(name.startswith(places) for name in statistics)
    elif part != "backbone":
        assert any(name.startswith("_model_backbone.encoder") for name in statistics)


def test_models_are_exported_as_they_are(tmp_path: Path, golden: Path) -> None:
    path = golden / "ckpt" / "denoising.ckpt"
    export_model(path, tmp_path / "model.safetensors")
    exported, original = load_checkpoint(tmp_path / "model.safetensors"), load_checkpoint(path)
    assert exported.hyper_parameters == original.hyper_parameters
    own, theirs = (load_network(one).state_dict() for one in (exported, original))
    assert all(torch.equal(own[name], theirs[name]) for name in theirs)
    (tmp_path / "model.safetensors").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path / "model.safetensors")


def test_a_new_network_learns_as_a_whole(data: Path, tmp_path: Path) -> None:
    module = training_module(*(c := training_config(data, tmp_path), starting_network(c)))
    assert isinstance(module, DenseTraining)
    learning = {name for name, p in module.named_parameters() if p.requires_grad}
    assert "_model_backbone.encoder.conv1.weight" in learning
    assert not any("global_pro" in name or "encoder.fc" in name for name in learning)
    assert not any(name.startswith("_model.distance_head") for name in learning)
    norms = [m for m in module._model_backbone.encoder.modules() if isinstance(m, _BatchNorm)]
    assert all(norm.training for norm in norms)


@pytest.mark.parametrize("affine", [True, False])
def test_synchronised_norm_is_batch_norm(tmp_path: Path, affine: bool) -> None:
    images = torch.rand(3, 4, 5, 6, 7) * 3 + 2
    weight = torch.rand_like(images)
    results = []
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1
    )
    try:
        for synchronised in (False, True):
            model = torch.nn.Sequential(torch.nn.BatchNorm3d(4, affine=affine))
            if synchronised:
                synchronise(model)
                assert type(model[0]) is SynchronisedNorm
            x = images.clone().requires_grad_()
            y = model(x)
            (y * weight).sum().backward()
            gradients = [p.grad for p in model.parameters()]
            model.eval()
            results.append([y.detach(), x.grad, *gradients, *model.buffers(), model(images)])
    finally:
        torch.distributed.destroy_process_group()
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one.detach().float(), other.detach().float(), rtol=1e-4, atol=1e-4)
