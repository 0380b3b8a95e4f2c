"""Cost of a job array with many tasks: submission, following, registering, calls of squeue.

Every task writes one status file and ends, so that what is measured is Slurm's part and ours.
Needs a Slurm to submit to, such as ``sudo scripts/start_slurm.sh`` starts.

usage: python benchmarks/slurm_2000.py [--tasks 2000] [--folder FOLDER on a shared file system]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from cryosiam_engine.slurm.follower import Follower
from cryosiam_engine.slurm.journal import Journal
from cryosiam_engine.slurm.plan import Item
from cryosiam_engine.slurm.run import SlurmRun
from cryosiam_engine.slurm.settings import JobSettings

#: The array's number and the task's make the tomogram's name. Each start leaves a line.
ENGINE = """\
array=$(basename "$(dirname "$3")")
file=status/$array-$SLURM_ARRAY_TASK_ID
echo "$SLURM_JOB_ID" >>"$file.starts"
echo '{"state": "done", "seconds": {"predict": 0.01}}' >"$file.partial"
mv "$file.partial" "$file.json"
"""


def main() -> None:
    """Read the command line, make the folder, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="slurm-2000-", dir=args.folder))
    (folder / "status").mkdir()
    (folder / "engine.sh").write_text(ENGINE)
    # As the arrays will be divided, so that each task knows its tomogram by its own number.
    n_arrays = -(-args.tasks // 1000)
    size = -(-args.tasks // n_arrays)
    items = [
        Item(f"array_{number // size + 1:03d}-{number % size}") for number in range(args.tasks)
    ]
    journal = Journal(
        name=f"bench-{os.getpid()}",
        command="trivial",
        options=[],
        engine="sh engine.sh",
        work_folder=str(folder),
        status_folder=str(folder / "status"),
        settings=JobSettings(cpus=1, memory="50M"),
    )
    measure(folder, journal, items)


def measure(folder: Path, journal: Journal, items: list[Item]) -> None:
    """Submit and follow a run to its end; print what that took.

    Parameters
    ----------
    folder
        On a file system that the nodes share, with the engine's script in it.
    journal
        A new one.
    items
        The tomograms, named as the tasks will name them.

    Raises
    ------
    SystemExit
        When not every tomogram was done, and exactly once.
    """
    started = time.perf_counter()
    run = SlurmRun.create(folder / "run", journal, items)
    planned = time.perf_counter()
    follower = Follower(run)
    own, first = 0.0, 0.0
    done: list[str] = []
    while True:
        before = time.process_time()
        poll = follower.poll()
        first = first or time.perf_counter()
        own += time.process_time() - before
        done += poll.done
        if poll.is_over:
            break
        time.sleep(follower.interval)
    ended = time.perf_counter()
    check(folder, items, done, run)
    print(f"{len(items)} tasks in {len(run.journal.submissions)} arrays, each done once")
    print(f"written down in {planned - started:.2f} s, submitted in {first - planned:.2f} s")
    print(f"from submission to the last result registered: {ended - planned:.1f} s")
    print(f"calls of squeue: {run.programs.n_looks}; the follower's own CPU time: {own:.2f} s")


def check(folder: Path, items: list[Item], done: list[str], run: SlurmRun) -> None:
    """Refuse a run in which a tomogram is missing, failed, or was begun or told twice."""
    stems = sorted(item.stem for item in items)
    starts = {
        path.stem: len(path.read_text().splitlines())
        for path in (folder / "status").glob("*.starts")
    }
    if sorted(done) != stems or starts != dict.fromkeys(stems, 1) or run.journal.failures:
        several = {stem: count for stem, count in starts.items() if count > 1}
        raise SystemExit(
            f"of {len(stems)} tomograms {len(set(done))} were done, told {len(done)} times; begun "
            f"more than once: {several}; failures: {run.journal.failures}"
        )


if __name__ == "__main__":
    main()
