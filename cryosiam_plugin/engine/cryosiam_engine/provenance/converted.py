"""What a model file says itself about the checkpoint that it was converted from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

#: The entry of a model file's metadata that names its checkpoint, as JSON.
CONVERTED_FROM = "converted_from"
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Converted:
    """A checkpoint that became a ``.safetensors`` file.

    Attributes
    ----------
    file, sha256
        Name and SHA-256 of the checkpoint.
    engine_version
        Of the engine that converted it.
    """

    file: str
    sha256: str
    engine_version: str

    def as_json(self) -> str:
        """The entry of the model file's metadata."""
        return json.dumps(vars(self), sort_keys=True)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Label and text of each line of a report."""
        yield "converted from", self.file
        yield "", f"SHA-256 {self.sha256}"
        yield "", f"by cryosiam-engine {self.engine_version}, as the file itself says"


def converted_from(path: Path) -> Converted | None:
    """Read from a model file which checkpoint it was converted from.

    Parameters
    ----------
    path
        Any file. None is given for all but those that ``models convert`` wrote.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            said = json.loads((file.metadata() or {}).get(CONVERTED_FROM, "null"))
        values = {name: said[name] for name in ("file", "sha256", "engine_version")}
    except (OSError, ValueError, TypeError, KeyError, RecursionError, SafetensorError):
        return None
    # Anybody may have written it, and it goes to a terminal.
    shown = all(isinstance(value, str) and value.isprintable() for value in values.values())
    return Converted(**values) if shown and _SHA256.fullmatch(values["sha256"]) else None
