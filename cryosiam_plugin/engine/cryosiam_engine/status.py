"""The status file of a tomogram: what the host reads, and what a second run resumes from."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from cryosiam_engine import __version__
from cryosiam_engine.errors import EngineError, Interrupted
from cryosiam_engine.files import write_text
from cryosiam_engine.origin import process_origin

State = Literal["running", "done", "failed"]


@dataclass(frozen=True)
class FileIdentity:
    """Enough of a file to notice that it was replaced: resolved path, bytes and time of change."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str | Path) -> FileIdentity:
        """Look at the file that `path` leads to, symbolic links followed."""
        real = Path(path).resolve()
        state = real.stat()
        return cls(str(real), state.st_size, state.st_mtime_ns)

    def is_current(self) -> bool:
        """Whether the file is still there and unchanged."""
        try:
            return FileIdentity.of(self.path) == self
        except OSError:
            return False


@dataclass(frozen=True)
class Output:
    """One file that a command wrote.

    Attributes
    ----------
    file
        The file, as it was when it was finished.
    kind
        ``tomogram``, ``labels``, ``confidence``, ``raw``, ``instances``, or the tables
        ``particles``, ``regions`` and ``star``.
    shape
        (z, y, x), or (channels, z, y, x), or (rows,).
    voxel_size
        Å along (x, y, z).
    """

    file: FileIdentity
    kind: str
    shape: tuple[int, ...]
    voxel_size: tuple[float, float, float] | None = None


@dataclass
class Status:
    """Everything known about one command on one tomogram.

    Attributes
    ----------
    command, tomogram
        The engine command and the tomogram's stem (its tsId in Scipion).
    state
        ``running``, ``done`` or ``failed``.
    determinants
        What decides the result: sha256 of the configuration and of the model, tiling and
        precision, and the identity of every input file. A tomogram whose determinants are the
        same is not computed again.
    origin
        What it was made with, for the record: see
        :func:`~cryosiam_engine.origin.process_origin`. Empty in files of earlier versions.
    """

    command: str
    tomogram: str
    state: State = "running"
    determinants: dict[str, Any] = field(default_factory=dict)
    model_name: str | None = None
    device: str | None = None
    precision: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    error: dict[str, str] | None = None
    engine_version: str = __version__
    host: str = field(default_factory=socket.gethostname)
    process: int = field(default_factory=os.getpid)
    updated: str = ""
    origin: dict[str, Any] = field(default_factory=process_origin)

    def fail(self, error: BaseException) -> None:
        """Record why the tomogram has no result."""
        self.state = "failed"
        self.outputs = []
        if isinstance(error, Interrupted):
            self.error = {
                "type": "interrupted",
                "message": "interrupted",
                "remedy": "Run the same command again: finished tomograms are not computed again.",
            }
            return
        remedy = error.remedy if isinstance(error, EngineError) else ""
        message = error.message if isinstance(error, EngineError) else str(error)
        self.error = {
            "type": type(error).__name__,
            "message": message or type(error).__name__,
            "remedy": remedy or "See the run's log file for the details.",
        }

    def is_done_for(self, determinants: dict[str, Any]) -> bool:
        """Whether this is a finished result of just these determinants, still on disk."""
        return (
            self.state == "done"
            and _plain(self.determinants) == _plain(determinants)
            and all(output.file.is_current() for output in self.outputs)
        )


def status_folder(prediction_folder: Path, command: str) -> Path:
    """Where a command's status files lie.

    A prediction's are ``<prediction_folder>/status/<stem>.json``. Commands that work on an
    earlier prediction's files have a folder of their own in there, so that the prediction is
    still known to be done.
    """
    base = prediction_folder / "status"
    return base if command.endswith("_predict") else base / command


def status_path(folder: Path, stem: str) -> Path:
    """The status file of a tomogram in a status folder."""
    return folder / f"{stem}.json"


def write_status(folder: Path, status: Status) -> None:
    """Write `status` into a status folder, atomically.

    Raises
    ------
    OutputError
        When the folder cannot be written.
    """
    status.updated = datetime.now(timezone.utc).isoformat(timespec="seconds")
    _write(folder, status)


def _write(folder: Path, status: Status) -> None:
    write_text(status_path(folder, status.tomogram), json.dumps(asdict(status), indent=1) + "\n")


def read_status(folder: Path, stem: str) -> Status | None:
    """The status of a tomogram, or None where there is none that can be read."""
    try:
        data = json.loads(status_path(folder, stem).read_text(encoding="utf-8"))
        data["outputs"] = [
            Output(
                FileIdentity(**output["file"]),
                output["kind"],
                tuple(output["shape"]),
                tuple(output["voxel_size"]) if output["voxel_size"] else None,
            )
            for output in data["outputs"]
        ]
        # What this process is made of says nothing about an earlier one.
        return Status(**{"origin": {}, **data})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def accept_changed_output(folder: Path, stem: str, path: Path) -> None:
    """Note that an output of a finished tomogram was changed on purpose, by a later command.

    Without it the prediction would count as spoilt and be computed again.
    """
    status = read_status(folder, stem)
    if status is None:
        return
    now = FileIdentity.of(path)
    status.outputs = [
        replace(output, file=now) if output.file.path == now.path else output
        for output in status.outputs
    ]
    _write(folder, status)


def _plain(value: Any) -> Any:
    """`value` as it looks after a round trip through JSON (tuples become lists)."""
    return json.loads(json.dumps(value))
