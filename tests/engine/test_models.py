from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryosiam_engine.config import CONFIGS, RunConfig, validate_keys
from cryosiam_engine.config.yaml_file import YamlDocument
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.models import (
    PublishedModel,
    find_model,
    format_table,
    models_folder,
    published_models,
    run,
    to_json,
)

MODELS = published_models()


def test_the_eleven_published_models_are_told_apart():
    assert len(MODELS) == 11
    assert len({m.name for m in MODELS}) == len({m.file for m in MODELS}) == 11
    assert len({m.description for m in MODELS}) == 11
    assert {m.task for m in MODELS} == {
        "denoising",
        "lamella",
        "semantic",
        "instance",
        "backbone",
        "embedding",
    }


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_every_entry_is_complete(model):
    assert model.file.endswith(".ckpt")
    assert Path(model.file).name == model.file
    assert model.url.startswith("https://")
    assert model.url.endswith(f"{model.repository}/resolve/main/{model.file}")
    assert "\n" not in model.description
    assert (model.masking_type is not None) == (model.task == "embedding")
    assert model.sha256 is None or (len(model.sha256) == 64 and int(model.sha256, 16))
    assert all(type(label) is int and label > 0 for label in model.classes)


def test_every_masking_has_its_embedding_model():
    assert sorted(m.masking_type for m in MODELS if m.task == "embedding") == [0, 1, 2]
    assert find_model("simsiam_embeds_denoised_no_masking").masking_type == 0
    assert find_model("simsiam_embeds_denoised_strict").masking_type == 2


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_recommended_settings_are_settings_of_a_configuration(model):
    validate_keys(YamlDocument(Path(model.file), dict(model.recommended), {}))


COMMANDS = {
    "denoising": ["denoise_predict"],
    "lamella": ["semantic_predict"],
    "semantic": ["semantic_predict"],
    "particles-mycoplasma": ["semantic_predict", "semantic_to_centers"],
}


@pytest.mark.parametrize(
    ("name", "command"), [(name, c) for name, commands in COMMANDS.items() for c in commands]
)
def test_recommended_settings_make_a_valid_configuration(name, command):
    model = find_model(name)
    paths = {"data_folder": "a", "prediction_folder": "b", "trained_model": model.file}
    config: RunConfig = CONFIGS[command].model_validate({**paths, **model.recommended})
    network = model.recommended.get("parameters", {}).get("network", {})
    for key in {"threshold", "postprocessing", "out_channels", "min_voxels"} & network.keys():
        if hasattr(config, key):
            assert getattr(config, key) == network[key]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_models_are_found_by_every_name(model):
    path = Path("/somewhere/else") / model.file
    for name in (model.name, model.file, path, path.stem, model.name.upper()):
        assert find_model(name) is model


def test_an_unknown_model_is_refused_with_names():
    with pytest.raises(ConfigurationError, match="No published model is called lamela") as caught:
        find_model("lamela")
    assert "Did you mean lamella?" in caught.value.remedy
    with pytest.raises(ConfigurationError) as caught:
        find_model("xyzzy")
    assert all(model.name in caught.value.remedy for model in MODELS)


def test_a_change_to_the_list_does_not_change_the_registry():
    published_models().clear()
    assert published_models() == MODELS


@pytest.fixture
def some_models(tmp_path: Path) -> list[PublishedModel]:
    """The first two models lie in the folder, the third is a folder of that name."""
    for model in MODELS[:2]:
        (tmp_path / model.file).touch()
    (tmp_path / MODELS[2].file).mkdir()
    return MODELS[:2]


def test_the_table_says_what_is_present(some_models, tmp_path):
    lines = format_table(MODELS, tmp_path).splitlines()
    header, rows = lines[0], lines[1 : 1 + len(MODELS)]
    column = header.index("here")
    for model, row in zip(MODELS, rows, strict=True):
        assert row.startswith(model.name)
        assert model.file in row
        assert row.endswith(model.description)
        present = row[column : column + 4].strip()
        assert present == ("yes" if model in some_models else "no")
    assert str(tmp_path) in lines[-1]


def test_the_table_without_a_folder_says_how_to_give_one():
    table = format_table(MODELS, None)
    assert "here" not in table.splitlines()[0]
    assert "CRYOSIAM_MODELS" in table.splitlines()[-1]


def test_json_has_everything(some_models, tmp_path):
    entries = json.loads(to_json(MODELS, tmp_path))
    assert [e["name"] for e in entries] == [m.name for m in MODELS]
    for model, entry in zip(MODELS, entries, strict=True):
        expected = str(tmp_path / model.file) if model in some_models else None
        assert entry["path"] == expected
        assert entry["url"] == model.url
        assert entry["recommended"] == model.recommended
    assert all(e["path"] is None for e in json.loads(to_json(MODELS, None)))


def test_where_models_are_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("CRYOSIAM_MODELS", raising=False)
    assert models_folder() is None
    monkeypatch.setenv("CRYOSIAM_MODELS", str(tmp_path))
    assert models_folder() == tmp_path
    assert models_folder("other") == Path("other")
    monkeypatch.setenv("HOME", "/people/ada")
    assert models_folder("~/models") == Path("/people/ada/models")


def test_the_command_prints_the_table_or_json(some_models, tmp_path, capsys):
    assert run(argparse.Namespace(folder=str(tmp_path), json=False)) == 0
    assert capsys.readouterr().out == format_table(MODELS, tmp_path) + "\n"
    assert run(argparse.Namespace(folder=str(tmp_path), json=True)) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(MODELS)


def test_listing_models_does_not_load_torch():
    code = "import sys, cryosiam_engine.models as m; m.find_model('lamella'); print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "cryosiam_engine.models" in modules
    assert "torch" not in modules
