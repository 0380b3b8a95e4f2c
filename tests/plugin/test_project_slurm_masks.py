"""Protocols that take more than tomograms, in job arrays of a real Slurm: the same as at home."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from embedding_data import IDS, import_masks, network, simulation
from scipion_projects import Project, said, volumes
from test_project_slurm import ARRAY, array_jobs, arrays, slurm, turn  # noqa: F401 - fixtures
from workflow import instances_of

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.usefixtures("turn")]


@pytest.fixture(scope="module")
def project(domain, engine_python):
    return Project("slurmmasks", engine_python)


@pytest.fixture(scope="module")
def inputs(project):
    """Tomograms, and the true instances in them."""
    tomograms = project.import_tomograms(simulation() / "tomograms")
    masks = import_masks(project, tomograms, project.path / "masks")
    return {"inputTomograms": (tomograms, "Tomograms"), "inputInstances": (masks, "tomomasks")}


def here_and_there(project, protocol_class, *, n_tasks, **parameters):
    here = project.run(protocol_class, **parameters)
    there = project.run(protocol_class, **parameters, **ARRAY)
    assert here.isFinished(), said(here)
    assert there.isFinished(), said(there)
    assert array_jobs(there) == []
    (array,) = arrays(there)
    assert f"--array=0-{n_tasks - 1}\n" in (array / "job.sh").read_text()
    assert f"{len(IDS)} of {len(IDS)} done, 0 failed" in "\n".join(there.summary())
    return here, there


def test_filtered_instances(project, inputs):
    from cryosiam_plugin.protocols import ProtCryosiamInstanceFilter

    here, there = here_and_there(
        project,
        ProtCryosiamInstanceFilter,
        n_tasks=2,
        **inputs,
        inputRegions=inputs["inputInstances"],
        maskClasses="1-4",
    )
    found = instances_of(here.coordinates)
    assert {number for _, number in found} == {1, 2, 3, 4}
    assert instances_of(there.coordinates) == found
    masks, others = volumes(here.instanceMasks), volumes(there.instanceMasks)
    assert sorted(masks) == sorted(others) == IDS
    for ts_id in IDS:
        np.testing.assert_array_equal(masks[ts_id], others[ts_id])


def test_embeddings(project, inputs):
    from cryosiam_plugin.convert.embedding_files import EMBEDS_ENDING, LABELS_ENDING
    from cryosiam_plugin.protocols import ProtCryosiamEmbeddings

    here, there = here_and_there(
        project,
        ProtCryosiamEmbeddings,
        n_tasks=1,
        **inputs,
        source=0,
        masking=1,
        makeMap=False,
        tomogramsPerProcess=2,
        **network(),
    )
    assert particles_of(here) == particles_of(there) != []
    for ts_id in IDS:
        for ending in (EMBEDS_ENDING, LABELS_ENDING):
            one, other = (
                datasets(p._getExtraPath("predictions", ts_id + ending)) for p in (here, there)
            )
            assert sorted(one) == sorted(other) != []
            for name, values in one.items():
                np.testing.assert_array_equal(values, other[name])


def particles_of(protocol):
    """Tomogram, number in it, row among its embeddings and position of every particle."""
    found = sorted(
        (
            c.getTomoId(),
            c._instanceId.get(),
            c._embeddingRow.get(),
            c._x.get(),
            c._y.get(),
            c._z.get(),
        )
        for c in protocol.particles.iterCoordinates()
    )
    protocol.particles.close()
    return found


def datasets(path):
    found = {}
    with h5py.File(Path(path)) as file:
        file.visititems(
            lambda name, item: found.update({name: item[()]}) if hasattr(item, "shape") else None
        )
    return found
