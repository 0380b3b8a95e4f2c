"""Files that a killed process has half written: the next one removes them, and no others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryosiam_engine.cli import main
from cryosiam_engine.errors import BusyError
from cryosiam_engine.files import PARTIAL_MARK, atomic_path, noting
from cryosiam_engine.locks import locked

SLOW_ENGINE = Path(__file__).with_name("slow_engine.py")


def partial_files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if PARTIAL_MARK in path.name}


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Run the engine until a file is half-written, and kill it by -9."""

    def run(pattern: str, *words: str | Path) -> None:
        command = [sys.executable, SLOW_ENGINE, "600", pattern, *words]
        process = subprocess.Popen(list(map(str, command)), cwd=tmp_path)
        end = time.monotonic() + 300
        try:
            while not list(tmp_path.glob("*.was_slow")):
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.02)
        finally:
            process.kill()
        assert process.wait() == -signal.SIGKILL

    yield run


def test_the_real_engine_is_killed_while_it_writes(
    tmp_path: Path, write_config: Callable[..., Path], killed: Callable[..., None]
) -> None:
    config, out = write_config("denoising"), tmp_path / "out"
    killed("TS_02.mrc", "denoise_predict", "--config_file", config)
    [half] = partial_files(out)
    assert half.startswith(f".TS_02{PARTIAL_MARK}")
    # Of a tomogram whose name begins the same; another run may be writing it just now.
    other = out / f".TS_02_b{PARTIAL_MARK}0badcafe.mrc"
    other.touch()
    assert main(["denoise_predict", "--config_file", str(config)]) == 0
    assert partial_files(out) == {other.name}
    assert {path.stem for path in out.glob("*.mrc")} - {other.stem} == {"TS_01", "TS_02", "TS_03"}
    assert all(path.stat().st_size == 0 for path in (out / "status").glob(".*.lock"))


def test_a_table_of_all_tomograms_too(
    tmp_path: Path, write_config: Callable[..., Path], killed: Callable[..., None]
) -> None:
    config, out = write_config("semantic", {"threshold": 0.3}), tmp_path / "out"
    assert main(["semantic_predict", "--config_file", str(config)]) == 0
    killed("labels_*.csv", "semantic_to_centers", "--config_file", config)
    assert len(partial_files(out)) == 1
    assert main(["semantic_to_centers", "--config_file", str(config)]) == 0
    assert partial_files(out) == set()


CHILD = """\
import os, sys
from pathlib import Path
from cryosiam_engine.files import atomic_path, noting
from cryosiam_engine.locks import locked

folder = Path(sys.argv[1])
with locked(folder / "status" / ".TS_1.lock", what="TS_1") as leftovers:
    with noting(leftovers.note), atomic_path(folder / "deep er" / "TS_1\\n.mrc") as partial:
        partial.write_text("half")
        print(partial, flush=True)
        sys.stdin.read(1)
        os._exit(9)
"""


@pytest.mark.parametrize("is_moved", [False, True])
def test_what_is_at_work_is_left_alone_and_what_is_dead_is_not(
    tmp_path: Path, is_moved: bool
) -> None:
    folder = tmp_path / "out"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin
    assert child.stdout
    child.stdout.readline()
    lock = folder / "status" / ".TS_1.lock"
    with pytest.raises(BusyError), locked(lock, what="TS_1"):
        pass
    assert len(partial_files(folder)) == 1
    child.stdin.close()
    assert child.wait() == 9
    if is_moved:
        folder, lock = folder.rename(tmp_path / "moved"), tmp_path / "moved/status/.TS_1.lock"
    with locked(lock, what="TS_1"):
        assert partial_files(folder) == set()
    assert lock.stat().st_size == 0


def test_a_lock_file_cannot_have_results_removed(tmp_path: Path) -> None:
    """Whatever somebody wrote into it."""
    for name in ("TS_1.mrc", ".hidden", f"x{PARTIAL_MARK}1.mrc"):
        (tmp_path / name).touch()
    folder = tmp_path / f".x{PARTIAL_MARK}folder"
    folder.mkdir()
    lock = tmp_path / ".TS_1.lock"
    noted = ["TS_1.mrc", str(tmp_path / ".hidden"), f"x{PARTIAL_MARK}1.mrc", folder.name, 7, None]
    lock.write_bytes(b"\xff\n{\n" + "\n".join(map(json.dumps, noted)).encode())
    before = sorted(path.name for path in tmp_path.iterdir())
    with locked(lock, what="TS_1"):
        assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_where_there_are_no_locks_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run might be at work, and nobody can know."""
    half = tmp_path / f".TS_1{PARTIAL_MARK}1.mrc"
    half.touch()
    lock = tmp_path / ".TS_1.lock"
    lock.write_text(json.dumps(half.name) + "\n")

    def refuse(*_: object) -> None:
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr("cryosiam_engine.locks.fcntl.flock", refuse)
    with locked(lock, what="TS_1") as leftovers:
        with noting(leftovers.note), atomic_path(tmp_path / "TS_1.mrc") as partial:
            partial.touch()
        assert half.exists()
    assert (tmp_path / "TS_1.mrc").exists()
