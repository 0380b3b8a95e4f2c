"""A map of each tomogram's particles, ``simsiam_visualize_embeddings``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryosiam_engine.clustering.map_request import MapRequest, PageWriter
from cryosiam_engine.clustering.reduction import pca_coordinates, umap_coordinates
from cryosiam_engine.clustering.regions_table import read_regions
from cryosiam_engine.clustering.sources import Source, find_sources, read_embeddings
from cryosiam_engine.config import VisualizationConfig
from cryosiam_engine.errors import MaskError
from cryosiam_engine.files import atomic_path
from cryosiam_engine.run import RunReport, Saved, Tomogram, TomogramCommand, TomogramLoop
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity, Output, status_folder

logger = logging.getLogger(__name__)


@dataclass
class Seen:
    """One tomogram's particles: embeddings `(n, dim)` and what is known of each."""

    stem: str
    embeddings: NDArray[np.float32]
    table: pd.DataFrame


@dataclass
class Mapped:
    """One tomogram's particles with their places in the map, `(n, 2)` or `(n, 3)`."""

    stem: str
    coordinates: NDArray[np.float32]
    table: pd.DataFrame


class VisualizeCommand(TomogramCommand[Seen, Mapped]):
    """Places the particles of each tomogram by UMAP or PCA.

    Parameters
    ----------
    config
        The validated configuration.
    write_page
        Writes the web page; None leaves it out.
    """

    name = "simsiam_visualize_embeddings"

    def __init__(self, config: VisualizationConfig, write_page: PageWriter | None = None) -> None:
        self._config = config
        self._write_page = write_page
        self._method = "UMAP" if config.pca_components is None else "PCA"
        self._dimensions = 3 if config.umap_3d and (config.pca_components or 3) >= 3 else 2

    def _files(self, tomogram: Tomogram) -> tuple[Source, Path]:
        source = Source(self._config.prediction_folder, tomogram.stem)
        return source, source.folder / f"{source.stem}_{self._config.visualization_suffix}"

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """The configuration, the embeddings and the table."""
        source, table = self._files(tomogram)
        if not table.is_file():
            raise MaskError(
                f"{table} does not exist.",
                remedy="Correct visualization_suffix, or run the command that writes it.",
            )
        inputs = [vars(FileIdentity.of(path)) for path in (source.embeddings, table)]
        folder = str(self._config.page_folder.absolute())
        return {"config_sha256": self._config.sha256(), "inputs": inputs, "folder": folder}

    def load(self, tomogram: Tomogram) -> Seen:
        """Read embeddings and table, and check that they are of the same particles."""
        source, path = self._files(tomogram)
        embeddings = read_embeddings(source).T.astype(np.float32)
        table = read_regions(path)
        if len(table) != len(embeddings):
            raise MaskError(
                f"{path} has {len(table)} particles, {source.embeddings} has {len(embeddings)}.",
                remedy="They are of different runs: run simsiam_embeddings_predict again.",
            )
        return Seen(source.stem, embeddings, table)

    def compute(self, loaded: Seen, progress: Progress) -> Mapped:
        """Find every particle's place."""
        config, wanted = self._config, self._dimensions
        if config.pca_components is None:
            points = umap_coordinates(
                loaded.embeddings, n_components=wanted, metric=config.distance
            )
        else:
            points = pca_coordinates(loaded.embeddings, config.pca_components)[:, :wanted]
        return Mapped(loaded.stem, points, loaded.table)

    def save(self, result: Mapped) -> Saved:
        """Write the table with the places, and the page."""
        table = _with_places(result.table, result.coordinates)
        base = f"{result.stem}_embeds_{self._method.lower()}"
        data = self._config.page_folder / f"{base}_data.csv"
        with atomic_path(data) as partial:
            table.to_csv(partial, lineterminator="\n")
        files = {data: "particles"}
        if self._write_page:
            request = MapRequest(
                self._config.page_folder / f"{base}.html",
                result.stem,
                {self._method: result.coordinates},
                table.assign(tomo=result.stem),
                self._colour(table),
            )
            files.update(dict.fromkeys(self._write_page(request), "map"))
        outputs = [Output(FileIdentity.of(f), kind, (len(table),)) for f, kind in files.items()]
        warnings = [] if len(table) else ["NO PARTICLES: the map is empty."]
        return Saved(outputs, {"particles": len(table)}, warnings)

    def _colour(self, table: pd.DataFrame) -> str | None:
        """The first of these columns that there is, as in the original."""
        size = "area" if self._dimensions == 3 else "log_area"
        columns = ("semantic_class_2", "semantic_class", size)
        return next((column for column in columns if column in table), None)


def _with_places(table: pd.DataFrame, points: NDArray[np.float32]) -> pd.DataFrame:
    """Add the binary logarithm of the area and the places; all other cells stay as they are.

    The original cuts every number to a whole one, and cannot read text.
    """
    table = table.copy()
    if "area" in table:
        area = table["area"].to_numpy(np.float64)
        table["log_area"] = np.log2(area, out=np.full(len(area), np.nan), where=area > 0)
    for name, column in zip("xyz", points.T, strict=False):
        table[name] = column
    return table


def run(
    config: VisualizationConfig, *, overwrite: bool = False, write_page: PageWriter | None = None
) -> RunReport:
    """Map the particles of each tomogram; finished and unchanged ones are left.

    Parameters
    ----------
    config
        Of ``simsiam_visualize_embeddings``.
    overwrite
        Map finished tomograms again.
    write_page
        Writes the web page; None leaves it out.

    Raises
    ------
    ConfigurationError
        When no tomogram has embeddings.
    """
    if not config.visualize_umap:
        logger.warning("visualize_umap is False: nothing is written.")
        return RunReport()
    folder = status_folder(config.prediction_folder, config.command)
    sources = find_sources(
        config.prediction_folder, config.visualization_files, config.file_extension
    )
    tomograms = [Tomogram(source.embeddings, source.stem) for source in sources]
    return TomogramLoop(VisualizeCommand(config, write_page), folder, overwrite=overwrite).run(
        tomograms
    )
