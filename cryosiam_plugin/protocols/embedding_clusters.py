"""Clusters of particles as Scipion's sets."""

from __future__ import annotations

from collections import Counter
from typing import Any, Mapping

from pyworkflow.object import Pointer
from tomo.objects import SetOfClassesSubTomograms

from cryosiam_plugin.convert.embedding_files import Row
from cryosiam_plugin.convert.embeddings import CLUSTER, CLUSTER_RANK, embedding_of, set_cluster
from cryosiam_plugin.protocols.information import counted
from cryosiam_plugin.protocols.outputs import copyParticlesInfo

#: Of the class that particles without a cluster would be in.
NO_CLUSTER = 0


class ParticlesDiffer(ValueError):
    """Particles and clusters are not of the same run."""


def new_set(source: Any, folder: str, name: str) -> Any:
    """An empty set of the same kind as `source`, with all that it has in common with it."""
    made = type(source).create(folder, template="set%s.sqlite", suffix=f"_{name}")
    copyParticlesInfo(made, source)
    return made


def write_particles(
    source: Any, rows: Mapping[tuple[str, int], Row], particles: Any, representatives: Any, n: int
) -> Counter[int]:
    """Fill a set with all particles and their clusters, another one with the typical ones.

    Parameters
    ----------
    source
        The particles of an embeddings run.
    rows
        What the engine says about each, by tsId and number among the embeddings.
    particles, representatives
        The sets to fill.
    n
        Representatives of each cluster: those nearest to its centre.

    Returns
    -------
    Counter
        Particles of each cluster; 0 are those without one.

    Raises
    ------
    ParticlesDiffer
        When a particle has no line.
    """
    counts: Counter[int] = Counter()
    for item in source.iterItems():
        key = embedding_of(item)
        if key not in rows:
            raise ParticlesDiffer(
                f"The clusters know nothing of particle {item.getObjId()} of {key[0]}: particles "
                "and embeddings are not of the same run. Compute the embeddings again."
            )
        row = rows[key]
        made = item.clone()
        set_cluster(made, row)
        particles.append(made)
        counts[row.cluster] += 1
        if row.cluster != NO_CLUSTER and row.rank <= n:
            representatives.append(made)
    return counts


def write_classes(particles: Any, pointer: Pointer, folder: str) -> SetOfClassesSubTomograms:
    """Classes of subtomograms, one for each cluster; the most typical one represents its class.

    Parameters
    ----------
    particles
        Subtomograms with their clusters.
    pointer
        To them, as an output.
    folder
        The run's.
    """
    classes = SetOfClassesSubTomograms.create(folder, template="classes%s.sqlite")
    classes.setImages(pointer)
    classes.setCoordinates3D(Pointer(particles.getCoordinates3D(asPointer=True)))
    typical = _most_typical(particles)
    classes.classifyItems(
        updateClassCallback=lambda made: _set_representative(made, typical.get(made.getObjId()))
    )
    classes.write()
    return classes


def _most_typical(particles: Any) -> dict[int, Any]:
    return {
        getattr(item, CLUSTER).get(): item.clone()
        for item in particles.iterItems(where=f"{CLUSTER_RANK}=1")
    }


def _set_representative(made: Any, item: Any) -> None:
    if item is None:
        return
    average = made.REP_TYPE()
    average.copyInfo(item)
    average.setLocation(item.getLocation())
    average.setSamplingRate(item.getSamplingRate())
    made.setRepresentative(average)


def cluster_lines(sizes: Mapping[int, int]) -> list[str]:
    """A line of a summary for each cluster, and one for the particles in none."""
    total = sum(sizes.values()) or 1
    lines = [
        f"Cluster {cluster}: {counted(number, 'particle')} ({100 * number / total:.1f} %)."
        for cluster, number in sorted(sizes.items())
        if cluster != NO_CLUSTER
    ]
    if sizes.get(NO_CLUSTER):
        number = sizes[NO_CLUSTER]
        lines.append(
            f"In no cluster: {counted(number, 'particle')} ({100 * number / total:.1f} %)."
        )
    return lines
