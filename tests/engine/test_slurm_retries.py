"""What is tried again, how often, and with what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cryosiam_engine.device import free_memory, memory_share
from cryosiam_engine.sliding_window import SlidingWindow
from cryosiam_engine.slurm import task
from cryosiam_engine.slurm.journal import Failure
from cryosiam_engine.slurm.plan import Item
from cryosiam_engine.slurm.reasons import (
    BEGINS,
    PREEMPTED,
    TaskEnd,
    Verdict,
    judge_end,
    judge_error,
)
from cryosiam_engine.slurm.retries import MOST_PREEMPTIONS, failed_attempt, retry_failed
from cryosiam_engine.slurm.settings import JobSettings
from cryosiam_engine.slurm.squeue import TaskState
from slurm_scene import Queue, Scene


@pytest.fixture
def queue() -> Queue:
    return Queue()


# ---- memory --------------------------------------------------------------------------------------


def numpy_says() -> Exception:
    with pytest.raises(MemoryError) as raised:
        np.empty(1 << 62, np.uint8)
    return raised.value


def torch_says() -> Exception:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 62, dtype=torch.uint8)
    return raised.value


@pytest.mark.parametrize("raise_", [numpy_says, torch_says, MemoryError])
def test_what_libraries_say_of_too_little_memory(raise_: object) -> None:
    """In their own words of today."""
    error = raise_()  # type: ignore[operator]
    verdict = judge_error({"type": type(error).__name__, "message": str(error), "remedy": ""})
    assert verdict.reason == "out of memory"
    assert verdict.lacks_memory
    assert verdict.is_retried


def test_a_gpu_lacks_other_memory() -> None:
    said = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."
    verdict = judge_error({"type": "OutOfMemoryError", "message": said})
    assert (verdict.reason, verdict.lacks_memory) == ("GPU out of memory", False)
    assert verdict.lacks_gpu_memory
    ended = judge_end(TaskEnd("FAILED", "NonZeroExitCode", 3, last_words=said))
    assert ended.reason == "GPU out of memory"


def follow(scene: Scene, *ends: str) -> None:
    """Have the only tomogram's attempts end so."""
    for attempt, end in enumerate(ends, 1):
        scene.poll(31)
        scene.task(0, end, array=attempt)
        scene.says(0, "running")
        for _ in range(3):
            scene.poll()


def test_memory_grows_when_it_was_short_and_not_otherwise(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 1, queue, settings=JobSettings(memory="1000"), retries=3)
    follow(scene, "OUT_OF_MEMORY", "NODE_FAIL", "OUT_OF_MEMORY")
    memory = [queue.scripts[f"run-{n}"].split("--mem=")[1].split()[0] for n in (1, 2, 3, 4)]
    assert memory == ["1000", "1500M", "1500M", "2250M"]
    assert [scene.plan(n).memory_share for n in (1, 2, 3, 4)] == [1, 0.5, 0.5, 0.25]


def test_where_the_gpu_lacks_memory_tiles_are_smaller_and_the_job_is_not_larger(
    tmp_path: Path, queue: Queue
) -> None:
    scene = Scene(tmp_path, 1, queue, settings=JobSettings(memory="1000"))
    scene.poll()
    error = {"type": "DeviceError", "message": "One tile does not fit in the memory of cuda:0."}
    scene.says(0, "failed", error=error)
    scene.task(0, "FAILED")
    for _ in range(3):
        scene.poll()
    assert "--mem=1000\n" in queue.scripts["run-2"]
    assert scene.plan(2).memory_share == 0.5


def test_a_task_plans_with_its_share_of_all_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The computer's and the GPU's; a GPU is pretended."""
    monkeypatch.delenv("CRYOSIAM_MEMORY_SHARE", raising=False)
    for name in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    monkeypatch.setattr("cryosiam_engine.device.choice.free_host_memory", lambda: 500)
    devices = (torch.device("cuda"), torch.device("cpu"))
    assert [free_memory(device) for device in devices] == [1000, 500]
    monkeypatch.setenv("CRYOSIAM_MEMORY_SHARE", "1")  # gone when the test ends
    task._limit_memory(0.25)
    assert [free_memory(device) for device in devices] == [250, 125]
    for wrong in ("none", "0", "-1", "2"):
        monkeypatch.setenv("CRYOSIAM_MEMORY_SHARE", wrong)
        assert memory_share() == 1


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_tiles_are_smaller_with_a_share(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr("cryosiam_engine.device.choice.free_host_memory", lambda: 64 << 30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (16 << 30, 16 << 30))
    for name in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 0)
    window = SlidingWindow(FakeNetwork(), torch.device(device), torch.float32, "auto", 1)  # type: ignore[arg-type]
    sizes = []
    for share in ("1", "0.5", "0.25"):
        monkeypatch.setenv("CRYOSIAM_MEMORY_SHARE", share)
        sizes.append(int(np.prod(window.plan((464, 928, 960)).tile_shape)))
    assert sizes[0] > sizes[1] > sizes[2]


class FakeNetwork:
    """What tiles are planned with."""

    patch_size = (128, 128, 128)
    spatial_dims = 3
    alignment = 16
    receptive_field = (32, 32, 32)

    def feature_bytes_per_voxel(self, item_size: int) -> float:
        return 100.0


# ---- nodes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        (126, "cd: no such folder", "engine not started"),
        (127, "not found", "engine not started"),
        (255, "FATAL: image", "engine not started"),
        (None, "", "engine not started"),
        (132, "Illegal instruction", "crashed"),
        (134, "Aborted", "crashed"),
        (135, "Bus error", "crashed"),
        (139, "Segmentation fault", "crashed"),
    ],
)  # fmt: skip
def test_a_node_that_starts_nothing_is_left_out(
    tmp_path: Path, queue: Queue, code: int | None, said: str, reason: str
) -> None:
    """Its tasks fail at once, so that it would take all of them."""
    verdict = judge_end(TaskEnd("FAILED", "NonZeroExitCode", code, last_words=said))
    assert (verdict.reason, verdict.is_retried, verdict.wants_another_node) == (reason, True, True)
    scene = Scene(tmp_path, 1, queue)
    scene.poll()
    folder = tmp_path / "run" / "array_001"
    if code:
        (folder / "ends" / "0").write_text(f"{code} ")
        (folder / "logs" / "0.log").write_text(said)
    queue.states[queue.jobs["run-1"], 0] = TaskState("FAILED", "NonZeroExitCode", "n2")
    scene.poll(2)
    for _ in range(2):
        scene.poll(31)
    assert "--exclude=n2\n" in queue.scripts["run-2"]


# ---- what counts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", ""])
def test_of_a_log_what_was_said_last_counts(state: str) -> None:
    first = "slurmstepd: error: Detected 1 oom-kill event(s)"
    last = (
        "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-22T04:53:03 DUE TO TIME LIMIT ***"
    )
    end = TaskEnd(state, last_words=f"{first} {last}")
    assert judge_end(end).reason == "time limit"
    assert judge_end(TaskEnd(state, last_words=f"{last} {first}")).reason == "out of memory"


def test_what_a_log_says_of_an_earlier_start_does_not_count() -> None:
    preempted = "*** JOB 7 ON n1 CANCELLED AT 2026-11-22T04:53:03 DUE TO PREEMPTION ***"
    said = f"{BEGINS} n1. {preempted} {BEGINS} n2. Killed"
    assert judge_end(TaskEnd("FAILED", "", 137, last_words=said)).reason == "killed"


@pytest.mark.parametrize("state", ["TIMEOUT", "CANCELLED", "PREEMPTED"])
def test_the_end_of_the_log_is_told_whatever_the_reason(state: str) -> None:
    assert "TS_01: 40 %" in judge_end(TaskEnd(state, last_words="TS_01: 40 %")).text


def test_being_pushed_aside_uses_up_no_attempt(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 1, queue, retries=1)
    follow(scene, *["PREEMPTED"] * 5, "NODE_FAIL", "PREEMPTED", "NODE_FAIL")
    failure = scene.run.journal.failures["TS_0"]
    assert len(queue.jobs) == 8
    assert failure.is_final
    assert failure.reason == "node failure"
    assert failure.earlier.count("preempted") == 6
    # Each is a further start all the same: a training goes on, and does not begin anew.
    assert [scene.plan(n).items[0].attempt for n in range(1, 9)] == list(range(1, 9))


def test_not_for_ever() -> None:
    before: Failure | None = None
    for attempt in range(1, MOST_PREEMPTIONS + 2):
        assert before is None or before.is_waiting
        item = Item("TS_0", attempt=attempt)
        before = failed_attempt(item, Verdict(PREEMPTED, ""), before, retries=0)
    assert before is not None
    assert before.is_final


def test_a_training_that_is_asked_for_again_goes_on(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 1, queue, retries=0, restart_options=["--config_file", "resume.yaml"])
    follow(scene, "NODE_FAIL")
    assert scene.run.journal.failures["TS_0"].is_final
    retry_failed(scene.run)
    assert tuple(scene.plan(1).options) == ()
    assert tuple(scene.plan(2).options) == ("--config_file", "resume.yaml")
