"""The run's ``run.yaml``: what a CryoSiam user would have written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cryosiam_plugin.convert import write_run_config
from cryosiam_plugin.protocols.form_parts import TILINGS
from cryosiam_plugin.protocols.model_choice import ChosenModel, chosenModel, modelProblem
from cryosiam_plugin.protocols.part import ProtocolPart

#: Keys that decide how fast a result is made, or where, but not what it is.
_NO_MATTER = (
    "data_folder",
    "prediction_folder",
    "mask_folder",
    "instances_mask_folder",
    "centers_file",
    "semantic_predictions",
    "filtering_mask_folder",
    "save_raw_predictions",
    "hyper_parameters",
    "tiling",
)


class RunConfiguration(ProtocolPart):
    """Mixed into a protocol: folders, model and configuration of the run."""

    def _networkSection(self) -> dict[str, Any]:
        """The protocol's own keys of the section parameters.network."""
        return {}

    def _configurationKeys(self) -> dict[str, Any]:
        """The protocol's own keys of the top level."""
        return {}

    def _configuration(self) -> dict[str, Any]:
        """The whole configuration."""
        keys: dict[str, Any] = {
            "data_folder": self._inputFolder(),
            "prediction_folder": self._predictionFolder(),
            "file_extension": ".mrc",
        }
        model = self._model()
        if model is not None:
            keys["trained_model"] = model.path
            keys["tiling"] = TILINGS[self.tiling.get()]
            keys["hyper_parameters"] = {"batch_size": self.batchSize.get()}
        if self._partners():
            keys["mask_folder"] = self._maskFolder()
        keys.update(self._configurationKeys())
        network = self._networkSection()
        if network:
            keys["parameters"] = {"network": network}
        return keys

    def _writeConfiguration(self) -> list[str]:
        """Write ``run.yaml``; refuse to mix results of different parameters.

        Returns
        -------
        list of str
            The parameters that have changed since it was written last.

        Raises
        ------
        ValueError
            When there are results that other parameters gave.
        """
        new = self._configuration()
        before = self._earlierConfiguration()
        changed = _differences(before, new) if before else []
        if changed and self._tsIdsOf(self._primaryOutput):
            raise ValueError(
                f"Parameters were changed since the first results ({', '.join(changed)}), and "
                "Continue would mix results of both. Use Restart to compute everything again, or "
                "set the parameters back."
            )
        for folder in (self._inputFolder(), self._predictionFolder(), self._maskFolder()):
            Path(folder).mkdir(parents=True, exist_ok=True)
        write_run_config(str(self._configFile()), new)
        return changed

    def _earlierConfiguration(self) -> dict[str, Any] | None:
        try:
            return yaml.safe_load(self._configFile().read_text("utf-8"))
        except (OSError, yaml.YAMLError):
            return None

    def _model(self) -> ChosenModel | None:
        """The model that the form names; None for a protocol (or mode) without a network."""
        return chosenModel(self) if self.MODEL_TASKS else None

    def _modelProblems(self) -> list[str]:
        model = self._model()
        problem = modelProblem(model, self.MODEL_TASKS) if model else None
        return [problem] if problem else []

    def _configFile(self) -> Path:
        return Path(self._getExtraPath("run.yaml")).absolute()

    def _inputFolder(self) -> str:
        return str(Path(self._getExtraPath("input")).absolute())

    def _maskFolder(self) -> str:
        return str(Path(self._getExtraPath("masks")).absolute())

    def _predictionFolder(self) -> str:
        return str(Path(self._getExtraPath("predictions")).absolute())


def _differences(before: dict[str, Any], after: dict[str, Any], within: str = "") -> list[str]:
    """Names of the keys whose values differ, as in the configuration."""
    found = []
    for key in sorted({*before, *after}):
        if not within and key in _NO_MATTER:
            continue
        one, other = before.get(key), after.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found += _differences(one, other, f"{within}{key}.")
        elif one != other:
            found.append(f"{within}{key}")
    return found
