from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cryosiam_engine.config.train import SemanticTrainConfig, TrainConfig
from pydantic import ValidationError

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
  val_interval: 1
  batch_size: 3
  optimizer: 'adamw'
  lr: 0.001
  momentum: 0.9
  weight_decay: 0.00001
  max_epochs: 200
"""


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
