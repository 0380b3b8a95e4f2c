"""What the loop over tomograms runs: reading, computing and writing of one of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import Output

Loaded = TypeVar("Loaded")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Tomogram:
    """One tomogram of a run: its file and its stem, the name of all its results."""

    path: Path
    stem: str


@dataclass
class Saved:
    """What a command left on disk for one tomogram, for the status file."""

    outputs: list[Output]
    summary: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class TomogramCommand(ABC, Generic[Loaded, Result]):
    """One CryoSiam module, as the loop sees it.

    `load` and `save` run in a thread of their own, in the order they are asked for, so that at
    most one of them holds a volume while another tomogram is computed.
    """

    name: str
    model_name: str | None = None
    device: str | None = None
    precision: str | None = None
    #: Whether the next tomogram is read while one is computed; it costs that tomogram's memory.
    reads_ahead = True

    @abstractmethod
    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """Everything that decides the result of this tomogram, as JSON values."""

    @abstractmethod
    def load(self, tomogram: Tomogram) -> Loaded:
        """Read and check the inputs."""

    @abstractmethod
    def compute(self, loaded: Loaded, progress: Progress) -> Result:
        """Make the result; may empty `loaded` to free memory."""

    @abstractmethod
    def save(self, result: Result) -> Saved:
        """Write the result, atomically."""
