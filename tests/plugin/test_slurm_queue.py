"""Scipion's queue without a Slurm: its questions, what they become, jobs that end."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pyworkflow.protocol import HostConfig

import cryosiam_plugin
from cryosiam_plugin.protocols import queue_jobs

HOSTS = Path(cryosiam_plugin.__file__).parent / "templates" / "hosts.slurm.conf"


ECHO = 'for word in "$@"; do echo "$word"; done'


def submitted(tmp_path, **values):
    """What sbatch is given by the shipped configuration, for some values of a protocol's."""
    done = submit(tmp_path, ECHO, **values)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def submit(tmp_path, script_of_sbatch, **values):
    """Run the line of the shipped configuration with an sbatch of our own; nobody sleeps."""
    queue = HostConfig.load(str(HOSTS))["localhost"].queueSystem
    script = tmp_path / "it's a job.job"
    job = {"JOB_NAME": "7", "JOB_LOGS": "Runs/7", "JOB_SCRIPT": str(script), "JOB_COMMAND": "true"}
    every = {**queue.queuesDefault, "GPU_COUNT": 0, **job, **values}
    script.write_text(queue.getSubmitTemplate() % every)
    programs = {"sbatch": script_of_sbatch, "sleep": f"echo $1 >> '{tmp_path}/slept'"}
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return subprocess.run(
        ["/bin/sh", "-c", queue.getSubmitCommand() % every],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


MUNGE = """sbatch: error: If munged is up, restart with --num-threads=10
sbatch: error: Munge encode failed: Failed to access "/run/munge/munge.socket.2"
sbatch: error: Batch job submission failed: Protocol authentication error"""
AWAY = "sbatch: error: Batch job submission failed: Unable to contact slurm controller "


@pytest.mark.parametrize(
    ("said", "n_tries"),
    [
        (MUNGE, 3),
        (f"{AWAY}(connect failure)", 3),
        ("sbatch: error: Batch job submission failed: Connection refused", 3),
        # The job may have been taken: a second one would work in the same folder.
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", 1),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition", 1),
    ],
)
def test_who_cannot_be_reached_is_asked_again(tmp_path, said, n_tries):
    """Twice it fails; what Slurm says on its way to a job is for the log, not for its number."""
    sbatch = f"""echo try >> tries
[ $(wc -l < tries) -gt 2 ] && echo 'sbatch: warning: 99 bottles' >&2 && echo 4711 && exit 0
echo '{said}' >&2
exit 1"""
    done = submit(tmp_path, sbatch)
    assert (tmp_path / "tries").read_text().count("try") == n_tries
    if n_tries == 3:
        assert (done.returncode, done.stdout) == (0, "4711\n")
        assert "99 bottles" in done.stderr
        assert (tmp_path / "slept").read_text().split() == ["5", "10"]
    else:
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.strip() == said


def test_who_stays_away_is_given_up(tmp_path):
    done = submit(tmp_path, f"echo try >> tries; echo '{MUNGE}' >&2; exit 1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == MUNGE
    assert (tmp_path / "tries").read_text().count("try") == 4


def test_the_shipped_queue_asks_for_what_is_filled_in(tmp_path):
    plain = submitted(tmp_path)
    assert plain[0] == "--parsable"
    assert set(plain[1:-1]) == {"--cpus-per-task=4", "--mem=32G", "--time=24:00:00"}
    assert plain[-1].endswith("it's a job.job")
    words = submitted(
        tmp_path,
        JOB_QUEUE="gpu",
        GPU_COUNT=2,
        JOB_GPU_TYPE="a100",
        JOB_ACCOUNT="lab",
        JOB_QOS="long",
        JOB_MEMORY="",
        JOB_OPTIONS="--exclude=n7 --constraint=ssd",
    )
    assert {"--partition=gpu", "--gres=gpu:a100:2", "--account=lab", "--qos=long"} < set(words)
    assert {"--exclude=n7", "--constraint=ssd"} < set(words)
    assert not any(word.startswith("--mem") for word in words)


def test_commands_before_the_job_are_in_its_script(tmp_path):
    setup = "module load apptainer; export A='100 %'"
    submitted(tmp_path, JOB_SETUP=setup)
    lines = (tmp_path / "it's a job.job").read_text().splitlines()
    assert lines.index(setup) == lines.index("true") - 1


def test_every_question_that_a_remedy_names_is_asked():
    questions = HostConfig.load(str(HOSTS))["localhost"].queueSystem.queues["gpu"]
    labels = {label for _, _, label, _ in questions} | {
        "Submit to queue",
        "Tomograms per engine process",
        "Continue",
    }
    assert {value.strip("_'") for value in vars(queue_jobs.QUESTIONS).values()} <= labels


@pytest.mark.parametrize(
    ("answer", "is_running"),
    [
        ("echo RUNNING", True),
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", True),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", False),
        ("exit 0", False),
    ],
)
def test_a_silent_controller_ends_no_job(tmp_path, monkeypatch, answer, is_running):
    from pyworkflow.protocol.launch import _checkJobStatus

    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\n{answer}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    status = _checkJobStatus(HostConfig.load(str(HOSTS))["localhost"], 7)
    assert status == ("running" if is_running else "finished")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026 DUE TO TIME LIMIT ***",
            "time limit",
        ),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026 ***", "cancelled"),
        ("slurmstepd: error: Exceeded job memory limit", "out of memory"),
        ("Job 7 ended with exit code 1", ""),
    ],
)
def test_why_a_job_ended(tmp_path, said, reason):
    (tmp_path / "7.err").write_text(f"Job 7 on n1\n{said}\n")
    why = queue_jobs.why_ended(tmp_path / "7")
    assert reason in why
    assert (said in why) == bool(reason)
    assert ("'Memory of each job'" in why) == (reason == "out of memory")
    assert queue_jobs.exit_code_of(tmp_path / "7") == (None if reason else 1)


@pytest.mark.parametrize(("answer", "yes"), [("Y", 1), (" yes", 1), ("y", 1), ("N", 0), ("", 0)])
def test_how_people_say_yes(answer, yes):
    assert queue_jobs.is_yes(answer) == bool(yes)


@pytest.mark.parametrize(
    ("slot", "visible", "mine"),
    [
        ([0], "2,3", "2"),
        ([1], "2,3", "3"),
        ([0, 1], "2,3", "2,3"),
        ([1], "2", None),
        ([0], "", None),
    ],
)
def test_two_steps_in_one_job_have_a_gpu_each(slot, visible, mine):
    assert queue_jobs.gpus_of_step(slot, {"CUDA_VISIBLE_DEVICES": visible}) == mine


def test_two_steps_in_one_job_share_its_memory_and_cpus():
    job = {
        "CUDA_VISIBLE_DEVICES": "2,3",
        "SLURM_MEM_PER_NODE": "64000",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_MEM_PER_CPU": "",
    }
    shares = {"SLURM_MEM_PER_NODE": "32000", "SLURM_CPUS_PER_TASK": "4"}
    assert queue_jobs.shares_of_job(job, "3") == shares
    assert queue_jobs.shares_of_job(job, "2,3") == {}
    assert queue_jobs.shares_of_job(job, None) == {}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("invalid partition specified: gup", "See 'Submit to queue'."),
        ("Munge encode failed: no such socket", "did not answer: try again."),
    ],
)
def test_a_protocol_that_the_queue_does_not_take_says_why(said, told):
    message = (
        "There was a problem submitting this protocol to the queue engine: "
        f"['', 'sbatch: error: {said}']"
    )
    assert queue_jobs.explained_failure(None, message).startswith(message)
    assert queue_jobs.explained_failure(None, message).endswith(told)
