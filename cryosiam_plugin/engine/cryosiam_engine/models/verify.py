"""Whether the models in a folder are still the files that were downloaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryosiam_engine.errors import ConfigurationError, EngineError
from cryosiam_engine.files import sha256_of
from cryosiam_engine.models.record import ModelRecord, read_records
from cryosiam_engine.models.registry import PublishedModel, published_models

#: How the names of models end.
SUFFIXES = (".ckpt", ".safetensors")

#: As its record says; not as it says; not there; there, and nothing is known of it.
State = Literal["good", "changed", "missing", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """What was found out about one file.

    Parameters
    ----------
    file
        Its name in the folder.
    state
        See `State`.
    sha256
        Of the file as it is; empty where it is missing.
    expected
        What it should be; empty where nobody knows.
    """

    file: str
    state: State
    sha256: str = ""
    expected: str = ""

    def __str__(self) -> str:
        if self.state == "changed":
            return (
                f"{self.file}: CHANGED. Its sha256 is {self.sha256}, not {self.expected} as when "
                "it was downloaded. Delete it and download it again."
            )
        if self.state == "missing":
            was = "It was downloaded, and is gone" if self.expected else "It was never downloaded"
            return f"{self.file}: missing. {was}."
        if self.state == "unknown":
            return f"{self.file}: no record to compare with. Its sha256 is {self.sha256}."
        return f"{self.file}: good, sha256 {self.sha256}"


def verify_folder(folder: Path, models: Iterable[PublishedModel] = ()) -> list[Verdict]:
    """Compute the checksums of the models in a folder and compare them with their records.

    Parameters
    ----------
    folder
        Where they lie; a plain folder of checkpoints will do.
    models
        Only these; none: all files of models that are there, and all in the record.

    Raises
    ------
    ConfigurationError
        When there is no such folder, or its record cannot be read.
    EngineError
        When a file cannot be read.
    """
    if not folder.is_dir():
        raise ConfigurationError(
            f"There is no folder {folder}.",
            remedy="Correct --folder or CRYOSIAM_MODELS, or download models into it.",
        )
    records = read_records(folder)
    files = [model.file for model in models]
    if not files:
        there = {path.name for path in folder.iterdir() if path.suffix in SUFFIXES}
        files = sorted({name for name in there if not name.startswith(".")} | set(records))
    known = {model.file: model.sha256 for model in published_models()}
    return [_verdict(folder / file, records.get(file), known.get(file)) for file in files]


def _verdict(path: Path, record: ModelRecord | None, known: str | None) -> Verdict:
    if not path.is_file():
        return Verdict(path.name, "missing", expected=record.sha256 if record else "")
    try:
        found = sha256_of(path)
    except OSError as error:
        raise EngineError(
            f"{path} cannot be read: {error.strerror or error}.",
            remedy="Check its permissions and the disk.",
        ) from error
    expected = known or (record.sha256 if record else "")
    if not expected:
        return Verdict(path.name, "unknown", found)
    return Verdict(path.name, "good" if found == expected else "changed", found, expected)
