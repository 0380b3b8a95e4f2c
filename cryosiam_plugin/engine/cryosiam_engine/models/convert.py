"""Checkpoints as safetensors, which remember the checkpoint that they were made from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from cryosiam_engine.checkpoint.model_file import SUFFIX
from cryosiam_engine.status import FileIdentity, Output, Status, status_folder, write_status
from cryosiam_engine.training.model_files import export_model

COMMAND = "models_convert"


def convert_model(source: Path, target: Path) -> None:
    """Write a checkpoint as safetensors, and keep what it was made from.

    The file itself names the checkpoint and its SHA-256, so that they go where it goes; the status
    file beside it also says where the checkpoint lay.

    Parameters
    ----------
    source
        A ``.ckpt`` file.
    target
        The ``.safetensors`` file.

    Raises
    ------
    CheckpointError
        When the checkpoint cannot be loaded, or is not the one that was downloaded.
    OutputError
        When the system refuses to write.
    """
    read = FileIdentity.of(source)
    sha256 = export_model(source, target, names_source=True)
    status = Status(
        COMMAND,
        target.name.removesuffix(SUFFIX),
        state="done",
        determinants={"model_sha256": sha256, "inputs": [asdict(read)]},
        model_name=source.name,
        outputs=[Output(FileIdentity.of(target), "model", ())],
    )
    write_status(status_folder(target.parent, COMMAND), status)
