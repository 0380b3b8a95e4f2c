"""The engine where GPUs are pretended: it notes what it sees of them, and computes on the CPU.

So that GPUs can be asked for and watched, and the results compared all the same.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

#: Where the images have the engine's own program.
_IN_IMAGE = "/opt/cryosiam/bin"
#: Runs instead of the engine; FOLDER is set in the lines before.
_PROGRAM = """
import contextlib, json, os, sys

def value(argv, option):
    return argv[argv.index(option) + 1] if option in argv else None

def on_cpu(argv):
    return ["cpu" if before == "--device" else word for before, word in zip(["", *argv], argv)]

@contextlib.contextmanager
def watched(argv):
    visible, node = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("SLURMD_NODENAME")
    seen = {
        "command": argv[0],
        "config": value(argv, "--config_file"),
        "stems": [word[:-4] for before, word in zip(argv, argv[1:]) if before == "--filename"],
        "device": value(argv, "--device"),
        "given": os.environ.get("SLURM_JOB_GPUS"),
        "visible": visible,
        "shared": [],
    }
    mine = []
    for gpu in (visible or "").split(",") if seen["device"] == "cuda" else []:
        try:
            os.mkdir(f"{FOLDER}/{node}-{gpu}")
            mine.append(f"{FOLDER}/{node}-{gpu}")
        except FileExistsError:
            seen["shared"].append(f"{node}-{gpu}")
    try:
        yield
    finally:
        for folder in mine:
            os.rmdir(folder)
        with open(f"{FOLDER}/seen", "a") as file:
            file.write(json.dumps(seen) + "\\n")

words = sys.argv[1:]
if "cryosiam_engine.cli" in words:
    words = words[words.index("cryosiam_engine.cli") + 1:]
from cryosiam_engine import cli
from cryosiam_engine.slurm import task

engine = task._engine

def engine_of_task(argv):
    with watched(argv):
        return engine(on_cpu(argv))

task._engine = engine_of_task
if words[:2] == ["slurm", "run-task"] or words[:1] == ["--version"]:
    sys.exit(cli.main(words))
with watched(words):
    sys.exit(cli.main(on_cpu(words)))
"""


@dataclass
class Watch:
    """What the engines saw.

    Attributes
    ----------
    folder
        Where they write it down; every job must be able to.
    """

    folder: Path

    def seen(self, run: Path | None = None) -> list[dict[str, Any]]:
        """All engine commands, or those of a run by its folder, in the order of their ends."""
        file = self.folder / "seen"
        lines = file.read_text().splitlines() if file.exists() else []
        found = [json.loads(line) for line in lines]
        inside = f"{Path(run).absolute()}/" if run else ""
        return [one for one in found if (one["config"] or "").startswith(inside)]

    def check(self) -> None:
        """Each of them had the GPUs that Slurm gave it, and no other had one of those at once."""
        on_gpus = [one for one in self.seen() if one["device"] == "cuda"]
        assert on_gpus
        for one in on_gpus:
            assert one["shared"] == []
            assert one["given"]
            assert set(one["visible"].split(",")) <= set(one["given"].split(",")) <= {"0", "1"}


@contextmanager
def watched_engine(engine_python: str, folder: Path, *, in_container: bool) -> Iterator[Watch]:
    """Have every engine that is started meanwhile be watched, where it would run anyway.

    Parameters
    ----------
    engine_python
        The Python of the environment with the engine.
    folder
        On a disk that every job sees.
    in_container
        Whether the engine is the one in the image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    python = f"{_IN_IMAGE}/python" if in_container else engine_python
    program = folder / "program"
    _write(program, f"#!{python} -I\nFOLDER = {str(folder)!r}\n{_PROGRAM}")
    with pytest.MonkeyPatch.context() as patch:
        if in_container:
            binds = f"{program}:{_IN_IMAGE}/cryosiam-engine,{folder}"
            real = shutil.which("apptainer")
            _write(
                folder / "apptainer",
                f'#!/bin/sh\n[ "$1" = exec ] || exec {real} "$@"\nshift\n'
                f'exec {real} exec --bind {binds} "$@"\n',
            )
            patch.setenv("CRYOSIAM_APPTAINER", str(folder / "apptainer"))
        else:
            _write(
                folder / "python",
                f'#!/bin/sh\ncase " $* " in *" cryosiam_engine.cli "*) exec {python} -I {program}'
                f' "$@" ;; esac\nexec {python} "$@"\n',
            )
            # By this the plugin tells an environment that has the engine.
            (folder / "cryosiam-engine").symlink_to(
                Path(engine_python).with_name("cryosiam-engine")
            )
            patch.setenv("CRYOSIAM_ENGINE_PYTHON", str(folder / "python"))
        yield Watch(folder)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
