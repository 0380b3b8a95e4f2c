"""Protocols on a real Slurm: job arrays, Scipion's queue; kills, stops, other clusters' habits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipion_projects import (
    Project,
    kill,
    model,
    processes_of,
    said,
    state_of,
    volumes,
    wait_for,
)

sys.path.append(str(Path(__file__).parents[1] / "slurm"))
from shared_cluster import locked, running_cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

#: Some seconds per tomogram on a CPU: time to be killed in.
LARGER = (64, 128, 128)
ARRAY = {"whereToRun": 1, "slurmCpus": 1, "slurmMemory": "1300M", "slurmTime": "20"}


@pytest.fixture(scope="module")
def slurm(domain, engine_python):
    with running_cluster():
        yield


@pytest.fixture
def turn(slurm):
    """No drill stops the controller meanwhile."""
    with locked("turn"):
        yield


@pytest.fixture(scope="module")
def models(domain, engine_python):
    import os

    os.environ.update(CRYOSIAM_ENGINE_PYTHON=engine_python, CRYOSIAM_RUNTIME="native")
    from cryosiam_plugin.tests.synthetic import small_models

    return small_models()


@pytest.fixture
def queue(domain, monkeypatch):
    """The configuration of Scipion's queue that we ship; its value is for a protocol."""
    from pyworkflow import Config

    import cryosiam_plugin

    hosts = Path(cryosiam_plugin.__file__).parent / "templates" / "hosts.slurm.conf"
    monkeypatch.setenv("SCIPION_HOSTS", str(hosts))
    monkeypatch.setattr(Config, "SCIPION_HOSTS", str(hosts))
    return {"JOB_CPUS": "1", "JOB_MEMORY": "1300M", "JOB_TIME": "20", "QUEUE_FOR_JOBS": "N"}


def tomograms(number, *shape):
    from cryosiam_plugin.tests.synthetic import simulated_tomograms

    return simulated_tomograms(number, *shape)


def jobs():
    """What of Scipion's has not ended; others may share the cluster."""
    words = ["squeue", "--noheader", "--format=%j %T"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\n")
    return [line for line in lines if line.startswith(("scipion-", "cryosiam-"))]


def array_jobs(protocol):
    return [job for job in jobs() if job.startswith(f"cryosiam-{protocol.strId()}-")]


def hold_array(protocol):
    """Let no further task begin."""
    waiting = ["squeue", "--noheader", "--states=pending", "--format=%F %r %j"]

    def reasons():
        lines = subprocess.run(waiting, capture_output=True, text=True, check=True).stdout
        mine = [line for line in lines.splitlines() if f"cryosiam-{protocol.strId()}-" in line]
        return {line.split()[0]: line.split()[1] for line in mine}

    (found,) = reasons()
    # It complains of a task that has just ended, and holds the others none the less.
    subprocess.run(["scontrol", "hold", found], check=False)
    wait_for(lambda: "JobHeld" in reasons()[found], "the hold", 30)


def arrays(protocol, command="*"):
    """The arrays that were submitted."""
    return sorted(Path(protocol._getExtraPath("slurm")).glob(f"{command}/run_*/array_*"))


@pytest.mark.usefixtures("turn")
def test_segmentation_in_arrays_as_at_home(engine_python, models):
    """Two commands, two tomograms per task, a pretended GPU; one of the four is damaged."""
    import shutil

    from cryosiam_plugin.protocols import ProtCryosiamSemantic

    project = Project("slurmarray", engine_python)
    data = project.path / "data"
    shutil.copytree(tomograms(4), data)
    imported = project.import_tomograms(data)
    (data / "TS_03.mrc").write_bytes(b"no tomogram")
    common = {
        "inputTomograms": (imported, "Tomograms"),
        "minimumSizes": "1: 3",
        "threshold": 0.3,
        **model(models, "semantic"),
    }
    here = project.run(ProtCryosiamSemantic, **common)
    there = project.run(ProtCryosiamSemantic, **common, **ARRAY, tomogramsPerProcess=2)
    assert there.isFinished(), said(there)
    assert there.failedTomograms.getTSIds() == ["TS_03"]
    summary = "\n".join(there.summary())
    assert "TS_03.mrc" in summary
    assert "(semantic_predict): 3 of 3 done, 0 failed." in summary
    assert "(semantic_postprocessing): 3 of 3 done, 0 failed." in summary
    one, other = volumes(here.semanticMasks), volumes(there.semanticMasks)
    assert sorted(other) == ["TS_01", "TS_02", "TS_04"]
    for ts_id, labels in one.items():
        np.testing.assert_array_equal(labels, other[ts_id])
    (array,) = arrays(there, "semantic_predict")
    assert "--gres" not in (array / "job.sh").read_text()
    assert array_jobs(there) == []


@pytest.mark.usefixtures("turn")
def test_killed_continued_stopped_continued(engine_python, models):
    """A kill leaves the array alone, and Continue finds it; a stop ends it."""
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    project = Project("slurmdrill", engine_python)
    imported = project.import_tomograms(tomograms(3, LARGER))
    protocol = project.new(
        ProtCryosiamDenoise,
        inputTomograms=(imported, "Tomograms"),
        slurmCap=1,
        **model(models, "denoising"),
        **ARRAY,
    )
    project.launch(protocol, wait=False)
    wait_for(lambda: state_of(protocol, "TS_01") == "done", "the first tomogram")
    first = Path(protocol._getExtraPath("predictions", "TS_01.mrc"))
    before = first.stat().st_mtime_ns
    hold_array(protocol)  # however slow the rest of this test is, something is left to compute
    kill(processes_of(protocol)[0])
    project.died(protocol)
    assert array_jobs(protocol), "the array ended with Scipion's process"
    summary = "\n".join(protocol.summary())
    assert re.search(r"Slurm array \d+\* \(denoise_predict\): \d of 3 done, \d running,", summary)
    assert "press _Continue_" in summary

    project.launch(protocol, wait=False)
    wait_for(lambda: "predict: waiting " in said(protocol).split("RESUMING")[-1], "the array")
    assert len(arrays(protocol)) == 1
    project.scipion.stopProtocol(protocol)
    wait_for(lambda: not array_jobs(protocol), "the end of all jobs", 60)
    assert protocol.isAborted()

    project.launch(protocol, wait=False)
    project.finished(protocol)
    assert protocol.denoisedTomograms.getTSIds() == ["TS_01", "TS_02", "TS_03"], said(protocol)
    assert len(arrays(protocol)) == 2
    assert first.stat().st_mtime_ns == before, "tomogram 1 was computed again"
    assert ", 0 failed." in "\n".join(protocol.summary())
    assert array_jobs(protocol) == []


def queued(project, imported, models, queue):
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    protocol = project.new(
        ProtCryosiamDenoise,
        inputTomograms=(imported, "Tomograms"),
        numberOfThreads=3,
        **model(models, "denoising"),
    )
    protocol._useQueue.set(True)
    protocol.setQueueParams(("cpu", queue))
    return protocol


def cancel_job(pattern):
    """Cancel one job as an administrator would; Scipion is not told."""
    words = ["squeue", "--noheader", "--states=running", "--format=%i %j"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    found = [line.split()[0] for line in lines if pattern in line]
    subprocess.run(["scancel", found[0]], check=True)


@pytest.mark.usefixtures("turn")
def test_the_whole_protocol_a_job(engine_python, models, queue):
    """Whose job ends before its time says why, Stop ends it, and Continue goes on."""
    project = Project("slurmqueue", engine_python)
    imported = project.import_tomograms(tomograms(3, LARGER))
    protocol = queued(project, imported, models, queue)
    project.launch(protocol, wait=False)
    wait_for(lambda: state_of(protocol, "TS_01") == "done", "the first tomogram")
    first = Path(protocol._getExtraPath("predictions", "TS_01.mrc"))
    before = first.stat().st_mtime_ns
    cancel_job(f"scipion-{protocol.strId()}")
    wait_for(lambda: project.again(protocol).isFailed(), "the failure", pause=1)
    assert "cancelled" in protocol.getErrorMessage()
    wait_for(lambda: processes_of(protocol) == ([], []), "the end of the first life", 60)

    project.launch(protocol, wait=False)
    wait_for(lambda: processes_of(protocol)[1], "the engine")
    project.scipion.stopProtocol(protocol)
    wait_for(lambda: jobs() == [], "the end of the job", 60)
    wait_for(lambda: processes_of(protocol) == ([], []), "the end of the second life", 60)
    assert protocol.isAborted()

    project.launch(protocol, wait=False)
    project.finished(protocol)
    assert protocol.denoisedTomograms.getSize() == 3
    assert first.stat().st_mtime_ns == before
    wait_for(lambda: jobs() == [], "the end of the job", 60)
