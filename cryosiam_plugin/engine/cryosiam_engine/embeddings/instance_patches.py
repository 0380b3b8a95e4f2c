"""Sub-tomograms of segmented particles, without what surrounds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.embeddings.convex_hulls import convex_hull
from cryosiam_engine.embeddings.expansion import own_voxels
from cryosiam_engine.embeddings.patches import Box, Shape, cut_patch
from cryosiam_engine.errors import MaskError

#: Values of ``masking_type``.
NO_MASKING, CONVEX_HULL, STRICT = 0, 1, 2


@dataclass(frozen=True)
class InstanceCutter:
    """Cuts instances out of a tomogram, one at a time and each within its own box.

    Attributes
    ----------
    volume
        Preprocessed tomogram (z, y, x).
    instances
        Ids (z, y, x), 0 = background.
    patch_size
        Voxels (z, y, x) of what is cut.
    masking_type
        What stays: 0 all of the box; 1 the convex hull of the instance; 2 the instance alone.
    distance
        Voxels by which instances are expanded into the background before.
    faithful
        Repeat two oddities of the original: an expanded instance is cut off at the box that it
        had before (by default the box is that of the expanded instance), and an instance within
        one plane has an empty hull.
    """

    volume: NDArray[np.float32]
    instances: NDArray[np.integer]
    patch_size: Shape
    masking_type: int
    distance: float
    faithful: bool

    def cut(self, label: int, box: Box) -> tuple[NDArray[np.float32], int]:
        """Cut one instance.

        Parameters
        ----------
        label
            Its id.
        box
            Its bounding box before the expansion.

        Returns
        -------
        patch : numpy.ndarray
            float32, of shape `patch_size`.
        hull_area : int
            Voxels of the convex hull (a volume; the name is the original's); 0 unless
            `masking_type` is 1.

        Raises
        ------
        MaskError
            When the box holds no voxel of the instance.
        """
        grows = self.distance >= 1 and not self.faithful
        if self.masking_type == NO_MASKING and not grows:
            return cut_patch(self.volume, box, self.patch_size), 0
        if grows:
            box = box.grown(int(self.distance), self.instances.shape)
        own = own_voxels(self.instances, label, box, self.distance)
        if not own.any():
            raise MaskError(
                f"Instance {label} has no voxel in the box that the table of regions gives it: "
                f"{box.start} to {box.stop}.",
                remedy="The table belongs to other instances: remove it from "
                "instances_mask_folder, or run instance_predict again.",
            )
        if grows:
            box, own = _trimmed(box, own)
        if self.masking_type == NO_MASKING:
            return cut_patch(self.volume, box, self.patch_size), 0
        if self.masking_type == STRICT:
            return cut_patch(self.volume, box, self.patch_size, own), 0
        hull = convex_hull(own, flat=not self.faithful)
        return cut_patch(self.volume, box, self.patch_size, hull), int(np.count_nonzero(hull))


def _trimmed(box: Box, mask: NDArray[np.bool_]) -> tuple[Box, NDArray[np.bool_]]:
    """The smallest box with all voxels of a mask `(z, y, x)`, and the mask in it."""
    others = ((1, 2), (0, 2), (0, 1))
    inside = [np.flatnonzero(mask.any(axis=axes)) for axes in others]
    z, y, x = (slice(int(i[0]), int(i[-1]) + 1) for i in inside)
    start = (box.start[0] + z.start, box.start[1] + y.start, box.start[2] + x.start)
    stop = (box.start[0] + z.stop, box.start[1] + y.stop, box.start[2] + x.stop)
    return Box(start, stop), mask[z, y, x]
