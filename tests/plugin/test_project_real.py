"""Workflow 1 on a whole real tomogram (EMPIAR-11658), every member scheduled beforehand.

The models are the small untrained ones: what they find means nothing, but where it is must be
right in every file and object.
"""

from __future__ import annotations

import mrcfile
import pytest
from scipion_projects import Project
from workflow import DataSet, Workflow
from workflow_checks import WorkflowChecks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chain(domain, engine_python, shared):
    """The whole workflow, finished."""
    source = shared / "data" / "EMPIAR-11658" / "tomo_171.mrc"
    if not source.is_file():
        pytest.skip(f"reference data absent: {source}")
    with mrcfile.open(source, header_only=True, permissive=True) as mrc:
        voxel_size, shape = float(mrc.voxel_size.x), (mrc.header.nz, mrc.header.ny, mrc.header.nx)
    project = Project("real", engine_python)
    from cryosiam_plugin.tests.synthetic import small_models

    data = DataSet(
        folder=source.parent,
        pattern=source.name,
        voxel_size=voxel_size,
        ts_ids=["tomo_171"],
        shape=tuple(int(length) for length in shape),
        lamella_threshold=0.35,
    )
    return Workflow(project, data, small_models()).run(seconds=900)


class TestRealTomogram(WorkflowChecks):
    """All hand-overs; voxels of 31.36 Å and a header that Scipion did not write."""
