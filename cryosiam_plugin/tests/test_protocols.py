"""Every protocol on simulated tomograms, in a real project."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from pyworkflow.tests import setupTestProject
from tomo.protocols import ProtImportTomograms
from tomo.tests.test_base_centralized_layer import TestBaseCentralizedLayer

from cryosiam_plugin import Plugin
from cryosiam_plugin.convert import index_of, label_table_of
from cryosiam_plugin.protocols import (
    ProtCryosiamDenoise,
    ProtCryosiamImportModel,
    ProtCryosiamLamella,
    ProtCryosiamParticles,
    ProtCryosiamSemantic,
)
from cryosiam_plugin.protocols.model_choice import FILE, OBJECT
from cryosiam_plugin.protocols.protocol_particles import FROM_MASKS
from cryosiam_plugin.tests.synthetic import (
    CLASSES,
    SHAPE,
    VOXEL_SIZE,
    simulated_tomograms,
    small_models,
)

TSIDS = ["TS_01", "TS_02"]
DIMENSIONS = SHAPE[::-1]
ORIGIN = tuple(-length * VOXEL_SIZE / 2 for length in DIMENSIONS)


@unittest.skipIf(Plugin.validateInstallation(), "CryoSiam's engine is not installed")
class TestCryosiamProtocols(TestBaseCentralizedLayer):
    """Import, denoise, mask, segment and pick two simulated tomograms."""

    @classmethod
    def setUpClass(cls) -> None:
        """Import, denoise and mask once for all tests."""
        setupTestProject(cls)
        cls.models = small_models()
        imported = cls._run(
            ProtImportTomograms,
            filesPath=str(simulated_tomograms(2)),
            filesPattern="TS_*.mrc",
            samplingRate=VOXEL_SIZE,
        )
        cls.raw = imported.Tomograms
        cls.denoised = cls._runOn(cls.raw, ProtCryosiamDenoise, "denoising").denoisedTomograms
        lamella = cls._runOn(cls.denoised, ProtCryosiamLamella, "lamella", threshold=0.2)
        cls.lamellae = lamella.lamellaMasks
        cls.importedModel = cls._run(
            ProtCryosiamImportModel,
            modelFile=str(cls.models / "demo_semantic.ckpt"),
            displayName="demo",
            classNames=", ".join(CLASSES.values()),
            voxelSize=VOXEL_SIZE,
        )

    @classmethod
    def _run(cls, protocolClass: type, **parameters: Any) -> Any:
        protocol = cls.newProtocol(protocolClass, **parameters)
        cls.launchProtocol(protocol)
        return protocol

    @classmethod
    def _runOn(cls, tomograms: Any, protocolClass: type, model: str = "", **parameters: Any) -> Any:
        if model:
            file = str(cls.models / f"demo_{model}.ckpt")
            parameters = {"modelSource": FILE, "modelFile": file, **parameters}
        return cls._run(
            protocolClass,
            inputTomograms=tomograms,
            useGpu=False,
            numberOfThreads=1,
            **parameters,
        )

    def testDenoise(self) -> None:
        """Voxel size, size and origin are the input's; values run from 0 to 1."""
        self.checkTomograms(
            self.denoised,
            expectedSetSize=2,
            expectedSRate=VOXEL_SIZE,
            expectedDimensions=list(DIMENSIONS),
            hasHalves=False,
        )
        for tomogram in self.denoised:
            self.assertEqual(tomogram.getShiftsFromOrigin(), ORIGIN)
            values = _read(tomogram)
            self.assertEqual((values.min(), values.max()), (0, 1))

    def testLamella(self) -> None:
        """A mask of 0 and 1 that knows what 1 means."""
        self.checkTomoMasks(
            self.lamellae,
            expectedSetSize=2,
            expectedSRate=VOXEL_SIZE,
            expectedDimensions=list(DIMENSIONS),
        )
        for mask in self.lamellae:
            self.assertEqual(label_table_of(mask), {1: "lamella"})
            self.assertEqual(set(np.unique(_read(mask))), {0, 1})

    def testImportModel(self) -> None:
        """The file tells task and classes, the user names and voxel size."""
        model = self.importedModel.model
        self.assertEqual(model.getTask(), "semantic")
        self.assertEqual(model.getClassNames(), CLASSES)
        self.assertEqual(model.getSamplingRate(), VOXEL_SIZE)
        self.assertEqual(len(model.getSha256()), 64)
        self.assertTrue(Path(model.getPath()).is_file())

    def testSemantic(self) -> None:
        """Labels within the lamella, with names, and a map per class."""
        protocol = self._runOn(
            self.denoised,
            ProtCryosiamSemantic,
            modelSource=OBJECT,
            modelObject=self.importedModel.model,
            inputMasks=self.lamellae,
            threshold=0.3,
            minimumSizes="ribosome: 20",
            probabilityMaps=True,
        )
        self.checkTomoMasks(
            protocol.semanticMasks,
            expectedSetSize=2,
            expectedSRate=VOXEL_SIZE,
            expectedDimensions=list(DIMENSIONS),
        )
        lamellae = {mask.getTsId(): _read(mask) for mask in self.lamellae}
        for mask in protocol.semanticMasks:
            labels = _read(mask)
            self.assertEqual(label_table_of(mask), CLASSES)
            self.assertTrue(labels.any())
            self.assertFalse(labels[lamellae[mask.getTsId()] == 0].any())
        for class_id, name in CLASSES.items():
            maps = getattr(protocol, f"probability_{name}")
            self.assertEqual(set(maps.getTSIds()), set(TSIDS))
            values = _read(maps.getFirstItem())
            self.assertTrue(0 <= values.min() <= values.max() <= 1)
            self.assertEqual(label_table_of(maps.getFirstItem()), {class_id: name})

    def testParticles(self) -> None:
        """One set of all, one per class, and the same again from the masks."""
        protocol = self._runOn(
            self.denoised,
            ProtCryosiamParticles,
            modelSource=OBJECT,
            modelObject=self.importedModel.model,
            inputMasks=self.lamellae,
            threshold=0.3,
            minimumVoxels=5,
            boxSize=20,
            setPerClass=True,
        )
        self.checkCoordinates(protocol.coordinates, expectedBoxSize=20, expectedSRate=VOXEL_SIZE)
        self._checkOnLabels(protocol.coordinates, protocol.semanticMasks)
        parts = [getattr(protocol, f"coordinates_{name}", None) for name in CLASSES.values()]
        sizes = [part.getSize() for part in parts if part is not None]
        self.assertEqual(sum(sizes), protocol.coordinates.getSize())
        self._checkFromMasks(protocol)
        self._checkBoxInside(protocol)

    def _checkFromMasks(self, first: Any) -> None:
        """The labels of one run, picked again, give the same particles of the chosen class."""
        chosen = next(iter({c.getGroupId() for c in first.coordinates.iterCoordinates()}))
        second = self._runOn(
            self.denoised,
            ProtCryosiamParticles,
            source=FROM_MASKS,
            inputLabels=first.semanticMasks,
            minimumVoxels=5,
            classes=CLASSES[chosen],
        )
        expected = [c for c in _found(first.coordinates) if c[1] == chosen]
        self.assertEqual(_found(second.coordinates), expected)
        self.assertEqual(second.engineRecord.get().count('"model": ""'), 1)

    def _checkBoxInside(self, first: Any) -> None:
        """Asked for whole boxes, exactly the particles at the end are missing, and counted."""
        box = 14
        second = self._runOn(
            self.denoised,
            ProtCryosiamParticles,
            source=FROM_MASKS,
            inputLabels=first.semanticMasks,
            minimumVoxels=5,
            boxSize=box,
            boxInside=True,
        )
        everything = _found(first.coordinates)
        low = box / 2 - 0.5
        expected = [
            found
            for found in everything
            if all(low <= i <= n - 1 - low for i, n in zip(found[2], SHAPE))
        ]
        self.assertTrue(0 < len(expected) < len(everything), "the box leaves out all or nothing")
        self.assertEqual(_found(second.coordinates), expected)
        left_out = len(everything) - len(expected)
        self.assertIn(f"{left_out} particle", "\n".join(second.summary()))

    def _checkOnLabels(self, coordinates: Any, masks: Any) -> None:
        """Every particle is of the class that the label volume has around its centre."""
        volumes = {mask.getTsId(): _read(mask) for mask in masks}
        for coordinate in coordinates.iterCoordinates():
            labels = volumes[coordinate.getTomoId()]
            z, y, x = (round(index) for index in index_of(coordinate))
            around = labels[max(z - 2, 0) : z + 3, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
            self.assertIn(coordinate.getGroupId(), around)
            self.assertEqual(coordinate._className.get(), CLASSES[coordinate.getGroupId()])
            self.assertGreater(coordinate._nVoxels.get(), 5)

    def testForms(self) -> None:
        """Labels name CryoSiam and forms have no field that does nothing."""
        for protocolClass in (
            ProtCryosiamDenoise,
            ProtCryosiamLamella,
            ProtCryosiamSemantic,
            ProtCryosiamParticles,
            ProtCryosiamImportModel,
        ):
            label = protocolClass.getClassLabel()
            self.assertTrue(label.startswith("cryosiam - "), label)
            self.assertEqual(label, self.newProtocol(protocolClass).getObjLabel().split(" (")[0])
            self.assertFalse(hasattr(self.newProtocol(protocolClass), "streamingBatchSize"))

    def testWrongModelIsRefused(self) -> None:
        """A denoising model masks no lamella."""
        protocol = self.newProtocol(
            ProtCryosiamLamella,
            inputTomograms=self.denoised,
            modelSource=FILE,
            modelFile=str(self.models / "demo_denoising.ckpt"),
        )
        self.assertIn("another task (denoising)", "\n".join(protocol.validate()))

    def testVoxelSizeIsWarnedOf(self) -> None:
        """A model that was trained at another voxel size."""
        coarse = self._run(
            ProtCryosiamImportModel,
            modelFile=str(self.models / "demo_semantic.ckpt"),
            voxelSize=2 * VOXEL_SIZE,
        )
        protocol = self.newProtocol(
            ProtCryosiamSemantic,
            inputTomograms=self.denoised,
            modelSource=OBJECT,
            modelObject=coarse.model,
        )
        self.assertEqual(protocol.validate(), [])
        self.assertIn("2.0 times", "\n".join(protocol.warnings()))


def _read(volume: Any) -> np.ndarray:
    with mrcfile.open(volume.getFileName(), permissive=True) as mrc:
        return mrc.data.copy()


def _found(coordinates: Any) -> list:
    """Particles in a form that can be compared: tsId, class and index."""
    return sorted(
        (c.getTomoId(), c.getGroupId(), tuple(round(i, 2) for i in index_of(c)))
        for c in coordinates.iterCoordinates()
    )
