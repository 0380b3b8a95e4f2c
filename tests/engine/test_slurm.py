"""Job arrays: what is planned, what the script says, what Slurm's answers mean."""

from __future__ import annotations

import ast
import csv
import hashlib
import itertools
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryosiam_engine.errors import ConfigurationError, Interrupted
from cryosiam_engine.signals import interruptible
from cryosiam_engine.slurm import errors
from cryosiam_engine.slurm.command import WORDS
from cryosiam_engine.slurm.container import engine_words, paths_in
from cryosiam_engine.slurm.errors import SlurmError
from cryosiam_engine.slurm.files import only_one
from cryosiam_engine.slurm.follower import poll_interval
from cryosiam_engine.slurm.plan import ArrayPlan, Item, arrays_of, tasks_of
from cryosiam_engine.slurm.programs import submit_environment
from cryosiam_engine.slurm.progress import Progress, in_words
from cryosiam_engine.slurm.reasons import (
    GPU_MEMORY,
    OUT_OF_MEMORY,
    RETRIED,
    TaskEnd,
    Words,
    judge_end,
    judge_error,
    remedy,
)
from cryosiam_engine.slurm.script import ArrayJob, sbatch_script
from cryosiam_engine.slurm.settings import JobSettings, megabytes, seconds_of_time
from cryosiam_engine.slurm.squeue import parse_squeue, parse_task_ids, why_waiting
from hypothesis import given, settings
from hypothesis import strategies as st

CORE = Path(errors.__file__).parent
#: These belong to the command line; everything else is the plugin's too.
COMMAND_LINE = {"arguments", "command", "container", "new_run", "task"}


# ---- plan ----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(1, 50), st.integers(1, 1200))
def test_every_tomogram_is_in_one_task_of_one_array(n: int, per_task: int, largest: int) -> None:
    items = [Item(f"TS_{number}") for number in range(n)]
    arrays = arrays_of(tasks_of(items, per_task), largest)
    assert [item for array in arrays for task in array for item in task] == items
    assert all(1 <= len(array) <= min(largest, 1000) for array in arrays)
    assert all(1 <= len(task) <= per_task for array in arrays for task in array)
    n_tasks = math.ceil(n / per_task)
    assert len(arrays) == math.ceil(n_tasks / min(largest, 1000))


names = st.text(st.characters(codec="utf-8"), max_size=20)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.builds(Item, names, names, st.integers(1, 9)), max_size=3)))
def test_a_plan_comes_back_whatever_the_names_are(
    tmp_path_factory: pytest.TempPathFactory, tasks: list[list[Item]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "plan" / "tasks.json"
    plan = ArrayPlan(
        "denoise_predict",
        ("--config_file", "a b\n'.yaml"),
        Path("status"),
        tuple(map(tuple, tasks)),
    )
    plan.write(path)
    assert ArrayPlan.read(path) == plan


def test_a_damaged_plan_is_no_plan(tmp_path: Path) -> None:
    for text in ("", "[]", '{"command": "x"}'):
        (tmp_path / "tasks.json").write_text(text)
        with pytest.raises(ValueError):
            ArrayPlan.read(tmp_path / "tasks.json")


# ---- script --------------------------------------------------------------------------------------

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=denoise_predict-3f2a-1
#SBATCH --array=0-11%4
#SBATCH --partition=gpu
#SBATCH --account=em
#SBATCH --qos=long
#SBATCH --gres=gpu:a100:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=4:00:00
#SBATCH --dependency=afterany:17:18
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --output='/data/out of "100%%"/array_001/logs/%a.log'
#SBATCH --constraint=ib

child=
asked=
# The engine notes how far it is and ends; what is finished is not computed again.
ask() {
    asked=$1
    if [ -n "$child" ]; then kill -TERM "$child" 2>/dev/null; fi
}
trap 'ask USR1' USR1
trap 'ask TERM' TERM
array='/data/out of "100%"/array_001'
task=$SLURM_ARRAY_TASK_ID
job=$(cat "$array/job_id" 2>/dev/null)
if [ -n "$job" ] && [ "$job" != "$SLURM_ARRAY_JOB_ID" ]; then
    echo "This was submitted twice: job $job computes it." >&2
    exit 1
fi
if [ -e "${array%/*}/CANCELLED" ]; then
    echo "The run is cancelled." >&2
    exit 1
fi
echo "This task begins on ${SLURMD_NODENAME:-$(hostname)}." >&2
rm -f "$array/ends/$task"
if ! cd '/data/u/it'"'"'s'; then
    echo "126 " >"$array/ends/$task"
    exit 126
fi
python -m engine slurm run-task "$array/tasks.json" &
child=$!
if [ -n "$asked" ]; then kill -TERM "$child" 2>/dev/null; fi
code=127
for _ in 1 2 3 4 5 6 7 8; do
    # A signal that we caught ends wait too: then there is nothing yet to know of the engine.
    wait "$child"
    now=$?
    if [ "$now" -eq 127 ]; then break; fi
    code=$now
    if [ "$now" -le 128 ]; then break; fi
done
restarts=${SLURM_RESTART_COUNT:-0}
if [ "$code" -ne 0 ] && [ "$asked" = USR1 ] && [ "$restarts" -lt 2 ]; then
    echo "The time limit is near: this task is queued again." >&2
    scontrol requeue "$SLURM_JOB_ID" && sleep 60
fi
if [ "$code" -ne 0 ]; then echo "$code $asked" >"$array/ends/$task"; fi
exit "$code"
"""


def job(**changes: object) -> ArrayJob:
    values = {
        "name": "denoise_predict-3f2a-1",
        "folder": Path("/data/array_001"),
        "work_folder": Path("/home/u"),
        "n_tasks": 12,
        "engine": "python -m engine",
        **changes,
    }
    return ArrayJob(**values)  # type: ignore[arg-type]


def options(settings: JobSettings, **changes: object) -> list[str]:
    lines = sbatch_script(settings, job(**changes)).splitlines()
    return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]


def test_the_whole_script() -> None:
    settings = JobSettings(
        partition="gpu",
        gres="gpu:a100:1",
        cpus=8,
        memory="32G",
        time="4:00:00",
        account="em",
        qos="long",
        cap=4,
        extra=("--constraint=ib",),
    )
    made = sbatch_script(
        settings,
        job(
            folder=Path('/data/out of "100%"/array_001'),
            work_folder=Path("/data/u/it's"),
            after=["17", "18"],
        ),
    )
    assert made == SCRIPT


def test_what_is_not_asked_for_is_the_clusters_choice() -> None:
    assert options(JobSettings()) == [
        "--job-name=denoise_predict-3f2a-1",
        "--array=0-11",
        "--requeue",
        "--open-mode=append",
        "--signal=B:USR1@120",
        "--output=/data/array_001/logs/%a.log",
    ]


def test_a_training_on_several_nodes_is_started_by_srun() -> None:
    settings = JobSettings(gpus_per_task="1", nodes=2, processes=4)
    assert {"--nodes=2", "--ntasks-per-node=4"} <= set(options(settings))
    script = sbatch_script(settings, job())
    assert (
        "\nenv -u SLURM_GPUS_PER_TASK -u SLURM_TRES_PER_TASK srun --kill-on-bad-exit=1 "
        "${SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK} python -m engine slurm"
    ) in script
    assert "kill -USR1" in script  # at TERM srun kills what it has started
    assert "kill -TERM" not in script
    assert "--ntasks=1" in options(JobSettings(gpus_per_task="1"))


def test_bash_takes_the_script(tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(sbatch_script(JobSettings(), job(folder=Path("/a b'c\"$(d)`e`!"))))
    subprocess.run(["bash", "-n", script], check=True)


def test_a_folder_that_slurm_cannot_name_is_refused() -> None:
    with pytest.raises(SlurmError, match="line break"):
        sbatch_script(JobSettings(), job(folder=Path("/a\nb")))


@pytest.mark.parametrize(
    ("how", "asked", "code"),
    [("exit 0", "", 0), ("exit 7", "", 7), ("kill -KILL $$", "", 137), ("wait", "USR1", 143)],
)
def test_the_script_gives_the_engines_exit_code(
    tmp_path: Path, how: str, asked: str, code: int
) -> None:
    """With a shell as the engine; USR1 reaches it as TERM."""
    folder = tmp_path / "array 1"
    for name in ("logs", "ends"):
        (folder / name).mkdir(parents=True)
    body = "trap 'exit 143' TERM; sleep 30 & wait" if how == "wait" else how
    engine = f"bash -c {shlex.quote(body)}"
    text = sbatch_script(
        JobSettings(), job(folder=folder, work_folder=tmp_path, engine=engine, requeues=0)
    )
    if asked:
        text = text.replace("child=$!\n", f"child=$!\n(sleep 1; kill -{asked} $$) &\n")
    (folder / "job.sh").write_text(text)
    environment = {"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "9"}
    done = subprocess.run(["bash", folder / "job.sh"], env=environment, timeout=25)
    assert done.returncode == code
    ends = folder / "ends" / "3"
    assert (ends.read_text().split() if code else not ends.exists()) == (
        [str(code), asked] if asked else [str(code)] if code else True
    )


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"time": "soon"},
        {"memory": "much"},
        {"partition": "a b"},
        {"extra": ("rm -rf /",)},
        {"extra": ("--comment=a\nrm",)},
    ],
)
def test_wrong_settings_are_refused_before_anything_is_submitted(wrong: dict) -> None:
    with pytest.raises(SlurmError):
        JobSettings(**wrong).check()


def test_times_and_memory_are_read_as_slurm_reads_them() -> None:
    times = {"90": 5400, "1:30": 90, "2:00:00": 7200, "1-0": 86400, "1-2:3:4": 93784, "infinite": 0}
    assert {text: seconds_of_time(text) for text in times} == times
    assert [megabytes(text) for text in ("4000", "2G", "1T", "512K", "1.5g")] == [
        4000,
        2048,
        1048576,
        0.5,
        1536,
    ]
    assert JobSettings(memory="2G").with_more_memory(1.5).memory == "3072M"
    assert JobSettings().with_more_memory(1.5).memory == ""


def test_a_short_limit_leaves_most_of_it_to_the_work() -> None:
    assert JobSettings(time="1").warning_seconds == 15
    assert JobSettings(time="1-0").warning_seconds == 120
    assert JobSettings(time="UNLIMITED").warning_seconds == 120


# ---- squeue --------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.sets(st.integers(0, 5000), max_size=60), st.integers(0, 99), st.booleans())
def test_task_numbers_as_slurm_writes_them(tasks: set[int], cap: int, brackets: bool) -> None:
    """Runs of neighbours become ranges; a cap and brackets may be around them."""
    parts: list[str] = []
    ordered = sorted(tasks)
    while ordered:
        first = last = ordered.pop(0)
        while ordered and ordered[0] == last + 1:
            last = ordered.pop(0)
        parts.append(str(first) if first == last else f"{first}-{last}")
    text = ",".join(parts) + (f"%{cap}" if cap else "")
    assert parse_task_ids(f"[{text}]" if brackets else text) == (sorted(tasks), True)


def test_steps_and_cut_off_lists() -> None:
    assert parse_task_ids("0-30:10") == ([0, 10, 20, 30], True)
    assert parse_task_ids("1-3,7,12...") == ([1, 2, 3, 7], False)
    assert parse_task_ids("N/A") == ([], True)


def test_what_squeue_prints() -> None:
    view = parse_squeue(
        "CLUSTER: a\n"
        "run-1|11|3,7-9%3|PENDING||JobArrayTaskLimit,BeginTime\n"
        "run-1|11|0|COMPLETED|n1|None\n"
        "run-1|11|2|FAILED|n2|a|b\n"
        "run-2|12|0-99,...|PENDING||Resources\n"
        "slurm_load_jobs error\n"
    )
    assert view["run-1"].job_id == "11"
    assert view["run-1"].state_of(8).is_waiting
    assert view["run-1"].state_of(2).reason == "a|b"
    assert view["run-1"].state_of(2).node == "n2"
    assert view["run-1"].state_of(0).is_ended
    assert view["run-1"].state_of(5) is None
    assert view["run-2"].state_of(4000).is_waiting
    assert why_waiting(view) == "Resources"


def test_of_a_name_that_was_used_twice_the_last_job_counts() -> None:
    view = parse_squeue("r|12|0|RUNNING|n|None\nr|11|0|CANCELLED|n|None\nr|12|1|PENDING||x\n")
    assert view["r"].job_id == "12"
    assert view["r"].state_of(0).state == "RUNNING"


def test_nothing_of_a_surrounding_job_reaches_a_new_one() -> None:
    environ = {
        "PATH": "/bin",
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_MEM_PER_NODE": "100",
        "SBATCH_TIMELIMIT": "1",
        "SBATCH_PARTITION": "debug",
        "SBATCH_ACCOUNT": "em",
        "SBATCH_WAIT": "1",
    }
    kept = submit_environment(environ, "#SBATCH --time=60\n#SBATCH --partition=gpu\n")
    assert kept == {"PATH": "/bin", "SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "em"}


# ---- reasons -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "reason", "is_retried"),
    [
        (TaskEnd("OUT_OF_MEMORY"), "out of memory", True),
        (TaskEnd("FAILED", "JobLaunchFailure", last_words="StepId=13.batch exceeded memory limit "
                 "(4 > 1), being killed"), "out of memory", True),
        (TaskEnd("FAILED", "NonZeroExitCode", 137, last_words="Detected 1 oom-kill event(s)"),
         "out of memory", True),
        (TaskEnd("FAILED", "NonZeroExitCode", 137), "killed", True),
        (TaskEnd("TIMEOUT"), "time limit", True),
        (TaskEnd("FAILED", "NonZeroExitCode", 143, "USR1"), "time limit", True),
        (TaskEnd("", last_words="JOB 1 ON n CANCELLED AT 2026-11-22T04:53:03 DUE TO TIME LIMIT"),
         "time limit", True),
        (TaskEnd("NODE_FAIL"), "node failure", True),
        (TaskEnd("FAILED", "JobLaunchFailure"), "node failure", True),
        (TaskEnd("CANCELLED", "launch failed requeued held"), "node failure", True),
        (TaskEnd("PREEMPTED"), "preempted", True),
        (TaskEnd("CANCELLED"), "cancelled", False),
        (TaskEnd("FAILED", "NonZeroExitCode", 3), "engine error", False),
        (TaskEnd("COMPLETED"), "no result", True),
        (TaskEnd(""), "no result", True),
    ],
)  # fmt: skip
def test_why_a_task_ended(end: TaskEnd, reason: str, is_retried: bool) -> None:
    verdict = judge_end(end)
    assert (verdict.reason, verdict.is_retried) == (reason, is_retried)
    assert verdict.text


@pytest.mark.parametrize(
    ("kind", "message", "reason", "is_retried"),
    [
        ("TomogramError", "TS_01.mrc is not an MRC file.", "engine error", False),
        ("CheckpointError", "m.ckpt cannot be read.", "engine error", False),
        ("DeviceError", "CUDA error: device lost.", "no working GPU", True),
        (
            "DeviceError",
            "One tile does not fit in the memory of cuda:0.",
            "GPU out of memory",
            True,
        ),
        ("DeviceError", "One tile does not fit in the memory of cpu.", "out of memory", True),
        ("OutputError", "No space left on the device while writing x.", "writing failed", True),
    ],
)
def test_what_the_engine_says_decides(
    kind: str, message: str, reason: str, is_retried: bool
) -> None:
    verdict = judge_error({"type": kind, "message": message, "remedy": "Do this."})
    assert (verdict.reason, verdict.is_retried) == (reason, is_retried)
    assert verdict.text == f"{message} Do this."


def test_remedies_name_what_each_user_sees() -> None:
    """The command line's options, of which each is one, and no place is left open."""
    assert remedy(OUT_OF_MEMORY, WORDS) == "Give the tasks more memory (--mem)."
    # A node's memory is not what a GPU lacks; there the engine itself says what to do.
    assert remedy(GPU_MEMORY, WORDS) == ""
    form = Words(*(f"_{number}_" for number in range(7)))
    options = {
        f"--{name}" for name in re.findall(r"\"--([a-z-]+)\"", (CORE / "arguments.py").read_text())
    }
    said = [(remedy(reason, WORDS), remedy(reason, form)) for reason in sorted(RETRIED)]
    assert sum(bool(text) for text, _ in said) == 8
    for line, field in said:
        named = set(re.findall(r"--[a-z-]+", line)) - {"--exclude"}
        assert named <= options
        assert not named or re.search(r"_\d_", field)
        assert not re.search(r"[{}]", line + field)


# ---- the rest ------------------------------------------------------------------------------------


def test_the_queue_is_asked_ever_more_seldom() -> None:
    waits = [poll_interval(seconds) for seconds in range(1000)]
    assert (waits[0], waits[-1]) == (2, 30)
    assert waits == sorted(waits)


def test_progress_in_words() -> None:
    words = in_words(Progress(n_tomograms=12, n_done=2, n_failed=1, why_waiting="Resources"))
    assert words.startswith("waiting 9, running 0, done 2, failed 1 of 12")
    assert words.endswith("waiting for: Resources")


def test_only_one_follows(tmp_path: Path) -> None:
    with only_one(tmp_path / "lock") as mine, only_one(tmp_path / "lock") as too:
        assert (mine, too) == (True, False)


def bound(line: str) -> set[str]:
    """What the container sees, by the words that start it."""
    words = shlex.split(line)
    found = {value for option, value in itertools.pairwise(words) if option == "--bind"}
    for option, value in itertools.pairwise(words):
        if option == "--mount":
            [fields] = csv.reader([value], strict=True)
            found.add(fields[1].removeprefix("source="))
    return found


def test_the_container_sees_what_the_configuration_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where the links in its folders lead, over every hop; results are made where they are."""
    disk, shelf, links, here = (tmp_path / n for n in ("a disk, old", "shelf", "links", "here"))
    for folder in (disk, shelf, links, here):
        folder.mkdir()
    monkeypatch.chdir(here)
    (disk / "TS_01.mrc").touch()
    (shelf / "TS_01.mrc").symlink_to(disk / "TS_01.mrc")
    (links / "TS_01.mrc").symlink_to("../shelf/TS_01.mrc")
    (links / "system").symlink_to("/etc")
    (links / "gone.mrc").symlink_to(tmp_path / "gone" / "gone.mrc")
    (tmp_path / "engine.sif").write_bytes(b"image")
    new = tmp_path / "results" / "of today"
    paths = list(paths_in({"a": {"b": [links]}, "c": "text", "d": new}))
    line = engine_words(
        container=str(tmp_path / "engine.sif"), python=None, paths=paths[:1], use_gpu=True
    )
    assert bound(line) == set(map(str, (disk, shelf, links, here)))
    words = shlex.split(line)
    digest = hashlib.sha256(b"image").hexdigest()
    told = [f"CRYOSIAM_IMAGE={tmp_path}/engine.sif", f"CRYOSIAM_IMAGE_SHA256={digest}"]
    assert words[:3] == ["env", *told]
    assert words[4:6] == ["exec", "--nv"]
    assert words[-4:] == ["--pwd", str(here), str(tmp_path / "engine.sif"), "cryosiam-engine"]
    line = engine_words(
        container=str(tmp_path / "engine.sif"), python=None, paths=paths, use_gpu=False
    )
    assert bound(line) == {str(tmp_path)}, "the results' folder is not there yet"
    assert "--nv" not in line
    with pytest.raises(ConfigurationError, match="No such image"):
        engine_words(container="no.sif", python=None, paths=[], use_gpu=False)
    with pytest.raises(ConfigurationError, match=r"The folder /opt cannot be shown"):
        engine_words(
            container=str(tmp_path / "engine.sif"), python=None, paths=[Path("/opt")], use_gpu=False
        )


def test_a_warning_of_the_time_limit_interrupts() -> None:
    with pytest.raises(Interrupted) as stopped, interruptible():
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(5)
    assert stopped.value.signal_number == signal.SIGUSR1


def test_what_the_plugin_uses_is_python_3_8_and_of_the_standard_library() -> None:
    allowed = set(sys.stdlib_module_names)
    for path in CORE.glob("*.py"):
        if path.stem in COMMAND_LINE:
            continue
        for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 8))):
            if isinstance(node, ast.Import):
                assert {name.name.split(".")[0] for name in node.names} <= allowed, path
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").split(".")[0] in allowed, path
