"""The files of a tomogram's embeddings, as the original writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import starfile
from numpy.typing import NDArray

from cryosiam_engine.files import atomic_path
from cryosiam_engine.hdf5 import StreamedDatasets, write_datasets
from cryosiam_engine.instances.table import STAR_NAMES
from cryosiam_engine.status import FileIdentity, Output

#: Numbers of all embeddings that are written together: a row of the file holds one of each.
_ROWS = 64


def write_embeddings(
    folder: Path, stem: str, table: pd.DataFrame, embeddings: NDArray[np.float32], *, line_end: str
) -> list[Output]:
    """Write the embeddings of one tomogram's particles and the particles themselves.

    They are ``<stem>_embeds.h5`` (dataset ``embeddings``, float64 `(dim, n)`),
    ``<stem>_instance_labels.h5`` (``labels``, int64 `(n,)`), ``<stem>_instance_regions.csv`` and
    ``<stem>_instance_regions.star``. Column i of the first is entry i and row i of the others.

    Parameters
    ----------
    folder, stem
        Where the files go and how they begin.
    table
        One row per particle, at least with `label`.
    embeddings
        `(n, dim)`.
    line_end
        Of the CSV: the original's differs between its commands.

    Returns
    -------
    list of Output
        Of the kinds ``embeddings``, ``embedding_labels``, ``regions`` and ``star``.

    Raises
    ------
    OutputError
        When a file cannot be written.
    """
    labels = table["label"].to_numpy(np.int64)
    paths = {
        "embedding_labels": folder / f"{stem}_instance_labels.h5",
        "regions": folder / f"{stem}_instance_regions.csv",
        "star": folder / f"{stem}_instance_regions.star",
    }
    write_datasets(paths["embedding_labels"], {"labels": labels})
    with atomic_path(paths["regions"]) as partial:
        table.to_csv(partial, index=False, lineterminator=line_end)
    with atomic_path(paths["star"]) as partial:
        present = [name for name in STAR_NAMES if name in table]
        starfile.write(table[present].rename(columns=STAR_NAMES), partial)
    matrix = folder / f"{stem}_embeds.h5"
    _write_matrix(matrix, embeddings)
    return [
        Output(FileIdentity.of(matrix), "embeddings", embeddings.shape[::-1]),
        *(Output(FileIdentity.of(path), kind, (len(table),)) for kind, path in paths.items()),
    ]


def _write_matrix(path: Path, embeddings: NDArray[np.float32]) -> None:
    """Write the transposed embeddings without a second, twice as large copy of them."""
    dim = embeddings.shape[1]
    with StreamedDatasets(path, {"embeddings": (embeddings.shape[::-1], np.float64)}) as file:
        for start in range(0, dim, _ROWS) if len(embeddings) else ():
            rows = embeddings[:, start : start + _ROWS].T.astype(np.float64)
            file.write("embeddings", (slice(start, start + len(rows)), slice(None)), rows)
