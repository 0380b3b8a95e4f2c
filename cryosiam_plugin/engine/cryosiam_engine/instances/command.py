"""Instance segmentation: every particle of a tomogram gets a number, ``instance_predict``."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryosiam_engine.config import InstanceConfig
from cryosiam_engine.dense import DenseCommand, LoadedModel, require_finite
from cryosiam_engine.device import cpu_threads
from cryosiam_engine.instances.diagnosis import explain_empty
from cryosiam_engine.instances.files import InstanceFiles
from cryosiam_engine.instances.inputs import InstanceInputs, LoadedTomogram
from cryosiam_engine.instances.maps import (
    MAPS,
    MapFiles,
    MapStitcher,
    Parked,
    TakeMap,
    maps_used,
    parking,
)
from cryosiam_engine.instances.table import measure_instances, summarise, voxel_volume, write_tables
from cryosiam_engine.run import Saved, Tomogram
from cryosiam_engine.separation import (
    SeparationSettings,
    foreground_mask,
    joining,
    separate_in,
)
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity
from cryosiam_engine.volume import VolumeHeader

logger = logging.getLogger(__name__)


@dataclass
class Separated:
    """Instance ids (z, y, x) of a tomogram and what was measured of every instance."""

    tomogram: Tomogram
    header: VolumeHeader
    instances: NDArray[np.uint32]
    table: pd.DataFrame
    summary: dict[str, Any]
    warnings: list[str]


class InstanceCommand(DenseCommand[LoadedTomogram, Separated]):
    """``instance_predict``.

    Parameters
    ----------
    config
        The validated configuration.
    model
        An instance network.
    reuse_maps
        Take the network's maps from an earlier run's raw predictions where they are still valid.

    Raises
    ------
    EngineError
        When regions are to be joined and the solver is not installed.
    """

    name = "instance_predict"
    # The separation needs the memory that a tomogram read ahead would take.
    reads_ahead = False

    def __init__(
        self, config: InstanceConfig, model: LoadedModel, *, reuse_maps: bool = True
    ) -> None:
        super().__init__(config, model)
        self._config = config
        self._faithful = model.window.tiling == "reference"
        self._reuse_maps = reuse_maps
        self._inputs = InstanceInputs(config, faithful=self._faithful)
        self._used = maps_used(config)
        self._computed = list(MAPS) if config.save_raw_predictions else self._used
        self._files = MapFiles(config.prediction_folder)
        self._settings = SeparationSettings(
            threshold_foreground=config.threshold_foreground,
            distance_type=config.distance_type,
            min_center_distance=config.min_center_distance,
            max_center_distance=config.max_center_distance,
        )
        if config.joins_regions:
            joining.import_elf()  # a missing solver is noticed before hours of prediction

    def inputs(self, tomogram: Tomogram) -> list[Path]:
        """The tomogram, its mask and its semantic segmentation."""
        return self._inputs.of_network(tomogram) + self._inputs.of_separation(tomogram)

    def _map_determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """Everything that decides the network's maps; thresholds do not."""
        files = self._inputs.of_network(tomogram)
        return {
            "model_sha256": self.model.sha256,
            "tiling": self.model.window.tiling,
            "precision": self.model.precision,
            "intensity": self._config.intensity.model_dump(),
            "inputs": [vars(FileIdentity.of(path)) for path in files],
        }

    def load(self, tomogram: Tomogram) -> LoadedTomogram:
        """Read and check the inputs; the voxels only if the network must run."""
        determinants = self._map_determinants(tomogram)
        has_maps = self._reuse_maps and self._files.are_valid(tomogram.stem, determinants)
        loaded = self._inputs.load(tomogram, with_volume=bool(self._computed) and not has_maps)
        loaded.map_determinants = determinants
        return loaded

    def compute(self, loaded: LoadedTomogram, progress: Progress) -> Separated:
        """Run the network where its maps are not there yet, and separate the instances."""
        take = self._maps(loaded, progress)
        semantic, loaded.semantic = loaded.semantic, None
        foreground = take("foreground") if semantic is None else semantic.astype(np.float32)
        del semantic
        started = time.perf_counter()
        summary = {"maximum_foreground": float(foreground.max())}
        mask = foreground_mask(foreground, self._settings.threshold_foreground, cpu_threads())
        parked = Parked(foreground, self.folder)
        del foreground
        instances, foreground = self._separate(mask, parked, take, loaded.warnings)
        table = measure_instances(instances, foreground)
        logger.info(
            "%s: %d instances, separated in %.1f s.",
            loaded.tomogram.stem,
            len(table),
            time.perf_counter() - started,
        )
        return Separated(loaded.tomogram, loaded.header, instances, table, summary, loaded.warnings)

    def _maps(self, loaded: LoadedTomogram, progress: Progress) -> TakeMap:
        """The maps that the separation needs, masked; what is on disk is read when it is needed."""
        stem = loaded.tomogram.stem
        volume, loaded.volume = loaded.volume, None
        mask, loaded.mask = loaded.mask, None
        if volume is None:
            if self._used:
                logger.info(
                    "%s: the network's maps in %s are still valid: only the separation is done.",
                    stem,
                    self._files.path(stem),
                )
            return partial(self._files.read, stem)
        window = self.model.window
        stitcher = MapStitcher(window, volume.shape, self._computed, mask)
        window.run(volume, self._computed, stitcher.keep, needed=mask, progress=progress)
        del volume
        require_finite(stitcher.is_finite, loaded.tomogram.path, self.model.precision)
        if not self._config.save_raw_predictions:
            if "boundaries" in self._used and window.device.type == "cpu":
                return parking(stitcher.take, "boundaries", self.folder)
            return stitcher.take
        loaded.warnings += self._files.write(
            stitcher.take, stem, loaded.map_determinants, loaded.header
        )
        return partial(self._files.read, stem)

    def _separate(
        self, mask: NDArray[np.uint8], parked: Parked, take: TakeMap, warnings: list[str]
    ) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """Instance ids (z, y, x), and the foreground's probability back from where it waited."""
        distances = take("distances") if "distances" in self._used else None
        instances = separate_in(mask, distances, self._settings)
        if not instances.any():
            foreground = parked.back()
            warnings.append(explain_empty(foreground, distances, self._settings))
            return instances, foreground
        del distances
        if self._config.joins_regions:
            instances = joining.join_regions(
                instances, take("boundaries"), self._config.boundary_bias
            )
        return instances, parked.back()

    def save(self, result: Separated) -> Saved:
        """Write the instances in the formats asked for, and their tables."""
        stem, header = result.tomogram.stem, result.header
        nm3_per_voxel = voxel_volume(header.voxel_size)
        files = InstanceFiles(self.folder, stem, header, self._config.output_format)
        # The original's multicut gives 64-bit ids.
        as_original = self._faithful and self._config.joins_regions
        outputs, warnings = files.write(result.instances, np.uint64 if as_original else np.uint32)
        outputs += write_tables(result.table, self.folder, stem, nm3_per_voxel)
        if self._config.save_raw_predictions:
            outputs.append(self._files.output(stem, header))
        summary = summarise(result.table, nm3_per_voxel) | result.summary
        return Saved(outputs, summary, result.warnings + warnings)
