"""Kill what runs in the middle of tomogram 2 of 3; Continue finishes as if nothing had been."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipion_projects import (
    Project,
    kill,
    model,
    processes_of,
    said,
    state_of,
    volumes,
    wait_for,
)

pytestmark = pytest.mark.slow

#: Some seconds per tomogram on a CPU: time to be killed in.
SHAPE = (64, 128, 128)


@pytest.fixture(scope="module")
def data(domain, engine_python):
    import os

    os.environ.update(CRYOSIAM_ENGINE_PYTHON=engine_python, CRYOSIAM_RUNTIME="native")
    from cryosiam_plugin.tests.synthetic import simulated_tomograms, small_models

    return simulated_tomograms(3, SHAPE), small_models()


@pytest.fixture(scope="module")
def project(data, engine_python):
    return Project("resume", engine_python)


@pytest.fixture(scope="module")
def imported(project, data):
    return project.import_tomograms(data[0])


@pytest.fixture(scope="module")
def undisturbed(project, imported, data):
    protocol = denoising(project, imported, data[1])
    project.launch(protocol)
    return volumes(project.again(protocol).denoisedTomograms)


def denoising(project, imported, models):
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    return project.new(
        ProtCryosiamDenoise,
        inputTomograms=(imported, "Tomograms"),
        numberOfThreads=3,
        **model(models, "denoising"),
    )


def states(protocol):
    # The engine writes the first behind the second's back.
    return [state_of(protocol, "TS_01"), state_of(protocol, "TS_02")]


def identity(path):
    """What changes when a file is written again."""
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


@pytest.mark.parametrize("victim", ["engine", "protocol", "tree"])
def test_continue_after_a_kill(project, imported, data, undisturbed, victim):
    protocol = denoising(project, imported, data[1])
    project.launch(protocol, wait=False)
    try:
        wait_for(lambda: states(protocol) == ["done", "running"], "the middle of tomogram 2")
    except TimeoutError:
        pytest.fail(said(protocol))
    own, engine = processes_of(protocol)
    first = Path(protocol._getExtraPath("predictions", "TS_01.mrc"))
    before = identity(first)
    kill({"engine": engine, "protocol": own, "tree": own + engine}[victim])
    if victim == "engine":
        # The others are still computed: only the tomogram that the engine died at is lost.
        project.finished(protocol)
        assert protocol.denoisedTomograms.getTSIds() == ["TS_01", "TS_03"], said(protocol)
        assert protocol.failedTomograms.getTSIds() == ["TS_02"]
        assert "memory" in "\n".join(protocol.summary())
    else:
        project.died(protocol)

    project.launch(protocol, wait=False)
    project.finished(protocol)

    assert identity(first) == before, "tomogram 1 was computed again"
    commands = [path.read_text() for path in Path(protocol._getExtraPath("engine")).glob("*.sh")]
    assert sum("TS_01.mrc" in command for command in commands) == 1
    assert victim != "engine" or protocol.failedTomograms.getSize() == 0
    assert "failed" not in "\n".join(protocol.summary())
    found = volumes(protocol.denoisedTomograms)
    assert sorted(found) == ["TS_01", "TS_02", "TS_03"], said(protocol)
    for ts_id, volume in undisturbed.items():
        np.testing.assert_allclose(found[ts_id], volume, atol=1e-5)


def test_continue_with_other_parameters_is_refused(project, imported, data):
    """Results of two thresholds in one set would be no result at all."""
    protocol = denoising(project, imported, data[1])
    project.launch(protocol)
    protocol = project.again(protocol)
    protocol.scalePrediction.set(False)
    project.launch(protocol)
    protocol = project.again(protocol)
    assert protocol.isFailed()
    assert "scale_prediction" in protocol.getErrorMessage()
    assert "Restart" in protocol.getErrorMessage()
