"""What instance segmentation reads: the tomogram, its mask, a semantic segmentation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.config import InstanceConfig
from cryosiam_engine.instances.semantic_foreground import load_semantic_foreground
from cryosiam_engine.label_files import find_label_files
from cryosiam_engine.masks import load_mask
from cryosiam_engine.preprocessing import normalise
from cryosiam_engine.run import Tomogram
from cryosiam_engine.volume import VolumeHeader, check_values, read_header, read_volume


@dataclass
class LoadedTomogram:
    """What was read of a tomogram; the large things are given away to free memory.

    Attributes
    ----------
    tomogram, header
        Which one, and its geometry.
    volume
        Normalised (z, y, x); None where the network need not run.
    mask
        (z, y, x).
    semantic
        True where a semantic segmentation says foreground, (z, y, x).
    warnings
        What the user should know.
    map_determinants
        What decides the network's maps, as it was when the files were read.
    """

    tomogram: Tomogram
    header: VolumeHeader
    volume: NDArray[np.float32] | None
    mask: NDArray[np.integer] | None
    semantic: NDArray[np.bool_] | None
    warnings: list[str]
    map_determinants: dict[str, Any] = field(default_factory=dict)


class InstanceInputs:
    """Finds and reads the inputs of a tomogram.

    Parameters
    ----------
    config
        The validated configuration.
    faithful
        Masks as in the original: their values multiply the maps, and they have no effect on a
        foreground that comes from labels.
    """

    def __init__(self, config: InstanceConfig, *, faithful: bool) -> None:
        self._config = config
        self._faithful = faithful

    def of_network(self, tomogram: Tomogram) -> list[Path]:
        """The files that decide the network's maps; a missing tomogram is reported by `load`."""
        files = [tomogram.path] if tomogram.path.exists() else []
        if self._config.mask_folder:
            files.append(self._label_file(self._config.mask_folder, tomogram))
        return files

    def of_separation(self, tomogram: Tomogram) -> list[Path]:
        """The files that decide the instances, given the network's maps."""
        if not self._config.semantic_predictions:
            return []
        return [self._label_file(self._config.semantic_predictions, tomogram)]

    def _label_file(self, folder: Path, tomogram: Tomogram) -> Path:
        return find_label_files(folder, tomogram.stem, self._config.file_extension)[0]

    def load(self, tomogram: Tomogram, *, with_volume: bool) -> LoadedTomogram:
        """Read and check everything: nothing is computed for a bad mask.

        Parameters
        ----------
        tomogram
            Which one.
        with_volume
            Read the voxels too, not only the geometry.

        Raises
        ------
        TomogramError, MaskError
            When something is missing, damaged, or does not fit.
        """
        header = read_header(tomogram.path)
        mask, warnings = self._mask(tomogram, header)
        semantic = None
        for path in self.of_separation(tomogram):
            semantic, more = load_semantic_foreground(
                path,
                self._config.semantic_foreground_labels,
                tomogram.path,
                header.shape,
                mask=None if self._faithful else mask,
            )
            warnings += more
        volume = self._normalised(tomogram) if with_volume else None
        return LoadedTomogram(tomogram, header, volume, mask, semantic, warnings)

    def _mask(
        self, tomogram: Tomogram, header: VolumeHeader
    ) -> tuple[NDArray[np.integer] | None, list[str]]:
        if not self._config.mask_folder:
            return None, []
        return load_mask(
            self._config.mask_folder,
            tomogram.stem,
            header.shape,
            extension=self._config.file_extension,
            binary=not self._faithful,
        )

    def _normalised(self, tomogram: Tomogram) -> NDArray[np.float32]:
        raw = read_volume(tomogram.path)
        check_values(raw.data, tomogram.path)
        volume = raw.data.astype(np.float32, copy=False)
        normalise(volume, self._config.intensity)
        return volume
