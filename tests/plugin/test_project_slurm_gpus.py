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

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.usefixtures("turn")]

#: Stands for the engine's Python: says which GPU it sees, and whether another one sees it too.
_WATCHING = """\
#!/bin/sh
gpu={folder}/$SLURMD_NODENAME-$CUDA_VISIBLE_DEVICES
mkdir "$gpu" || echo "$gpu" >>{folder}/shared
trap 'rmdir "$gpu"' EXIT
echo "$CUDA_VISIBLE_DEVICES of $SLURM_JOB_GPUS" >>{folder}/seen
sleep 3
{python} "$@"
"""


@pytest.fixture
def seen(tmp_path, engine_python, monkeypatch):
    """What the engines see of GPUs, as "theirs of the job's"; no two see the same one at once."""
    python = tmp_path / "python"
    python.write_text(_WATCHING.format(folder=tmp_path, python=engine_python))
    python.chmod(0o755)
    # By this the plugin tells an environment that has the engine.
    (tmp_path / "cryosiam-engine").symlink_to(Path(engine_python).with_name("cryosiam-engine"))
    monkeypatch.setenv("CRYOSIAM_ENGINE_PYTHON", str(python))
    yield lambda: sorted((tmp_path / "seen").read_text().splitlines())
    assert not (tmp_path / "shared").exists()


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
def denoising(project, imported, models, seen):  # noqa: F811
    """A protocol on two tomograms that wants GPUs."""
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    values = {**model(models, "denoising"), "useGpu": True}
    return project.new(ProtCryosiamDenoise, inputTomograms=(imported, "Tomograms"), **values)


def test_each_task_has_a_gpu_and_without_cuda_says_so(project, denoising, seen):
    for name, value in {**ARRAY, "slurmRetries": 0}.items():
        getattr(denoising, name).set(value)
    protocol = failed_for_want_of_cuda(project, denoising)
    (array,) = arrays(protocol)
    assert "#SBATCH --gres=gpu:1\n" in (array / "job.sh").read_text()
    assert all(line in ("0 of 0", "1 of 1") for line in seen())
    assert len(seen()) == 2
    reasons = [failed._failure.get() for failed in protocol.failedTomograms.iterItems()]
    assert all("no working GPU" in reason for reason in reasons)
    assert array_jobs(protocol) == []
    assert "2 failed (2 no working GPU)" in "\n".join(protocol.summary())


def test_two_processes_in_one_job_have_a_gpu_each(project, denoising, seen):
    denoising.gpuList.set("0,1")
    denoising._useQueue.set(True)
    answers = {"JOB_CPUS": "2", "JOB_MEMORY": "1300M", "JOB_TIME": "20", "QUEUE_FOR_JOBS": "no"}
    denoising.setQueueParams(("gpu", answers))
    failed_for_want_of_cuda(project, denoising)
    assert seen() == ["0 of 0,1", "1 of 0,1"]
    wait_for(lambda: not jobs(), "the job's end", 60)


def failed_for_want_of_cuda(project, protocol):
    """The engine refuses; it must not take a CPU for a week where a GPU was asked for."""
    project.launch(protocol, wait=False)
    wait_for(lambda: project._has_ended(protocol), "the end", 600, pause=0.5)
    assert project.again(protocol).isFailed(), said(protocol)
    assert sorted(protocol.failedTomograms.getTSIds()) == ["TS_01", "TS_02"]
    for failed in protocol.failedTomograms.iterItems():
        assert "CUDA" in failed._failure.get()
    assert list(Path(protocol._getExtraPath("predictions")).glob("*.mrc")) == []
    return protocol
