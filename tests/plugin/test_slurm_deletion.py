"""Deleting a run, and beginning it anew, while jobs of it may be in the queue."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from scipion_projects import Project

from cryosiam_plugin.protocols.job_records import QUEUED, JobRecord
from cryosiam_plugin.slurm_core import Item, Journal, SlurmError, SlurmPrograms, SlurmRun

IDS = ["TS_01", "TS_02"]


@pytest.fixture(scope="module")
def project(domain):
    from pyworkflow import Config

    import cryosiam_plugin

    hosts = str(Path(cryosiam_plugin.__file__).parent / "templates" / "hosts.slurm.conf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIPION_HOSTS", hosts)
        patch.setattr(Config, "SCIPION_HOSTS", hosts)
        yield Project("slurmdeletion", sys.executable)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder of programs; the queue is silent while it has none."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def program(name, text):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    away = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
    for name in ("squeue", "scancel", "scontrol", "sacct"):
        program(name, away)
    return program


@pytest.fixture(params=["array", "step"])
def protocol(request, project):
    """A run that was in the middle of its work when Scipion was killed."""
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    protocol = project.new(ProtCryosiamDenoise)
    project.scipion.saveProtocol(protocol)
    extra = Path(protocol._getExtraPath()).absolute()
    (extra / "engine").mkdir(parents=True)
    if request.param == "step":
        JobRecord(extra / "engine" / "engine_1", "denoise_predict", job_id="7").note(QUEUED)
    else:
        journal = Journal("j", "denoise_predict", [], "engine", str(extra), str(extra))
        items = [Item(ts_id, f"{ts_id}.mrc") for ts_id in IDS]
        folder = extra / "slurm" / "denoise_predict" / "run_001"
        run = SlurmRun.create(folder, journal, items, SlurmPrograms())
        run.journal.submissions[0].state, run.journal.submissions[0].job_id = "submitted", "7"
        run.save()
    protocol.setFailed("It was killed.")
    project.scipion._storeProtocol(protocol)
    return protocol


def known(project, protocol):
    """What the project's file says of a protocol, once Scipion has written all that it means to."""
    project.scipion.mapper.commit()
    with closing(sqlite3.connect(project.path / "project.sqlite")) as file:
        query = "SELECT value FROM Objects WHERE id = ? OR name = ?"
        numbers = (protocol.getObjId(), f"{protocol.getObjId()}.status")
        return [str(value) for (value,) in file.execute(query, numbers)]


def test_nothing_is_deleted_under_jobs(project, protocol, cluster):
    with pytest.raises(SlurmError, match="Nothing was deleted"):
        project.scipion.deleteProtocol(protocol)
    assert Path(protocol._getExtraPath("engine")).is_dir()
    assert "failed" in known(project, protocol)

    cluster("squeue", "")
    cluster("scancel", "")
    cluster("scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    project.scipion.deleteProtocol(protocol)
    assert not Path(protocol._getPath()).exists()
    assert known(project, protocol) == []


def test_nothing_begins_anew_beside_jobs(project, protocol, cluster):
    from pyworkflow.protocol import MODE_RESTART

    protocol.runMode.set(MODE_RESTART)
    with pytest.raises(SlurmError, match="Nothing was deleted"):
        project.scipion.launchProtocol(protocol)
    assert Path(protocol._getExtraPath("engine")).is_dir()
    assert "failed" in known(project, protocol)
    assert "Try again in a minute" in protocol.getErrorMessage()
