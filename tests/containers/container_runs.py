"""How the tests run something in an image, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

#: An ordinary user of this computer.
NOBODY = 65534
#: The model that comes with the engine, by its path in the image.
MODEL = (
    "/opt/cryosiam/lib/python3.11/site-packages/cryosiam_engine/demo_models/"
    "demo_denoising.safetensors"
)


def apptainer(*words: object, user: int = 0, **options: Any) -> subprocess.CompletedProcess:
    """Run apptainer; its output is text."""
    return as_user(user, ["apptainer", *map(str, words)], **options)


def as_user(user: int, words: list[str], **options: Any) -> subprocess.CompletedProcess:
    """Run a program as root (0) or, where we are root, as another user."""
    options.setdefault("env", {**os.environ, "OMP_NUM_THREADS": "1"})
    return subprocess.run(
        for_user(user, words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        **options,
    )


def for_user(user: int, words: list[str]) -> list[str]:
    """The words that run a program as a user."""
    if user == os.geteuid():
        return words
    if os.geteuid() != 0:
        pytest.skip("only root can run programs as somebody else")
    return ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", *words]


def shared_by_all(folder: Path) -> Path:
    """Let every user into a folder of pytest's, which are private."""
    for parent in [folder, *folder.parents]:
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o055)
    return folder


def denoising(folder: Path, tomograms: Path, results: Path) -> Path:
    """A configuration that denoises with the model that is in the image."""
    config = folder / "denoising.yaml"
    # JSON is YAML, and quotes whatever a path may have in it.
    values = {"data_folder": tomograms, "prediction_folder": results, "trained_model": MODEL}
    config.write_text(json.dumps({k: str(v) for k, v in values.items()}, ensure_ascii=False))
    return config


def states(results: Path) -> dict[str, str]:
    """What the status files say, by tomogram."""
    files = (results / "status").glob("*.json")
    return {path.stem: json.loads(path.read_text("utf-8"))["state"] for path in files}
