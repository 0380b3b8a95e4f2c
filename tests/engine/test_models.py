from __future__ import annotations

import csv
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cryosiam_engine import origin
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.cli import main
from cryosiam_engine.config import CONFIGS, RunConfig, validate_keys
from cryosiam_engine.config.yaml_file import YamlDocument
from cryosiam_engine.errors import CheckpointError, ConfigurationError
from cryosiam_engine.models import (
    PublishedModel,
    built_in_models,
    find_built_in,
    find_model,
    format_table,
    models_folder,
    published_models,
    to_json,
)
from cryosiam_engine.models.advice import download_command, for_missing, without_internet
from cryosiam_engine.models.record import ModelRecord, check_record, read_records, write_record
from cryosiam_engine.models.verify import verify_folder
from cryosiam_engine.provenance.converted import CONVERTED_FROM
from safetensors.torch import save_file

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
    assert model.url.endswith(f"{model.repository}/resolve/{model.revision}/{model.file}")
    assert model.revision
    assert "\n" not in model.description
    assert (model.masking_type is not None) == (model.task == "embedding")
    assert model.sha256 is None or (len(model.sha256) == 64 and int(model.sha256, 16))
    assert all(type(label) is int and label > 0 for label in model.classes)


def test_every_masking_has_its_embedding_model():
    assert sorted(m.masking_type for m in MODELS if m.task == "embedding") == [0, 1, 2]
    assert find_model("simsiam_embeds_denoised_no_masking").masking_type == 0
    assert find_model("simsiam_embeds_denoised_strict").masking_type == 2


@pytest.mark.parametrize("model", [*MODELS, *built_in_models()], ids=lambda m: m.name)
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


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_into_the_terminal(width, tmp_path):
    lines = format_table(MODELS, tmp_path, width).splitlines()[:-2]
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).split())
    for model in MODELS:
        assert f"{model.name} {model.task} no {' '.join(model.description.split()[:2])}" in words
    wide = format_table(MODELS, tmp_path)
    assert format_table(MODELS, tmp_path, 1000) == wide
    assert all(model.file in wide for model in MODELS)


def test_the_table_without_a_folder_says_how_to_give_one():
    table = format_table(MODELS, None)
    assert " yes " not in table
    assert " no " not in table
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


def models_command(*argv: str) -> int:
    return main(["models", *argv])


def test_the_command_prints_the_table_or_json(some_models, tmp_path, capsys):
    assert models_command("list", "--folder", str(tmp_path)) == 0
    everything = [*MODELS, *built_in_models()]
    assert capsys.readouterr().out == format_table(everything, tmp_path) + "\n"
    assert models_command("list", "--folder", str(tmp_path), "--json") == 0
    entries = json.loads(capsys.readouterr().out)
    assert [e["name"] for e in entries if not e["built_in"]] == [m.name for m in MODELS]
    assert [e["name"] for e in entries if e["built_in"]] == [m.name for m in built_in_models()]


def test_the_command_prints_where_a_model_lies(some_models, tmp_path, capfd):
    folder = ["--folder", str(tmp_path)]
    assert models_command("path", MODELS[0].name, *folder) == 0
    assert capfd.readouterr().out == f"{tmp_path / MODELS[0].file}\n"
    assert models_command("path", MODELS[3].name, *folder) == 2
    told = capfd.readouterr().err
    assert f"cryosiam-engine models download {MODELS[3].name} --folder {tmp_path}" in told
    assert models_command("path", "nonsense", *folder) == 2


def test_a_folder_is_asked_for_where_none_is_known(monkeypatch, capfd):
    monkeypatch.delenv("CRYOSIAM_MODELS", raising=False)
    for argv in (["path", "lamella"], ["download", "lamella"], ["verify"]):
        assert models_command(*argv) == 2
        assert "--folder" in capfd.readouterr().err


# ------------------------------------------------------------------ built-in models


def test_there_is_a_built_in_model_for_every_step():
    assert [m.task for m in built_in_models()] == [
        "denoising",
        "lamella",
        "semantic",
        "instance",
        "embedding",
    ]
    for model in built_in_models():
        assert model.name.startswith("demo-")
        assert "simulated" in model.description
        assert find_built_in(model.name.upper()) is model
        assert find_built_in(Path("/x") / model.file) is model
    assert find_built_in("lamella") is None


def test_the_list_of_built_in_models_is_that_of_their_folder():
    demo_models = pytest.importorskip("cryosiam_engine.demo_models")
    models = {m.name.removeprefix("demo-"): m for m in built_in_models()}
    assert tuple(models) == demo_models.NAMES
    assert {m.voxel_size for m in models.values()} == {demo_models.VOXEL_SIZE}
    named = {c: name for c, name in demo_models.CLASS_NAMES.items() if c}
    assert models["semantic"].classes == named
    for name, model in models.items():
        if (Path(demo_models.__file__).parent / model.file).is_file():
            assert model.path() == demo_models.demo_model(name)
            assert model.path().name == model.file


def test_built_in_models_are_not_downloaded(tmp_path, capfd):
    assert models_command("download", "demo-lamella", "--folder", str(tmp_path)) == 2
    assert "models path demo-lamella" in capfd.readouterr().err


# ------------------------------------------------------------------ records


def a_record(file: str, content: bytes) -> ModelRecord:
    digest = hashlib.sha256(content).hexdigest()
    return ModelRecord(file, digest, len(content), "o/r", "c" * 40, "2026-01-02T03:04:05+00:00")


@pytest.fixture
def four_models(tmp_path: Path) -> Path:
    """A model as recorded, one that changed, one that is gone, one that nobody knows."""
    (tmp_path / "good.ckpt").write_bytes(b"good")
    (tmp_path / "changed.ckpt").write_bytes(b"other")
    (tmp_path / "own.safetensors").write_bytes(b"own")
    (tmp_path / "notes.txt").write_bytes(b"no model")
    (tmp_path / ".half.ckpt").write_bytes(b"no model")
    for name in ("good", "changed", "gone"):
        write_record(tmp_path, a_record(f"{name}.ckpt", name.encode()))
    return tmp_path


def test_verify_compares_with_the_record(four_models):
    states = {verdict.file: verdict.state for verdict in verify_folder(four_models)}
    assert states == {
        "good.ckpt": "good",
        "changed.ckpt": "changed",
        "gone.ckpt": "missing",
        "own.safetensors": "unknown",
    }


def test_the_command_tells_what_it_verified(four_models, capfd):
    folder = ["--folder", str(four_models)]
    assert models_command("verify", *folder) == 1
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("changed.ckpt: CHANGED")
    assert lines[1] == "gone.ckpt: missing. It was downloaded, and is gone."
    assert hashlib.sha256(b"other").hexdigest() in lines[0]
    assert hashlib.sha256(b"changed").hexdigest() in lines[0]
    assert hashlib.sha256(b"own").hexdigest() in lines[3]
    (four_models / "changed.ckpt").unlink()
    assert models_command("verify", *folder) == 0, "what was deleted on purpose is no error"
    assert models_command("verify", "lamella", *folder) == 1, "what is asked for must be there"
    assert "never downloaded" in capfd.readouterr().out
    assert models_command("verify", "--folder", str(four_models / "absent")) == 2


def test_a_plain_folder_of_checkpoints_is_a_folder_of_models(tmp_path, capfd):
    (tmp_path / MODELS[0].file).write_bytes(b"weights")
    assert models_command("verify", "--folder", str(tmp_path)) == 0
    assert models_command("path", MODELS[0].name, "--folder", str(tmp_path)) == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    assert models_command("verify", "--folder", str(empty)) == 0
    assert "no models" in capfd.readouterr().out


def test_a_changed_model_is_refused_by_its_record(four_models):
    check_record(four_models / "good.ckpt", hashlib.sha256(b"good").hexdigest())
    check_record(four_models / "own.safetensors", "anything")
    with pytest.raises(CheckpointError, match=r"not the file that was downloaded on 2026-01-02"):
        check_record(four_models / "changed.ckpt", hashlib.sha256(b"other").hexdigest())


def test_records_of_others_are_kept(tmp_path):
    for name in "abc":
        write_record(tmp_path, a_record(f"{name}.ckpt", b"x"))
    write_record(tmp_path, a_record("b.ckpt", b"y"))
    records = read_records(tmp_path)
    assert sorted(records) == ["a.ckpt", "b.ckpt", "c.ckpt"]
    assert records["b.ckpt"].sha256 == hashlib.sha256(b"y").hexdigest()


# ------------------------------------------------------------------ missing models


def test_a_missing_published_model_is_told_with_the_command(tmp_path):
    path = tmp_path / "my models" / find_model("lamella").file
    command = f"cryosiam-engine models download lamella --folder '{path.parent}'"
    assert for_missing(path) == f"Download it: {command}"
    by_name = for_missing(path.with_name("lamella"))
    assert str(path) in by_name
    assert command in by_name
    assert "demo-lamella" in for_missing(tmp_path / "demo_lamella.safetensors")
    assert for_missing(tmp_path / "mine.ckpt") == ""


@pytest.fixture
def in_container(monkeypatch, tmp_path) -> str:
    """Signs of a container made from the engine's image."""
    image = str(tmp_path / "engine 1.sif")
    for name in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER", origin.IMAGE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(origin, "IMAGE_LABELS", tmp_path / "image.json")
    (tmp_path / "image.json").write_text('{"version": "0.1.0"}')
    monkeypatch.setenv("APPTAINER_CONTAINER", image)
    return image


def without_program(*argv: str) -> list[str]:
    return ["cryosiam-engine", "models", *argv]


def test_in_a_container_the_command_is_the_one_that_starts_it(in_container, tmp_path):
    path = tmp_path / "models" / find_model("lamella").file
    folder = str(path.parent)
    download = without_program("download", "lamella", "--folder", folder)
    started = ["apptainer", "exec", "--bind", folder, in_container, *download]
    first, _, then = for_missing(path).removeprefix("Download it: ").partition(" && ")
    assert shlex.split(first) == ["mkdir", "-p", folder]
    assert shlex.split(then) == started
    path.parent.mkdir()
    assert shlex.split(for_missing(path).removeprefix("Download it: ")) == started
    # Another machine has another installation.
    lines = [shlex.split(line) for line in without_internet(MODELS[:1], path.parent).split("\n  ")]
    verify = without_program("verify", "--folder", folder)
    assert [*started[:5], *verify] in [line[: len(verify) + 5] for line in lines]
    there = without_program("download", MODELS[0].name, "--folder", "models")
    assert there in [line[: len(there)] for line in lines]


@pytest.mark.parametrize("name", ["a:b", "a,b", 'a"b', "a b ", "a^b", "ä"])
def test_every_folder_can_be_shown_to_the_container(name, in_container, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    words = shlex.split(download_command(["lamella"], folder))
    assert words[-2:] == ["--folder", str(folder)]
    if name == "ä":
        assert words[2:4] == ["--bind", str(folder)]
        return
    [row] = csv.reader([words[3]])
    assert words[2] == "--mount"
    assert row == ["type=bind", f"source={folder}", f"destination={folder}"]


def test_the_image_is_named_as_far_as_it_is_known(in_container, monkeypatch, tmp_path):
    def words() -> list[str]:
        return shlex.split(download_command(["lamella"], tmp_path))

    monkeypatch.setenv(origin.IMAGE, "/images/engine.sif")
    assert words()[4] == "/images/engine.sif", "as the plugin says"
    monkeypatch.delenv(origin.IMAGE)
    monkeypatch.delenv("APPTAINER_CONTAINER")
    assert words()[4] == "IMAGE"
    monkeypatch.setenv("SINGULARITY_CONTAINER", "/images/old.sif")
    assert words()[:5] == ["singularity", "exec", "--bind", str(tmp_path), "/images/old.sif"]
    # Scipion's own container, with the engine in an environment in it.
    (tmp_path / "image.json").unlink()
    assert words()[0] == "cryosiam-engine"


@pytest.mark.parametrize("changed", [False, True], ids=["missing", "changed"])
def test_a_prediction_refuses_a_model_that_is_not_the_published_one(
    changed, write_config, models, tmp_path, capfd
):
    folder = tmp_path / "models"
    folder.mkdir()
    model = find_model("denoising")
    if changed:
        shutil.copy(models / "denoising.ckpt", folder / model.file)
        write_record(folder, a_record(model.file, b"as it was"))
    config = write_config("denoising", trained_model=str(folder / model.file))
    assert main(["denoise_predict", "--config_file", str(config), "--device", "cpu"]) == 2
    told = capfd.readouterr().err
    if changed:
        assert "not the file that was downloaded" in told
    else:
        assert f"cryosiam-engine models download denoising --folder {folder}" in told


def test_a_checkpoint_is_converted_to_data_only(models, tmp_path, capfd):
    target = tmp_path / "out" / "model.safetensors"
    assert models_command("convert", str(models / "semantic.ckpt"), str(target)) == 0
    before, after = load_checkpoint(models / "semantic.ckpt"), load_checkpoint(target)
    assert before.hyper_parameters == after.hyper_parameters
    assert before.state_dict.keys() == after.state_dict.keys()
    for name, tensor in before.state_dict.items():
        assert torch.equal(tensor, after.state_dict[name])
    assert models_command("convert", str(models / "semantic.ckpt"), "model.ckpt") == 2
    assert models_command("convert", str(models / "absent.ckpt"), str(target)) == 2
    assert f"There is no file {models / 'absent.ckpt'}." in capfd.readouterr().err


@pytest.fixture
def converted(models, tmp_path) -> Path:
    path = tmp_path / "out" / "model.safetensors"
    assert models_command("convert", str(models / "semantic.ckpt"), str(path)) == 0
    return path


def test_a_converted_model_is_known_by_its_checkpoint(converted, models, capfd):
    digest = hashlib.sha256((models / "semantic.ckpt").read_bytes()).hexdigest()
    assert main(["provenance", str(converted)]) == 0
    said = capfd.readouterr().out
    assert "as it was made" in said
    assert "made by        models_convert" in said
    assert f"SHA-256 {digest}" in said
    assert f"from\n    {models / 'semantic.ckpt'}" in said
    # Alone, as it is passed on, by what it says itself: no more than the name and the checksum.
    alone = converted.parents[1] / "alone.safetensors"
    shutil.copy(converted, alone)
    assert main(["provenance", str(alone)]) == 0
    rows = [line.split(maxsplit=2) for line in capfd.readouterr().out.splitlines()[1:]]
    assert rows[0] == ["converted", "from", "semantic.ckpt"]
    assert rows[1] == ["SHA-256", digest]
    assert str(models).encode() not in alone.read_bytes()
    assert main(["provenance", str(alone), "--json"]) == 0
    [node] = json.loads(capfd.readouterr().out)["files"].values()
    assert node["converted_from"]["sha256"] == digest
    assert main(["provenance", str(alone), "--config"]) == 2


def test_a_conversion_can_be_repeated_bit_by_bit(converted, models):
    before = converted.read_bytes()
    assert models_command("convert", str(models / "semantic.ckpt"), str(converted)) == 0
    assert converted.read_bytes() == before


@pytest.mark.parametrize(
    "said",
    [
        "nonsense",
        "[]",
        "[" * 100_000,
        json.dumps({"file": "a\x1b[2Jb.ckpt", "sha256": "0" * 64, "engine_version": "1"}),
        json.dumps({"file": "a.ckpt", "sha256": "0" * 63, "engine_version": "1"}),
        json.dumps({"file": 1, "sha256": "0" * 64, "engine_version": "1"}),
        json.dumps({"file": "a.ckpt"}),
    ],
    ids=lambda text: text[:20],
)
def test_what_a_model_file_says_itself_is_not_trusted(said, tmp_path, capfd):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata={CONVERTED_FROM: said})
    assert main(["provenance", str(path)]) == 2
    assert "Nothing is known" in capfd.readouterr().err
    path.write_bytes(b"no safetensors")
    assert main(["provenance", str(path)]) == 2


def test_listing_models_does_not_load_torch():
    code = "import sys, cryosiam_engine.models as m; m.find_model('lamella'); print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "cryosiam_engine.models" in modules
    assert "torch" not in modules
