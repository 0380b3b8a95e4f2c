"""Pretended GPUs of a real Slurm under protocols: asked for, given to one task each, and missed."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipion_projects import Project, model, said, wait_for
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


def test_two_processes_in_one_job_have_a_gpu_each(project, denoising, engine_python, tmp_path):
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
    assert sorted(denoising.denoisedTomograms.getTSIds()) == ["TS_01", "TS_02"]
    wait_for(lambda: not jobs(), "the job's end", 60)
