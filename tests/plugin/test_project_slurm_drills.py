"""Job arrays of a real Slurm: a task cancelled, Scipion killed, other parameters, streaming."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from pyworkflow.object import Set
from scipion_projects import (
    Project,
    kill,
    model,
    outputs_of,
    processes_of,
    said,
    state_of,
    volumes,
    wait_for,
)
from test_project_slurm import (  # noqa: F401 - fixtures
    ARRAY,
    LARGER,
    array_jobs,
    arrays,
    hold_array,
    models,
    slurm,
    tomograms,
    turn,
)
from test_project_streaming import _arrive, _restart, n_outputs

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.usefixtures("turn")]

IDS = ["TS_01", "TS_02", "TS_03"]


@pytest.fixture(scope="module")
def project(domain, engine_python):
    return Project("slurmarraydrills", engine_python)


@pytest.fixture(scope="module")
def imported(project):
    return project.import_tomograms(tomograms(3, LARGER))


@pytest.fixture(scope="module")
def at_home(project, imported, models):  # noqa: F811
    """What comes out without Slurm."""
    protocol = project.run(type(denoising(project, imported, models)), **inputs(imported, models))
    return volumes(protocol.denoisedTomograms)


def inputs(imported, models):  # noqa: F811
    return {"inputTomograms": (imported, "Tomograms"), **model(models, "denoising")}


def denoising(project, imported, models, **parameters):  # noqa: F811
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    parameters = {**inputs(imported, models), **ARRAY, "slurmCap": 1, **parameters}
    return project.new(ProtCryosiamDenoise, **parameters)


def job_id(protocol, number=1):
    """Slurm's, of an array."""
    from cryosiam_plugin.slurm_core import Journal

    (run,) = Path(protocol._getExtraPath("slurm", "denoise_predict")).glob("run_*")
    return Journal.read(run).submissions[number - 1].job_id


def identity(protocol, ts_id):
    found = Path(protocol._getExtraPath("predictions", f"{ts_id}.mrc")).stat()
    return found.st_ino, found.st_mtime_ns


def same(found, expected):
    assert sorted(found) == sorted(expected)
    for ts_id, volume in expected.items():
        # Tiles are as large as the memory of a job allows.
        np.testing.assert_allclose(found[ts_id], volume, atol=1e-5)


def test_a_task_is_cancelled_and_scipion_killed(project, imported, models, at_home):  # noqa: F811
    """Continue brings all of it to an end: what was cancelled, what ran and what waited."""
    protocol = denoising(project, imported, models)
    project.launch(protocol, wait=False)
    wait_for(lambda: state_of(protocol, "TS_01") == "running", "tomogram 1")
    subprocess.run(["scancel", f"{job_id(protocol)}_0"], check=True)
    wait_for(lambda: "TS_01 failed" in said(protocol), "the failure of tomogram 1")
    assert "cancelled" in said(protocol)
    assert "Somebody cancelled it; _Continue_ computes it after all." in said(protocol)
    wait_for(lambda: state_of(protocol, "TS_02"), "tomogram 2")
    kill(processes_of(protocol)[0])
    project.died(protocol)
    assert protocol.failedTomograms.getTSIds() == ["TS_01"]

    project.launch(protocol, wait=False)
    project.finished(protocol)
    same(volumes(protocol.denoisedTomograms), at_home)
    assert protocol.failedTomograms.getSize() == 0
    assert "3 of 3 done, 0 failed." in "\n".join(protocol.summary())
    # The first array, and one for the tomogram that was cancelled.
    assert len(arrays(protocol)) == 2
    assert array_jobs(protocol) == []


def test_other_parameters_end_the_array(project, imported, models, at_home):  # noqa: F811
    """They are refused where there are results, and no job of the first ones goes on."""
    protocol = denoising(project, imported, models)
    project.launch(protocol, wait=False)
    wait_for(lambda: outputs_of(project.again(protocol)) != [], "a result")
    first = identity(protocol, "TS_01")
    hold_array(protocol)  # however slow the rest of this test is, something is left to compute
    kill(processes_of(protocol)[0])
    project.died(protocol)
    assert array_jobs(protocol)

    protocol.scalePrediction.set(False)
    project.launch(protocol, wait=False)
    wait_for(lambda: project._has_ended(protocol), "the refusal")
    wait_for(lambda: not processes_of(protocol)[0], "the end of its process")
    assert project.again(protocol).isFailed()
    assert "scale_prediction" in protocol.getErrorMessage()
    assert array_jobs(protocol) == []

    protocol.scalePrediction.set(True)
    project.launch(protocol, wait=False)
    project.finished(protocol)
    same(volumes(protocol.denoisedTomograms), at_home)
    assert identity(protocol, "TS_01") == first, "tomogram 1 was computed again"
    assert array_jobs(protocol) == []


def test_tomograms_that_come_in_later_are_further_arrays(project, models):  # noqa: F811
    coming = project.import_tomograms(tomograms(3))
    source = coming.Tomograms
    items = [item.clone() for item in source.iterItems()]
    source.close()
    _restart(coming, source, items[0])
    protocol = denoising(project, coming, models, streamingSleepOnWait=1, numberOfThreads=3)
    project.launch(protocol, wait=False)
    for number, item in enumerate(items[1:], start=1):
        wait_for(lambda n=number: n_outputs(project, protocol) == n, f"output {number}")
        assert project.again(protocol).isRunning(), said(protocol)
        assert protocol.denoisedTomograms.isStreamOpen()
        _arrive(coming, source, item)
    source.enableAppend()
    source.setStreamState(Set.STREAM_CLOSED)
    source.write()
    source.close()
    project.finished(protocol)
    assert protocol.denoisedTomograms.getTSIds() == IDS
    assert protocol.denoisedTomograms.isStreamClosed()
    scripts = [(array / "job.sh").read_text() for array in arrays(protocol)]
    assert ["--array=0-0" in script for script in scripts] == [True] * 3
    assert "3 of 3 done, 0 failed." in "\n".join(protocol.summary())
    assert array_jobs(protocol) == []
