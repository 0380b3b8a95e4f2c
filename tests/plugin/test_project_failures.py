"""A tomogram that cannot be computed: the others are, and the user learns why."""

from __future__ import annotations

import shutil

import pytest
from scipion_projects import Project, model, outputs_of, said

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(domain, engine_python, monkeypatch_module):
    from cryosiam_plugin.tests.synthetic import small_models

    return small_models()


@pytest.fixture(scope="module")
def monkeypatch_module(engine_python):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRYOSIAM_ENGINE_PYTHON", engine_python)
        patch.setenv("CRYOSIAM_RUNTIME", "native")
        yield patch


@pytest.fixture
def tomograms(models, tmp_path):
    """Three tomograms in a folder that the test may spoil."""
    from cryosiam_plugin.tests.synthetic import simulated_tomograms

    folder = tmp_path / "tomograms"
    shutil.copytree(simulated_tomograms(3), folder)
    return folder


def test_one_corrupt_tomogram_of_three(engine_python, tomograms, models):
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    project = Project("corrupt", engine_python)
    imported = project.import_tomograms(tomograms)
    corrupt = tomograms / "TS_02.mrc"
    corrupt.write_bytes(corrupt.read_bytes()[:5000])  # a copy that was cut short

    protocol = project.run(
        ProtCryosiamDenoise,
        inputTomograms=(imported, "Tomograms"),
        numberOfThreads=1,
        **model(models, "denoising"),
    )

    assert protocol.isFinished(), said(protocol)
    assert protocol.denoisedTomograms.getTSIds() == ["TS_01", "TS_03"]
    assert protocol.failedTomograms.getTSIds() == ["TS_02"]
    reason = protocol.failedTomograms.getFirstItem()._failure.get()
    summary = "\n".join(protocol.summary())
    assert "TS_02" in summary
    assert reason in summary
    assert "TS_02.mrc" in reason  # names the file, as the engine's own error does

    # The file is repaired: Continue computes it and nothing else.
    shutil.copy(tomograms / "TS_01.mrc", corrupt)
    project.launch(protocol)
    protocol = project.again(protocol)
    assert sorted(protocol.denoisedTomograms.getTSIds()) == ["TS_01", "TS_02", "TS_03"]
    assert protocol.failedTomograms.getSize() == 0
    assert "failed" not in "\n".join(protocol.summary())


def test_nothing_but_failures_fails_with_all_reasons(engine_python, tomograms, models):
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    project = Project("allcorrupt", engine_python)
    imported = project.import_tomograms(tomograms)
    for path in tomograms.glob("*.mrc"):
        path.unlink()

    protocol = project.run(
        ProtCryosiamDenoise,
        inputTomograms=(imported, "Tomograms"),
        numberOfThreads=1,
        **model(models, "denoising"),
    )

    assert protocol.isFailed()
    for ts_id in ("TS_01", "TS_02", "TS_03"):
        assert f"*{ts_id}*" in protocol.getErrorMessage()
    assert outputs_of(protocol) == ["failedTomograms"]


def test_a_tomogram_without_a_mask_is_left_out(engine_python, tomograms, models):
    from tomo.protocols import ProtImportTomograms

    from cryosiam_plugin.protocols import ProtCryosiamLamella, ProtCryosiamSemantic

    project = Project("nomask", engine_python)
    imported = project.import_tomograms(tomograms)
    two = project.import_tomograms(tomograms, "TS_0[12].mrc")
    assert isinstance(two, ProtImportTomograms)
    common = {"numberOfThreads": 1, "useGpu": False}
    masks = project.run(
        ProtCryosiamLamella,
        inputTomograms=(two, "Tomograms"),
        threshold=0.2,
        **{**model(models, "lamella"), **common},
    )
    protocol = project.run(
        ProtCryosiamSemantic,
        inputTomograms=(imported, "Tomograms"),
        inputMasks=(masks, "lamellaMasks"),
        threshold=0.3,
        **{**model(models, "semantic"), **common},
    )
    assert protocol.isFinished(), said(protocol)
    assert protocol.semanticMasks.getTSIds() == ["TS_01", "TS_02"]
    assert protocol.failedTomograms.getTSIds() == ["TS_03"]
    assert "no lamella mask" in "\n".join(protocol.summary())


def test_a_gpu_that_is_not_there_is_an_error(engine_python, tomograms, models):
    """No silent week on the CPU."""
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    project = Project("nostart", engine_python)
    imported = project.import_tomograms(tomograms)
    protocol = project.new(
        ProtCryosiamDenoise,
        inputTomograms=(imported, "Tomograms"),
        numberOfThreads=1,
        **{**model(models, "denoising"), "useGpu": True, "gpuList": "0"},
    )
    project.launch(protocol)
    protocol = project.again(protocol)
    assert protocol.isFailed(), "this test is for computers without a GPU"
    assert "'cuda' was asked for" in protocol.getErrorMessage()
