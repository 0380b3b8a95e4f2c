"""Particles as the engine embeds and clusters them, and what it says about each as columns."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Sequence

from pyworkflow.object import Float, Integer
from tomo.constants import SCIPION
from tomo.objects import Coordinate3D, SetOfSubTomograms, Tomogram

from cryosiam_plugin.convert.embedding_files import Row
from cryosiam_plugin.convert.particles import Index, voxel_origin

#: Columns of particles: which of the embeddings of its tomogram is this particle's, from 0.
EMBEDDING_ROW = "_embeddingRow"
#: Its cluster (0: none), distance to the cluster's centre (-1: none) and how many particles of
#: the cluster are at most so near to the centre, itself among them (0: none).
CLUSTER = "_cluster"
CLUSTER_DISTANCE = "_clusterDistance"
CLUSTER_RANK = "_clusterRank"


_SUBTOMOGRAMS_TS_ID = "_coordinate._tomoId"


def coordinate_of(particle: Any) -> Coordinate3D:
    """A particle's coordinate: itself, or a subtomogram's."""
    return particle if isinstance(particle, Coordinate3D) else particle.getCoordinate3D()


def ts_id_column(particles: Any) -> str:
    """The column with the tsIds of a set of coordinates or subtomograms."""
    if isinstance(particles, SetOfSubTomograms):
        return _SUBTOMOGRAMS_TS_ID
    return str(Coordinate3D.TOMO_ID_ATTR)


def ts_ids_of(particles: Any) -> list[str]:
    """The tomograms that a set of coordinates or subtomograms has particles of."""
    if not particles.getSize():
        return []
    # The unique values of a column within a column cannot be asked for.
    column = ts_id_column(particles)
    return [str(row[column]) for row in particles.aggregate(["COUNT"], column, [column])]


def particles_in(particles: Any, tsId: str) -> list[Any]:
    """Clones of the particles of a tomogram, in the order of their ids."""
    where = f'{ts_id_column(particles)}="{tsId}"'
    return [item.clone() for item in particles.iterItems(where=where, orderBy="id")]


def coordinates_sampling_rate(particles: Any) -> float:
    """Å per voxel of the coordinates: those of subtomograms are not scaled with them.

    Raises
    ------
    ValueError
        When subtomograms do not know what their coordinates refer to.
    """
    if not isinstance(particles, SetOfSubTomograms):
        return float(particles.getSamplingRate())
    coordinates = particles.getCoordinates3D()
    if coordinates is None:
        raise ValueError(
            "These subtomograms do not know where in the tomograms they come from. Give "
            "subtomograms that were extracted in this project, or their coordinates."
        )
    return float(coordinates.getSamplingRate())


def index_in(
    coordinate: Coordinate3D,
    samplingRate: float,
    tomogram: Tomogram,
    origin: Sequence[float] | None = None,
) -> Index:
    """Voxel index (z, y, x) of a coordinate in a tomogram of any voxel size, with fractions.

    Both lie in the same place in space: positions count from the origins of the tomograms, which
    is their centre unless Scipion was told otherwise.

    Parameters
    ----------
    coordinate
        As a set has it.
    samplingRate
        Å per voxel of the coordinate.
    tomogram
        The one to look into.
    origin
        What :func:`cryosiam_plugin.convert.voxel_origin` gives for `tomogram`.
    """
    origin = voxel_origin(tomogram) if origin is None else origin
    scale = samplingRate / tomogram.getSamplingRate()
    x, y, z = (scale * value for value in coordinate.getPosition(SCIPION))
    return z - origin[2], y - origin[1], x - origin[0]


def centres_of(
    particles: Iterable[Any], samplingRate: float, tomogram: Tomogram
) -> Iterator[tuple[int, Index]]:
    """Label (the id in the set) and voxel index of the particles of a tomogram.

    Parameters
    ----------
    particles
        Coordinates or subtomograms.
    samplingRate
        Å per voxel of their coordinates.
    tomogram
        The one to look into.
    """
    origin = voxel_origin(tomogram)
    for particle in particles:
        yield (
            int(particle.getObjId()),
            index_in(coordinate_of(particle), samplingRate, tomogram, origin),
        )


def embedding_of(particle: Any) -> tuple[str, int]:
    """The tsId of an embedded particle, and its number among the embeddings of that tomogram.

    Raises
    ------
    ValueError
        When it is not one of an embeddings run.
    """
    column = getattr(particle, EMBEDDING_ROW, None)
    if column is None or column.get() is None:
        raise ValueError(
            "These particles have no embeddings: give the particles of a run of "
            "'subtomogram embeddings' or 'cluster embeddings'."
        )
    return str(coordinate_of(particle).getTomoId()), int(column.get())


def set_embedding(particle: Any, number: int) -> None:
    """Note which of the embeddings of its tomogram is the particle's."""
    setattr(particle, EMBEDDING_ROW, Integer(number))


def set_cluster(particle: Any, row: Row) -> None:
    """Note a particle's cluster: in columns, and as its group or class."""
    setattr(particle, CLUSTER, Integer(row.cluster))
    setattr(particle, CLUSTER_DISTANCE, Float(row.distance))
    setattr(particle, CLUSTER_RANK, Integer(row.rank))
    if isinstance(particle, Coordinate3D):
        particle.setGroupId(row.cluster)
    else:
        particle.setClassId(row.cluster)
