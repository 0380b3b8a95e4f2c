"""Pretended GPUs of a real Slurm under protocols: asked for, given to one task each, and missed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipion_projects import Project, model, said, volumes, wait_for
from test_project_slurm import (  # noqa: F401 - fixtures
    ARRAY,
    array_jobs,
    arrays,
    jobs,
    models,
    slurm,
    tomograms,
    turn,
)
from watched_engine import watched_engine
from workflow_roads import ARRAY as ARRAY_ROAD
from workflow_roads import STEPS, take_road

sys.path.append(str(Path(__file__).parents[1] / "containers"))

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.usefixtures("turn")]


@pytest.fixture(scope="module")
def project(domain, engine_python):
    """A project whose queue is as we ship it."""
    from pyworkflow import Config

    import cryosiam_plugin

    hosts = str(Path(cryosiam_plugin.__file__).parent / "templates" / "hosts.slurm.conf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIPION_HOSTS", hosts)
        patch.setattr(Config, "SCIPION_HOSTS", hosts)
        yield Project("slurmgpus", engine_python)


@pytest.fixture(scope="module")
def imported(project):
    return project.import_tomograms(tomograms(2))


@pytest.fixture
def denoising(project, imported, models):  # noqa: F811
    """A protocol on two tomograms that wants GPUs."""
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    values = {**model(models, "denoising"), "useGpu": True}
    return project.new(ProtCryosiamDenoise, inputTomograms=(imported, "Tomograms"), **values)


@pytest.fixture(scope="module")
def at_home(project, imported, models):  # noqa: F811
    """What comes out without Slurm."""
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    tomograms_here = {"inputTomograms": (imported, "Tomograms")}
    protocol = project.run(ProtCryosiamDenoise, **tomograms_here, **model(models, "denoising"))
    return volumes(protocol.denoisedTomograms)


def check_results(protocol, at_home):
    found = volumes(protocol.denoisedTomograms)
    assert sorted(found) == sorted(at_home) == ["TS_01", "TS_02"]
    for ts_id, volume in at_home.items():
        np.testing.assert_allclose(found[ts_id], volume, atol=1e-5)


def test_a_gpu_that_was_asked_for_and_is_missed_is_an_error(project, denoising):
    """Here is no CUDA: the engine must not take a CPU for a week instead."""
    for name, value in {**ARRAY, "slurmRetries": 0}.items():
        getattr(denoising, name).set(value)
    project.launch(denoising, wait=False)
    wait_for(lambda: project._has_ended(denoising), "the end", 600, pause=0.5)
    assert project.again(denoising).isFailed(), said(denoising)
    (array,) = arrays(denoising)
    assert "#SBATCH --gres=gpu:1\n" in (array / "job.sh").read_text()
    assert sorted(denoising.failedTomograms.getTSIds()) == ["TS_01", "TS_02"]
    for failed in denoising.failedTomograms.iterItems():
        assert "no working GPU" in failed._failure.get()
        assert "CUDA" in failed._failure.get()
    assert list(Path(denoising._getExtraPath("predictions")).glob("*.mrc")) == []
    assert array_jobs(denoising) == []
    assert "2 failed (2 no working GPU)" in "\n".join(denoising.summary())


def test_two_processes_in_one_job_have_a_gpu_each(
    project, denoising, at_home, engine_python, tmp_path
):
    denoising.gpuList.set("0,1")
    denoising._useQueue.set(True)
    answers = {"JOB_CPUS": "2", "JOB_MEMORY": "1300M", "JOB_TIME": "20", "QUEUE_FOR_JOBS": "no"}
    denoising.setQueueParams(("gpu", answers))
    with watched_engine(engine_python, tmp_path, in_container=False) as watch:
        project.launch(denoising, wait=False)
        project.finished(denoising)
    watch.check()
    assert sorted((one["visible"], one["given"]) for one in watch.seen()) == [
        ("0", "0,1"),
        ("1", "0,1"),
    ]
    check_results(denoising, at_home)
    wait_for(lambda: not jobs(), "the job's end", 60)


@pytest.mark.container
@pytest.mark.parametrize("road", [ARRAY_ROAD, STEPS])
def test_an_engine_in_the_container_sees_its_gpu_only(
    project, denoising, at_home, engine_python, tmp_path, monkeypatch, road
):
    """In there CUDA_VISIBLE_DEVICES is what Slurm gave, and results are those of home."""
    import container_builds

    monkeypatch.setenv("CRYOSIAM_RUNTIME", "apptainer")
    monkeypatch.setenv("CRYOSIAM_SIF", str(container_builds.sif()))
    take_road(denoising, road, use_gpu=True)
    with watched_engine(engine_python, tmp_path, in_container=True) as watch:
        project.launch(denoising, wait=False)
        project.finished(denoising)
    watch.check()
    seen = watch.seen()
    assert sorted(stem for one in seen for stem in one["stems"]) == ["TS_01", "TS_02"]
    assert all(one["visible"] == one["given"] in ("0", "1") for one in seen)
    check_results(denoising, at_home)
    for path in Path(denoising._getExtraPath("predictions", "status")).glob("TS_*.json"):
        assert json.loads(path.read_text())["origin"]["image"] is not None
    wait_for(lambda: not jobs(), "the jobs' end", 60)
