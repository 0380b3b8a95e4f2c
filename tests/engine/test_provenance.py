"""Where results come from: for every file that a chain of commands leaves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cryosiam_engine import doctor, origin
from cryosiam_engine.cli import main
from cryosiam_engine.config import load_config
from cryosiam_engine.config.effective import effective_yaml
from cryosiam_engine.config.loading import CONFIGS
from cryosiam_engine.status import (
    FileIdentity,
    Output,
    Status,
    read_status,
    status_folder,
    write_status,
)

Ask = Callable[..., str]

CHAIN = ("semantic_predict", "semantic_postprocessing", "semantic_to_centers")


@pytest.fixture(scope="module")
def chain(
    tmp_path_factory: pytest.TempPathFactory, models: Path, simulated: Path
) -> tuple[Path, Path]:
    """Denoising, segmentation and centres of one tomogram: the folder, and that of the models."""
    folder = tmp_path_factory.mktemp("chain")
    network = {"threshold": 0.1, "postprocessing_sizes": [-1, 1, 1, 1, 1], "min_voxels": 1}
    for name, source, target, model, more in (
        ("denoise", simulated, "denoised", "denoising", {}),
        ("segment", folder / "denoised", "classes", "semantic", {"output_format": "both"}),
    ):
        values = {
            "data_folder": str(source),
            "prediction_folder": str(folder / target),
            "trained_model": str(models / f"{model}.ckpt"),
            "test_files": ["TS_01.mrc"],
            "parameters": {"network": network},
            **more,
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    assert main(["denoise_predict", "--config_file", f"{folder}/denoise.yaml"]) == 0
    for command in CHAIN:
        assert main([command, "--config_file", f"{folder}/segment.yaml"]) == 0
    return folder, models


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Ask for a file's provenance on the command line."""

    def asked(file: Path, *options: str, code: int = 0) -> str:
        assert main(["provenance", str(file), *options]) == code
        said = capsys.readouterr()
        return said.out if code == 0 else said.err

    return asked


def results(folder: Path) -> list[Path]:
    kept = (p for p in folder.rglob("*") if p.is_file() and not {"status", "logs"} & {*p.parts})
    return sorted(path for path in kept if path.suffix != ".yaml")


# ---- a chain of commands -------------------------------------------------------------------------


def test_every_result_knows_what_made_it(chain: tuple[Path, Path], ask: Ask) -> None:
    folder, _ = chain
    files = results(folder)
    assert len(files) >= 6  # tomogram, labels twice, particles, tables
    for file in files:
        known = json.loads(ask(file, "--json"))
        node = known["files"][str(file.resolve())]
        assert node["state"] == "unchanged"
        last = node["made_by"][-1]
        assert last["origin"]["versions"]["numpy"]
        assert len(last["determinants"]["config_sha256"]) == 64
        assert yaml.safe_load(ask(file, "--config").partition("---")[0])["prediction_folder"]


def test_a_table_is_followed_back_to_the_raw_tomogram(
    chain: tuple[Path, Path], simulated: Path, ask: Ask
) -> None:
    folder, models = chain
    text = ask(folder / "classes" / "labels_1.csv")
    order = [
        "made by        semantic_to_centers",
        "TS_01_particles.csv",
        "TS_01_preds.h5",
        "changed by     semantic_postprocessing",
        "made by        semantic_predict",
        hashlib.sha256((models / "semantic.ckpt").read_bytes()).hexdigest(),
        "made by        denoise_predict",
        hashlib.sha256((models / "denoising.ckpt").read_bytes()).hexdigest(),
        f"{simulated / 'TS_01.mrc'}",
        "not made by the engine",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert f"SHA-256 {load_config(folder / 'denoise.yaml', 'denoise_predict').sha256()}" in text


def test_a_command_without_a_network_names_no_model(chain: tuple[Path, Path], ask: Ask) -> None:
    text = ask(chain[0] / "classes" / "TS_01_preds.mrc")
    filtered, predicted = text.split("made by        semantic_predict")
    assert "changed by     semantic_postprocessing" in filtered
    assert "model " not in filtered
    assert "model " in predicted


def test_a_link_is_as_good_as_the_file(chain: tuple[Path, Path], tmp_path: Path, ask: Ask) -> None:
    link = tmp_path / "TS_01.mrc"
    link.symlink_to(chain[0] / "denoised" / "TS_01.mrc")
    assert "denoise_predict" in ask(link)


def test_a_moved_folder_is_still_known(chain: tuple[Path, Path], tmp_path: Path, ask: Ask) -> None:
    before = tmp_path / "before"
    shutil.copytree(chain[0], before)
    for file in before.rglob("*.json"):
        file.write_text(file.read_text().replace(f"{chain[0]}/", f"{before}/"))
    after = tmp_path / "elsewhere" / "after"
    after.parent.mkdir()
    before.rename(after)
    text = ask(after / "classes" / "TS_01_particles.csv")
    assert "moved or copied" in text
    assert f"{after}/denoised/TS_01.mrc" in text
    assert "denoise_predict" in text
    assert "NOT THERE" not in text
    assert "output_format: both" in ask(after / "classes" / "TS_01_preds.mrc", "--config")


def test_what_happened_to_the_files_since_is_said(
    chain: tuple[Path, Path], tmp_path: Path, ask: Ask
) -> None:
    folder = tmp_path / "chain"
    shutil.copytree(chain[0], folder)
    for file in folder.rglob("*.json"):
        file.write_text(file.read_text().replace(f"{chain[0]}/", f"{folder}/"))
    denoised = folder / "denoised" / "TS_01.mrc"
    os.utime(denoised, ns=(1, 1))
    assert "of the size that it was made with, but written to" in ask(denoised)
    denoised.write_bytes(denoised.read_bytes() + b"more")
    text = ask(folder / "classes" / "TS_01_preds.mrc")
    assert f"input          {denoised} (CHANGED since)" in text
    assert "CHANGED since it was made" in ask(denoised)
    denoised.unlink()
    assert "NOT THERE any more" in ask(folder / "classes" / "TS_01_preds.mrc")
    assert "denoise_predict" in ask(denoised)


def test_the_same_configuration_is_kept_once(chain: tuple[Path, Path]) -> None:
    kept = chain[0] / "classes" / "status" / "configurations"
    before = sorted(kept.iterdir())
    assert len(before) == len(CHAIN)
    assert main(["semantic_predict", "--config_file", f"{chain[0]}/segment.yaml"]) == 0
    assert sorted(kept.iterdir()) == before


def test_a_model_is_followed_back_to_its_training(
    chain: tuple[Path, Path], tmp_path: Path, ask: Ask
) -> None:
    model = tmp_path / "training" / "models" / "model_best.ckpt"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    training = Status("semantic_train", "training", "done", {"config_sha256": "0" * 64})
    training.outputs = [Output(FileIdentity.of(model), "model", ())]
    write_status(status_folder(tmp_path / "training", "semantic_train"), training)
    result = tmp_path / "out" / "TS_01_preds.mrc"
    result.parent.mkdir()
    result.write_bytes(b"labels")
    predicted = Status("semantic_predict", "TS_01", "done", {"model_sha256": "1" * 64})
    predicted.outputs = [Output(FileIdentity.of(result), "labels", (1, 1, 6))]
    predicted.origin["reads"] = {"trained_model": str(model)}
    write_status(status_folder(tmp_path / "out", "semantic_predict"), predicted)
    text = ask(result)
    assert text.index("its model") < text.index("made by        semantic_train")


def test_a_circle_of_files_ends(tmp_path: Path, ask: Ask) -> None:
    file = tmp_path / "a.mrc"
    file.write_bytes(b"a")
    identity = FileIdentity.of(file)
    status = Status("processing_invert_scale", "a", "done", {"inputs": [vars(identity)]})
    status.outputs = [Output(identity, "tomogram", (1, 1, 1))]
    write_status(status_folder(tmp_path, "processing_invert_scale"), status)
    assert "as above" in ask(file)


def test_simulated_tomograms_say_so(tmp_path: Path, ask: Ask) -> None:
    arguments = ["--shape", "16", "24", "24", "--species", "rubisco=1", "--membranes", "0"]
    assert main(["simulate", "--output", str(tmp_path), *arguments]) == 0
    for file in results(tmp_path):
        text = ask(file)
        assert "made by        simulate" in text
        assert '"rubisco": 1' in text


def test_a_raw_tomogram_below_the_results_is_no_result(tmp_path: Path, ask: Ask) -> None:
    raw, made = tmp_path / "tomograms" / "TS_01.mrc", tmp_path / "TS_01.mrc"
    raw.parent.mkdir()
    for file in (raw, made):
        file.write_bytes(b"of one size")
    status = Status("denoise_predict", "TS_01", "done", {"inputs": [vars(FileIdentity.of(raw))]})
    status.outputs = [Output(FileIdentity.of(made), "tomogram", (1, 1, 11))]
    write_status(status_folder(tmp_path, "denoise_predict"), status)
    assert f"{raw} (11 bytes, not made by the engine" in ask(made)
    assert "Nothing is known" in ask(raw, code=2)


# ---- nothing is known ----------------------------------------------------------------------------


def test_unknown_files_are_explained(tmp_path: Path, ask: Ask) -> None:
    file = tmp_path / "raw.mrc"
    file.write_bytes(b"raw")
    assert "Nothing is known" in ask(file, code=2)
    assert "no file" in ask(tmp_path / "gone.mrc", code=2)
    assert "is a folder" in ask(tmp_path, code=2)


def test_a_file_of_another_run_with_the_same_name_is_not_taken_for_it(
    chain: tuple[Path, Path], tmp_path: Path, ask: Ask
) -> None:
    shutil.copytree(chain[0] / "denoised" / "status", tmp_path / "status")
    other = tmp_path / "TS_01.mrc"
    other.write_bytes(b"something else")
    assert "Nothing is known" in ask(other, code=2)


def test_results_of_earlier_versions_count_and_are_explained(
    chain: tuple[Path, Path], tmp_path: Path, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "chain"
    shutil.copytree(chain[0], folder, copy_function=shutil.copy2)
    config = (folder / "denoise.yaml").read_text().replace(str(chain[0]), str(folder))
    (folder / "denoise.yaml").write_text(config)
    old = folder / "denoised" / "status" / "TS_01.json"
    values = json.loads(old.read_text().replace(f"{chain[0]}/", f"{folder}/"))
    del values["origin"]
    now = FileIdentity.of(folder / "denoised" / "TS_01.mrc")
    values["outputs"][0]["file"] = vars(now)
    old.write_text(json.dumps(values))
    read = read_status(old.parent, "TS_01")
    assert read is not None
    assert read.origin == {}
    text = ask(Path(now.path))
    assert "not recorded by that version" in text
    assert "was not kept" in ask(Path(now.path), "--config", code=2)
    capsys.readouterr()
    assert main(["denoise_predict", "--config_file", f"{folder}/denoise.yaml"]) == 0
    assert "1 finished before" in capsys.readouterr().err


# ---- what is recorded ----------------------------------------------------------------------------


def test_the_container_image_is_recorded(tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER", origin.IMAGE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(origin, "IMAGE_LABELS", tmp_path / "image.json")
    assert origin.container_image() is None
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/by-hand.sif")
    assert origin.container_image() == {"path": "/images/by-hand.sif"}
    monkeypatch.setenv(origin.IMAGE, "/images/engine.sif")
    monkeypatch.setenv(origin.IMAGE_SHA256, "ab" * 32)
    (tmp_path / "image.json").write_text('{"version": "0.1.0", "revision": "f00", "else": 1}')
    assert Status("x_predict", "TS_01").origin["image"] == {
        "path": "/images/engine.sif",
        "sha256": "ab" * 32,
        "version": "0.1.0",
        "revision": "f00",
    }
    for spoilt in ("[1]", "{", ""):
        (tmp_path / "image.json").write_text(spoilt)
        image = origin.container_image()
        assert image is not None
        assert "version" not in image


def test_what_a_run_says_ends_with_it() -> None:
    with origin.during_run({"configuration": {"sha256": "1"}}):
        with origin.during_run({"reads": {}}):
            assert "configuration" not in origin.process_origin()
        assert Status("a", "b").origin["configuration"] == {"sha256": "1"}
    assert "configuration" not in origin.process_origin()


EVERYTHING = {
    "data_folder": "tomograms",
    "log_dir": "training",
    "prediction_folder": "out",
    "trained_model": "model.ckpt",
    "labels_folder": "labels",
    "patches_folder": "patches",
    "temp_dir": "temporary",
    "centers_file": "centers.csv",
    "centers_patch_size": 32,
    "labels_folder_for_filtering": "all_labels",
    "selected_labels": [3, 1],
    "instances_mask_folder": "instances",
    "filtering_mask_folder": "masks",
    "filtering_mask_labels": [1, 2],
    "masking_type": 1,
    "parameters": {
        "data": {"patch_size": [32, 32, 32], "min": -1.5, "mean": None, "std": None},
        "network": {
            "out_channels": 3,
            "threshold": 0.25,
            "threshold_foreground": 0.4,
            "min_center_distance": 1,
            "max_center_distance": 5,
            "distance_type": 1,
            "boundary_bias": 0.3,
            "postprocessing_sizes": [-1, 10],
            "min_voxels": [10, 20],
        },
    },
    "hyper_parameters": {"batch_size": 3, "max_epochs": 7},
    "clustering_kmeans": {"num_clusters": 4, "visualization": True},
    "clustering_spectral": {"num_clusters": 4},
    "clustering_hdbscan": {"min_cluster_size": 5},
}


@pytest.mark.parametrize("command", CONFIGS)
def test_the_kept_configuration_is_the_configuration(command: str, tmp_path: Path) -> None:
    path, kept = tmp_path / "given.yaml", tmp_path / "kept.yaml"
    path.write_text(yaml.safe_dump(EVERYTHING))
    config = load_config(path, command)
    kept.write_text(effective_yaml(config))
    again = load_config(kept, command)
    assert again == config
    assert again.sha256() == config.sha256()


def test_a_kept_configuration_names_the_defaults(chain: tuple[Path, Path], ask: Ask) -> None:
    values = yaml.safe_load(ask(chain[0] / "denoised" / "TS_01.mrc", "--config"))
    assert values["scale_prediction"] is True
    assert values["parameters"]["data"]["mean"] == 0


def test_no_status_makes_a_result_outdated(chain: tuple[Path, Path], monkeypatch: Any) -> None:
    """What a result was made with is no part of what decides whether it is made again."""
    folder = chain[0] / "denoised" / "status"
    status = read_status(folder, "TS_01")
    assert status is not None
    monkeypatch.setenv(origin.IMAGE, os.devnull)
    assert status.is_done_for(status.determinants)
    assert "origin" not in json.dumps(status.determinants)


def test_the_gpu_and_its_driver_are_recorded(monkeypatch: Any) -> None:
    for name, value in (
        ("is_initialized", True),
        ("device_count", 2),
        ("get_device_name", "NVIDIA H100"),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(doctor, "driver_version", lambda: "550.54")
    origin._driver.cache_clear()
    made = origin.process_origin()
    origin._driver.cache_clear()
    assert made["gpus"] == {"cuda:0": "NVIDIA H100", "cuda:1": "NVIDIA H100"}
    assert made["driver"] == "550.54"
