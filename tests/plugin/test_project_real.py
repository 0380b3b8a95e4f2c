"""Workflow 1 on a piece of a real tomogram (EMPIAR-11658), with the reference checkpoints."""

from __future__ import annotations

import mrcfile
import numpy as np
import pytest
from scipion_projects import Project, said, voxels

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(domain, engine_python, shared):
    from tomo.protocols import ProtImportTomograms

    from cryosiam_plugin.protocols import (
        ProtCryosiamDenoise,
        ProtCryosiamLamella,
        ProtCryosiamParticles,
    )

    source = shared / "data" / "EMPIAR-11658" / "tomo_171.mrc"
    with mrcfile.open(source, header_only=True, permissive=True) as mrc:
        voxel_size = float(mrc.voxel_size.x)
    project = Project("real", engine_python)

    def run(protocol_class, checkpoint, tomograms, **parameters):
        file = str(shared / "golden" / "ckpt" / f"{checkpoint}.ckpt")
        protocol = project.run(
            protocol_class,
            inputTomograms=tomograms,
            modelSource=1,
            modelFile=file,
            useGpu=False,
            numberOfThreads=1,
            **parameters,
        )
        assert protocol.isFinished(), said(protocol)
        return protocol

    imported = project.run(
        ProtImportTomograms,
        filesPath=str(source.parent),
        filesPattern=source.name,
        samplingRate=voxel_size,
    )
    raw = (imported, "Tomograms")
    denoised = run(ProtCryosiamDenoise, "denoising", raw)
    clean = (denoised, "denoisedTomograms")
    lamella = run(ProtCryosiamLamella, "lamella", clean, threshold=0.1, cleanUp=False)
    particles = run(
        ProtCryosiamParticles,
        "semantic5",
        clean,
        threshold=0.1,
        minimumVoxels=10,
        boxSize=32,
    )
    return imported.Tomograms, denoised, lamella, particles


def test_geometry_is_the_real_tomogram_s(results):
    tomograms, denoised, lamella, particles = results
    source = tomograms.getFirstItem()
    for output in (denoised.denoisedTomograms, lamella.lamellaMasks, particles.semanticMasks):
        item = output.getFirstItem()
        assert item.getTsId() == source.getTsId()
        assert item.getDim() == source.getDim()
        assert item.getSamplingRate() == source.getSamplingRate()
        assert item.getShiftsFromOrigin() == source.getShiftsFromOrigin()
        with mrcfile.open(item.getFileName(), header_only=True) as mrc:
            assert float(mrc.voxel_size.x) == pytest.approx(source.getSamplingRate(), rel=1e-4)


def test_particles_lie_on_their_labels(results):
    from cryosiam_plugin.convert import index_of

    particles = results[3]
    labels = voxels(particles.semanticMasks.getFirstItem())
    assert particles.coordinates.getSize() > 0
    for coordinate in particles.coordinates.iterCoordinates():
        around = tuple(
            slice(max(int(index) - 8, 0), int(index) + 9) for index in index_of(coordinate)
        )
        assert coordinate.getGroupId() in np.unique(labels[around])
