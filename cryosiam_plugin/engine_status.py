"""The engine's status files, as the host reads them.

The engine writes one JSON file per tomogram and command. It is the only thing that the host
believes: an exit code may be lost by a queue, and a file may be half of a result.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MTIME_TOLERANCE_NS = 2 * 10**9


@dataclass(frozen=True)
class EngineOutput:
    """One file that the engine wrote for a tomogram.

    Attributes
    ----------
    path
        The file.
    kind
        ``tomogram``, ``labels``, ``probabilities``, ``raw`` or ``particles``.
    shape
        (z, y, x), or (channels, z, y, x), or (rows,).
    voxel_size
        Å along (x, y, z); None for what is not a volume.
    size, mtime_ns
        Bytes and time of change when it was finished.
    """

    path: Path
    kind: str
    shape: tuple[int, ...]
    voxel_size: tuple[float, ...] | None
    size: int
    mtime_ns: int

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> EngineOutput:
        """Read one entry of the ``outputs`` of a status file."""
        file = entry["file"]
        voxel_size = entry.get("voxel_size")
        return cls(
            Path(file["path"]),
            str(entry["kind"]),
            tuple(int(length) for length in entry["shape"]),
            tuple(float(length) for length in voxel_size) if voxel_size else None,
            int(file["size"]),
            int(file["mtime_ns"]),
        )

    def is_there(self) -> bool:
        """Whether the file is still what the engine wrote."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        # Network file systems cut times off differently on different computers.
        apart = abs(found.st_mtime_ns - self.mtime_ns)
        return found.st_size == self.size and apart < MTIME_TOLERANCE_NS


@dataclass(frozen=True)
class EngineStatus:
    """What the engine says about one command on one tomogram.

    Attributes
    ----------
    command, tomogram
        The engine command and the tomogram's tsId.
    state
        ``running``, ``done`` or ``failed``.
    error
        ``type``, ``message`` and ``remedy`` of a failure, else empty.
    seconds
        Time per stage of the computation.
    determinants
        What decides the result: sha256 of configuration and model, identity of the inputs.
    summary
        Numbers about the result, as the engine counts them.
    origin
        What it was made with: versions, container image, where the configuration is kept. Empty
        in what earlier engines wrote.
    """

    command: str
    tomogram: str
    state: str
    error: dict[str, str] = field(default_factory=dict)
    outputs: tuple[EngineOutput, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    device: str | None = None
    precision: str | None = None
    model_name: str | None = None
    determinants: dict[str, Any] = field(default_factory=dict)
    engine_version: str = ""
    host: str = ""
    process: int = 0
    updated: str = ""
    origin: dict[str, Any] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether there is a complete result."""
        return self.state == "done"

    @property
    def is_failed(self) -> bool:
        """Whether the engine gave this tomogram up; it then says why."""
        return self.state == "failed"

    @property
    def error_text(self) -> str:
        """What went wrong and what to do about it; empty without a failure."""
        parts = (self.error.get("message", ""), self.error.get("remedy", ""))
        return " ".join(part.strip() for part in parts if part.strip())

    @property
    def model_sha256(self) -> str | None:
        """The sha256 of the model's file, where the engine names it."""
        value = self.determinants.get("model_sha256")
        return str(value) if value else None

    @property
    def config_sha256(self) -> str | None:
        """The sha256 of the configuration, where the command has one."""
        value = self.determinants.get("config_sha256")
        return str(value) if value else None

    @property
    def image(self) -> dict[str, str] | None:
        """The container image that it was made in: path, sha256, version, as far as known."""
        image = self.origin.get("image")
        return {str(name): str(value) for name, value in image.items()} if image else None

    def output_of_kind(self, kind: str, suffix: str = "") -> Path | None:
        """Find the file of a kind, such as ``labels``, that ends with `suffix`.

        Parameters
        ----------
        kind
            ``tomogram``, ``labels``, ``probabilities``, ``raw`` or ``particles``.
        suffix
            How the file's name ends, such as ``.mrc``; any by default.

        Returns
        -------
        Path or None
            None when the engine wrote no such file, or it was changed or removed since.
        """
        for output in self.outputs:
            if output.kind == kind and output.path.name.endswith(suffix) and output.is_there():
                return output.path
        return None


def status_folder(prediction_folder: Path, command: str) -> Path:
    """Where the status files of an engine command lie.

    Parameters
    ----------
    prediction_folder
        As in the run's configuration.
    command
        ``denoise_predict``, ``semantic_predict``, ``semantic_to_centers``, ...
    """
    base = Path(prediction_folder) / "status"
    return base if command.endswith("_predict") else base / command


def read_status(folder: Path, stem: str) -> EngineStatus | None:
    """Read the status of a tomogram.

    Parameters
    ----------
    folder
        The folder of status files: see :func:`status_folder`.
    stem
        The tomogram's tsId.

    Returns
    -------
    EngineStatus or None
        None where there is no status that can be read (yet).
    """
    try:
        data = json.loads((Path(folder) / f"{stem}.json").read_text(encoding="utf-8"))
        return _from_json(data)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def read_all(folder: Path, stems: list[str]) -> dict[str, EngineStatus]:
    """Read the statuses of several tomograms; those without one are left out."""
    found = ((stem, read_status(folder, stem)) for stem in stems)
    return {stem: status for stem, status in found if status is not None}


def _from_json(data: dict[str, Any]) -> EngineStatus:
    """Build the status; keys of a newer engine that the host does not know are left out."""
    known = set(EngineStatus.__dataclass_fields__)
    values = {key: value for key, value in data.items() if key in known and value is not None}
    values["outputs"] = tuple(EngineOutput.from_json(entry) for entry in data.get("outputs", ()))
    values["warnings"] = tuple(str(warning) for warning in data.get("warnings", ()))
    return EngineStatus(**values)
