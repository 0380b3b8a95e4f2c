"""Sets that are looked at together, as scenes of the slice viewer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Iterator

from tomo.objects import SetOfCoordinates3D, SetOfMeshes, SetOfTomograms, SetOfTomoMasks

from cryosiam_plugin.viewers.scene import SceneFiles
from cryosiam_plugin.viewers.scipion_items import (
    counts_of,
    items_of,
    mask_file,
    particles_of,
    path_of,
    surfaces_of,
)


@dataclass(frozen=True)
class Layer:
    """A set of masks, and whether they are shown at first."""

    title: str
    masks: SetOfTomoMasks
    shown: bool = True


@dataclass(frozen=True)
class Together:
    """Sets that are looked at together; their items belong together by tsId."""

    tomograms: SetOfTomograms
    title: str = "tomogram"
    beside: SetOfTomograms | None = None
    beside_title: str = "denoised"
    layers: list[Layer] = field(default_factory=list)
    coordinates: SetOfCoordinates3D | None = None
    surfaces: SetOfMeshes | None = None


def scenes_of(together: Together, wanted: set[str]) -> Iterator[SceneFiles]:
    """The scene of each tomogram whose tsId is wanted."""
    beside = items_of(together.beside)
    layers = [(layer, items_of(layer.masks)) for layer in together.layers]
    counts = counts_of(together.coordinates)
    for ts_id, tomogram in items_of(together.tomograms).items():
        if ts_id not in wanted:
            continue
        masks = [
            mask_file(items[ts_id], layer.title, shown=layer.shown)
            for layer, items in layers
            if ts_id in items
        ]
        scene = SceneFiles(
            name=ts_id,
            tomogram=path_of(tomogram),
            voxel_size=tomogram.getSamplingRate() or 0.0,
            title=together.title,
            beside=path_of(beside[ts_id]) if ts_id in beside else None,
            beside_title=together.beside_title,
            masks=masks,
        )
        if together.coordinates is not None:
            scene = replace(
                scene,
                particles=partial(particles_of, together.coordinates, tomogram),
                box_size=float(together.coordinates.getBoxSize() or scene.box_size),
                n_particles=counts.get(ts_id, 0),
            )
        if together.surfaces is not None:
            surfaces = partial(surfaces_of, together.surfaces, tomogram)
            scene = replace(scene, surfaces=surfaces)
        yield scene


def masks_alone(masks: SetOfTomoMasks) -> list[SceneFiles]:
    """Masks of another program, each on the tomogram that it names."""
    scenes = []
    for ts_id, mask in items_of(masks).items():
        tomogram = Path(mask.getVolName()).absolute() if mask.getVolName() else path_of(mask)
        scenes.append(
            SceneFiles(
                name=ts_id,
                tomogram=tomogram,
                voxel_size=mask.getSamplingRate() or 0.0,
                masks=[mask_file(mask, "mask")],
            )
        )
    return scenes
