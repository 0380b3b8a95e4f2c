"""The configuration of denoising."""

from __future__ import annotations

from pydantic import model_validator

from cryosiam_engine.config.base import (
    TRUE_OR_FALSE,
    DenseConfig,
    key,
    same_folder,
)
from cryosiam_engine.errors import ConfigurationError


class DenoiseConfig(DenseConfig):
    """The configuration of ``denoise_predict``."""

    command = "denoise_predict"

    scale_prediction: bool = key("scale_prediction", True, expected=TRUE_OR_FALSE)
    save_raw_predictions: bool = key("save_raw_predictions", False, expected=TRUE_OR_FALSE)

    @model_validator(mode="after")
    def _keeps_the_input(self) -> DenoiseConfig:
        if same_folder(self.prediction_folder, self.data_folder):
            raise ConfigurationError(
                "prediction_folder and data_folder are the same: the denoised tomograms would "
                "overwrite the raw ones"
            )
        return self
