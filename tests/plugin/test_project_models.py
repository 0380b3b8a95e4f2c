"""The models that come with the plugin, in a real project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipion_projects import Project, said, voxels

from cryosiam_plugin import Plugin
from cryosiam_plugin.protocols.model_choice import PUBLISHED, offeredFor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(domain, engine_python):
    return Project("models", engine_python)


@pytest.fixture(scope="module")
def tomograms(project, engine_python):
    from cryosiam_plugin.tests.synthetic import simulated_tomograms

    return project.import_tomograms(simulated_tomograms(3), "TS_01*.mrc")


def built_in(task: str):
    [model] = [model for model in Plugin.builtInModels() if model.task == task]
    if not model.location.is_file():
        pytest.skip(f"{model.file} has not been made")
    return model


def test_a_demo_model_denoises_and_is_imported(project, tomograms) -> None:
    from cryosiam_plugin.protocols import ProtCryosiamDenoise, ProtCryosiamImportModel

    model = built_in("denoising")
    offered = [m.name for m in offeredFor(Plugin, ("denoising",))]
    denoised = project.run(
        ProtCryosiamDenoise,
        inputTomograms=(tomograms, "Tomograms"),
        modelSource=PUBLISHED,
        publishedModel=offered.index(model.name),
        numberOfThreads=1,
        useGpu=False,
    )
    assert denoised.isFinished(), said(denoised)
    assert model.file in " ".join(denoised.methods())
    volume = voxels(denoised.denoisedTomograms.getFirstItem())
    assert np.isfinite(volume).all()
    assert volume.std() > 0

    imported = project.run(ProtCryosiamImportModel, modelFile=str(model.location))
    assert imported.isFinished(), said(imported)
    assert imported.model.getTask() == "denoising"
    assert imported.model.getSamplingRate() == pytest.approx(13.48), "a demo model knows it"
    assert Path(imported.model.getPath()).resolve() == model.location.resolve()


def test_an_imported_demo_model_has_its_classes(project) -> None:
    from cryosiam_plugin.protocols import ProtCryosiamImportModel

    model = built_in("semantic")
    imported = project.run(ProtCryosiamImportModel, modelFile=str(model.location))
    assert imported.isFinished(), said(imported)
    assert imported.model.getNClasses() == len(model.classes)
    assert imported.model.getClassNames() == model.classes


def test_a_missing_published_model_stops_the_form(project, tomograms, tmp_path, monkeypatch):
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    monkeypatch.setattr(Plugin, "getModelsFolder", classmethod(lambda cls: str(tmp_path)))
    run = project.new(ProtCryosiamDenoise, inputTomograms=(tomograms, "Tomograms"))
    assert "scipion3 installb cryosiam_models-denoising" in " ".join(run.validate())
