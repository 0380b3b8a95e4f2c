"""Scipion's objects as engine files, and the engine's files as Scipion's objects.

The only place where the two meet. The engine counts voxels in the order (z, y, x), from 0 at the
first voxel's centre. Scipion keeps coordinates as (x, y, z) from the tomogram's origin. The voxel
size is the one that Scipion has: headers of tomograms are often wrong.
"""

from __future__ import annotations

from cryosiam_plugin.convert.embeddings import ts_ids_of
from cryosiam_plugin.convert.engine_inputs import file_of, link_tomogram, write_run_config
from cryosiam_plugin.convert.instances import (
    INSTANCE_ID,
    VOLUME_NM3,
    instance_classes_of,
    instance_coordinates,
    instance_mask_from,
    instance_table,
    link_instances,
    read_instances,
    suggested_box,
)
from cryosiam_plugin.convert.particles import (
    CLASS_NAME,
    N_VOXELS,
    coordinate_from,
    coordinates_from,
    index_of,
    read_particles,
    rows_with_box_inside,
    voxel_origin,
)
from cryosiam_plugin.convert.volumes import (
    LABEL_TABLE,
    format_label_table,
    label_table_of,
    tomo_mask_from,
    tomogram_from,
)

__all__ = [
    "CLASS_NAME",
    "INSTANCE_ID",
    "LABEL_TABLE",
    "N_VOXELS",
    "VOLUME_NM3",
    "coordinate_from",
    "coordinates_from",
    "file_of",
    "format_label_table",
    "index_of",
    "instance_classes_of",
    "instance_coordinates",
    "instance_mask_from",
    "instance_table",
    "label_table_of",
    "link_instances",
    "link_tomogram",
    "read_instances",
    "read_particles",
    "rows_with_box_inside",
    "suggested_box",
    "tomo_mask_from",
    "tomogram_from",
    "ts_ids_of",
    "voxel_origin",
    "write_run_config",
]
