"""The engine's files about embeddings and clusters: read, lent, and those that it is given."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple, Sequence

import h5py

from cryosiam_plugin.convert.whole_files import replacing

#: What the engine writes for a tomogram, behind its name.
EMBEDS_ENDING = "_embeds.h5"
LABELS_ENDING = "_instance_labels.h5"
REGIONS_ENDING = "_instance_regions.csv"
ENDINGS = (EMBEDS_ENDING, LABELS_ENDING, REGIONS_ENDING)

CENTERS_HEADER = ("label", "centroid-0", "centroid-1", "centroid-2", "tomo")
#: Of a particle that is in no cluster.
NO_DISTANCE = -1.0


class Row(NamedTuple):
    """A line of the engine's tables about all particles.

    Attributes
    ----------
    row
        Among the particles of all tomograms, from 0.
    tomogram, label
        The tomogram's tsId, and the particle's number there.
    cluster, distance, rank
        As in the columns of the particles.
    """

    row: int
    tomogram: str
    label: int
    cluster: int = 0
    distance: float = NO_DISTANCE
    rank: int = 0


def write_centers(path: Path, tsId: str, centres: Iterable[tuple[int, Sequence[float]]]) -> None:
    """Write the centres of a tomogram's particles as the engine reads them.

    Parameters
    ----------
    path
        The CSV file.
    tsId
        The tomogram's.
    centres
        Label and voxel index (z, y, x) of each particle.
    """
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(CENTERS_HEADER)
        for label, index in centres:
            writer.writerow([label, *(f"{value:.4f}" for value in index), tsId])


def gather_centers(folder: Path, path: Path) -> None:
    """Write one table of all tables of centres in a folder."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.write(",".join(CENTERS_HEADER) + "\n")
        for table in sorted(folder.glob("*.csv")):
            with table.open(encoding="utf-8") as lines:
                next(lines)
                stream.writelines(lines)


def read_labels(path: Path) -> list[int]:
    """The particles of a tomogram's embeddings, by label, in the order of the embeddings.

    Raises
    ------
    OSError, KeyError
        When it is no such file.
    """
    with h5py.File(path, "r") as file:
        return [int(label) for label in file["labels"][()].reshape(-1)]


def embeddings_shape(path: Path) -> tuple[int, int]:
    """Numbers per particle, and particles, of a tomogram's embeddings.

    Raises
    ------
    OSError, KeyError
        When it is no such file.
    """
    with h5py.File(path, "r") as file:
        dim, number = file["embeddings"].shape
    return int(dim), int(number)


def stems_in(folder: Path) -> list[str]:
    """The tomograms that a folder has embeddings of."""
    return sorted(path.name[: -len(EMBEDS_ENDING)] for path in folder.glob(f"*{EMBEDS_ENDING}"))


def link_embeddings(source: Path, target: Path) -> list[str]:
    """Lend the embeddings of a run to another one, which writes into a folder of its own.

    Returns
    -------
    list of str
        The tomograms.
    """
    stems = stems_in(source)
    for stem in stems:
        for ending in ENDINGS:
            file, link = source / f"{stem}{ending}", target / f"{stem}{ending}"
            link.unlink(missing_ok=True)
            if file.is_file():
                link.symlink_to(file.resolve())
    return stems


def read_rows(path: Path) -> Iterator[Row]:
    """Read the engine's table of clusters, or of a map.

    Raises
    ------
    OSError, ValueError
        When there is no such file or it is not such a table.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        try:
            for line in csv.DictReader(stream):
                yield _row(line)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a table of particles: {error!r}") from error


def _row(line: dict[str, str]) -> Row:
    distance = line.get("distance_to_center")
    return Row(
        int(line["row"]),
        line["tomo"],
        int(float(line["label"])),
        int(float(line.get("cluster") or 0)),
        float(distance) if distance and distance != "nan" else NO_DISTANCE,
        int(float(line.get("rank") or 0)),
    )


def by_embedding(rows: Iterable[Row]) -> dict[tuple[str, int], Row]:
    """The lines of a whole table by (tsId, number among the embeddings of that tomogram)."""
    found: dict[tuple[str, int], Row] = {}
    counts: dict[str, int] = {}
    for row in sorted(rows):
        number = counts.get(row.tomogram, 0)
        counts[row.tomogram] = number + 1
        found[row.tomogram, number] = row
    return found
