"""Which models a form offers, what is known about each, and what to do about a missing one."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from cryosiam_plugin import Plugin
from cryosiam_plugin.protocols import ProtCryosiamSemantic
from cryosiam_plugin.protocols import model_choice as choice
from cryosiam_plugin.protocols.checkpoint_summary import (
    CheckpointSummaryError,
    summarise_checkpoint,
)
from cryosiam_plugin.protocols.model_form import defineModelParams
from cryosiam_plugin.published_models import BUILT_IN_FILE, read_built_in_models
from cryosiam_plugin.wizards.model_files import model_files

SEMANTIC = {"config": {"parameters": {"network": {"out_channels": 5}}}}


def write_safetensors(path: Path, names: tuple[str, ...], described: object) -> Path:
    """The format by hand: a length, JSON, and the numbers."""
    header: dict = {"__metadata__": {"hyper_parameters": json.dumps(described)}}
    for n, name in enumerate(names):
        header[name] = {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4 * len(names)))
    return path


# ------------------------------------------------------------------ what a file says


@pytest.mark.parametrize(
    ("weight", "described", "expected"),
    [
        ("_model.cnn_head.0.weight", {}, ("denoising", 0)),
        ("_model.semantic_head.0.weight", SEMANTIC, ("semantic", 4)),
        ("_model.foreground_head.0.weight", {}, ("instance", 0)),
        ("_model.encoder.fc.0.weight", {}, ("embedding", 0)),
    ],
)
def test_safetensors_are_summarised(weight, described, expected, tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors(path, ("_model.encoder.conv1.weight", weight), described)
    summary = summarise_checkpoint(str(path))
    assert (summary.task, summary.n_classes) == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"12345678{",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"{x",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        struct.pack("<Q", 200_000) + b'{"a":' + b"[" * 200_000,
        struct.pack("<Q", 20) + b'{"__metadata__": {}}',
        struct.pack("<Q", 20) + b'{"__metadata__": 12}',
    ],
)
def test_damaged_safetensors_are_told(content, tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointSummaryError, match=r"model\.safetensors"):
        summarise_checkpoint(str(path))


def test_safetensors_of_another_program_are_no_model(tmp_path) -> None:
    path = write_safetensors(tmp_path / "llm.safetensors", ("layers.0.weight",), SEMANTIC)
    with pytest.raises(CheckpointSummaryError, match="no model of CryoSiam"):
        summarise_checkpoint(str(path))


# ------------------------------------------------------------------ built-in models


@pytest.mark.parametrize("model", Plugin.builtInModels(), ids=lambda m: m.name)
def test_built_in_models_are_what_their_list_says(model) -> None:
    if not model.location.is_file():
        pytest.skip(f"{model.file} has not been made")
    summary = summarise_checkpoint(str(model.location))
    task = "semantic" if model.task == "lamella" else model.task
    assert summary.task == task
    assert summary.n_classes == len(model.classes)
    chosen = choice.builtIn(model)
    assert (chosen.problem, chosen.task, chosen.voxel_size) == ("", model.task, 13.48)
    assert chosen.classes == model.classes


def test_a_newer_list_of_built_in_models_does_not_hurt(tmp_path) -> None:
    newer = tmp_path / "models.yaml"
    newer.write_text(BUILT_IN_FILE.read_text("utf-8").replace("  task:", "  colour: red\n  task:"))
    assert read_built_in_models(newer) == read_built_in_models()


# ------------------------------------------------------------------ the form


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(Plugin, "getModelsFolder", classmethod(lambda cls: str(tmp_path)))
    return tmp_path


def form_of(protocol: type) -> dict[str, dict]:
    """What a form declares, by the parameters' names."""
    declared: dict[str, dict] = {}
    form = SimpleNamespace(addParam=lambda name, kind, **options: declared.update({name: options}))
    defineModelParams(form, Plugin, protocol.MODEL_TASKS, "semantic")
    return declared


def test_the_form_shows_which_models_are_there(domain, folder) -> None:
    semantic = next(m for m in Plugin.publishedModels() if m.name == "semantic")
    (folder / semantic.file).write_bytes(b"x")
    listed = form_of(ProtCryosiamSemantic)["publishedModel"]
    assert listed["choices"] == [
        "semantic",
        "ribosome (not installed)",
        "particles-mycoplasma (not installed)",
        "demo-semantic (for trying out)",
    ]
    assert listed["default"] == 0
    assert "scipion3 installb cryosiam_models-semantic" in listed["help"]
    assert "not for real data" in listed["help"]


def test_saved_forms_keep_their_model() -> None:
    """A form remembers the place in the list."""
    for tasks in (("denoising",), ("lamella",), ("semantic",), ("instance",), ("embedding",)):
        offered = choice.offeredFor(Plugin, tasks)
        published = [m for m in Plugin.publishedModels() if m.task in tasks]
        assert offered[: len(published)] == published
        assert [m.name for m in offered[len(published) :]] == [f"demo-{tasks[0]}"]


class Chosen:
    """A protocol, as far as the choice of a model looks at it."""

    MODEL_TASKS = ("semantic",)

    def __init__(self, published: int = 0, file: str = "", source: int = choice.PUBLISHED) -> None:
        for name, value in (
            ("modelSource", source),
            ("publishedModel", published),
            ("modelFile", file),
        ):
            setattr(self, name, SimpleNamespace(get=lambda value=value: value))

    def getClassPackage(self) -> SimpleNamespace:
        return SimpleNamespace(Plugin=Plugin)


def test_a_missing_model_is_told_with_the_command_that_gets_it(folder) -> None:
    chosen = choice.chosenModel(Chosen(published=1))
    assert chosen.name == "ribosome"
    assert "scipion3 installb cryosiam_models-ribosome" in chosen.problem
    assert str(folder / "cryosiam_ribosome_segmentation.ckpt") in chosen.problem
    (folder / "cryosiam_ribosome_segmentation.ckpt").write_bytes(b"x")
    assert choice.chosenModel(Chosen(published=1)).problem == ""


def test_a_demo_model_can_be_chosen(folder) -> None:
    chosen = choice.chosenModel(Chosen(published=3))
    [model] = [m for m in Plugin.builtInModels() if m.task == "semantic"]
    assert (chosen.name, chosen.path) == ("demo-semantic", str(model.location))
    assert chosen.classes == {1: "membrane", 2: "ribosome", 3: "proteasome", 4: "rubisco"}
    assert chosen.n_classes == 4
    assert bool(chosen.problem) != model.location.is_file()
    assert choice.modelProblem(chosen, ("semantic",)) == (chosen.problem or None)


def test_a_safetensors_file_can_be_chosen(tmp_path) -> None:
    path = write_safetensors(
        tmp_path / "mine.safetensors", ("_model.semantic_head.0.weight",), SEMANTIC
    )
    chosen = choice.chosenModel(Chosen(file=str(path), source=choice.FILE))
    assert (chosen.task, chosen.n_classes, chosen.problem) == ("semantic", 4, "")


def test_the_wizard_lists_every_kind_of_model(tmp_path) -> None:
    published = Plugin.publishedModels()
    (tmp_path / published[2].file).write_bytes(b"x" * 1_000_000)
    write_safetensors(tmp_path / "mine.safetensors", ("_model.semantic_head.0.weight",), SEMANTIC)
    (tmp_path / ".half.ckpt").write_bytes(b"has not arrived completely")
    (tmp_path / "folder.ckpt").mkdir()
    found = model_files(tmp_path, published, ["semantic"], Plugin.builtInModels())
    names = [m.path.name for m in found]
    assert names[:2] == [published[2].file, "mine.safetensors"]
    assert set(names[2:]) <= {"demo_semantic.safetensors"}
    assert [m.task for m in found[:2]] == ["semantic", "semantic"]


def test_the_demo_model_for_embeddings_gets_what_it_was_trained_with(folder) -> None:
    from cryosiam_plugin.protocols import ProtCryosiamEmbeddings

    [model] = [m for m in Plugin.builtInModels() if m.task == "embedding"]
    required = choice.builtIn(model).required
    assert required["contrastive"] is False
    assert required["parameters"]["data"]["patch_size"] == [32, 32, 32]
    protocol = ProtCryosiamEmbeddings()
    offered = choice.offeredFor(Plugin, ProtCryosiamEmbeddings.MODEL_TASKS)
    protocol.publishedModel.set(offered.index(model))
    assert protocol._maskingType() == model.masking_type
    keys = protocol._configuration()
    assert keys["contrastive"] is False
    assert keys["parameters"]["data"]["patch_size"] == [32, 32, 32]
    protocol.publishedModel.set(0)
    keys = protocol._configuration()
    assert keys["contrastive"] is True
    assert keys["parameters"]["data"]["patch_size"] == [64, 64, 64]
