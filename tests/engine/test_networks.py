from __future__ import annotations

import copy
import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryosiam_engine.checkpoint import Checkpoint, load_checkpoint
from cryosiam_engine.errors import CheckpointError
from cryosiam_engine.networks import (
    DenseModel,
    SimSiam,
    build_network,
    describe,
    load_network,
    prepare_for_inference,
    published_state_dict,
    random_checkpoint,
    read_description,
)
from cryosiam_engine.networks.receptive_field import receptive_field
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

TASKS = {
    "denoising": "denoising",
    "instance": "instance",
    "lamella": "semantic",
    "semantic5": "semantic",
    "variants/basic": "denoising",
    "variants/bifpn": "denoising",
    "variants/bifpn1": "denoising",
    "variants/deep": "denoising",
    "variants/later_conv": "denoising",
    "variants/levels": "denoising",
    "variants/maxpool": "denoising",
}
EMBEDDINGS = ("simsiam_contrastive", "simsiam_plain", "variants/simsiam_maxpool_basic")
ALL_TASKS = ("denoising", "semantic", "instance", "dense_simsiam", "embedding")
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "later_conv": {"add_fpn_later_conv": True},
    "basic": {"block_type": "basic"},
    "deep": {"num_layers": [1, 2, 1, 2]},
    "bifpn1": {"decoder_type": "bifpn", "fpn_layers": 1},
    "bifpn2": {"decoder_type": "bifpn", "fpn_layers": 2},
    "bifpn_basic": {"decoder_type": "bifpn", "block_type": "basic"},
    "levels": {"include_levels_loss": True},
    "max_pool": {"no_max_pool": False},
    "plane": {"spatial_dims": 2},
}


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 2))
    yield
    torch.set_num_threads(before)


def stand_in(content: dict[str, Any], path: str | Path = "model.ckpt") -> Checkpoint:
    return Checkpoint(Path(path), "", content["state_dict"], content["hyper_parameters"])


def golden_checkpoint(golden: Path, name: str) -> Checkpoint:
    path = golden / "ckpt" / f"{name}.ckpt"
    return stand_in(torch.load(path, map_location="cpu", weights_only=True), path)


def golden_maps(golden: Path, name: str) -> dict[str, Tensor]:
    with np.load(golden / "21_network" / f"{name.replace('/', '_')}.npz") as maps:
        return {key: torch.from_numpy(maps[key]) for key in maps.files}


def assert_same(actual: Tensor, expected: Tensor) -> None:
    # Rounding grows with the values: 1e-5 up to 1, and relative to the largest above.
    tolerance = 1e-5 * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@functools.cache
def variant_content(task: str, name: str, *, spatial_dims: int = 3) -> dict[str, Any]:
    return random_checkpoint(task, backbone={"spatial_dims": spatial_dims, **VARIANTS[name]})


def variant_model(task: str, name: str = "default", *, spatial_dims: int = 3) -> DenseModel:
    return load_network(stand_in(variant_content(task, name, spatial_dims=spatial_dims)))


# ---------------------------------------------------------------- agreement with the original


@pytest.mark.parametrize("name", TASKS)
@torch.inference_mode()
def test_maps_of_dense_models_are_the_originals(golden: Path, name: str) -> None:
    maps = golden_maps(golden, name)
    backbone = load_network(golden_checkpoint(golden, name), TASKS[name]).backbone
    levels = backbone.encoder.pyramid(maps["x"])
    pooled = backbone.encoder.pool(levels[-1])
    computed = {"stem": backbone.encoder.stem()(maps["x"]), "pooled": pooled}
    computed |= {f"res{number}": level for number, level in enumerate(levels, start=2)}
    computed["z_global"] = backbone.global_projector(pooled)
    computed["decoder"] = backbone.decoder(levels)
    computed["z"] = backbone(maps["x"])
    stored = computed.keys() & maps.keys()
    assert {"pooled", "z_global", "z"} <= stored
    for key in stored:
        assert_same(computed[key][: len(maps[key])], maps[key])


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("name", TASKS)
@torch.inference_mode()
def test_outputs_for_inference_are_the_originals(golden: Path, name: str, fold: bool) -> None:
    maps = golden_maps(golden, name)
    network = prepare_for_inference(load_network(golden_checkpoint(golden, name)), fold=fold)
    z = network.features(maps["x"])
    assert_same(z, maps["z"])
    for head, output in network.heads(z, network.head_names).items():
        assert_same(output, maps["out" if head == "denoised" else head])


@pytest.mark.parametrize("name", EMBEDDINGS)
@torch.inference_mode()
def test_embeddings_are_the_originals(golden: Path, name: str) -> None:
    maps = golden_maps(golden, name)
    network = load_network(golden_checkpoint(golden, name), "embedding")
    assert_same(network.embed(maps["x"], contrastive=False), maps["z"])
    assert_same(network.embed(maps["x"], contrastive=True), maps["p_normalised"])


def test_descriptions_are_read_from_the_checkpoint(golden: Path) -> None:
    semantic = describe(golden_checkpoint(golden, "semantic5"))
    assert (semantic.head.out_channels, semantic.head.filters) == (5, (32, 64))
    assert semantic.patch_size == (32, 32, 32)
    assert describe(golden_checkpoint(golden, "simsiam_contrastive")).contrastive
    assert not describe(golden_checkpoint(golden, "simsiam_plain")).contrastive
    pretrained = load_network(golden_checkpoint(golden, "dense_simsiam_pretrained"))
    assert pretrained.description.dense_dim == 8


def test_full_size_has_the_published_keys_and_shapes(shared: Path) -> None:
    text = (shared / "STATE_DICT_KEYS.md").read_text(encoding="utf-8")
    sections = [part for part in text.split("\n## ") if "```" in part]
    listed = {
        section.split("\n")[0].split(",")[0]: {
            key: tuple(int(edge) for edge in re.findall(r"\d+", shape))
            for key, shape in re.findall(r"^(\S+)  \((.*?)\)", section, flags=re.MULTILINE)
        }
        for section in sections
    }
    denoising = random_checkpoint("denoising", full_size=True)["state_dict"]
    shapes = {key: tuple(tensor.shape) for key, tensor in denoising.items()}
    backbone = {f"_model_backbone.{k}": v for k, v in listed["Dense backbone"].items()}
    head = {f"_model.{k}": v for k, v in listed["CNNHead"].items()}
    assert shapes == backbone | head
    embedding = random_checkpoint("embedding", full_size=True)["state_dict"]
    shapes = {key: tuple(tensor.shape) for key, tensor in embedding.items()}
    assert shapes == {f"_model.{k}": v for k, v in listed["SimSiam"].items()}


# ---------------------------------------------------------------- loading


@pytest.fixture(scope="module")
def semantic() -> dict[str, Any]:
    return random_checkpoint("semantic", out_channels=3)


def changed(content: dict[str, Any], **weights: Tensor | None) -> Checkpoint:
    """Replace weights, or remove those given as None; dots are written as two underscores."""
    state_dict = dict(content["state_dict"])
    for name, tensor in weights.items():
        key = name.replace("__", ".")
        state_dict[key] = tensor
        if tensor is None:
            del state_dict[key]
    return stand_in({**content, "state_dict": state_dict})


def test_missing_unexpected_and_foreign_weights_are_named(semantic: dict[str, Any]) -> None:
    broken = changed(
        semantic,
        _model_backbone__decoder__layer1__bias=None,
        _model_backbone__decoder__layer9__bias=torch.zeros(1),
        _model__semantic_head__6__bias=torch.zeros(4),
    )
    with pytest.raises(CheckpointError) as caught:
        load_network(broken)
    assert "missing: backbone.decoder.layer1.bias" in caught.value.message
    assert "unexpected: backbone.decoder.layer9.bias" in caught.value.message
    assert "head.semantic_head.6.bias (4,) instead of (3,)" in caught.value.message
    assert "model.ckpt" in caught.value.message
    assert caught.value.remedy


def test_at_most_five_weights_are_named(semantic: dict[str, Any]) -> None:
    removed = {
        key: value
        for key, value in semantic["state_dict"].items()
        if not key.startswith("_model_backbone.projector.")
    }
    with pytest.raises(CheckpointError, match="and 12 more") as caught:
        load_network(stand_in({**semantic, "state_dict": removed}))
    assert caught.value.message.count("backbone.projector.") == 5


def test_unrelated_keys_are_ignored(semantic: dict[str, Any]) -> None:
    extended = changed(semantic, loss__weight=torch.ones(3))
    loaded = load_network(extended).state_dict()
    original = load_network(stand_in(semantic)).state_dict()
    assert loaded.keys() == original.keys()
    assert all(torch.equal(loaded[key], original[key]) for key in original)


@pytest.mark.parametrize("kept", ["encoder.fc", "global_projector.6"])
def test_the_shared_layer_may_have_either_name(semantic: dict[str, Any], kept: str) -> None:
    other = {"encoder.fc": "global_projector.6", "global_projector.6": "encoder.fc"}[kept]
    state_dict = {k: v for k, v in semantic["state_dict"].items() if other not in k}
    assert len(state_dict) == len(semantic["state_dict"]) - 2
    backbone = load_network(stand_in({**semantic, "state_dict": state_dict})).backbone
    assert backbone.encoder.fc is backbone.global_projector[6]
    expected = semantic["state_dict"]["_model_backbone.encoder.fc.weight"]
    assert torch.equal(backbone.encoder.fc.weight, expected)


def test_a_model_of_another_task_is_refused(semantic: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"semantic segmentation.*denoise_predict needs"):
        load_network(stand_in(semantic), "denoising")
    assert isinstance(load_network(stand_in(semantic), "semantic"), DenseModel)


def test_a_foreign_file_is_refused() -> None:
    foreign = {"state_dict": {"conv.weight": torch.ones(1)}, "hyper_parameters": {}}
    with pytest.raises(CheckpointError, match="not a CryoSiam model") as caught:
        describe(stand_in(foreign))
    assert "trained_model" in caught.value.remedy


@pytest.mark.parametrize(
    ("owner", "section", "key"),
    [
        ("backbone_config", "network", "num_filters"),
        ("backbone_config", "network", "fpn_channels"),
        ("config", "network", "filters"),
        ("config", "network", "padding"),
        ("config", "data", "patch_size"),
    ],
)
@pytest.mark.parametrize("broken", [None, "?", [1, 2, 3, -4]])
def test_missing_and_impossible_settings_are_named(
    owner: str, section: str, key: str, broken: Any
) -> None:
    content = copy.copy(variant_content("instance", "default"))
    content["hyper_parameters"] = copy.deepcopy(content["hyper_parameters"])
    content["hyper_parameters"][owner]["parameters"][section][key] = broken
    with pytest.raises(CheckpointError, match=key):
        describe(stand_in(content))


def test_a_checkpoint_without_hyper_parameters_is_refused(semantic: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"lacks hyper_parameters\.backbone_config"):
        describe(stand_in({**semantic, "hyper_parameters": {}}))


def test_semantic_heads_have_the_width_of_their_weights(semantic: dict[str, Any]) -> None:
    # The original ignores what the file notes, so the two may differ.
    network = semantic["hyper_parameters"]["config"]["parameters"]["network"]
    config = {"parameters": {"data": {"patch_size": [32] * 3}, "network": {**network}}}
    config["parameters"]["network"]["filters"] = [5, 7]
    hyper_parameters = {**semantic["hyper_parameters"], "config": config}
    content = {**semantic, "hyper_parameters": hyper_parameters}
    assert load_network(stand_in(content)).description.head.filters == (8, 16)


def test_loading_copies_the_weights(semantic: dict[str, Any]) -> None:
    network = load_network(stand_in(semantic))
    assert not network.training
    with torch.no_grad():
        network.backbone.encoder.conv1.weight.zero_()
    assert semantic["state_dict"]["_model_backbone.encoder.conv1.weight"].abs().sum() > 0


# ---------------------------------------------------------------- inference


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> DenseModel:
    # In double precision, so that rounding cannot hide or cause a difference.
    return variant_model("instance", request.param).double()


def image_for(model: DenseModel) -> Tensor:
    edges = (16,) * model.description.backbone.spatial_dims
    generator = torch.Generator().manual_seed(3)
    return torch.rand(1, 1, *edges, generator=generator, dtype=torch.float64)


@torch.inference_mode()
def test_folded_and_plain_equal_the_whole_model(variant: DenseModel) -> None:
    x = image_for(variant)
    before = {key: value.clone() for key, value in variant.state_dict().items()}
    expected = variant(x)
    for fold in (False, True):
        network = prepare_for_inference(variant, fold=fold)
        outputs = network(x)
        assert outputs.keys() == expected.keys() == set(network.head_names)
        for name, output in outputs.items():
            assert output.shape[2:] == tuple(edge // network.output_stride for edge in x.shape[2:])
            torch.testing.assert_close(output, expected[name], rtol=0, atol=1e-10)
    after = variant.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_nothing_unused_is_kept(variant: DenseModel) -> None:
    for fold in (False, True):
        network = prepare_for_inference(variant, fold=fold).requires_grad_(True)
        outputs = network(image_for(variant))
        torch.stack([output.sum() for output in outputs.values()]).sum().backward()
        unused = [name for name, weight in network.named_parameters() if weight.grad is None]
        assert not unused
        assert fold != any(isinstance(module, _BatchNorm) for module in network.modules())


def test_inference_keeps_neither_gradients_nor_training_mode() -> None:
    network = prepare_for_inference(variant_model("denoising").train())
    assert not any(module.training for module in network.modules())
    assert not any(weight.requires_grad for weight in network.parameters())


@torch.inference_mode()
def test_only_the_named_heads_are_computed() -> None:
    network = prepare_for_inference(variant_model("instance"))
    z = network.features(torch.rand(1, 1, 16, 16, 16))
    everything = network.heads(z, network.head_names)
    calls: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_hook(lambda module, *_: calls.append(module))
    some = network.heads(z, {"foreground"})
    assert some.keys() == {"foreground"}
    assert len(calls) == 3
    assert torch.equal(some["foreground"], everything["foreground"])


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@torch.inference_mode()
def test_heads_on_a_crop_need_the_head_margin_only(kernel_size: int) -> None:
    content = random_checkpoint("semantic", out_channels=2)
    description = content["hyper_parameters"]["config"]["parameters"]["network"]
    description |= {"kernel_size": kernel_size, "padding": kernel_size // 2}
    model = build_network(read_description("semantic", content["hyper_parameters"], Path("x")))
    network = prepare_for_inference(model.eval())
    assert network.head_margin == 3 * (kernel_size // 2)
    z = torch.randn(1, 8, 24, 16, 16)
    low, high, margin = 9, 14, network.head_margin
    whole = network.heads(z, ["logits"])["logits"][:, :, low:high]
    crop = network.heads(z[:, :, low - margin : high + margin], ["logits"])["logits"]
    assert_same(crop[:, :, margin : margin + high - low], whole)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 12), st.sampled_from(["default", "bifpn_basic", "later_conv"]))
def test_tiles_agree_with_the_whole_inside_the_receptive_field(place: int, name: str) -> None:
    model = variant_model("denoising", name, spatial_dims=2).double()
    network = prepare_for_inference(model)
    below, above = network.receptive_field
    start = place * network.alignment
    size = -(-(below + above + 20) // network.alignment) * network.alignment
    x = torch.rand(1, 1, 320, 32, dtype=torch.float64)
    with torch.inference_mode():
        whole = network(x)["denoised"][:, :, start : start + size]
        tile = network(x[:, :, start : start + size])["denoised"]
    inner = slice(below if start else 0, size - above)
    torch.testing.assert_close(tile[:, :, inner], whole[:, :, inner], rtol=0, atol=1e-10)


def all_positive(model: DenseModel) -> DenseModel:
    """Weights and activations above 0, so that no path through the network cancels another."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1.0 / max(1, weight[0].numel()))
    return model.double().eval()


@pytest.mark.parametrize("name", ["default", "later_conv", "basic", "deep", "bifpn2", "max_pool"])
def test_receptive_field_is_that_of_the_gradients(name: str) -> None:
    # In 2D for speed: an axis does not know how many others there are.
    model = all_positive(variant_model("denoising", name, spatial_dims=2))
    network = prepare_for_inference(model, fold=False)
    for parent in network.modules():
        for child_name, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):  # whose gradient goes to the largest voxel only
                setattr(parent, child_name, nn.AvgPool2d(3, stride=2, padding=1))
    stride, period = network.output_stride, network.alignment // network.output_stride
    x = torch.rand(1, 1, 160, 16, dtype=torch.float64).requires_grad_(True)
    output = network(x)["denoised"]
    below = above = 0
    for place in range(80 // stride, 80 // stride + period):
        (gradient,) = torch.autograd.grad(output[0, 0, place, 4], x, retain_graph=True)
        reached = gradient[0, 0].sum(dim=1).nonzero()[:, 0]
        below = max(below, place * stride - int(reached.min()))
        above = max(above, int(reached.max()) - place * stride)
    assert (below, above) == network.receptive_field


def test_receptive_field_of_a_deep_network_was_measured_elsewhere() -> None:
    # Measured once with the gradients of the original's modules.
    checkpoint = random_checkpoint("denoising", backbone={"num_layers": [3, 4, 6, 3]})
    description = read_description("denoising", checkpoint["hyper_parameters"], Path("x"))
    assert receptive_field(description) == (72, 65)


@pytest.mark.parametrize("out_channels", [1, 200])
@torch.inference_mode()
def test_memory_estimate_covers_the_largest_layer(out_channels: int) -> None:
    network = prepare_for_inference(
        load_network(stand_in(random_checkpoint("semantic", out_channels=out_channels)))
    )
    largest = 0

    def measure(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal largest
        largest = max(largest, inputs[0].numel() + output.numel())

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(measure)
    network(torch.rand(1, 1, 32, 32, 32))
    estimate = max(network.feature_bytes_per_voxel(4), network.head_bytes_per_voxel(4))
    # Probabilities in float32 beside the logits are counted, which no layer holds.
    assert 1 <= estimate / (4 * largest / 32**3) <= 6
    assert network.feature_bytes_per_voxel(2) == network.feature_bytes_per_voxel(4) / 2


# ---------------------------------------------------------------- untrained checkpoints


@pytest.mark.parametrize("task", ALL_TASKS)
def test_random_checkpoints_survive_a_file(task: str, tmp_path: Path) -> None:
    content = random_checkpoint(task, out_channels=4 if task == "semantic" else 1, patch_size=48)
    torch.save(content, tmp_path / "untrained.ckpt")
    checkpoint = load_checkpoint(tmp_path / "untrained.ckpt", cache=False)
    network = load_network(checkpoint, task)
    assert describe(checkpoint).task == task
    assert describe(checkpoint).patch_size == (48, 48, 48)
    assert published_state_dict(network).keys() == content["state_dict"].keys()
    x = torch.rand(2, 1, 32, 32, 32)
    with torch.inference_mode():
        outputs = network(x)
    for output in outputs.values() if isinstance(outputs, dict) else [outputs]:
        assert output.isfinite().all()
        assert output.std() > 0.1  # not degenerate
    if isinstance(network, SimSiam):
        lengths = network.embed(x, contrastive=True).norm(dim=1)
        torch.testing.assert_close(lengths, torch.ones(2))


def test_random_checkpoints_are_reproducible() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (random_checkpoint("denoising", seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), state)
    key = "_model_backbone.encoder.conv1.weight"
    for name, tensor in one["state_dict"].items():
        torch.testing.assert_close(same["state_dict"][name], tensor)
    assert not torch.equal(one["state_dict"][key], other["state_dict"][key])


def test_a_two_dimensional_patch_becomes_one_section_thick() -> None:
    content = random_checkpoint("denoising", backbone={"spatial_dims": 2})
    content["hyper_parameters"]["config"]["parameters"]["data"]["patch_size"] = [64, 48]
    assert describe(stand_in(content)).patch_size == (1, 64, 48)
