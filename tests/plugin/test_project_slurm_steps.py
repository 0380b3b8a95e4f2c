"""Each step a job of a real Slurm: munge away at submission, Scipion killed, stopped, continued."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from scipion_projects import Project, kill, outputs_of, processes_of, said, state_of, wait_for
from test_project_slurm import (  # noqa: F401 - fixtures
    LARGER,
    cancel_job,
    jobs,
    models,
    queue,
    queued,
    slurm,
    tomograms,
    turn,
)

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.usefixtures("turn")]

IDS = ["TS_01", "TS_02", "TS_03"]


@pytest.fixture(scope="module")
def project(domain, engine_python):
    return Project("slurmstepdrills", engine_python)


@pytest.fixture(scope="module")
def imported(project):
    return project.import_tomograms(tomograms(3, LARGER))


@pytest.fixture
def denoising(project, imported, models, queue):  # noqa: F811
    return queued(project, imported, models, {**queue, "QUEUE_FOR_JOBS": "Y"})


def scripts(protocol):
    """One for each engine process that ever was."""
    return sorted(Path(protocol._getLogsPath()).glob("*.job"))


def engine_of(protocol, ts_id):
    """The process that computes a tomogram, once it is at it."""
    wait_for(lambda: state_of(protocol, ts_id) == "running", ts_id)
    [engine] = [p for p in processes_of(protocol)[1] if f"{ts_id}.mrc" in p.cmdline()]
    return engine


def last_life(protocol):
    return said(protocol).split("RESUMING")[-1]


@pytest.fixture
def no_munge(tmp_path, monkeypatch):
    """A file: while it is there, sbatch says what it says without munge."""
    away = tmp_path / "away"
    away.touch()
    said = "Munge encode failed: Failed to access munge.socket.2: No such file or directory"
    (tmp_path / "sbatch").write_text(
        f"#!/bin/sh\n[ ! -e {away} ] || {{ echo 'sbatch: error: {said}' >&2; exit 1; }}\n"
        f'exec {shutil.which("sbatch")} "$@"\n'
    )
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return away


def test_munge_is_away_at_submission_and_a_job_is_cancelled(project, denoising, no_munge):
    """Behind Scipion's back: a failed tomogram with its reason, and no failed protocol."""
    project.launch(denoising, wait=False)
    wait_for(lambda: "The queue takes no job now" in said(denoising), "a refusal")
    no_munge.unlink()
    wait_for(lambda: state_of(denoising, "TS_01") == "running", "the first tomogram")
    [script] = [path for path in scripts(denoising) if "TS_01.mrc" in path.read_text()]
    cancel_job(f"{script.stem}-")
    project.finished(denoising)
    assert denoising.failedTomograms.getTSIds() == ["TS_01"], said(denoising)
    reason = denoising.failedTomograms.getFirstItem()._failure.get()
    assert "cancelled" in reason
    assert "_Continue_ computes it after all" in reason
    assert sorted(denoising.denoisedTomograms.getTSIds()) == IDS[1:]
    assert len(scripts(denoising)) == 3
    assert jobs() == []


def test_killed_continued_stopped_continued(project, denoising):
    """Continue waits for the jobs that it finds, and lets none be computed twice."""
    project.launch(denoising, wait=False)
    engines = [engine_of(denoising, ts_id) for ts_id in IDS[:2]]
    for engine in engines:
        engine.suspend()  # however slow the rest of this test is, its job is still there
    kill(processes_of(denoising)[0])
    project.died(denoising)
    assert len(jobs()) == 2, "the jobs ended with Scipion's process"

    project.launch(denoising, wait=False)
    for ts_id in IDS[:2]:
        wait_for(lambda t=ts_id: f"goes on with {t}" in last_life(denoising), f"the job of {ts_id}")
    engines[1].resume()
    wait_for(lambda: outputs_of(project.again(denoising)) != [], "TS_02")
    project.scipion.stopProtocol(denoising)
    wait_for(lambda: jobs() == [], "the end of all jobs", 60)
    assert denoising.isAborted()
    wait_for(lambda: not engines[0].is_running(), "the engine's end", 60)

    project.launch(denoising, wait=False)
    project.finished(denoising)
    assert sorted(denoising.denoisedTomograms.getTSIds()) == IDS, said(denoising)
    assert "goes on with" not in last_life(denoising)
    commands = [path.read_text() for path in Path(denoising._getExtraPath("engine")).glob("*.sh")]
    asked = [sum(f"{ts_id}.mrc" in command for command in commands) for ts_id in IDS[:2]]
    assert asked == [2, 1]
    assert jobs() == []
