"""From the form of the training protocol to the engine's configuration."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Mapping

from cryosiam_plugin.convert import label_table_of, write_run_config
from cryosiam_plugin.protocols.checkpoint_summary import (
    CheckpointSummaryError,
    summarise_checkpoint,
)
from cryosiam_plugin.protocols.model_choice import ChosenModel, chosenModel
from cryosiam_plugin.protocols.run_configuration import RunConfiguration
from cryosiam_plugin.protocols.training_form import (
    DECODER,
    EVERYTHING,
    FULL,
    OPTIMIZERS,
    SGD,
    TRAINED,
)

#: Of ``log_dir``.
LAST_MODEL = "model/last.ckpt"
#: The published models' network.
_FULL_BACKBONE = {
    "num_filters": [64, 128, 256, 512],
    "fpn_channels": 128,
    "dense_dim": 64,
    "dense_pred_dim": 64,
}
#: The network of the engine's built-in models.
_SMALL_BACKBONE = {
    "num_filters": [8, 16, 32, 32],
    "fpn_channels": 16,
    "dense_dim": 16,
    "dense_pred_dim": 16,
}
_FULL_HEADS, _SMALL_HEADS = [32, 64], [16, 16]
#: What may change while a training goes on: where files are, and when it ends early. Of batches and
#: GPUs the engine judges, which knows whether the steps stay the same.
_MAY_CHANGE = (
    "data_folder",
    "labels_folder",
    "log_dir",
    "pretrained_model",
    "parameters.gpu_devices",
    "hyper_parameters.batch_size",
    "hyper_parameters.early_stopping",
)


class TrainingSettings(RunConfiguration):
    """Mixed into the training protocol."""

    def _classNames(self) -> dict[int, str]:
        """Names of the classes by label: the user's, else those of the masks."""
        texts = [name.strip() for name in (self.classNames.get() or "").split(",")]
        names = {number: name for number, name in enumerate(texts, 1) if name}
        if names:
            return names
        masks = self.inputMasks.get()
        first = masks.getFirstItem() if masks is not None and masks.getSize() else None
        table = label_table_of(first) if first is not None else {}
        return {label: name for label, name in table.items() if label > 0}

    def _validationNames(self) -> list[str]:
        """The tsIds that the user chose for validation."""
        text = (self.validationTsIds.get() or "").replace(",", " ")
        return list(dict.fromkeys(text.split()))

    def _model(self) -> ChosenModel | None:
        return chosenModel(self) if self.startFrom.get() == TRAINED else None

    def _predictionFolder(self) -> str:
        return str(Path(self._getExtraPath("training")).absolute())

    def _configuration(self) -> dict[str, Any]:
        model = self._model()
        keys: dict[str, Any] = {
            "data_folder": self._inputFolder(),
            "labels_folder": self._maskFolder(),
            "log_dir": self._predictionFolder(),
            "file_extension": ".mrc",
            "pretrained_model": model.path if model else None,
            "continue_training": True,
            "seed": self.seed.get(),
            **self._validationKeys(),
            "parameters": {
                "gpu_devices": max(1, len(self.getGpuList())) if self.usesGpu() else 1,
                "data": self._dataSection(),
                "transforms": self._transforms(),
                "network": self._networkSection(),
            },
            "hyper_parameters": self._schedule(),
        }
        if model is None:
            full = self.networkSize.get() == FULL
            keys["backbone"] = dict(_FULL_BACKBONE if full else _SMALL_BACKBONE)
        return keys

    def _validationKeys(self) -> dict[str, Any]:
        chosen = self._validationNames()
        if chosen:
            return {"val_files": [f"{tsId}.mrc" for tsId in chosen]}
        return {"validation_ratio": float(self.validationFraction.get())}

    def _dataSection(self) -> dict[str, Any]:
        return {
            "patch_size": [self.patchSize.get()] * 3,
            "patches_per_epoch": self.patchesPerEpoch.get(),
            "validation_patches": self.validationPatches.get(),
            "class_balance": bool(self.classBalance.get()),
            "min": 0,
            "max": 1,
            "mean": 0,
            "std": 1,
        }

    def _transforms(self) -> dict[str, Any]:
        zoom, contrast = self.zoom.get() / 100, float(self.intensity.get())
        return {
            "flip": bool(self.flip.get()),
            "rotate": round(math.radians(self.rotation.get()), 4) or None,
            "zoom": [round(1 - zoom, 4), round(1 + zoom, 4)] if zoom else None,
            "scale_intensity_factors": [-contrast, contrast] if contrast else None,
            "noise_sigma_range": _up_to(self.noise.get()),
            "low_pass_sigma_range": _up_to(self.lowPass.get()),
            "elastic": _up_to(self.elastic.get()),
            "combine_transforms": bool(self.combine.get()),
        }

    def _networkSection(self) -> dict[str, Any]:
        n_classes = len(self._classNames())
        trained = self.startFrom.get() == TRAINED
        learns = self.learns.get()
        return {
            # One class is a yes or no for every voxel, as in the published lamella model.
            "out_channels": n_classes + 1 if n_classes > 1 else 1,
            "filters": self._headFilters(),
            "use_dice_loss": bool(self.useDice.get()),
            "distance_prediction": bool(self.predictDistances.get()),
            "unfreeze_decoder": not trained or learns in (DECODER, EVERYTHING),
            "unfreeze_backbone": not trained or learns == EVERYTHING,
        }

    def _headFilters(self) -> list[int]:
        """Channels of the heads: those of the model to begin with, so that they can be kept."""
        model = self._model()
        if model is None:
            return list(_FULL_HEADS if self.networkSize.get() == FULL else _SMALL_HEADS)
        try:
            filters = summarise_checkpoint(model.path).head_filters
        except CheckpointSummaryError:
            filters = ()  # what is wrong with it was said already
        return list(filters) if len(filters) == len(_FULL_HEADS) else list(_FULL_HEADS)

    def _schedule(self) -> dict[str, Any]:
        schedule: dict[str, Any] = {
            "max_epochs": self.maxEpochs.get(),
            "batch_size": self.batchSize.get(),
            "optimizer": OPTIMIZERS[self.optimizer.get()],
            "lr": float(self.learningRate.get()),
            "weight_decay": float(self.weightDecay.get()),
            "val_interval": self.validationInterval.get(),
            "early_stopping": self.earlyStopping.get() or None,
        }
        if self.optimizer.get() == SGD:
            schedule["momentum"] = float(self.momentum.get())
        return schedule

    def _hasBegun(self) -> bool:
        """Whether there is a whole epoch to go on from."""
        return (Path(self._predictionFolder()) / LAST_MODEL).is_file()

    def _writeTrainingConfiguration(self) -> None:
        """Write ``run.yaml``; refuse to go on with a training under other settings.

        Raises
        ------
        ValueError
            When settings were changed since the training began.
        """
        new = self._configuration()
        before = self._earlierConfiguration()
        changed = _changes(before, new) if before and self._hasBegun() else []
        if changed:
            raise ValueError(
                f"Parameters were changed since the training began ({', '.join(changed)}). Set "
                "them back and Continue, or use Restart to train anew. To train the model of this "
                "run further in another way, start a new run from it (_Start from_: a trained "
                "model of this project)."
            )
        Path(self._predictionFolder()).mkdir(parents=True, exist_ok=True)
        write_run_config(str(self._configFile()), new)


def _up_to(largest: float) -> list[float] | None:
    return [0.0, float(largest)] if largest else None


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ, as in the configuration."""
    one, other = _flat(before), _flat(after)
    names = sorted({*one, *other} - set(_MAY_CHANGE))
    return [name for name in names if one.get(name) != other.get(name)]


def _flat(section: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in section.items():
        name = f"{within}{key}"
        found.update(_flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return found
