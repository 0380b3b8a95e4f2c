"""What is known about downloaded models: a file beside them, with the checksum of each."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from cryosiam_engine.errors import CheckpointError, ConfigurationError
from cryosiam_engine.files import write_text

RECORD_NAME = "models.lock.json"
#: Raised when the meaning of the file changes.
_FORMAT = 1

#: Several downloads into a folder end at the same time.
_writing = threading.Lock()


@dataclass(frozen=True)
class ModelRecord:
    """A file as it was when its download was verified.

    Parameters
    ----------
    file
        Its name in the folder.
    sha256
        64 hexadecimal digits.
    size
        Bytes.
    repository
        Where it came from, on Hugging Face.
    revision
        The commit that it came from.
    date
        When it was verified, as ISO 8601.
    """

    file: str
    sha256: str
    size: int
    repository: str
    revision: str
    date: str


def read_records(folder: Path) -> dict[str, ModelRecord]:
    """Read what is known about the models in a folder, by their files' names.

    Parameters
    ----------
    folder
        It need not have any record.

    Raises
    ------
    ConfigurationError
        When there is a record that cannot be understood.
    """
    path = folder / RECORD_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"it has format {content['format']}, not {_FORMAT}")
        return {entry["file"]: ModelRecord(**entry) for entry in content["models"]}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"The record of downloaded models {path} cannot be read: {error}.",
            remedy="Copy it again together with the models, or delete it: the checksums are then "
            "no longer known, and 'cryosiam-engine models download' asks for them again.",
        ) from error


def write_record(folder: Path, record: ModelRecord) -> None:
    """Keep what is known about one model, beside the others'.

    Raises
    ------
    ConfigurationError
        As :func:`read_records`.
    OutputError
        When the folder cannot be written.
    """
    with _writing:
        records = {**read_records(folder), record.file: record}
        entries = [asdict(records[file]) for file in sorted(records)]
        text = json.dumps({"format": _FORMAT, "models": entries}, indent=2)
        write_text(folder / RECORD_NAME, text + "\n")


def check_record(path: Path, sha256: str) -> None:
    """Refuse a model that is no longer the file that was downloaded and verified.

    Parameters
    ----------
    path
        The model. One that has no record beside it is not judged.
    sha256
        Of the file as it is.

    Raises
    ------
    CheckpointError
        When it has changed.
    """
    try:
        record = read_records(path.parent).get(path.name)
    except ConfigurationError:  # says 'verify'; a run with a sound model need not stop for it
        return
    if record is not None and record.sha256 != sha256:
        raise CheckpointError(
            f"{path} is not the file that was downloaded on {record.date[:10]}: its sha256 is "
            f"{sha256:.12s}..., that of the verified download was {record.sha256:.12s}....",
            remedy=f"Delete it and download it again, or, if it was replaced on purpose, give "
            f"your own model another name than {path.name}.",
        )
