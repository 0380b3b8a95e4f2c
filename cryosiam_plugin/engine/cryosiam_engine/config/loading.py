"""The YAML configuration of a run: CryoSiam's own keys, validated, with errors that name a line.

`load_config` reads a file for a command; `list_tomograms` says which tomograms it is about.
"""

from __future__ import annotations

import logging
import reprlib
from pathlib import Path
from typing import Any, Literal, overload

from pydantic import AliasPath, BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from cryosiam_engine.config.base import RunConfig
from cryosiam_engine.config.clustering import (
    HdbscanConfig,
    KmeansConfig,
    SpectralConfig,
    VisualizationConfig,
)
from cryosiam_engine.config.denoising import DenoiseConfig
from cryosiam_engine.config.embedding_map import EmbeddingMapConfig
from cryosiam_engine.config.embeddings import CenterEmbeddingsConfig, EmbeddingsConfig
from cryosiam_engine.config.instances import InstanceConfig, InstanceFilterConfig
from cryosiam_engine.config.keys import (
    KNOWN_KEYS,
    WITHOUT_EFFECT,
    correct_published_misspellings,
    validate_keys,
)
from cryosiam_engine.config.semantic import CentersConfig, PostprocessingConfig, SemanticConfig
from cryosiam_engine.config.train import SemanticTrainConfig, TrainConfig
from cryosiam_engine.config.training import (
    DistanceMapsConfig,
    GroundTruthConfig,
    PatchesConfig,
    TrainingConfig,
)
from cryosiam_engine.config.yaml_file import KeyPath, YamlDocument, read_yaml
from cryosiam_engine.errors import ConfigurationError

logger = logging.getLogger(__name__)

#: The configuration of each command that has one.
CONFIGS: dict[str, type[RunConfig]] = {
    model.command: model
    for model in (
        DenoiseConfig,
        SemanticConfig,
        PostprocessingConfig,
        CentersConfig,
        InstanceConfig,
        InstanceFilterConfig,
        EmbeddingsConfig,
        CenterEmbeddingsConfig,
        KmeansConfig,
        SpectralConfig,
        HdbscanConfig,
        VisualizationConfig,
        EmbeddingMapConfig,
        GroundTruthConfig,
        DistanceMapsConfig,
        PatchesConfig,
        SemanticTrainConfig,
        TrainConfig,
    )
}

# In this section null says "measure it", everywhere else it is the same as leaving the key out.
_NULL_COUNTS_IN = ("parameters", "data")


@overload
def load_config(path: str | Path, command: Literal["denoise_predict"]) -> DenoiseConfig: ...
@overload
def load_config(path: str | Path, command: Literal["semantic_predict"]) -> SemanticConfig: ...
@overload
def load_config(
    path: str | Path, command: Literal["semantic_postprocessing"]
) -> PostprocessingConfig: ...
@overload
def load_config(path: str | Path, command: Literal["semantic_to_centers"]) -> CentersConfig: ...
@overload
def load_config(path: str | Path, command: str) -> RunConfig: ...
def load_config(path: str | Path, command: str) -> RunConfig:
    """Read and check the configuration of one command.

    Parameters
    ----------
    path
        The YAML file. Relative paths in it start at the current working directory.
    command
        A key of `CONFIGS`, such as ``"denoise_predict"``.

    Returns
    -------
    RunConfig
        The command's own class; it cannot be changed.

    Raises
    ------
    ConfigurationError
        Naming every unknown key, missing key and wrong value, with lines.
    """
    if command not in CONFIGS:
        raise ConfigurationError(
            f"{command} does not take a configuration.",
            remedy=f"Commands that do: {', '.join(CONFIGS)}.",
        )
    model = CONFIGS[command]
    document = read_yaml(path)
    correct_published_misspellings(document)
    validate_keys(document)
    fields = _fields_by_key(model)
    for key in sorted(document.lines.keys() - fields.keys() - KNOWN_KEYS.keys()):
        logger.debug("%s: %s has no effect on %s.", document.path, ".".join(key), command)
    if issubclass(model, TrainingConfig):
        _tell_of_keys_without_effect(document)
    try:
        return model.model_validate(_without_nulls(document.values, ()))
    except ValidationError as error:
        raise _configuration_error(error, fields, document) from None


def _tell_of_keys_without_effect(document: YamlDocument) -> None:
    """Of the original's keys, those that are understood and yet do nothing here."""
    for key, reason in WITHOUT_EFFECT.items():
        if _value_at(document.values, key):
            logger.info(
                "%s: %s%s has no effect: %s.",
                document.path,
                ".".join(key),
                document.where(key),
                reason,
            )


def _without_nulls(values: dict[str, Any], section: KeyPath) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            kept[name] = _without_nulls(value, (*section, name))
        elif value is not None or section == _NULL_COUNTS_IN:
            kept[name] = value
    return kept


def _fields_by_key(model: type[BaseModel], section: KeyPath = ()) -> dict[KeyPath, FieldInfo]:
    """Map where a key stands in the file to the field that reads it, nested models included."""
    fields: dict[KeyPath, FieldInfo] = {}
    for field in model.model_fields.values():
        if not isinstance(field.validation_alias, AliasPath):
            raise TypeError("every field of a configuration needs the path of its key")
        key = (*section, *(str(part) for part in field.validation_alias.path))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            fields.update(_fields_by_key(field.annotation, key))
        fields[key] = field
    return fields


def _configuration_error(
    error: ValidationError, fields: dict[KeyPath, FieldInfo], document: YamlDocument
) -> ConfigurationError:
    problems: dict[str, None] = {}  # a set that keeps the order
    additions: dict[str, None] = {}
    for details in error.errors(include_url=False):
        key = _key_of(details, fields)
        field = fields.get(key)
        if details["type"] == "missing" and field is not None:
            problems[f"{'.'.join(key)} is missing"] = None
            place = f" under {'.'.join(key[:-1])}" if len(key) > 1 else ""
            additions[f"'{key[-1]}: {(field.examples or ['...'])[0]}'{place}"] = None
        else:
            problems[_problem(details, key, field, document)] = None
    remedy = "Correct the configuration and run again."
    if len(additions) == len(problems):
        remedy = f"Add, for example, {', '.join(additions)}."
    return ConfigurationError(f"{document.path}: {'; '.join(problems)}.", remedy=remedy)


def _key_of(details: ErrorDetails, fields: dict[KeyPath, FieldInfo]) -> KeyPath:
    """Cut what the validator adds behind the key: positions in lists, alternatives of a type."""
    location = tuple(str(part) for part in details["loc"])
    lengths = range(len(location), 0, -1)
    return next((location[:length] for length in lengths if location[:length] in fields), ())


def _problem(
    details: ErrorDetails, key: KeyPath, field: FieldInfo | None, document: YamlDocument
) -> str:
    cause = details.get("ctx", {}).get("error")
    where = document.where(key)
    if isinstance(cause, ConfigurationError):
        return f"{'.'.join(key)}: {cause}{where}" if key else str(cause)
    expected = field.description if field is not None else details["msg"]
    got = _shown(_value_at(document.values, key))
    return f"{'.'.join(key)}: expected {expected}, got {got}{where}"


def _value_at(values: Any, key: KeyPath) -> Any:
    for name in key:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return f'"{value if len(value) <= 60 else value[:57] + "..."}"'
    return reprlib.repr(value)
