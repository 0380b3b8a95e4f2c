"""An engine of a few lines, for drills: it does what each file name says and writes statuses.

Where a file name is that of a real file, the file says it.

usage: stand_in_engine.py slurm run-task TASKS.json
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

plan = json.loads(Path(sys.argv[3]).read_text())
folder = Path(plan["status_folder"])
folder.mkdir(parents=True, exist_ok=True)


def write(stem: str, state: str, **more: object) -> None:
    partial = folder / f".{stem}.partial-{os.getpid()}"
    text = json.dumps({"state": state, "seconds": {"predict": 1.0}, **more})
    try:
        partial.write_text(text)
        partial.replace(folder / f"{stem}.json")
    finally:
        partial.unlink(missing_ok=True)


def is_done(stem: str) -> bool:
    path = folder / f"{stem}.json"
    return path.exists() and json.loads(path.read_text())["state"] == "done"


def note(stem: str, **what: object) -> None:
    with Path(f"{stem}.started").open("a") as file:
        file.write(json.dumps(what) + "\n")


def stop(number: int, frame: object) -> None:
    # Slurm asks all processes of a job, and the job's script asks its engine again.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + number)


signal.signal(signal.SIGTERM, stop)
code = 0
for stem, deed, attempt in plan["tasks"][int(os.environ["SLURM_ARRAY_TASK_ID"])]:
    if is_done(stem):
        continue
    node = os.environ["SLURMD_NODENAME"]
    note(
        stem,
        node=node,
        visible=os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        given=os.environ.get("SLURM_JOB_GPUS", ""),
        process=os.getpid(),
        began=time.time(),
        memory=os.environ.get("SLURM_MEM_PER_NODE", ""),
    )
    write(stem, "running")
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if Path(deed).is_file():
        deed = Path(deed).read_text()
    word, _, value = deed.partition(" ")
    try:
        if word == "corrupt":
            error = {"type": "TomogramError", "message": f"{stem} is damaged.", "remedy": ""}
            write(stem, "failed", error=error)
            code = 1
            continue
        if word == "full" and node == value:
            try:
                Path("/dev/full").write_text("a result")
            except OSError as problem:
                error = {"type": "OutputError", "message": str(problem)}
                write(stem, "failed", error=error)
                code = 1
                continue
        if word == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if word in ("sleep", "deaf") or (word == "once" and attempt == 1 and not restarts):
            time.sleep(float(value))
        while word == "wait" and not Path(value).exists():
            time.sleep(0.2)
        if word == "memory" and attempt == 1:
            held = bytearray(300_000_000)
            held[::4096] = b"x" * len(held[::4096])
            time.sleep(30)
    except SystemExit:
        note(stem, ended=time.time(), interrupted=True)
        write(stem, "failed", error={"type": "interrupted", "message": "interrupted"})
        raise
    note(stem, ended=time.time(), interrupted=False)
    write(stem, "done")
raise SystemExit(code)
