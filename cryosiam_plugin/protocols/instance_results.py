"""What the protocols about instances have in common: their outputs and the size of the box."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Any, Callable, Iterator

from pyworkflow.protocol.constants import LEVEL_ADVANCED
from pyworkflow.protocol.params import GE, BooleanParam, IntParam
from tomo.objects import SetOfCoordinates3D, SetOfMeshes, SetOfTomoMasks

from cryosiam_plugin.convert import instance_coordinates, instance_mask_from, suggested_box
from cryosiam_plugin.convert.particles import N_VOXELS
from cryosiam_plugin.protocols.information import counted
from cryosiam_plugin.protocols.instance_surfaces import mesh_points, surfaces_of_instances
from cryosiam_plugin.protocols.part import ProtocolPart

#: A box before anything is known about the instances; Scipion wants one.
_ANY_BOX = 2


class CryosiamInstancesOutputs(Enum):
    """The results, besides the set of failed tomograms."""

    coordinates = SetOfCoordinates3D
    instanceMasks = SetOfTomoMasks
    surfaces = SetOfMeshes


def defineResultParams(form: Any) -> None:
    """Box size and surfaces."""
    form.addParam(
        "boxSize",
        IntParam,
        default=0,
        validators=[GE(0, error="must be 0 or more")],
        label="Box size (voxels)",
        help="It is kept with the coordinates for the extraction and for looking at them; it "
        "changes nothing in what is found. *0*: suggested from the instances' size, 1.5 times the "
        "median diameter (of spheres of their volumes).",
    )
    form.addParam(
        "makeSurfaces",
        BooleanParam,
        default=False,
        label="Surfaces?",
        help="Also make a smooth surface around each instance, as a set of meshes: points on the "
        "surface that enclose the instance's volume, in one group for each instance (the group is "
        "the instance's id).",
    )
    form.addParam(
        "pointsPerSurface",
        IntParam,
        default=100,
        validators=[GE(4, error="must be 4 or more")],
        condition="makeSurfaces",
        expertLevel=LEVEL_ADVANCED,
        label="Points per surface, at most",
        help="Thousands of instances with many points each make large sets, which Scipion and "
        "other programs are slow to read.",
    )


class Again:
    """Items made one by one, and made anew each time they are gone through.

    An item of Scipion takes kilobytes, and there may be hundreds of thousands of them.

    Parameters
    ----------
    make
        Gives the items.
    """

    def __init__(self, make: Callable[[], Iterator[Any]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return self._make()


class InstanceResults(ProtocolPart):
    """Mixed into a protocol whose results are instances."""

    if TYPE_CHECKING:
        _primaryOutput: str

        def _record(self) -> dict[str, Any]: ...

        def _append(self, name: str, setClass: Any, items: Any, tsId: str, **how: Any) -> None: ...

    def _addInstances(
        self, tomogram: Any, mask_path: str, rows: list[dict[str, Any]], names: dict[int, str]
    ) -> None:
        """Make outputs of the instances of one tomogram, which may be none.

        `names` are those of the classes that the instances were separated in.
        """
        tsId = tomogram.getTsId()
        if len(names) == 1:
            rows = [{**row, "semantic_class": next(iter(names))} for row in rows]
        mask = instance_mask_from(tomogram, mask_path, names)
        self._append(CryosiamInstancesOutputs.instanceMasks.name, SetOfTomoMasks, [mask], tsId)
        if not rows:
            return
        if self.makeSurfaces.get():
            surfaces = surfaces_of_instances(rows, mask_path, self.pointsPerSurface.get())
            points = Again(lambda: mesh_points(surfaces, tomogram))
            name = CryosiamInstancesOutputs.surfaces.name
            self._append(name, SetOfMeshes, points, tsId, boxSize=_ANY_BOX)
        coordinates = Again(lambda: instance_coordinates(rows, tomogram, names))
        box = self.boxSize.get() or suggested_box(Counter(row["area"] for row in rows))
        self._append(self._primaryOutput, SetOfCoordinates3D, coordinates, tsId, boxSize=box)

    def closeOutputSetsStep(self) -> None:
        """Close the outputs, with a box that suits the instances of all tomograms."""
        self._settleSets()
        super().closeOutputSetsStep()

    def _settleSets(self) -> None:
        coordinates = getattr(self, self._primaryOutput, None)
        if coordinates is None or not coordinates.getSize():
            return
        with self._lock:
            if not self.boxSize.get():
                coordinates.setBoxSize(suggested_box(sizes_of(coordinates)))
                _rewrite(self, coordinates)
            surfaces = getattr(self, CryosiamInstancesOutputs.surfaces.name, None)
            if surfaces is not None:
                surfaces.setNumberOfMeshes(coordinates.getSize())
                _rewrite(self, surfaces)

    def _engineReasons(self) -> list[str]:
        """Why the engine thinks that tomograms have no instances."""
        warned = self._record().get("warnings", {})
        return [f"*{tsId}*: {text}" for tsId, texts in warned.items() for text in texts]

    def _resultLines(self) -> list[str]:
        output = getattr(self, self._primaryOutput, None)
        if output is None or not output.getSize():
            return []
        box = output.getBoxSize()
        return [f"{counted(output.getSize(), 'instance')}; box size {box} voxels."]


def sizes_of(coordinates: Any) -> dict[int, int]:
    """How many instances a set has of each size in voxels."""
    found = coordinates.aggregate(["COUNT"], N_VOXELS, [N_VOXELS])
    return {int(row[N_VOXELS]): int(row["COUNT"]) for row in found}


def _rewrite(protocol: Any, output: Any) -> None:
    """Write a set's properties."""
    output.enableAppend()
    output.write()
    protocol._store(output)
    output.close()
