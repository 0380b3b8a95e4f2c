"""Workflows 1 and 2 as a scheduled chain, with Scipion's own protocols behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipion_projects import Project
from scipy import ndimage

BOX = 12
MINIMUM_VOXELS = 5
CLASSES = {1: "membrane", 2: "ribosome", 3: "proteasome"}
#: Voxels around the membranes in which instances are kept.
NEAR = 2
#: Voxels of the instances that are taken for large ones.
LARGE = 20
#: Of the untrained model: leaves instances, and background between them.
SEPARATION = {"minCenterDistance": 0.5, "maxCenterDistance": 3.0}


@dataclass(frozen=True)
class DataSet:
    """Tomograms, and the thresholds at which the untrained models find something in them.

    Attributes
    ----------
    folder, pattern
        Where the files are.
    voxel_size
        Å.
    ts_ids
        The tsIds that Scipion gives them.
    shape
        (z, y, x) of each.
    lamella_threshold
        Leaves a mask that is neither empty nor everything.
    foreground_threshold
        Leaves some instances in every tomogram.
    """

    folder: Path
    pattern: str
    voxel_size: float
    ts_ids: list[str]
    shape: tuple[int, int, int]
    lamella_threshold: float
    foreground_threshold: float = 0.6


@dataclass
class Workflow:
    """A chain of protocols by short name, and what it works on."""

    project: Project
    data: DataSet
    models: Path
    members: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.members[name]

    def run(self, seconds: float, *, downstream: bool = True) -> Workflow:
        """Schedule all members before there is anything to work on; wait until all have ended.

        Without `downstream` only our own protocols.
        """
        self._cryosiam(*self._imports())
        self._instances()
        if downstream:
            self._downstream()
            self._downstream_of_instances()
        for protocol in self.members.values():
            self.project.scipion.scheduleProtocol(protocol)
        for protocol in self.members.values():
            self.project.finished(protocol, seconds)
        return self

    def _add(self, name: str, protocol_class: type, **parameters: Any) -> Any:
        self.members[name] = self.project.new(protocol_class, **parameters)
        self.project.scipion.saveProtocol(self.members[name])
        return self.members[name]

    def _network(self, name: str) -> dict[str, Any]:
        file = str(self.models / f"demo_{name}.ckpt")
        return {"modelSource": 1, "modelFile": file, "useGpu": False, "numberOfThreads": 3}

    def _imports(self) -> tuple[Any, Any]:
        """Tomograms at their voxel size and, as if binned, at twice that; the model."""
        from tomo.protocols import ProtImportTomograms

        from cryosiam_plugin.protocols import ProtCryosiamImportModel

        pattern = {"filesPath": str(self.data.folder), "filesPattern": self.data.pattern}
        size = self.data.voxel_size
        raw = self._add("raw", ProtImportTomograms, samplingRate=size, **pattern)
        self._add("coarse", ProtImportTomograms, samplingRate=2 * size, **pattern)
        imported = self._add(
            "model",
            ProtCryosiamImportModel,
            modelFile=str(self.models / "demo_semantic.ckpt"),
            classNames=", ".join(CLASSES.values()),
            voxelSize=size,
        )
        return raw, imported

    def _cryosiam(self, raw: Any, imported: Any) -> None:
        from cryosiam_plugin.protocols import (
            ProtCryosiamDenoise,
            ProtCryosiamLamella,
            ProtCryosiamParticles,
            ProtCryosiamSemantic,
        )

        source = {"inputTomograms": (raw, "Tomograms")}
        denoised = self._add(
            "denoised", ProtCryosiamDenoise, **source, **self._network("denoising")
        )
        clean = {"inputTomograms": (denoised, "denoisedTomograms")}
        threshold = self.data.lamella_threshold
        lamella = self._add(
            "lamella", ProtCryosiamLamella, threshold=threshold, **clean, **self._network("lamella")
        )
        semantic = {
            **clean,
            **self._network("semantic"),
            "modelSource": 2,
            "modelObject": (imported, "model"),
            "inputMasks": (lamella, "lamellaMasks"),
            "threshold": 0.3,
        }
        self._add("semantic", ProtCryosiamSemantic, minimumSizes="1: 3", **semantic)
        self._add(
            "particles",
            ProtCryosiamParticles,
            minimumVoxels=MINIMUM_VOXELS,
            boxSize=BOX,
            **semantic,
        )

    def _instances(self) -> None:
        """What the network sees, what the semantic masks see, and what of it is near membranes."""
        from cryosiam_plugin.protocols import ProtCryosiamInstanceFilter, ProtCryosiamInstances

        clean = {"inputTomograms": (self["denoised"], "denoisedTomograms")}
        masks = {"inputMasks": (self["lamella"], "lamellaMasks")}
        labels = (self["semantic"], "semanticMasks")
        network = {**clean, **masks, **SEPARATION, **self._network("instance")}
        instances = self._add(
            "instances",
            ProtCryosiamInstances,
            thresholdForeground=self.data.foreground_threshold,
            makeSurfaces=True,
            **network,
        )
        self._add(
            "classed",
            ProtCryosiamInstances,
            foregroundFrom=1,
            inputLabels=labels,
            foregroundClasses="ribosome",
            joinParts=True,
            boxSize=BOX,
            **network,
        )
        self._add(
            "near",
            ProtCryosiamInstanceFilter,
            inputInstances=(instances, "instanceMasks"),
            inputRegions=labels,
            maskClasses="membrane",
            expandVoxels=NEAR,
            **clean,
        )

    def _downstream_of_instances(self) -> None:
        from pwem.protocols import ProtSetFilter, ProtSubSet
        from tomo.protocols import ProtExportCoordinates3D, ProtTomoExtractCoords

        coordinates = (self["near"], "coordinates")
        coarse = (self["coarse"], "Tomograms")
        large = f"item._nVoxels.get() > {LARGE} and item._minZ.get() > 0"
        self._add("large", ProtSetFilter, inputSet=coordinates, formula=large)
        self._add("instances_exported", ProtExportCoordinates3D, inputCoordinates=coordinates)
        self._add(
            "instances_rescaled",
            ProtTomoExtractCoords,
            inputSubTomos=coordinates,
            inputTomos=coarse,
            boxSize=BOX,
        )
        masks = (self["instances"], "instanceMasks")
        self._add("mask_subset", ProtSubSet, inputFullSet=masks, chooseAtRandom=True, nElements=1)

    def _downstream(self) -> None:
        """Protocols of tomo and pwem that work on our outputs."""
        from pwem.protocols import ProtSetFilter, ProtSubSet
        from tomo.protocols import (
            ProtExportCoordinates3D,
            ProtTomoApplyTomoMask,
            ProtTomoExtractCoords,
        )

        coordinates = (self["particles"], "coordinates")
        tomograms = (self["denoised"], "denoisedTomograms")
        masks = (self["lamella"], "lamellaMasks")
        coarse = (self["coarse"], "Tomograms")
        ribosomes = "item._className.get() == 'ribosome'"
        number = max(1, len(self.data.ts_ids) - 1)
        self._add("exported", ProtExportCoordinates3D, inputCoordinates=coordinates)
        self._add(
            "rescaled",
            ProtTomoExtractCoords,
            inputSubTomos=coordinates,
            inputTomos=coarse,
            boxSize=BOX,
        )
        self._add("ribosomes", ProtSetFilter, inputSet=coordinates, formula=ribosomes)
        self._add(
            "masked", ProtTomoApplyTomoMask, inTomoSet=tomograms, inMaskSet=masks, sigmaGaussian=0
        )
        self._add(
            "subset", ProtSubSet, inputFullSet=tomograms, chooseAtRandom=True, nElements=number
        )


def by_ts_id(output: Any) -> dict[str, Any]:
    found = {item.getTsId(): item.clone() for item in output.iterItems()}
    output.close()
    return found


def instances_of(coordinates: Any) -> dict[tuple[str, int], dict[str, Any]]:
    """What is known of each instance, by tsId and its number."""
    from cryosiam_plugin.convert import index_of

    found = {}
    for c in coordinates.iterCoordinates():
        bounds = [(getattr(c, f"_min{a}").get(), getattr(c, f"_max{a}").get()) for a in "ZYX"]
        found[c.getTomoId(), c._instanceId.get()] = {
            "index": index_of(c),
            "voxels": c._nVoxels.get(),
            "nm3": c._volumeNm3.get(),
            "bounds": bounds,
            "score": c.getScore(),
            "class": (c.getGroupId(), c._className.get()),
        }
    coordinates.close()
    return found


def only_output(protocol: Any) -> Any:
    return next(output for _, output in protocol.iterOutputAttributes())


def positions_of(coordinates: Any) -> np.ndarray:
    """Positions from the tomogram's centre, in an order that does not depend on the set."""
    found = sorted(
        (c.getTomoId(), c.getGroupId(), c._x.get(), c._y.get(), c._z.get())
        for c in coordinates.iterItems()
    )
    return np.array([position for _, _, *position in found])


def centres_of(mask: np.ndarray) -> np.ndarray:
    """Centres of mass (z, y, x) of the eroded mask's components of more than the minimum size."""
    found, n_found = ndimage.label(
        ndimage.binary_erosion(mask, border_value=1), structure=np.ones((3, 3, 3))
    )
    sizes = np.bincount(found.reshape(-1), minlength=n_found + 1)
    kept = [i for i in range(1, n_found + 1) if sizes[i] > MINIMUM_VOXELS]
    return np.array(ndimage.center_of_mass(found > 0, found, kept)).reshape(-1, 3)
