"""Workflows 1 and 2 on simulated tomograms, every member scheduled before there is work for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipion_projects import VOXEL_SIZE, Project
from workflow import DataSet, Workflow
from workflow_checks import WorkflowChecks

pytestmark = pytest.mark.slow

SHAPE = (32, 64, 64)


@pytest.fixture(scope="module")
def chain(domain, engine_python):
    """The whole workflow, finished."""
    project = Project("chain", engine_python)
    from cryosiam_plugin.tests.synthetic import simulated_tomograms, small_models

    data = DataSet(
        folder=simulated_tomograms(3, SHAPE),
        pattern="TS_*.mrc",
        voxel_size=VOXEL_SIZE,
        ts_ids=["TS_01", "TS_02", "TS_03"],
        shape=SHAPE,
        lamella_threshold=0.2,
    )
    return Workflow(project, data, small_models()).run(seconds=1200)


class TestSimulatedTomograms(WorkflowChecks):
    """The hand-overs, and what every run leaves behind."""

    def test_runs_can_be_repeated_from_their_folder(self, chain):
        for name in ("denoised", "lamella", "semantic", "particles", "instances", "near"):
            extra = Path(chain[name]._getExtraPath())
            assert (extra / "run.yaml").is_file()
            commands = sorted(extra.glob("engine/*.sh"))
            assert commands
            assert str((extra / "run.yaml").absolute()) in commands[0].read_text()

    def test_methods_name_model_and_checksum(self, chain):
        from cryosiam_plugin.protocols.checkpoint_summary import sha256_of

        digest = sha256_of(chain["model"].model.getPath())
        methods = "\n".join(chain["semantic"].methods())
        assert digest in methods
        assert "Stojanovska" in methods
        statuses = Path(chain["semantic"]._getExtraPath("predictions", "status")).glob("*.json")
        status = json.loads(next(statuses).read_text())
        assert status["determinants"]["config_sha256"] in methods
        assert f"cryosiam-engine {status['engine_version']}" in methods
        assert chain["model"].model.getSha256() == digest
