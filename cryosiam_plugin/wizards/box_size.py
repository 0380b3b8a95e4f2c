"""A box size for instances that have been measured already."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cryosiam_plugin.convert import instance_table, read_instances, suggested_box
from cryosiam_plugin.protocols.instance_results import sizes_of


def measured_sizes(protocol: Any) -> tuple[dict[int, int], str]:
    """How many instances there are of each size (voxels), and where that is from.

    Of the protocol's own results, or, before there are any, of the instance masks that it will
    read; none where nothing has been measured.
    """
    own = getattr(protocol, protocol._primaryOutput, None)
    if own is not None and own.getSize():
        return sizes_of(own), "the results of this run"
    pointer = getattr(protocol, "inputInstances", None)
    masks = pointer.get() if pointer is not None else None
    return _sizes_of_masks(masks), "all instances of the input"


def _sizes_of_masks(masks: Any) -> dict[int, int]:
    sizes: Counter = Counter()
    for mask in masks.iterItems() if masks is not None else ():
        try:
            sizes.update(row["area"] for row in read_instances(str(instance_table(mask))))
        except (OSError, ValueError):
            continue  # of another program, or moved
    return dict(sizes)


def box_for(sizes: dict[int, int], voxel_size: float, source: str) -> tuple[int, str]:
    """A box in voxels and what to tell the user about it.

    Parameters
    ----------
    sizes
        Of :func:`measured_sizes`; with none, the box is 0: to be suggested by the run.
    voxel_size
        Å.
    source
        Where the sizes are from.
    """
    box = suggested_box(sizes)
    if not box:
        return 0, (
            "No instances have been measured yet. With 0 the run itself takes 1.5 times the median "
            "diameter of the instances that it finds."
        )
    number = sum(sizes.values())
    nm = f" ({box * voxel_size / 10:.0f} nm)" if voxel_size else ""
    return box, (
        f"{box} voxels{nm}: 1.5 times the median diameter of {number} instances, as spheres of "
        f"the same volume, rounded up to an even number.\n\nMeasured: {source}."
    )
