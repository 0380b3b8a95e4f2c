"""What a run leaves behind about its configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryosiam_engine.config.base import RunConfig
from cryosiam_engine.config.effective import effective_yaml
from cryosiam_engine.files import write_text
from cryosiam_engine.origin import during_run

#: Beside the status files: every configuration that a result of the folder was made with.
CONFIGURATIONS = "configurations"


@contextmanager
def recorded(config: RunConfig, config_file: str | Path | None = None) -> Iterator[None]:
    """Keep the configuration beside the status files, and name it in those of the block.

    Parameters
    ----------
    config
        Of the run.
    config_file
        What it was read from, if it was.

    Raises
    ------
    OutputError
        When the folder of the results cannot be written.
    """
    text = effective_yaml(config)
    # By its content: tasks side by side write the same file, changes make another one.
    name = f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.yaml"
    kept = Path(config.prediction_folder) / "status" / CONFIGURATIONS / name
    if not kept.is_file():
        write_text(kept, text)
    described = {
        "file": str(Path(config_file).absolute()) if config_file else None,
        "sha256": config.sha256(),
        "kept": name,
    }
    with during_run({"configuration": described, "reads": _reads(config)}):
        yield


def _reads(config: RunConfig) -> dict[str, Any]:
    """Every file and folder that the configuration names for reading, by its key."""
    keys = dict.fromkeys(("data_folder", *config.input_folders, *config.input_files))
    found = {key: getattr(config, key, None) for key in keys}
    return {key: str(Path(path).resolve()) for key, path in found.items() if path is not None}
