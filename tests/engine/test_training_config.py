from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from cryosiam_engine.cli import main
from cryosiam_engine.config import loading
from cryosiam_engine.config.keys import KNOWN_KEYS, WITHOUT_EFFECT
from cryosiam_engine.config.loading import load_config
from cryosiam_engine.config.train import SemanticTrainConfig, TrainConfig
from cryosiam_engine.config.training import DistanceMapsConfig, GroundTruthConfig, PatchesConfig
from cryosiam_engine.volume import read_volume
from pydantic import BaseModel, ValidationError
from training_runs import training_values, write_training_data

#: As the tutorial of CryoSiam has it.
TUTORIAL = """
data_folder: denoised
labels_folder: labels
noisy_data_folder: null
patches_folder: patches
temp_dir: temp
log_dir: log
prediction_folder: predictions
pretrained_model: pretrained.ckpt
file_extension: '.mrc'
train_files: ['TS_1.mrc', 'TS_2.mrc']
test_files: null
val_files: null
validation_ratio: 0.1
continue_training: False
labels_folder_for_filtering: null
selected_labels: null
parameters:
  nodes: 1
  gpu_devices: 8
  data:
    patch_size: [128, 128, 128]
    patch_overlap: 0.5
    remove_only_background: True
    min: 0
    max: 1
    mean: 0
    std: 1
  transforms:
    low_pass_sigma_range: [0.5, 2]
    high_pass_sigma_range: [0.1, 0.5]
    high_pass_sigma2_range: [4, 5]
    noise_sigma_range: [0.1, 0.5]
    combine_transforms: False
    use_noisy_input: False
    scale_intensity_factors: null
    elastic: [5, 10]
    zoom: [0.8, 1.2]
    rotate: [3.14, 3.14, 3.14]
    flip: True
  network:
    in_channels: 1
    spatial_dims: 3
    out_channels: 89
    dense_dim: 64
    filters: [32, 64]
    kernel_size: 3
    padding: 1
    distance_prediction: True
    use_dice_loss: True
    unfreeze_decoder: True
    unfreeze_backbone: True
hyper_parameters:
  cache_rate: 0
  replace_rate: null
  val_interval: 1
  batch_size: 3
  optimizer: 'adamw'
  lr: 0.001
  momentum: 0.9
  weight_decay: 0.00001
  max_epochs: 200
"""


#: The commands that share such a file, with the folder that each of them fills.
COMMANDS = {
    "semantic_filter_ground_truth": "labels",
    "semantic_train_preprocess": "temp",
    "semantic_train_create_patches": "patches",
    "semantic_train": "log",
}


def without_nulls(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    return {name: without_nulls(value) for name, value in values.items() if value is not None}


@pytest.fixture
def tutorial() -> dict[str, Any]:
    return without_nulls(yaml.safe_load(TUTORIAL))


def test_the_original_configuration_is_understood(tutorial: dict[str, Any]) -> None:
    config = SemanticTrainConfig.model_validate(tutorial)
    assert config.prediction_folder == Path("log")
    assert config.gpu_devices == 8
    assert config.transforms.rotate == (3.14, 3.14, 3.14)
    assert config.transforms.elastic == (5, 10)
    assert config.network.out_channels == 89
    assert config.schedule.max_epochs == 200
    assert config.patches.patch_size == (128, 128, 128)
    assert config.network.freeze_normalisation


def test_a_number_turns_about_all_axes(tutorial: dict[str, Any]) -> None:
    tutorial["parameters"]["transforms"] = {"rotate": 0.5, "elastic": False}
    transforms = TrainConfig.model_validate(tutorial).transforms
    assert transforms.rotate == (0.5, 0.5, 0.5)
    assert transforms.elastic is None
    assert transforms.zoom is None


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("transforms", "zoom", [1.2, 0.8]),
        ("transforms", "zoom", [0, 1]),
        ("network", "spatial_dims", 2),
        ("network", "kernel_size", 4),
        ("network", "out_channels", 0),
        ("data", "patch_size", [32, 32]),
    ],
)
def test_wrong_values_are_refused(
    tutorial: dict[str, Any], section: str, name: str, value: Any
) -> None:
    tutorial["parameters"][section][name] = value
    with pytest.raises(ValidationError, match=name):
        TrainConfig.model_validate(tutorial)


def test_semantic_train_is_semantic(tutorial: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="task"):
        SemanticTrainConfig.model_validate({**tutorial, "task": "denoising"})


def test_gpus_may_be_listed_or_counted(tutorial: dict[str, Any]) -> None:
    tutorial["parameters"]["gpu_devices"] = [0, 1]
    assert TrainConfig.model_validate(tutorial).gpu_devices == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_same_file(tmp_path: Path, command: str) -> None:
    text = TUTORIAL.replace("filtering: null", "filtering: all").replace(
        "selected_labels: null", "selected_labels: [3]"
    )
    (tmp_path / "train.yaml").write_text(text)
    config = load_config(tmp_path / "train.yaml", command)
    assert config.prediction_folder == Path(COMMANDS[command])


def test_from_labels_to_a_prediction_with_one_file(tmp_path: Path) -> None:
    """The original's five commands, as its tutorial has them, in a folder with an odd name."""
    tmp_path = tmp_path / "$HOME ~"
    data = write_training_data(tmp_path / "data")
    folders = {"data_folder": data / "tomograms", "labels_folder_for_filtering": data / "classes"}
    places = ("labels", "temp", "patches", "log", "predictions")
    keys = ("labels_folder", "temp_dir", "patches_folder", "log_dir", "prediction_folder")
    folders |= {key: tmp_path / place for key, place in zip(keys, places, strict=True)}
    values = yaml.safe_load(TUTORIAL) | {key: str(path) for key, path in folders.items()}
    values |= {"selected_labels": [2, 1], "train_files": None, "pretrained_model": None}
    values |= {"trained_model": str(tmp_path / "log" / "model" / "model_best.ckpt")}
    values |= {"validation_ratio": 0.3, "test_files": ["TS_1.mrc"]}
    small = training_values(data, tmp_path / "log")
    values["backbone"] = small["backbone"]
    sections = values["parameters"]
    sections["gpu_devices"] = 1
    sections["data"]["patch_size"] = [16, 16, 16]
    sections["network"] |= {"out_channels": 3, "dense_dim": 4, "filters": [4, 4]}
    sections["network"]["threshold"] = 0.1
    values["hyper_parameters"] |= {"max_epochs": 1, "batch_size": 8}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(values))

    for command in [*COMMANDS, "semantic_predict"]:
        words = [command, "--config_file", str(tmp_path / "train.yaml")]
        learns = command in ("semantic_train", "semantic_predict")
        assert main(words + ["--device", "cpu"] * learns) == 0, command

    kept = read_volume(tmp_path / "labels" / "TS_1.mrc").data
    given = read_volume(data / "classes" / "TS_1.mrc").data
    assert (kept[given == 2] == 1).all()
    assert (kept[given == 1] == 2).all()
    with np.load(tmp_path / "temp" / "distances" / "TS_1.npz") as maps:
        assert maps["data"].shape == (3, *given.shape)
    n_patches = {
        kind: len([*(tmp_path / "patches" / kind).iterdir()])
        for kind in ("image", "labels", "distances")
    }
    assert len({*n_patches.values()}) == 1
    assert min(n_patches.values()) > 3
    with h5py.File(tmp_path / "predictions" / "TS_1_preds.h5") as predicted:
        assert predicted["labels"].shape == given.shape


# ---- the documentation --------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
#: Of the predictions that the same file is for.
NOT_OF_TRAININGS = {"test_files"}


def keys_of_trainings() -> dict[str, str]:
    """Every key of the training commands, and its default as a configuration would have it."""
    found: dict[str, str] = {}
    configs = (TrainConfig, GroundTruthConfig, DistanceMapsConfig, PatchesConfig)
    for config in configs:
        for key, field in loading._fields_by_key(config).items():
            is_section = isinstance(field.annotation, type) and issubclass(
                field.annotation, BaseModel
            )
            if not is_section and ".".join(key) not in NOT_OF_TRAININGS:
                default = "" if field.is_required() else written(field.default)
                found.setdefault(".".join(key), default)
    found["temp_dir"] = "null"
    return found | {".".join(key): "" for key in WITHOUT_EFFECT}


def written(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, tuple):
        return str([*value])
    if isinstance(value, float):
        return f"{value:.5f}".rstrip("0").rstrip(".")
    return str(value)


def test_the_page_has_all_keys_with_their_defaults() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]*?) ?\|", PAGE.read_text(encoding="utf-8"), re.M)
    told = dict(rows)
    assert len(rows) == len(told), "a key is there twice"
    known = keys_of_trainings()
    assert told.keys() - known.keys() == set()
    assert known.keys() - told.keys() == set()
    assert {key: told[key].strip() for key in known} == known


def test_all_keys_are_known() -> None:
    for key in keys_of_trainings():
        *section, name = key.split(".")
        assert name in KNOWN_KEYS[tuple(section)]


@pytest.mark.parametrize("command", COMMANDS)
def test_keys_without_effect_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, command: str
) -> None:
    caplog.set_level(logging.INFO, "cryosiam_engine")
    text = TUTORIAL.replace("filtering: null", "filtering: all").replace(
        "selected_labels: null", "selected_labels: [3]"
    )
    path = tmp_path / "train.yaml"
    path.write_text(text)
    load_config(path, command)
    assert "no effect" not in caplog.text
    path.write_text(text.replace("cache_rate: 0", "cache_rate: 0.5"))
    load_config(path, command)
    assert "hyper_parameters.cache_rate (line 5" in caplog.text
    assert "has no effect: patches are read" in caplog.text
