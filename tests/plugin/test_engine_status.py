from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from cryosiam_plugin.engine_status import EngineStatus, read_all, read_status, status_folder


def as_written(path: Path, **changes: object) -> dict:
    """A status as the engine lays it out, about one file that exists."""
    found = path.stat()
    status = {
        "command": "semantic_predict",
        "tomogram": "TS_01",
        "state": "done",
        "determinants": {"config_sha256": "c0", "model_sha256": "ab12", "inputs": []},
        "model_name": "semantic",
        "device": "cpu",
        "precision": "fp32",
        "seconds": {"read": 0.5, "predict": 12.0},
        "outputs": [
            {
                "file": {
                    "path": str(path),
                    "size": found.st_size,
                    "mtime_ns": found.st_mtime_ns,
                },
                "kind": "labels",
                "shape": [4, 5, 6],
                "voxel_size": [7.84, 7.84, 7.84],
            }
        ],
        "summary": {"voxels": {"1": 12}},
        "warnings": ["the tomogram is thin"],
        "error": None,
        "engine_version": "0.1.0",
        "host": "node1",
        "process": 12,
        "updated": "2026-01-01T00:00:00+00:00",
    }
    return {**status, **changes}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "TS_01_preds.mrc"
    path.write_bytes(b"labels")
    return path


def written(tmp_path: Path, status: dict) -> EngineStatus:
    (tmp_path / f"{status['tomogram']}.json").write_text(json.dumps(status))
    found = read_status(tmp_path, status["tomogram"])
    assert found is not None
    return found


def test_a_finished_tomogram(tmp_path: Path, labels: Path) -> None:
    status = written(tmp_path, as_written(labels))
    assert status.is_done
    assert not status.is_failed
    assert status.output_of_kind("labels", ".mrc") == labels
    assert status.output_of_kind("labels") == labels
    assert status.output_of_kind("labels", ".h5") is None
    assert status.output_of_kind("particles") is None
    assert status.outputs[0].shape == (4, 5, 6)
    assert status.outputs[0].voxel_size == (7.84, 7.84, 7.84)
    assert status.model_sha256 == "ab12"
    assert status.warnings == ("the tomogram is thin",)
    assert status.error_text == ""


def test_a_failed_tomogram_says_why_and_what_to_do(tmp_path: Path, labels: Path) -> None:
    error = {"type": "TomogramError", "message": "TS_01 is cut off.", "remedy": "Copy it again."}
    status = written(tmp_path, as_written(labels, state="failed", outputs=[], error=error))
    assert status.is_failed
    assert not status.is_done
    assert status.error_text == "TS_01 is cut off. Copy it again."


def test_a_running_tomogram_is_neither(tmp_path: Path, labels: Path) -> None:
    status = written(tmp_path, as_written(labels, state="running", outputs=[]))
    assert not status.is_done
    assert not status.is_failed


def test_a_changed_or_removed_output_is_not_handed_out(tmp_path: Path, labels: Path) -> None:
    status = written(tmp_path, as_written(labels))
    labels.write_bytes(b"longer than before")
    assert status.output_of_kind("labels") is None
    labels.unlink()
    assert status.output_of_kind("labels") is None


def test_an_output_of_another_time_is_not_handed_out(tmp_path: Path, labels: Path) -> None:
    status = written(tmp_path, as_written(labels))
    os.utime(labels, ns=(0, status.outputs[0].mtime_ns + 10**6))
    assert status.output_of_kind("labels") == labels, "a network file system rounds times"
    os.utime(labels, ns=(0, status.outputs[0].mtime_ns + 10**11))
    assert status.output_of_kind("labels") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"outputs": [{}]}', "null", "\x00"])
def test_what_is_no_status_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "TS_01.json").write_text(text)
    assert read_status(tmp_path, "TS_01") is None


def test_no_file_or_folder_is_none(tmp_path: Path) -> None:
    assert read_status(tmp_path, "TS_01") is None
    assert read_status(tmp_path / "absent", "TS_01") is None


def test_keys_of_a_newer_engine_do_not_hurt(tmp_path: Path, labels: Path) -> None:
    assert written(tmp_path, as_written(labels, colour="green")).is_done


def test_read_all_leaves_out_what_is_not_there(tmp_path: Path, labels: Path) -> None:
    written(tmp_path, as_written(labels))
    assert list(read_all(tmp_path, ["TS_01", "TS_02"])) == ["TS_01"]


def test_status_folders() -> None:
    folder = Path("/run/predictions")
    assert status_folder(folder, "semantic_predict") == folder / "status"
    assert status_folder(folder, "semantic_to_centers") == folder / "status/semantic_to_centers"


def test_the_engines_own_status_is_understood(tmp_path: Path, engine_python: str) -> None:
    """Written by the engine itself, every field filled: the two sides agree on every name."""
    program = """
import sys
from pathlib import Path
from cryosiam_engine.errors import TomogramError
from cryosiam_engine.status import FileIdentity, Output, Status, status_folder, write_status
folder = Path(sys.argv[1])
file = folder / "TS_01_preds.mrc"
file.write_bytes(b"labels")
done = Status("semantic_predict", "TS_01", "done", {"model_sha256": "ab"}, "semantic", "cpu",
    "fp32", {"predict": 1.5}, [Output(FileIdentity.of(file), "labels", (1, 2, 3), (7.0, 7.0, 7.0))],
    {"voxels": 3}, ["thin"])
write_status(status_folder(folder, "semantic_predict"), done)
failed = Status("semantic_to_centers", "TS_01")
failed.fail(TomogramError("It is cut off.", remedy="Copy it again."))
write_status(status_folder(folder, "semantic_to_centers"), failed)
"""
    subprocess.run([engine_python, "-I", "-c", program, str(tmp_path)], check=True)
    done = read_status(status_folder(tmp_path, "semantic_predict"), "TS_01")
    assert done is not None
    assert done.is_done
    assert done.output_of_kind("labels", ".mrc") == (tmp_path / "TS_01_preds.mrc").resolve()
    assert (done.model_name, done.model_sha256, done.device) == ("semantic", "ab", "cpu")
    assert (done.seconds, done.summary, done.warnings) == (
        {"predict": 1.5},
        {"voxels": 3},
        ("thin",),
    )
    assert done.engine_version
    assert done.host
    assert done.process
    assert done.updated
    failed = read_status(status_folder(tmp_path, "semantic_to_centers"), "TS_01")
    assert failed is not None
    assert failed.is_failed
    assert failed.error_text == "It is cut off. Copy it again."
