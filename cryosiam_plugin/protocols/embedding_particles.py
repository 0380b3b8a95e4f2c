"""The particles that were embedded, as items of the output."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from cryosiam_plugin.convert import (
    N_VOXELS,
    file_of,
    instance_classes_of,
    instance_coordinates,
    instance_table,
    label_table_of,
    link_tomogram,
    read_instances,
    suggested_box,
)
from cryosiam_plugin.convert.embedding_files import REGIONS_ENDING
from cryosiam_plugin.convert.embeddings import set_embedding
from cryosiam_plugin.convert.instances import INSTANCES_ENDING


def link_instances(mask: Any, folder: str) -> None:
    """Put an instance mask, with the engine's table of it if there is one, into a folder."""
    link_tomogram(mask, folder, ending=INSTANCES_ENDING)
    name = f"{mask.getTsId()}{REGIONS_ENDING}"
    link = Path(folder) / name
    link.unlink(missing_ok=True)
    regions = Path(file_of(mask)).with_name(name)
    if regions.is_file():
        link.symlink_to(regions.resolve())


def embedded_particles(particles: Sequence[Any], labels: Sequence[int]) -> list[Any]:
    """The particles of a tomogram that have embeddings; a label is the particle's id.

    Raises
    ------
    ValueError
        When there is an embedding of none of the particles.
    """
    by_id = {int(particle.getObjId()): particle for particle in particles}
    unknown = [label for label in labels if label not in by_id]
    if unknown:
        raise ValueError(
            f"The engine described {len(unknown)} particles that are not in the input any more, "
            f"such as number {unknown[0]}. Use Restart to compute everything again."
        )
    for number, label in enumerate(labels):
        set_embedding(by_id[label], number)
    return [by_id[label] for label in labels]


def embedded_instances(folder: Path, labels: Sequence[int], mask: Any, tomogram: Any) -> list[Any]:
    """Coordinates of the instances of a tomogram that have embeddings.

    Parameters
    ----------
    folder
        Where the engine's table of them is.
    labels
        Their numbers in the mask, in the order of the embeddings.
    mask
        The instance mask; its own table knows scores and classes.
    tomogram
        An item of the set that the coordinates will have as precedents.
    """
    tsId = tomogram.getTsId()
    rows = {row["label"]: row for row in read_instances(str(folder / f"{tsId}{REGIONS_ENDING}"))}
    table = instance_table(mask)
    known = read_instances(str(table)) if table.is_file() else []
    for row in known:
        if row["label"] in rows:
            same = {name: row[name] for name in ("score", "semantic_class")}
            rows[row["label"]].update(same)
    names = instance_classes_of(mask) or label_table_of(mask)
    if len(names) == 1:
        for row in rows.values():
            row["semantic_class"] = next(iter(names))
    coordinates = list(instance_coordinates([rows[label] for label in labels], tomogram, names))
    for number, coordinate in enumerate(coordinates):
        set_embedding(coordinate, number)
    return coordinates


def set_instances_box(protocol: Any, coordinates: Any) -> None:
    """Give the set of instances a box that suits their sizes."""
    if not coordinates.getSize():
        return
    counts = coordinates.aggregate(["COUNT"], N_VOXELS, [N_VOXELS])
    sizes = {int(row[N_VOXELS]): int(row["COUNT"]) for row in counts}
    coordinates.setBoxSize(suggested_box(sizes))
    coordinates.enableAppend()
    coordinates.write()
    protocol._store(coordinates)
    coordinates.close()
