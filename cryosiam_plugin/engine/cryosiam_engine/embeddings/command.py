"""What embedding instances and embedding around centres share: reading, provenance, writing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cryosiam_engine.config.embeddings import EmbeddingConfig
from cryosiam_engine.dense import require_finite
from cryosiam_engine.embeddings.files import write_embeddings
from cryosiam_engine.embeddings.model import EmbeddingModel
from cryosiam_engine.preprocessing import normalise
from cryosiam_engine.run import Saved, Tomogram, TomogramCommand
from cryosiam_engine.status import FileIdentity
from cryosiam_engine.volume import check_values, read_volume

Loaded = TypeVar("Loaded")


@dataclass
class Embedded:
    """The particles of one tomogram and their embeddings.

    Attributes
    ----------
    tomogram
        Which one.
    table
        One row per particle.
    embeddings
        `(n, dim)`.
    summary, warnings
        For the status.
    """

    tomogram: Tomogram
    table: pd.DataFrame
    embeddings: NDArray[np.float32]
    summary: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class EmbeddingCommand(TomogramCommand[Loaded, Embedded]):
    """A command that embeds sub-tomograms.

    Parameters
    ----------
    config
        The validated configuration.
    model
        The network.
    """

    #: How lines end in the table of regions.
    line_end = "\n"

    def __init__(self, config: EmbeddingConfig, model: EmbeddingModel) -> None:
        self.model = model
        self.folder = config.prediction_folder
        self.model_name = model.name
        self.device = str(model.device)
        self.precision = model.precision
        self._intensity = config.intensity
        self._config_sha256 = config.sha256()

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """Configuration, model, how it is computed, and the input files themselves."""
        return {
            "config_sha256": self._config_sha256,
            "model_sha256": self.model.sha256,
            "tiling": self.model.tiling,
            "precision": self.model.precision,
            "inputs": [vars(FileIdentity.of(path)) for path in self.inputs(tomogram)],
        }

    def inputs(self, tomogram: Tomogram) -> list[Path]:
        """The files that are read for this tomogram; missing ones are reported by `load`."""
        return [tomogram.path] if tomogram.path.exists() else []

    def read_tomogram(self, tomogram: Tomogram) -> NDArray[np.float32]:
        """Read, check and normalise the tomogram (z, y, x)."""
        raw = read_volume(tomogram.path)
        check_values(raw.data, tomogram.path)
        volume = raw.data.astype(np.float32, copy=False)
        normalise(volume, self._intensity)
        return volume

    def save(self, result: Embedded) -> Saved:
        """Check and write the embeddings and the table of their particles."""
        finite = torch.tensor(bool(np.isfinite(result.embeddings).all()))
        require_finite(finite, result.tomogram.path, self.model.precision)
        outputs = write_embeddings(
            self.folder,
            result.tomogram.stem,
            result.table,
            result.embeddings,
            line_end=self.line_end,
        )
        summary = {"n_particles": len(result.table), "dim": self.model.network.dim}
        return Saved(outputs, summary | result.summary, [*self.model.warnings, *result.warnings])
