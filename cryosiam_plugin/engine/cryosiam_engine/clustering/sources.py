"""The particles of several tomograms with their embeddings, as the embedding commands left them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryosiam_engine.clustering.regions_table import read_regions
from cryosiam_engine.config import stem_of
from cryosiam_engine.errors import ConfigurationError, MaskError
from cryosiam_engine.hdf5 import read_dataset
from cryosiam_engine.status import FileIdentity

#: What is added to a tomogram's stem for its embeddings, their labels and their regions.
EMBEDDINGS_ENDING = "_embeds.h5"
LABELS_ENDING = "_instance_labels.h5"
REGIONS_ENDING = "_instance_regions.csv"

_RUN_AGAIN = "Run simsiam_embeddings_predict (or ..._from_centers_predict) again."


@dataclass(frozen=True)
class Source:
    """The files of one tomogram's particles."""

    folder: Path
    stem: str

    @property
    def embeddings(self) -> Path:
        """Embeddings, one particle per column."""
        return self.folder / f"{self.stem}{EMBEDDINGS_ENDING}"

    @property
    def labels(self) -> Path:
        """The particle's label for each column."""
        return self.folder / f"{self.stem}{LABELS_ENDING}"

    @property
    def regions(self) -> Path:
        """The particle's position and size for each column."""
        return self.folder / f"{self.stem}{REGIONS_ENDING}"


@dataclass
class Particles:
    """All particles of a clustering, tomogram after tomogram.

    Attributes
    ----------
    embeddings
        One particle per row, shape `(n, dim)`.
    regions
        For each tomogram, in the order of the rows, its own table.
    sources
        The tomograms, in the same order.
    """

    embeddings: NDArray[np.float32]
    regions: list[pd.DataFrame]
    sources: list[Source]

    @property
    def counts(self) -> list[int]:
        """Particles per tomogram."""
        return [len(table) for table in self.regions]


def find_sources(folder: Path, names: Sequence[str] | None, file_extension: str) -> list[Source]:
    """List the tomograms whose particles have embeddings, sorted by name.

    Parameters
    ----------
    folder
        Where the embeddings are.
    names
        Stems or file names of tomograms; None for all in the folder.
    file_extension
        Of the tomograms, as in the configuration.

    Raises
    ------
    ConfigurationError
        When there is none, or one of `names` has no embeddings.
    """
    if names is None:
        found = [path.name for path in folder.glob(f"*{EMBEDDINGS_ENDING}") if path.name[0] != "."]
        stems = {name.removesuffix(EMBEDDINGS_ENDING) for name in found}
    else:
        stems = {_named_stem(folder, name, file_extension) for name in names}
    if not stems:
        raise ConfigurationError(
            f"No embeddings to work on: no file in {folder} ends with {EMBEDDINGS_ENDING}, "
            "or the list of files is empty.",
            remedy="Run simsiam_embeddings_predict first, with the same prediction_folder.",
        )
    sources = [Source(folder, stem) for stem in sorted(stems)]
    missing = [source for source in sources if not source.embeddings.is_file()]
    if missing:
        raise ConfigurationError(
            f"{len(missing)} of {len(sources)} tomograms have no embeddings, the first is "
            f"{missing[0].stem}: no file {missing[0].embeddings}.",
            remedy="Correct the list of files, or run simsiam_embeddings_predict for them.",
        )
    return sources


def _named_stem(folder: Path, name: str, file_extension: str) -> str:
    """A stem may itself contain dots, so what lies in the folder decides what the name is."""
    plain = Path(name).name.removesuffix(EMBEDDINGS_ENDING)
    if Source(folder, plain).embeddings.is_file():
        return plain
    return stem_of(plain, file_extension)


def read_particles_of(sources: Sequence[Source]) -> Particles:
    """Read the particles of some tomograms and check that their files belong together.

    Embeddings are what a network computed in float32, so float32 holds them without loss.

    Raises
    ------
    MaskError
        When a file is missing, damaged or of another run than its neighbour, or an embedding is
        not finite.
    ConfigurationError
        When embeddings of different models are mixed.
    """
    shapes = [_shape(source) for source in sources]
    dims = {dim: source for (dim, count), source in zip(shapes, sources, strict=True) if count}
    if len(dims) > 1:
        (one, first), (other, second) = list(dims.items())[:2]
        raise ConfigurationError(
            f"The embeddings of {first.stem} have {one} numbers each, those of {second.stem} "
            f"{other}: they are of different models.",
            remedy="Compute all embeddings with one model, or choose files with clustering_files.",
        )
    embeddings = np.empty((sum(count for _, count in shapes), next(iter(dims), 0)), np.float32)
    regions, start = [], 0
    for source, (_, count) in zip(sources, shapes, strict=True):
        regions.append(_regions(source, count))
        if count:
            embeddings[start : start + count] = read_embeddings(source).T
        start += count
    return Particles(embeddings, regions, list(sources))


def read_embeddings(source: Source) -> NDArray[np.float64]:
    """Read the embeddings `(dim, n)` of one tomogram.

    Raises
    ------
    MaskError
        When the file cannot be read, or has values that are not finite.
    """
    values = read_dataset(source.embeddings, "embeddings")
    if not np.isfinite(values).all():
        raise MaskError(f"{source.embeddings} has values that are no numbers.", remedy=_RUN_AGAIN)
    return values


def _shape(source: Source) -> tuple[int, int]:
    """(dim, n), without reading the values."""
    shape: tuple[int, ...] | None = None
    try:
        with h5py.File(source.embeddings, "r", locking=False) as file:
            if isinstance(file.get("embeddings"), h5py.Dataset):
                shape = file["embeddings"].shape
    except OSError as error:
        raise MaskError(
            f"{source.embeddings} cannot be read: {error}.", remedy=_RUN_AGAIN
        ) from error
    if shape is None or len(shape) != 2:
        raise MaskError(
            f"{source.embeddings} has no embeddings of the form (numbers, particles).",
            remedy=_RUN_AGAIN,
        )
    return shape[0], shape[1]


def _regions(source: Source, count: int) -> pd.DataFrame:
    labels = read_dataset(source.labels, "labels")
    table = read_regions(source.regions)
    if len(labels) != count or not np.array_equal(table["label"].to_numpy(), labels):
        raise MaskError(
            f"The embeddings of {source.stem} ({count}), its labels ({len(labels)}) and its "
            f"regions ({len(table)}) are not of the same particles.",
            remedy=f"They are of different runs. {_RUN_AGAIN}",
        )
    return table


def input_identities(source: Source) -> list[FileIdentity]:
    """What the three files of a tomogram are now.

    Raises
    ------
    MaskError
        When one is missing.
    """
    paths = (source.embeddings, source.labels, source.regions)
    try:
        return [FileIdentity.of(path) for path in paths]
    except FileNotFoundError as error:
        raise MaskError(f"{error.filename} does not exist.", remedy=_RUN_AGAIN) from error
