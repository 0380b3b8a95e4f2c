"""Embeddings of segmented particles: ``simsiam_embeddings_predict``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryosiam_engine.config.embeddings import EmbeddingsConfig
from cryosiam_engine.device import cpu_threads
from cryosiam_engine.embeddings.command import Embedded, EmbeddingCommand
from cryosiam_engine.embeddings.expansion import expand_all
from cryosiam_engine.embeddings.instance_patches import InstanceCutter
from cryosiam_engine.embeddings.model import EmbeddingModel
from cryosiam_engine.embeddings.patches import Box
from cryosiam_engine.embeddings.regions import (
    boxes_of,
    read_regions,
    regions_file,
    select_by_size,
    with_scores,
)
from cryosiam_engine.errors import MaskError
from cryosiam_engine.instances.files import instance_file, read_instances
from cryosiam_engine.instances.table import measure_instances
from cryosiam_engine.run import Tomogram
from cryosiam_engine.sliding_window import Progress


@dataclass
class LoadedInstances:
    """One tomogram's instances; the volumes are given away to free memory.

    Attributes
    ----------
    tomogram
        Which one.
    cutter
        Holds the tomogram and its instances; None once given away.
    table
        The regions to embed.
    n_found
        Regions before those of the wrong size were left out.
    """

    tomogram: Tomogram
    cutter: InstanceCutter | None
    table: pd.DataFrame
    n_found: int


class EmbeddingsCommand(EmbeddingCommand[LoadedInstances]):
    """``simsiam_embeddings_predict``.

    Areas, boxes and size limits are those of the instances before ``expand_labels``; a region's
    sub-tomogram is the box of the *expanded* instance, whether or not there is a table of regions.
    With `tiling` ``reference`` it is as in the original: with a table the expanded instance is cut
    off at its old box; without one, areas and boxes are measured after the expansion.

    Parameters
    ----------
    config
        The validated configuration.
    model
        The network.
    """

    name = "simsiam_embeddings_predict"
    line_end = "\r\n"

    def __init__(self, config: EmbeddingsConfig, model: EmbeddingModel) -> None:
        super().__init__(config, model)
        self._config = config
        self._faithful = model.tiling == "reference"

    def inputs(self, tomogram: Tomogram) -> list[Path]:
        """The tomogram, its instances and the table of their regions."""
        regions = self._regions_file(tomogram)
        files = [*super().inputs(tomogram), self._instance_file(tomogram)]
        return [*files, regions] if regions.is_file() else files

    def load(self, tomogram: Tomogram) -> LoadedInstances:
        """Read and check the tomogram and its instances, and choose which are embedded."""
        config, path = self._config, self._instance_file(tomogram)
        instances = read_instances(path)
        volume = self.read_tomogram(tomogram)
        if instances.shape != volume.shape:
            raise MaskError(
                f"{path} has the shape {instances.shape} (z, y, x), but {tomogram.path} "
                f"{volume.shape}.",
                remedy="Give the instances of just these tomograms: same binning, same crop.",
            )
        table, distance = None, config.expand_labels
        if self._regions_file(tomogram).is_file():
            table = read_regions(self._regions_file(tomogram), instances.shape)
            table = with_scores(table, config.instances_mask_folder, tomogram.stem)
        elif self._faithful:
            instances, distance = expand_all(instances, distance), 0.0
        if table is None:
            table = measure_instances(instances).astype({"area": np.float64})
        cutter = InstanceCutter(
            volume,
            instances,
            config.patch_size,
            config.masking_type,
            distance,
            self._faithful,
        )
        chosen = select_by_size(table, config.min_particle_size, config.max_particle_size)
        return LoadedInstances(tomogram, cutter, chosen, len(table))

    def compute(self, loaded: LoadedInstances, progress: Progress) -> Embedded:
        """Embed one instance after the other."""
        cutter, loaded.cutter = loaded.cutter, None
        assert cutter is not None  # noqa: S101 - given away once only
        table = loaded.table
        wanted = zip(table["label"].tolist(), boxes_of(table), strict=True)
        hull_areas: list[int] = []

        def patches() -> Iterator[NDArray[np.float32]]:
            for patch, hull_area in _cut_ahead(cutter, wanted, 2 * self.model.batch_size):
                hull_areas.append(hull_area)
                yield patch

        embeddings = self.model.embed(patches(), len(table), progress)
        table = table.assign(hull_area=np.array(hull_areas, np.int64))
        left_out = loaded.n_found - len(table)
        return Embedded(
            loaded.tomogram,
            table,
            embeddings,
            {"instances_of_other_size": left_out},
            [] if len(table) else [self._reason_for_nothing(left_out)],
        )

    def _reason_for_nothing(self, left_out: int) -> str:
        if not left_out:
            return "NO PARTICLES: the tomogram has no instances, so there are no embeddings."
        return (
            f"NO PARTICLES: all {left_out} instances are smaller than min_particle_size "
            f"({self._config.min_particle_size}) or larger than max_particle_size "
            f"({self._config.max_particle_size}) voxels."
        )

    def _instance_file(self, tomogram: Tomogram) -> Path:
        folder, suffix = self._config.instances_mask_folder, self._config.instances_suffix
        paths = [
            instance_file(folder, tomogram.stem, suffix + extension)
            for extension in (".h5", ".mrc")
        ]
        for path in paths:
            if path.is_file():
                return path
        raise MaskError(
            f"No instances of {tomogram.stem} in {folder}; looked for "
            f"{' and '.join(path.name for path in paths)}.",
            remedy="Run instance_predict for this tomogram first, and set instances_mask_folder "
            "to its prediction_folder.",
        )

    def _regions_file(self, tomogram: Tomogram) -> Path:
        folder, suffix = self._config.instances_mask_folder, self._config.instances_suffix
        return regions_file(folder, tomogram.stem, suffix)


def _cut_ahead(
    cutter: InstanceCutter, wanted: Iterable[tuple[int, Box]], n_ahead: int
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Cut instances in their order, some of them in advance while the network computes."""
    with ThreadPoolExecutor(cpu_threads(), "cut") as pool:
        waiting: deque[Future[tuple[NDArray[np.float32], int]]] = deque()
        for label, box in wanted:
            waiting.append(pool.submit(cutter.cut, label, box))
            if len(waiting) > n_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
