"""``embeddings.h5``: the embeddings of all tomograms in one file, always of the current sources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from cryosiam_engine.clustering.sources import Particles, Source, read_embeddings
from cryosiam_engine.hdf5.writing import new_file
from cryosiam_engine.status import FileIdentity

CONCATENATED = "embeddings.h5"


def concatenate(folder: Path, particles: Particles) -> Path:
    """Write ``embeddings.h5``, unless the one that is there was made of just these files.

    It has the original's datasets: `embeddings` `(n, dim)` float64 and `number_of_samples`
    `(tomograms,)`. The original uses such a file again whatever it was made of; ours remembers
    its sources in the attribute `sources`, and `stems` names the tomograms.

    Parameters
    ----------
    folder
        Where it lies.
    particles
        What was read of the sources.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    path = folder / CONCATENATED
    if is_current(path, particles.sources):
        return path
    with new_file(path) as (file, sink):
        file.attrs["sources"] = _identities(particles.sources)
        file.attrs["stems"] = [source.stem for source in particles.sources]
        file.create_dataset("number_of_samples", data=np.array(particles.counts, np.int64))
        rows = file.create_dataset("embeddings", shape=particles.embeddings.shape, dtype="f8")
        start = 0
        for source, count in zip(particles.sources, particles.counts, strict=True):
            if count:
                rows[start : start + count] = read_embeddings(source).T
            sink.check()
            start += count
    return path


def is_current(path: Path, sources: Sequence[Source]) -> bool:
    """Whether `path` is the concatenation of just these files, in this order, unchanged since."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return bool(file.attrs.get("sources") == _identities(sources))
    except OSError:
        return False


def _identities(sources: Sequence[Source]) -> str:
    return json.dumps([vars(FileIdentity.of(source.embeddings)) for source in sources])
