"""Signed distances to every class's surface: ``semantic_train_preprocess``."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edt
import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.config.training import DistanceMapsConfig
from cryosiam_engine.device.host import cpu_threads
from cryosiam_engine.errors import MaskError
from cryosiam_engine.files import atomic_path, output_error
from cryosiam_engine.label_files import read_labels
from cryosiam_engine.preprocessing import slabs
from cryosiam_engine.run import RunReport, Saved, Tomogram, TomogramCommand, TomogramLoop
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity, Output, status_folder
from cryosiam_engine.training.ground_truth import training_tomograms

#: The fastest: distances shrink to about a third already, and slower levels gain little.
_COMPRESSION_LEVEL = 1
_MEMBER = "data.npy"


@dataclass
class TrainingLabels:
    """Labels `(z, y, x)` of one tomogram."""

    tomogram: Tomogram
    labels: NDArray[np.integer]


@dataclass(frozen=True)
class DistanceFile:
    """Distance maps that are on the disk; `shape` is `(channels, z, y, x)`."""

    path: Path
    shape: tuple[int, ...]


def signed_distance(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance in voxels to the surface of a mask, positive inside and negative outside.

    It is measured to the nearest voxel on the other side, and the volume's border counts as
    surface on both sides: what lies outside of the volume is neither.

    Parameters
    ----------
    inside
        Boolean, `(z, y, x)`; its values are inverted afterwards.
    """
    threads = cpu_threads()
    distance: NDArray[np.float32] = edt.edt(inside, black_border=True, parallel=threads)
    np.logical_not(inside, out=inside)
    distance -= edt.edt(inside, black_border=True, parallel=threads)
    return distance


def write_distance_maps(
    path: Path,
    labels: NDArray[np.integer],
    n_channels: int,
    progress: Progress = lambda done, total: None,
) -> None:
    """Write the signed distances to every class, one class in memory at a time.

    With a single channel that one is of label 0, the background, as in the original: its
    networks have learned it so.

    Parameters
    ----------
    path
        The ``.npz`` file; its key ``data`` is float32 `(channels, z, y, x)`.
    labels
        `(z, y, x)`.
    n_channels
        Classes, the background included.
    progress
        Told how many channels are done.

    Raises
    ------
    OutputError
        When the system refuses to write.
    """
    header = {"descr": "<f4", "fortran_order": False, "shape": (n_channels, *labels.shape)}
    with atomic_path(path) as partial:
        with (
            zipfile.ZipFile(
                partial, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL
            ) as archive,
            archive.open(_MEMBER, "w", force_zip64=True) as member,
        ):
            np.lib.format.write_array_header_1_0(member, header)
            for channel in range(n_channels):
                distance = np.ascontiguousarray(signed_distance(labels == channel), dtype="<f4")
                for part in slabs(distance.shape):
                    member.write(distance[part].data)
                progress(channel + 1, n_channels)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())


@contextmanager
def opened_distance_maps(path: Path) -> Iterator[NDArray[np.float32]]:
    """Give distance maps `(channels, z, y, x)` that stay on the disk.

    They are unpacked to a temporary file beside `path`, so that a patch of all channels can be
    cut without any channel in memory. The file is gone when the block ends, or the process.

    Parameters
    ----------
    path
        Of :func:`write_distance_maps`, or the original's.

    Raises
    ------
    MaskError
        When it is missing or no such file.
    OutputError
        When there is no room to unpack it.
    """
    try:
        archive = zipfile.ZipFile(path)
        member = archive.open(_MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise MaskError(
            f"The distance maps {path} cannot be read: {error}.",
            remedy="Run semantic_train_preprocess, with the same temp_dir.",
        ) from error
    with archive, member, tempfile.NamedTemporaryFile(dir=path.parent, prefix=".unpacked-") as file:
        try:
            shutil.copyfileobj(member, file, 2**20)
            file.flush()
            maps = np.load(file.name, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise MaskError(
                f"The distance maps {path} are damaged: {error}.",
                remedy="Run semantic_train_preprocess again.",
            ) from error
        except OSError as error:
            raise output_error(error, path) from error
        yield maps


def distance_file(folder: Path, stem: str) -> Path:
    """Where the distance maps of a tomogram are: ``<folder>/distances/<stem>.npz``."""
    return folder / "distances" / f"{stem}.npz"


def check_labels(labels: NDArray[np.integer], n_channels: int, path: Path) -> None:
    """Refuse labels that no channel of the network stands for.

    Parameters
    ----------
    labels
        `(z, y, x)`.
    n_channels
        ``out_channels``; 1 is for the labels 0 and 1.
    path
        Their file, named in the error.

    Raises
    ------
    MaskError
        With the labels that there are.
    """
    low, high = int(labels.min()), int(labels.max())
    largest = max(n_channels - 1, 1)
    if low < 0 or high > largest:
        raise MaskError(
            f"{path} has labels from {low} to {high}; a network with out_channels {n_channels} "
            f"learns 0 to {largest}.",
            remedy="Raise parameters.network.out_channels (it counts the background), or choose "
            "labels with semantic_filter_ground_truth.",
        )


class DistanceMapsCommand(TomogramCommand[TrainingLabels, DistanceFile]):
    """``semantic_train_preprocess``.

    Parameters
    ----------
    config
        The validated configuration.
    """

    name = DistanceMapsConfig.command

    def __init__(self, config: DistanceMapsConfig) -> None:
        self._config = config
        self._n_channels = config.network.out_channels

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """The number of classes and the label file."""
        inputs = [vars(FileIdentity.of(tomogram.path))] if tomogram.path.exists() else []
        return {"out_channels": self._n_channels, "inputs": inputs}

    def load(self, tomogram: Tomogram) -> TrainingLabels:
        """Read and check the labels."""
        labels = read_labels(tomogram.path)
        check_labels(labels, self._n_channels, tomogram.path)
        return TrainingLabels(tomogram, labels)

    def compute(self, loaded: TrainingLabels, progress: Progress) -> DistanceFile:
        """Compute the distances and write each class at once."""
        path = distance_file(self._config.prediction_folder, loaded.tomogram.stem)
        write_distance_maps(path, loaded.labels, self._n_channels, progress)
        return DistanceFile(path, (self._n_channels, *loaded.labels.shape))

    def save(self, result: DistanceFile) -> Saved:
        """Say what was written."""
        return Saved([Output(FileIdentity.of(result.path), "distances", result.shape)])


def run(config: DistanceMapsConfig, args: argparse.Namespace) -> RunReport:
    """Run the command; `args` as for :func:`cryosiam_engine.training.ground_truth.run`.

    Raises
    ------
    EngineError
        When the run cannot begin.
    """
    config.check_paths()
    tomograms = training_tomograms(config, args.filename)
    command = DistanceMapsCommand(config)
    folder = status_folder(config.prediction_folder, command.name)
    return TomogramLoop(command, folder).run(tomograms)
