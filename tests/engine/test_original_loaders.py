"""Models of this engine in CryoSiam's own loaders, and models of CryoSiam's own modules in ours.

Needs a checkout of CryoSiam, named by the variable CRYOSIAM_ORIGINAL; nothing of it is kept here.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.networks import DenseModel, DenseSimSiam, SimSiam, describe, load_network
from cryosiam_engine.networks.description import HEADS
from cryosiam_engine.training.command import run
from cryosiam_engine.training.starting_network import starting_network
from cryosiam_engine.volume import read_volume, write_mrc
from lightning import Trainer
from lightning.pytorch import LightningModule
from monai import transforms
from monai.transforms import compose
from torch import Tensor, nn
from torch.utils.data import DataLoader
from training_runs import arguments, training_config, training_values, write_training_data

VARIABLE = "CRYOSIAM_ORIGINAL"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get(VARIABLE), reason=f"no checkout of CryoSiam is given ({VARIABLE})"
    ),
]

#: What CryoSiam imports along with its loaders; no loader calls any of it.
NOT_USED = ("itk", "plotly", "plotly.express", "plotly.graph_objects")

#: Folder of the task's loaders, class of its training module, and settings of the heads.
APPS = {
    "semantic": ("semantic", "SemanticSegmentationModule", {"out_channels": 3}),
    "lamella": ("semantic", "SemanticSegmentationModule", {"out_channels": 1}),
    "instance": ("instance", "InstanceSegmentationModule", {}),
    "denoising": ("regression", "RegressionModule", {"n_output_channels": 1}),
}
HEAD = {"filters": [32, 64], "kernel_size": 3, "padding": 1}
#: Sums in another order are not the same to the last bit.
TOLERANCE = 1e-5
NETWORK = {
    "block_type": "bottleneck",
    "spatial_dims": 3,
    "in_channels": 1,
    "num_layers": [1, 1, 1, 1],
    "num_filters": [4, 8, 8, 16],
    "no_max_pool": True,
    "fpn_channels": 8,
    "dim": 16,
    "pred_dim": 8,
    "dense_dim": 8,
    "dense_pred_dim": 8,
}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_training_data(tmp_path_factory.mktemp("original_loaders"))
    for path in (folder / "classes").iterdir():
        labels = (read_volume(path).data > 0).astype("int8")
        write_mrc(folder / "binary" / path.name, labels, voxel_size=10)
    return folder


@pytest.fixture(autouse=True)
def _original(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let CryoSiam be imported, also beside a MONAI that has moved two of its names."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.syspath_prepend(os.environ[VARIABLE])
    for name in ("MapTransform", "RandomizableTransform"):
        monkeypatch.setattr(compose, name, getattr(transforms, name), raising=False)
    for name in NOT_USED:
        try:
            importlib.import_module(name)
        except ImportError:
            monkeypatch.setitem(sys.modules, name, ModuleType(name))


def app(kind: str, part: str) -> ModuleType:
    return importlib.import_module(f"cryosiam.apps.dense_simsiam_{APPS[kind][0]}.{part}")


def task_of(kind: str) -> str:
    return "semantic" if kind == "lamella" else kind


def images(seed: int = 0, edge: int = 32) -> Tensor:
    return torch.rand(2, 1, edge, edge, edge, generator=torch.Generator().manual_seed(seed))


def difference(one: Tensor, other: Tensor) -> float:
    assert one.shape == other.shape
    assert one.std() > 0
    return float((one - other).abs().max())


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    assert found.keys() == expected.keys()
    differences = {name: difference(found[name], expected[name]) for name in expected}
    print(f"{what}: {differences}")
    assert max(differences.values()) < TOLERANCE, differences


@torch.no_grad()
def our_outputs(path: Path, kind: str) -> dict[str, Tensor]:
    """Embeddings of voxels, and the raw outputs of all heads."""
    model = load_network(load_checkpoint(path), task_of(kind))
    assert isinstance(model, DenseModel)
    voxels = model.backbone(images())
    heads = HEADS[model.description.task].items()
    return {"voxels": voxels, **{name: model.head[head](voxels) for name, head in heads}}


@torch.no_grad()
def their_outputs(backbone: nn.Module, heads: nn.Module, kind: str) -> dict[str, Tensor]:
    voxels, _ = backbone.forward_predict(images())
    results = heads(voxels)
    results = results if isinstance(results, tuple) else (results,)
    names = [*HEADS[task_of(kind)]]
    return {"voxels": voxels, **dict(zip(names, results, strict=True))}


def trained(data: Path, log_dir: Path, kind: str, **changes: Any) -> Path:
    """One epoch of this engine's trainer."""
    values = training_values(data, log_dir, task_of(kind)) | changes
    if kind in APPS:
        values["parameters"]["network"] = dict(HEAD)
        if "out_channels" in APPS[kind][2]:
            values["parameters"]["network"]["out_channels"] = 3
    if kind == "lamella":
        values["parameters"]["network"]["out_channels"] = 1
        values["labels_folder"] = str(data / "binary")
    values["hyper_parameters"]["max_epochs"] = 1
    assert run(TrainConfig.model_validate(values), arguments()).done == ["training"]
    return log_dir / "model" / "last.ckpt"


# ---- ours in theirs ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", APPS)
def test_our_models_in_their_loaders(data: Path, tmp_path: Path, kind: str) -> None:
    path = trained(data, tmp_path / "log", kind)
    for file in (path, path.with_name("model_best.ckpt")):
        loaders = app(kind, "utils")
        backbone = loaders.load_backbone_model(str(file), device="cpu")
        heads = loaders.load_prediction_model(str(file), device="cpu")
        expected = our_outputs(file, kind)
        assert_same(their_outputs(backbone, heads, kind), expected, f"{kind}, {file.name}")


def test_our_embedding_models_in_their_loader(data: Path, tmp_path: Path) -> None:
    path = trained(data, tmp_path / "log", "embedding")
    module = importlib.import_module("cryosiam.apps.simsiam_prediction.extract_patches_embeddings")
    theirs = module.load_prediction_model(str(path), device="cpu")
    own = load_network(load_checkpoint(path), "embedding")
    assert isinstance(own, SimSiam)
    with torch.no_grad():
        projected, predicted = theirs.forward_one(images())
        found = {"projected": projected, "predicted": predicted}
        expected = {
            "projected": own.embed(images(), contrastive=False),
            "predicted": own.embed(images(), contrastive=True),
        }
    assert_same(found, expected, "embedding")


@pytest.mark.parametrize("kind", APPS)
def test_their_trainings_begin_with_our_backbone(data: Path, tmp_path: Path, kind: str) -> None:
    """And what these save is again the same network in this engine."""
    pretrained = trained(data, tmp_path / "pretrained", "backbone")
    module = their_module(kind, pretrained)
    with torch.no_grad():
        voxels, whole = module._model_backbone.eval().forward_predict(images())
        own = load_network(load_checkpoint(pretrained), "dense_simsiam")
        assert isinstance(own, DenseSimSiam)
        levels = own.encoder.pyramid(images())
        pooled = own.encoder.pool(levels[-1])
        expected = {"voxels": own(images()), "whole": own.global_projector(pooled)}
    assert_same({"voxels": voxels, "whole": whole}, expected, f"backbone for {kind}")
    assert_round_trip(module, tmp_path / "theirs.ckpt", kind)


# ---- theirs in ours ------------------------------------------------------------------------------


def their_config(kind: str, pretrained: Path, network: Mapping[str, Any]) -> dict[str, Any]:
    """What their training needs of a configuration before it reads any data."""
    return {
        "pretrained_model": str(pretrained),
        "parameters": {
            "gpu_devices": 1,
            "nodes": 1,
            "data": {"patch_size": [32, 32, 32], "min": 0, "max": 1, "mean": 0, "std": 1},
            "transforms": {},
            "network": {**network, **HEAD, **APPS[kind][2], "distance_prediction": False},
        },
        "hyper_parameters": {
            "batch_size": 1,
            "optimizer": "adamw",
            "lr": 0.001,
            "weight_decay": 0,
            "max_epochs": 1,
            "cache_rate": 0,
        },
    }


def their_module(kind: str, pretrained: Path) -> LightningModule:
    """Their training module, made as their training command makes it."""
    backbone = torch.load(pretrained, weights_only=True)["hyper_parameters"]["config"]
    network = backbone["parameters"]["network"]
    config = their_config(kind, pretrained, {k: network[k] for k in ("spatial_dims", "dense_dim")})
    module: LightningModule = getattr(app(kind, "module"), APPS[kind][1])(config, backbone)
    return module


def their_backbone(folder: Path, **variant: Any) -> Path:
    """A pretrained backbone of their class with random weights, in the published layout."""
    nets = importlib.import_module("cryosiam.networks.nets")
    network = {**NETWORK, **variant}
    torch.manual_seed(1)
    names = {
        "in_channels": "n_input_channels",
        "include_levels_loss": "include_levels",
        "add_fpn_later_conv": "add_later_conv",
        "fpn_layers": "decoder_layers",
    }
    backbone = nets.DenseSimSiam(**{names.get(name, name): v for name, v in network.items()})
    data = {"patch_size": [32, 32, 32]}
    checkpoint = {
        "state_dict": {f"_model.{name}": tensor for name, tensor in backbone.state_dict().items()},
        "hyper_parameters": {"config": {"parameters": {"network": network, "data": data}}},
    }
    torch.save(checkpoint, folder / "backbone.ckpt")
    return folder / "backbone.ckpt"


def assert_round_trip(module: LightningModule, path: Path, kind: str) -> None:
    """Lightning writes their module; this engine reads it and computes the same."""
    module.train()
    with torch.no_grad():
        module(images(seed=1))  # statistics of the normalisations that are not those of new ones
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    assert describe(load_checkpoint(path)).task == task_of(kind)
    module.eval()
    expected = their_outputs(module._model_backbone, module._model, kind)
    assert_same(our_outputs(path, kind), expected, f"their {kind}")


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"block_type": "basic", "num_layers": [1, 2, 1, 1]},
        {"decoder_type": "bifpn", "fpn_layers": 2},
        {"add_fpn_later_conv": True},
        {"include_levels_loss": True},
    ],
    ids=["plain", "basic", "bifpn", "later_conv", "levels"],
)
@pytest.mark.parametrize("kind", APPS)
def test_their_models_in_ours(tmp_path: Path, kind: str, variant: dict[str, Any]) -> None:
    module = their_module(kind, their_backbone(tmp_path, **variant))
    assert_round_trip(module, tmp_path / "theirs.ckpt", kind)


def test_what_their_training_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of it, so that the file holds what optimiser and schedule leave there."""
    module = their_module("semantic", their_backbone(tmp_path))
    for name in ("prepare_data", "setup"):  # they look for tomograms
        monkeypatch.setattr(module, name, lambda **_: None)
    labels = torch.randint(3, (32, 32, 32))
    sample = {"image": images()[0], "labels": labels, "distances": torch.rand(3, 32, 32, 32)}
    trainer = Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        accelerator="cpu",
        max_steps=2,
        limit_val_batches=0,
    )
    before = module._model.semantic_head[0].weight.clone()
    trainer.fit(module, DataLoader([sample] * 4, batch_size=2))
    trainer.save_checkpoint(tmp_path / "theirs.ckpt")
    assert not torch.equal(module._model.semantic_head[0].weight, before)
    assert torch.load(tmp_path / "theirs.ckpt", weights_only=False)["optimizer_states"]
    module.eval()
    expected = their_outputs(module._model_backbone, module._model, "semantic")
    assert_same(our_outputs(tmp_path / "theirs.ckpt", "semantic"), expected, "their training")


@pytest.mark.parametrize("contrastive", [False, True])
def test_their_embedding_models_in_ours(tmp_path: Path, contrastive: bool) -> None:
    nets = importlib.import_module("cryosiam.networks.nets")
    names = ("block_type", "spatial_dims", "num_layers", "num_filters", "no_max_pool")
    network = {name: NETWORK[name] for name in (*names, "in_channels", "dim", "pred_dim")}
    torch.manual_seed(2)
    described = {name: value for name, value in network.items() if name != "in_channels"}
    theirs = nets.SimSiam(**described, n_input_channels=1)
    theirs(images(seed=1), images(seed=2))  # statistics of the normalisations
    theirs.eval()
    data = {"patch_size": [32, 32, 32]}
    config = {"parameters": {"network": network, "data": data}}
    hyper_parameters = {"config": config}
    if contrastive:
        hyper_parameters = {
            "config": {"parameters": {"network": {}, "data": data}},
            "backbone_config": config,
        }
    state_dict = {f"_model.{name}": tensor for name, tensor in theirs.state_dict().items()}
    checkpoint = {"state_dict": state_dict, "hyper_parameters": hyper_parameters}
    torch.save(checkpoint, tmp_path / "theirs.ckpt")
    loaded = load_checkpoint(tmp_path / "theirs.ckpt")
    own = load_network(loaded, "embedding")
    assert isinstance(own, SimSiam)
    assert describe(loaded).contrastive == contrastive
    with torch.no_grad():
        found = {"embedded": own.embed(images(), contrastive=contrastive)}
        expected = {"embedded": theirs.forward_one(images())[int(contrastive)]}
    assert_same(found, expected, "their embedding")


@pytest.mark.parametrize("kind", ["semantic", "denoising", "backbone"])
def test_our_trainings_begin_with_their_models(data: Path, tmp_path: Path, kind: str) -> None:
    pretrained = their_backbone(tmp_path)
    config = training_config(
        data, tmp_path / "log", kind, pretrained_model=pretrained, schedule={"max_epochs": 1}
    )
    start = starting_network(config)
    own = getattr(start.network, "backbone", start.network).state_dict()
    theirs = torch.load(pretrained, weights_only=True)["state_dict"]
    assert all(torch.equal(own[name], theirs[f"_model.{name}"]) for name in own)
    assert run(config, arguments()).done == ["training"]
