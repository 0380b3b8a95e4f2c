"""Instance segmentation and the filter of instances, on simulated tomograms in a real project."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

import numpy as np
from pyworkflow.tests import setupTestProject
from scipy import ndimage
from tomo.objects import SetOfCoordinates3D
from tomo.protocols import ProtImportTomograms
from tomo.tests.test_base_centralized_layer import TestBaseCentralizedLayer

from cryosiam_plugin import Plugin
from cryosiam_plugin.convert import index_of, instance_classes_of
from cryosiam_plugin.protocols import (
    ProtCryosiamInstanceFilter,
    ProtCryosiamInstances,
    ProtCryosiamLamella,
)
from cryosiam_plugin.protocols.instance_form import FROM_CLASSES
from cryosiam_plugin.protocols.model_choice import FILE
from cryosiam_plugin.tests.synthetic import (
    SHAPE,
    VOXEL_SIZE,
    simulated_tomograms,
    small_models,
)
from cryosiam_plugin.tests.test_protocols import _read

TSIDS = ["TS_01", "TS_02"]
#: Of the untrained model: leaves some instances, and background between them.
SETTINGS = {"thresholdForeground": 0.6, "minCenterDistance": 0.5, "maxCenterDistance": 3.0}
CUBIC_NM = (VOXEL_SIZE / 10) ** 3


@unittest.skipIf(Plugin.validateInstallation(), "CryoSiam's engine is not installed")
class TestCryosiamInstances(TestBaseCentralizedLayer):
    """Two simulated tomograms, their instances, and those of them in a mask."""

    @classmethod
    def setUpClass(cls) -> None:
        """Import, mask and segment once for all tests."""
        setupTestProject(cls)
        imported = cls.newProtocol(
            ProtImportTomograms,
            filesPath=str(simulated_tomograms(2)),
            filesPattern="TS_*.mrc",
            samplingRate=VOXEL_SIZE,
        )
        cls.launchProtocol(imported)
        cls.tomograms = imported.Tomograms
        cls.lamellae = cls._run(ProtCryosiamLamella, "lamella", threshold=0.2).lamellaMasks
        cls.instances = cls._run(
            ProtCryosiamInstances,
            "instance",
            inputMasks=cls.lamellae,
            makeSurfaces=True,
            pointsPerSurface=30,
            keepMaps=True,
            **SETTINGS,
        )

    @classmethod
    def _run(cls, protocolClass: type, model: str = "", **parameters: Any) -> Any:
        protocol = cls._new(protocolClass, model, **parameters)
        cls.launchProtocol(protocol)
        return protocol

    @classmethod
    def _new(cls, protocolClass: type, model: str = "", **parameters: Any) -> Any:
        if model:
            file = str(small_models() / f"demo_{model}.ckpt")
            parameters = {"modelSource": FILE, "modelFile": file, "useGpu": False, **parameters}
        return cls.newProtocol(
            protocolClass, inputTomograms=cls.tomograms, numberOfThreads=1, **parameters
        )

    def testMasks(self) -> None:
        """A number for each instance, inside the lamella; known to be instances."""
        masks = self.instances.instanceMasks
        self.checkTomoMasks(
            masks,
            expectedSetSize=2,
            expectedSRate=VOXEL_SIZE,
            expectedDimensions=list(SHAPE[::-1]),
        )
        lamellae = {mask.getTsId(): _read(mask) for mask in self.lamellae}
        for mask in masks:
            labels = _read(mask)
            self.assertEqual(labels.dtype, np.uint16)
            self.assertGreater(labels.max(), 3)
            self.assertFalse(labels[lamellae[mask.getTsId()] == 0].any())
            self.assertEqual(instance_classes_of(mask), {})

    def testCoordinates(self) -> None:
        """Every instance once, with what can be measured in its mask."""
        box = self._expectedBox(self.instances.instanceMasks)
        coordinates = self.instances.coordinates
        self.checkCoordinates(coordinates, expectedBoxSize=box, expectedSRate=VOXEL_SIZE)
        self._checkAgainstMasks(coordinates, self.instances.instanceMasks)
        for coordinate in coordinates.iterCoordinates():
            self.assertTrue(SETTINGS["thresholdForeground"] - 0.2 < coordinate.getScore() <= 1)
            self.assertEqual(coordinate.getGroupId(), 1)
            self.assertEqual(coordinate._className.get(), "instance")

    def testSurfaces(self) -> None:
        """A closed cloud of points around each instance."""
        surfaces = self.instances.surfaces
        self.assertEqual(surfaces.getNumberOfMeshes(), self.instances.coordinates.getSize())
        self.assertIsInstance(surfaces, SetOfCoordinates3D)
        volumes = {mask.getTsId(): _read(mask) for mask in self.instances.instanceMasks}
        found: dict = {}
        for point in surfaces.iterCoordinates():
            key = (point.getTomoId(), point.getGroupId())
            found.setdefault(key, []).append(index_of(point))
        expected = {
            (tsId, label) for tsId, v in volumes.items() for label in np.unique(v[v > 0]).tolist()
        }
        self.assertEqual(set(found), expected)
        for (tsId, label), points in found.items():
            self.assertLessEqual(len(points), 30)
            outside = ndimage.distance_transform_edt(volumes[tsId] != label)
            inside = ndimage.distance_transform_edt(volumes[tsId] == label)
            for index in np.clip(np.rint(points).astype(int), 0, np.array(SHAPE) - 1):
                self.assertLess(outside[tuple(index)] + inside[tuple(index)], 3.5)

    def testFilter(self) -> None:
        """Whole instances with a voxel in the mask, their numbers and columns as before."""
        protocol = self._run(
            ProtCryosiamInstanceFilter,
            inputInstances=self.instances.instanceMasks,
            inputRegions=self.lamellae,
            maskClasses="lamella",
        )
        # All of them lie in the lamella that they were sought in.
        before = {_key(c): _columns(c) for c in self.instances.coordinates.iterCoordinates()}
        after = {_key(c): _columns(c) for c in protocol.coordinates.iterCoordinates()}
        self.assertEqual(after, before)
        self._checkAgainstMasks(protocol.coordinates, protocol.instanceMasks)
        self.assertEqual(protocol.coordinates.getBoxSize(), self.instances.coordinates.getBoxSize())
        self.assertFalse(hasattr(protocol, "surfaces"))

    def testMapsOfAnEarlierRun(self) -> None:
        """Other settings, without the network: the same as with it."""
        settings = {**SETTINGS, "thresholdForeground": 0.7, "inputMasks": self.lamellae}
        fresh = self._run(ProtCryosiamInstances, "instance", **settings)
        again = self._run(ProtCryosiamInstances, "instance", earlierRun=self.instances, **settings)
        for one, other in zip(fresh.instanceMasks.iterItems(), again.instanceMasks.iterItems()):
            np.testing.assert_array_equal(_read(one), _read(other))
        said = [Path(run._getExtraPath("engine", "engine_1.log")) for run in (fresh, again)]
        counts = [log.read_text().count("only the separation is done") for log in said]
        self.assertEqual(counts, [0, len(TSIDS)])

    def testClassesAsForeground(self) -> None:
        """Instances of a class bear its number and name, also after the filter."""
        protocol = self._run(
            ProtCryosiamInstances,
            "instance",
            foregroundFrom=FROM_CLASSES,
            inputLabels=self.lamellae,
            foregroundClasses="lamella",
            distanceType=2,
            minCenterDistance=1.0,
            maxCenterDistance=1.0,
        )
        labels = {mask.getTsId(): _read(mask) for mask in protocol.instanceMasks}
        lamellae = {mask.getTsId(): _read(mask) for mask in self.lamellae}
        for tsId, volume in labels.items():
            self.assertFalse(volume[lamellae[tsId] == 0].any())
        for coordinate in protocol.coordinates.iterCoordinates():
            self.assertEqual(coordinate._className.get(), "lamella")
        kept = self._run(
            ProtCryosiamInstanceFilter,
            inputInstances=protocol.instanceMasks,
            inputRegions=self.lamellae,
        )
        names = {c._className.get() for c in kept.coordinates.iterCoordinates()}
        self.assertEqual(names, {"lamella"})

    def testNothingFoundIsLoud(self) -> None:
        """The run fails and gives the engine's numbers."""
        protocol = self._new(
            ProtCryosiamInstances, "instance", earlierRun=self.instances, thresholdForeground=1.0
        )
        self.launchProtocolExpectingFailure(protocol)
        message = protocol.getErrorMessage()
        self.assertIn("No instances were found", message)
        self.assertIn("highest foreground probability", message)
        self.assertIn("TS_01", "\n".join(protocol.summary()))

    def launchProtocolExpectingFailure(self, protocol: Any) -> None:
        """Launch, and demand that it fails."""
        self.proj.launchProtocol(protocol, wait=True)
        self.assertTrue(protocol.isFailed())

    def testForm(self) -> None:
        """What cannot be computed is said before it is tried."""
        protocol = self._new(
            ProtCryosiamInstances, "instance", minCenterDistance=4.0, maxCenterDistance=3.0
        )
        self.assertIn("must not be larger", "\n".join(protocol.validate()))
        protocol = self._new(ProtCryosiamInstances, "instance", foregroundFrom=FROM_CLASSES)
        self.assertIn("*Semantic masks* cannot be empty", "\n".join(protocol.validate()))
        protocol = self._new(
            ProtCryosiamInstances,
            "instance",
            foregroundFrom=FROM_CLASSES,
            inputLabels=self.lamellae,
            foregroundClasses="membrane",
        )
        self.assertIn("no class called 'membrane'", "\n".join(protocol.validate()))
        protocol = self._new(ProtCryosiamInstances, "instance")
        protocol.earlierRun.set(self._new(ProtCryosiamInstances, "instance"))
        self.assertIn("kept none", "\n".join(protocol.validate()))
        protocol = self._new(ProtCryosiamInstances, "lamella")
        self.assertIn("another task", "\n".join(protocol.validate()))

    def _expectedBox(self, masks: Any) -> int:
        sizes = [size for mask in masks for size in np.bincount(_read(mask).reshape(-1))[1:]]
        sizes = sorted(size for size in sizes if size)
        median = sizes[(len(sizes) - 1) // 2]
        return 2 * int(np.ceil(0.75 * (6 * median / np.pi) ** (1 / 3)))

    def _checkAgainstMasks(self, coordinates: Any, masks: Any) -> None:
        """Size, box, volume and centre of mass of each, measured again by other means."""
        number = 0
        for mask in masks.iterItems():
            labels = _read(mask)
            boxes = ndimage.find_objects(labels)
            found = {
                c._instanceId.get(): (index_of(c), c.clone())
                for c in coordinates.iterCoordinates(volume=mask)
            }
            self.assertEqual(set(found), set(np.unique(labels[labels > 0]).tolist()))
            for label, (index, coordinate) in found.items():
                inside = labels == label
                np.testing.assert_allclose(index, ndimage.center_of_mass(inside), atol=1e-3)
                self.assertEqual(coordinate._nVoxels.get(), inside.sum())
                self.assertAlmostEqual(
                    coordinate._volumeNm3.get(), inside.sum() * CUBIC_NM, delta=1e-3
                )
                bounds = [
                    (getattr(coordinate, f"_min{a}").get(), getattr(coordinate, f"_max{a}").get())
                    for a in "ZYX"
                ]
                self.assertEqual(bounds, [(s.start, s.stop - 1) for s in boxes[label - 1]])
                number += 1
        self.assertEqual(number, coordinates.getSize())


def _key(coordinate: Any) -> tuple:
    return coordinate.getTomoId(), coordinate._instanceId.get()


def _columns(coordinate: Any) -> dict:
    return {
        k: v for k, v in coordinate.getObjDict().items() if not k.startswith(("id", "creation"))
    }
