"""Run by an ordinary user: a project with the same run on every road to Slurm; tells in JSON.

ordinary_project.py ENGINE_PYTHON TOMOGRAMS MODELS FOLDER

The folder is the user's, and has Scipion's home, with its hosts.conf, in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(Path(__file__).parent))


def main(engine_python: str, tomograms: str, models: str, folder: str) -> None:
    from conftest import prepare_scipion

    place = Path(folder)
    prepare_scipion(place)
    from pyworkflow import Config

    Config.getDomain().getProtocols()
    from scipion_projects import Project
    from watched_engine import watched_engine
    from workflow_roads import ARRAY, HERE, PROTOCOL, STEPS

    project = Project("ordinary", engine_python)
    imported = project.import_tomograms(Path(tomograms))
    told = {HERE: _run(project, imported, Path(models), HERE)}
    with watched_engine(engine_python, place / "watch", in_container=False) as watch:
        for road in (PROTOCOL, STEPS, ARRAY):
            told[road] = _run(project, imported, Path(models), road)
            told[road]["seen"] = watch.seen(project.path / told[road]["run"])
        watch.check()
    (place / "told.json").write_text(json.dumps(told))


def _run(project: Any, imported: Any, models: Path, road: str) -> dict[str, Any]:
    from scipion_projects import model, said
    from workflow_roads import take_road

    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    inputs = {"inputTomograms": (imported, "Tomograms"), **model(models, "denoising")}
    protocol = project.new(ProtCryosiamDenoise, **inputs)
    take_road(protocol, road, use_gpu=True)
    project.launch(protocol, wait=False)
    project.finished(protocol)
    results = sorted(Path(protocol._getExtraPath("predictions")).glob("*.mrc"))
    logs = [path for path in Path(protocol._getPath()).rglob("*") if path.is_file()]
    return {
        "run": protocol._getPath(),
        "log": said(protocol),
        "results": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in results},
        "users": sorted({path.owner() for path in logs}),
    }


if __name__ == "__main__":
    os.umask(0o022)
    main(*sys.argv[1:])
