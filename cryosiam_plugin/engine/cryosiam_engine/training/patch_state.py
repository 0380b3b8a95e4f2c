"""Whether the patches on the disk are whole, and those of the tomograms and labels of now."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryosiam_engine.config.tomogram_list import stem_of, written_extension
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.config.training import PatchesConfig
from cryosiam_engine.errors import ConfigurationError, EngineError
from cryosiam_engine.status import Status, read_status, status_folder
from cryosiam_engine.training.patch_grid import IMAGES, patches_of
from cryosiam_engine.training.problems import raise_together

logger = logging.getLogger(__name__)

_REMEDY = (
    "Run semantic_train_create_patches again with this configuration, or set patch_source to "
    "tomograms."
)
#: What decides how patches are cut.
_SETTINGS = ("patch_size", "patch_overlap", "remove_only_background")


def check_patches(config: TrainConfig, names: Sequence[str]) -> None:
    """Refuse patches that are not all there, or that were cut otherwise or from other files.

    Patches of CryoSiam itself do not say how they were cut; they are taken as they are.

    Parameters
    ----------
    config
        Of a training on ``patches_folder``.
    names
        Files of its tomograms.

    Raises
    ------
    ConfigurationError
        Naming all tomograms whose patches are of no use.
    """
    folder = config.patches_folder or Path()
    states = status_folder(folder, PatchesConfig.command)
    if not any(states.glob("*.json")):
        logger.warning(
            "%s does not say from what its patches were cut (CryoSiam itself made them, or they "
            "were copied without the folder status): they are taken as they are.",
            folder,
        )
        return
    problems: list[EngineError] = []
    for name in names:
        stem = stem_of(Path(name), config.file_extension)
        reason = _reason_against(config, folder, name, read_status(states, stem))
        if reason:
            problems.append(
                ConfigurationError(f"The patches of {stem} in {folder} {reason}.", remedy=_REMEDY)
            )
    raise_together(problems, len(names), "tomograms")


def _reason_against(config: TrainConfig, folder: Path, name: str, status: Status | None) -> str:
    """Why a tomogram's patches cannot be used; empty if they can."""
    if status is None or status.state != "done":
        return "are not all there: semantic_train_create_patches did not come to its end"
    extension = written_extension(config.file_extension)
    cut = {Path(output.file.path) for output in status.outputs}
    recorded = {path.name for path in cut if path.parent.name == IMAGES}
    stem = stem_of(Path(name), config.file_extension)
    if recorded != {path.name for path in patches_of(folder / IMAGES, stem, extension)}:
        return "are not those that semantic_train_create_patches wrote: some came or went"
    changed = _changed_settings(config, status.determinants)
    if changed:
        return f"were cut with other settings: {changed}"
    changed = _changed_inputs(config, name, status.determinants)
    return f"were cut from other files than those of now: {changed}" if changed else ""


def _changed_settings(config: TrainConfig, determinants: dict[str, Any]) -> str:
    before = determinants.get("settings", {}).get("patches", {})
    now = json.loads(config.patches.model_dump_json(include=set(_SETTINGS)))
    return "; ".join(
        f"{key} was {before.get(key)} and is {now[key]}"
        for key in _SETTINGS
        if before.get(key) != now[key]
    )


def _changed_inputs(config: TrainConfig, name: str, determinants: dict[str, Any]) -> str:
    """The labels or the tomogram, where they are there and not what they were; wherever they are.

    Folders may have been moved, and may be gone when only patches are needed.
    """
    recorded = determinants.get("inputs", [])
    for folder, before in zip((config.labels_folder, config.data_folder), recorded, strict=False):
        path = folder / name if folder is not None else None
        if path is None or not path.is_file():
            continue
        state = path.stat()
        if (before.get("size"), before.get("mtime_ns")) != (state.st_size, state.st_mtime_ns):
            return f"{path} has changed since (size or time of change)"
    return ""
