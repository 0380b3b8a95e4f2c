"""Ends that nobody saw, and what the command line makes of them."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryosiam_engine.cli import main
from cryosiam_engine.slurm import ending, programs
from cryosiam_engine.slurm.errors import SlurmError
from cryosiam_engine.slurm.journal import Journal
from cryosiam_engine.slurm.live import LiveTable
from cryosiam_engine.slurm.progress import Progress, live_line
from cryosiam_engine.slurm.run import SlurmRun
from cryosiam_engine.slurm.squeue import ArrayView, TaskState, parse_squeue
from slurm_scene import Queue, Scene


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def at_work(tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Three tomograms in the queue, that the command line sees too; nobody follows them."""
    monkeypatch.setattr("cryosiam_engine.slurm.run.SlurmPrograms", lambda: queue)
    monkeypatch.setattr(ending, "_SECOND_LOOK", 1.01)
    scene = Scene(tmp_path, 3, queue)
    scene.poll()
    return scene


# ---- what squeue does not show -------------------------------------------------------------------


def test_what_was_lost_sight_of_is_cancelled_before_it_is_tried_again(
    tmp_path: Path, queue: Queue
) -> None:
    """Else two tasks might compute it."""
    scene = Scene(tmp_path, 3, queue)
    scene.poll()
    queue.states.clear()
    scene.says(0, "done")
    scene.poll()
    assert queue.cancelled == []
    scene.poll(31)
    assert queue.cancelled == ["100_1", "100_2"]  # what has a result needs no further one
    assert [item.stem for item in scene.plan(2).items] == ["TS_1", "TS_2"]
    assert queue.n_accounts == 1  # one question for all tasks


def test_what_cannot_be_cancelled_is_not_tried_again_yet(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 1, queue)
    scene.poll()
    queue.states.clear()

    def refuse(job_ids: object = (), name: str = "") -> None:
        raise SlurmError("scancel refused: Unable to contact slurm controller", passing=True)

    queue.cancel = refuse  # type: ignore[method-assign]
    for _ in range(4):
        assert not scene.poll(31).is_over
    assert not scene.run.journal.failures


def test_a_queue_that_shows_nothing_ends_nothing(tmp_path: Path, queue: Queue) -> None:
    """squeue says that all is well, and lists no job; the controller knows better."""
    scene = Scene(tmp_path, 2, queue)
    scene.poll()
    queue.hidden, queue.states = queue.states, {}
    for _ in range(5):
        poll = scene.poll(31)
        assert poll.progress.n_running == 2
    assert queue.cancelled == []
    queue.states, queue.hidden = queue.hidden, {}
    for number in range(2):
        scene.task(number, "COMPLETED")
        scene.says(number, "done")
    assert scene.poll().is_over
    assert len(queue.jobs) == 1


def test_the_accounting_knows_what_squeue_has_forgotten(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 2, queue, retries=0)
    scene.poll()
    queue.accounted = {("100", n): TaskState("OUT_OF_MEMORY", node="n2") for n in range(2)}
    queue.states.clear()
    scene.poll()
    failed = scene.poll(31).failed
    assert {failure.reason for failure in failed.values()} == {"out of memory"}


def stand_ins(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """Programs of Slurm of a few lines of shell."""
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_how_sacct_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "7_0|CANCELLED by 1000|n1\n7_1|NODE_FAIL|n2\n7_[2-3]|PENDING|None assigned\n"
    stand_ins(tmp_path, monkeypatch, sacct=f"printf '{lines}'")
    ended = programs.SlurmPrograms().ended_as("7")
    assert {task: state.state for task, state in ended.items()} == {
        0: "CANCELLED", 1: "NODE_FAIL", 2: "PENDING", 3: "PENDING"
    }  # fmt: skip
    assert ended[1].node == "n2"
    stand_ins(tmp_path, monkeypatch, sacct="echo 'accounting storage is disabled' >&2; exit 1")
    assert programs.SlurmPrograms().ended_as("7") == {}


def test_how_the_controller_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "JobId=9 ArrayJobId=7 ArrayTaskId=3-5%2 JobName=x JobState=PENDING Reason=Resources\n"
        "JobId=8 ArrayJobId=7 ArrayTaskId=1 JobName=x JobState=COMPLETED Reason=None\n"
        "JobId=7 ArrayJobId=7 ArrayTaskId=2 JobName=x JobState=RUNNING Reason=None\n"
    )
    stand_ins(tmp_path, monkeypatch, scontrol=f"printf '{lines.replace('%', '%%')}'")
    assert programs.SlurmPrograms().still_there("7") == {2, 3, 4, 5}
    unknown = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
    stand_ins(tmp_path, monkeypatch, scontrol=unknown)
    assert programs.SlurmPrograms().still_there("7") == set()
    silent = "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1"
    stand_ins(tmp_path, monkeypatch, scontrol=silent)
    with pytest.raises(SlurmError):
        programs.SlurmPrograms().still_there("7")


def test_what_slurm_has_forgotten_is_cancelled_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = "echo 'scancel: error: Kill job error on job id 7_0: Invalid job id specified' >&2"
    stand_ins(tmp_path, monkeypatch, scancel=f"{forgotten}; exit 1")
    programs.SlurmPrograms().cancel(["7_0"])
    stand_ins(tmp_path, monkeypatch, scancel="echo 'Socket timed out' >&2; exit 1")
    with pytest.raises(SlurmError):
        programs.SlurmPrograms().cancel(["7_0"])


def test_a_question_without_an_answer_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs._largest_array.cache_clear()
    try:
        stand_ins(tmp_path, monkeypatch, scontrol="exit 1")
        assert programs.SlurmPrograms().largest_array() == 1000
        stand_ins(tmp_path, monkeypatch, scontrol="echo 'MaxArraySize            = 51'")
        assert programs.SlurmPrograms().largest_array() == 50
    finally:
        programs._largest_array.cache_clear()


# ---- what was submitted twice --------------------------------------------------------------------


class Twins(Queue):
    """Shows jobs of the same name, the last one in front."""

    def __init__(self) -> None:
        super().__init__()
        self.late: dict[str, str] = {}

    def look(self, names: object) -> dict[str, ArrayView]:
        view = super().look(names)
        for name, job in self.late.items():
            tasks = {task: state for (one, task), state in self.states.items() if one == job}
            known = [view[name]] if name in view else []
            view[name] = ArrayView(job, tasks, twins=known)
        return view


def test_a_twin_that_comes_late_is_cancelled(tmp_path: Path) -> None:
    """Of a follower that was killed while its sbatch waited for room in the table of jobs."""
    queue = Twins()
    scene = Scene(tmp_path, 1, queue)
    scene.poll()
    queue.late = {"run-1": "200"}
    queue.states["200", 0] = TaskState("RUNNING")
    scene.poll()
    assert queue.cancelled == ["200"]
    queue.states["200", 0] = TaskState("CANCELLED")
    scene.task(0, "RUNNING")
    scene.poll()
    assert queue.cancelled == ["200"]
    assert not scene.run.journal.failures  # the twin's end is not ours
    scene.task(0, "COMPLETED")
    scene.says(0, "done")
    assert scene.poll().is_over


def test_one_of_two_is_adopted(tmp_path: Path) -> None:
    queue = Twins()
    queue.forgets_answer = True
    scene = Scene(tmp_path, 1, queue)
    scene.poll()
    queue.late = {"run-1": "200"}
    queue.states["200", 0] = TaskState("PENDING")
    scene.poll()
    assert scene.run.journal.submissions[0].job_id == "200"
    assert queue.cancelled == ["100"]
    assert (tmp_path / "run" / "array_001" / "job_id").read_text() == "200"


def test_twins_in_squeue() -> None:
    view = parse_squeue("r|12|0|RUNNING|n|None\nr|11|0|CANCELLED|n|None\nr|10|1|PENDING||x\n")
    assert [array.goes_on for array in (view["r"], *view["r"].twins)] == [True, True, False]
    eleven = view["r"].of("11")
    assert eleven is not None
    assert eleven.state_of(0) == TaskState("CANCELLED", "None", "n")
    assert view["r"].of("13") is None


@pytest.mark.parametrize("why", ["twin", "cancelled", ""])
def test_a_task_that_is_not_wanted_does_nothing(at_work: Scene, why: str) -> None:
    folder = at_work.folder / "run" / "array_001"
    assert (folder / "job_id").read_text() == "100"
    script = (folder / "job.sh").read_text().replace("engine slurm", "echo computed")
    (folder / "job.sh").write_text(script)
    if why == "cancelled":
        (at_work.folder / "run" / "CANCELLED").touch()
    job = "101" if why == "twin" else "100"
    environment = {"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": job}
    done = subprocess.run(
        ["bash", folder / "job.sh"], env=environment, capture_output=True, text=True
    )
    assert ("computed" in done.stdout) == (not why)
    assert (done.returncode == 0) == (not why)
    assert not list((folder / "ends").iterdir())


# ---- the command line ----------------------------------------------------------------------------


def test_status_judges_what_has_ended(
    at_work: Scene, queue: Queue, capfd: pytest.CaptureFixture[str]
) -> None:
    """Though it looks only once, and nobody follows."""
    run = str(at_work.folder / "run")
    before = (at_work.folder / "run" / "journal.json").read_text()
    at_work.says(0, "done")
    at_work.task(0, "COMPLETED")
    at_work.task(1, "CANCELLED")
    at_work.task(2, "NODE_FAIL")
    assert main(["slurm", "status", run]) == 1
    said = capfd.readouterr()
    assert "waiting 1, running 0, done 1, failed 1 of 3" in said.out
    assert "1 ended without a result" in said.out
    assert f"slurm follow {run}" in said.out
    assert "TS_1 (cancelled)" in said.err
    assert (at_work.folder / "run" / "journal.json").read_text() == before
    queue.states.clear()  # and much later Slurm has forgotten all
    assert main(["slurm", "status", run]) == 0
    assert "waiting 2, running 0, done 1, failed 0 of 3" in capfd.readouterr().out
    assert queue.cancelled == []


def test_cancel_and_retry_failed(
    at_work: Scene, queue: Queue, capfd: pytest.CaptureFixture[str]
) -> None:
    run = str(at_work.folder / "run")
    at_work.says(0, "done")

    def cancel(job_ids: object = (), name: str = "") -> None:
        at_work.task(0, "COMPLETED")
        for number in (1, 2):
            at_work.task(number, "CANCELLED")

    queue.cancel = cancel  # type: ignore[method-assign]
    assert main(["slurm", "cancel", run]) == 0
    assert "2 tomograms that have no result" in capfd.readouterr().err
    failures = Journal.read(Path(run)).failures
    assert {stem: one.reason for stem, one in failures.items()} == dict.fromkeys(
        ("TS_1", "TS_2"), "cancelled"
    )
    assert main(["slurm", "retry-failed", run, "--detach"]) == 0
    assert "2 tomograms are computed once more" in capfd.readouterr().err
    assert list(queue.jobs) == ["run-1", "run-2"]
    again = SlurmRun.open(Path(run), queue)
    assert {i.stem for i in again.plan_of(again.journal.submissions[1]).items} == {"TS_1", "TS_2"}


def test_retry_failed_where_nobody_followed(at_work: Scene, queue: Queue) -> None:
    """What has ended since is part of it; what still runs is not."""
    run = str(at_work.folder / "run")
    at_work.task(0, "CANCELLED")
    at_work.task(1, "RUNNING")
    assert main(["slurm", "retry-failed", run, "--detach"]) == 0
    assert [item.stem for item in at_work.plan_in_file(2)] == ["TS_0"]


def test_jobs_that_do_not_end_are_told(
    at_work: Scene, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ending.settle_ended, "__defaults__", (0.0,))
    at_work.task(0, "RUNNING")
    assert main(["slurm", "cancel", str(at_work.folder / "run")]) == 2
    assert "they have not ended" in capfd.readouterr().err


def test_the_last_run_is_the_one_that_was_begun_last(
    tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever has changed since, and whatever the commands are called."""
    monkeypatch.setattr("cryosiam_engine.slurm.run.SlurmPrograms", lambda: queue)
    runs = tmp_path / "out" / "slurm"
    names = ["semantic_predict_20260101-100000", "denoise_predict_20260101-100001"]
    names += [f"{names[1]}_2", f"{names[1]}_10"]
    for name in names:
        SlurmRun.create(runs / name, Journal("n", "c", [], "e", "w", str(tmp_path)), [], queue)
    (runs / names[0] / "journal.json").touch()
    assert main(["slurm", "status", str(tmp_path / "out")]) == 0
    assert str(runs / names[3]) in capfd.readouterr().out


def test_ctrl_c_ends_with_a_sentence(
    tmp_path: Path, write_config: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue = 'name=${3#--name=}; echo "$name|7|0-2|RUNNING|n1|None"'
    stand_ins(tmp_path, monkeypatch, sbatch="echo 7", scontrol="exit 1", squeue=squeue)
    config = str(write_config("denoising"))  # type: ignore[operator]
    words = [sys.executable, "-m", "cryosiam_engine.cli", "slurm", "denoise_predict"]
    process = subprocess.Popen(
        [*words, "--config_file", config],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        # What a shell starts in the background ignores Ctrl-C, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if "running 3" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    said += rest.splitlines()
    assert process.returncode == 130
    assert "Traceback" not in "".join(said)
    assert "The array goes on" in said[-1]
    assert f"slurm follow|cancel {tmp_path / 'out' / 'slurm'}" in said[-1]


def test_what_is_not_submitted_yet_is_told(
    tmp_path: Path,
    write_config: object,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    full = "echo 'sbatch: error: Slurm job queue full, sleeping and retrying' >&2; exit 1"
    stand_ins(tmp_path, monkeypatch, sbatch=full, scontrol="exit 1")
    config = str(write_config("denoising"))  # type: ignore[operator]
    assert main(["slurm", "denoise_predict", "--config_file", config, "--detach"]) == 2
    assert "job queue full" in (said := capfd.readouterr().err)
    assert "slurm follow|cancel" in said


def test_a_dry_run_is_not_for_the_queue(
    write_config: object, capfd: pytest.CaptureFixture[str]
) -> None:
    """It would leave no status, and count as no result."""
    config = str(write_config("semantic"))  # type: ignore[operator]
    assert main(["slurm", "semantic_train", "--config_file", config, "--dry_run"]) == 2
    assert "Leave out 'slurm'" in capfd.readouterr().err


# ---- the live line -------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 79, 200])
@pytest.mark.parametrize("trouble", [{}, {"problem": "x"}, {"refusal": "QOSMaxSubmitJob" * 9}])
def test_the_time_left_fits_any_terminal(width: int, trouble: dict[str, str]) -> None:
    progress = Progress(
        n_tomograms=123_456,
        n_running=4321,
        n_done=1234,
        n_failed=5,
        n_tasks_running=64,
        seconds_each=1234.5,
        seconds=123_456,
        why_waiting="QOSMaxCpuPerUserLimit",
        **trouble,  # type: ignore[arg-type]
    )
    line = live_line(progress, width)
    assert len(line) <= width
    assert line.startswith("654:58:15 left")
    if width >= 79:
        assert "wait 117896, run 4321, done 1234, failed 5 of 123456" in line
    if width == 200:
        assert ("no answer from the queue" in line) == ("problem" in trouble)
        assert ("takes no further jobs" in line) == ("refusal" in trouble)
    if width == 200 and not trouble:
        assert line.endswith("1.23e+03 s each | 34:17:36 | QOSMaxCpuPerUserLimit")


def test_the_terminal_gets_the_short_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "50")
    terminal = Terminal()
    with LiveTable(terminal) as table:
        table.show(Progress(n_tomograms=9, n_tasks_running=1, seconds_each=10, n_running=1))
    shown = terminal.getvalue().rpartition("\x1b[K")[2].rstrip("\n")
    assert shown.startswith("1:30 left | wait 8, run 1")
    assert len(shown) < 50
