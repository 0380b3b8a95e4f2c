"""Run inside of a container: a project of Scipion's with one run of ours; tells of it in JSON.

nested_project.py ENGINE_PYTHON IMAGE.sif ANSWER.json
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(Path(__file__).parent))


def main(engine_python: str, sif: str, answer: str) -> None:
    from conftest import prepare_scipion

    prepare_scipion(REPOSITORY / ".scipion")
    from pyworkflow import Config

    Config.getDomain().getProtocols()
    from scipion_projects import Project, said

    from cryosiam_plugin import Plugin
    from cryosiam_plugin.protocols import ProtCryosiamDenoise
    from cryosiam_plugin.tests.synthetic import simulated_tomograms

    project = Project("nested", engine_python)
    os.environ.update(CRYOSIAM_RUNTIME="auto", CRYOSIAM_SIF=sif)
    Plugin._defineVariables()
    tomograms = project.import_tomograms(simulated_tomograms(3), "TS_01*.mrc")
    [model] = [model for model in Plugin.builtInModels() if model.task == "denoising"]
    run = project.run(
        ProtCryosiamDenoise,
        inputTomograms=(tomograms, "Tomograms"),
        modelFile=str(model.location),
        modelSource=1,
        useGpu=False,
    )
    extra = Path(run._getExtraPath())
    statuses = [json.loads(path.read_text()) for path in extra.glob("predictions/status/*.json")]
    told = {
        "validation": run.validate(),
        "finished": run.isFinished(),
        "log": said(run),
        "commands": [path.read_text() for path in extra.glob("engine/*.sh")],
        "images": [status["origin"].get("image") for status in statuses],
    }
    Path(answer).write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
