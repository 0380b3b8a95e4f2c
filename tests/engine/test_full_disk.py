"""A full disk is an error with a remedy: never a crash, never half a file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cryosiam_engine.errors import OutputError
from cryosiam_engine.hdf5 import StreamedDatasets, read_dataset, update_dataset, write_datasets
from cryosiam_engine.hdf5 import sink as hdf5_sink
from cryosiam_engine.volume import write_mrc

MEBIBYTE = 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def free_bytes(folder: Path) -> int:
    state = os.statvfs(folder)
    return state.f_bavail * state.f_bsize


def write_blocks(path: Path) -> None:
    shape = (64, 128, 128)
    with StreamedDatasets(path, {"probs": (shape, np.float32)}) as file:
        for z in range(64):
            file.write("probs", (slice(z, z + 1),), np.ones((1, *shape[1:]), np.float32))


WRITERS = {
    "mrc": lambda path: write_mrc(path, np.ones((64, 128, 128), np.float32), voxel_size=1.0),
    "one large dataset": lambda path: write_datasets(path, {"a": np.ones((64, 128, 128))}),
    # Small datasets stay in HDF5's buffers until the file is closed.
    "many small datasets": lambda path: write_datasets(
        path, {f"a{number}": np.ones((20, 100)) for number in range(100)}
    ),
    "block by block": write_blocks,
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
@pytest.mark.parametrize("room", [1000, 700_000, MEBIBYTE])
def test_full_disk(small_disk, write, room) -> None:
    (small_disk / "other").write_bytes(bytes(max(0, MEBIBYTE - 2 * 4096 - room)))
    free = free_bytes(small_disk)
    with pytest.raises(OutputError, match=r"No space left .*result") as caught:
        write(small_disk / "result.h5")
    assert caught.value.remedy
    assert [path.name for path in small_disk.iterdir()] == ["other"]
    # A file that is gone by its name but still open would keep its space.
    assert free_bytes(small_disk) == free


def test_the_old_file_survives(small_disk) -> None:
    path = small_disk / "TS_01_preds.h5"
    write_datasets(path, {"labels": np.ones((60, 100, 100), np.uint8), "n": np.array(3)})
    with pytest.raises(OutputError, match="No space left"):
        update_dataset(path, "labels", np.zeros((60, 100, 100), np.uint8))
    assert read_dataset(path, "labels").all()
    assert read_dataset(path, "n") == 3
    assert list(small_disk.iterdir()) == [path]


def test_the_process_goes_on_after_a_full_disk(small_disk) -> None:
    """Left to itself the HDF5 library ends the process with a segmentation fault at its exit."""
    program = (
        "import sys, numpy\n"
        "from cryosiam_engine.errors import OutputError\n"
        "from cryosiam_engine.hdf5 import write_datasets\n"
        "try:\n"
        "    write_datasets(sys.argv[1], {f'a{i}': numpy.ones((20, 100)) for i in range(100)})\n"
        "except OutputError:\n"
        "    sys.exit(7)\n"
    )
    command = [sys.executable, "-c", program, str(small_disk / "a.h5")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["pwrite", "ftruncate", "fsync"])
def test_errors_of_the_disk_reach_the_user(tmp_path, monkeypatch, call, number) -> None:
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(hdf5_sink.os, call, fail)
    with pytest.raises(OutputError, match=r"a\.h5"):
        write_datasets(tmp_path / "a.h5", {"labels": np.ones((20, 30, 40))})
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
