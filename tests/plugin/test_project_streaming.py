"""Tomograms that arrive one by one in an open set."""

from __future__ import annotations

import pytest
from pyworkflow.object import Set
from scipion_projects import Project, model, said, wait_for

pytestmark = pytest.mark.slow


def test_outputs_appear_as_tomograms_arrive(domain, engine_python, monkeypatch):
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    monkeypatch.setenv("CRYOSIAM_ENGINE_PYTHON", engine_python)
    monkeypatch.setenv("CRYOSIAM_RUNTIME", "native")
    from cryosiam_plugin.tests.synthetic import simulated_tomograms, small_models

    project = Project("streaming", engine_python)
    imported = project.import_tomograms(simulated_tomograms(3))
    tomograms = imported.Tomograms
    arriving = [item.clone() for item in tomograms.iterItems()]
    tomograms.close()
    _restart(imported, tomograms, arriving[0])
    protocol = project.new(
        ProtCryosiamDenoise,
        inputTomograms=(imported, "Tomograms"),
        streamingSleepOnWait=1,
        numberOfThreads=3,
        **model(small_models(), "denoising"),
    )
    project.launch(protocol, wait=False)

    for number in (1, 2, 3):
        wait_for(lambda n=number: n_outputs(project, protocol) == n, f"output {number}")
        assert project.again(protocol).isRunning(), said(protocol)
        assert protocol.denoisedTomograms.isStreamOpen()
        if number < 3:
            _arrive(imported, tomograms, arriving[number])

    tomograms.enableAppend()
    tomograms.setStreamState(Set.STREAM_CLOSED)
    tomograms.write()
    tomograms.close()
    project.finished(protocol)
    assert protocol.denoisedTomograms.isStreamClosed()
    assert protocol.denoisedTomograms.getTSIds() == ["TS_01", "TS_02", "TS_03"]


def test_streaming_needs_threads(domain, engine_python):
    """With fewer, the step that waits for tomograms would keep the others from starting."""
    from cryosiam_plugin.protocols import ProtCryosiamDenoise
    from cryosiam_plugin.tests.synthetic import simulated_tomograms, small_models

    project = Project("streamingthreads", engine_python)
    imported = project.import_tomograms(simulated_tomograms(3))
    imported.Tomograms.setStreamState(Set.STREAM_OPEN)
    protocol = project.new(
        ProtCryosiamDenoise,
        inputTomograms=(imported, "Tomograms"),
        numberOfThreads=2,
        **model(small_models(), "denoising"),
    )
    assert "Scipion threads to 3" in "\n".join(protocol.validate())


def n_outputs(project, protocol):
    output = getattr(project.again(protocol), "denoisedTomograms", None)
    return output.getSize() if output is not None else 0


def _restart(imported, tomograms, first):
    """Make the imported set one that has just begun to grow."""
    tomograms.load()
    tomograms.clear()
    tomograms.setStreamState(Set.STREAM_OPEN)
    first.cleanObjId()
    tomograms.append(first)
    tomograms.write()
    imported._store(tomograms)
    tomograms.close()


def _arrive(imported, tomograms, item):
    tomograms.enableAppend()
    item.cleanObjId()
    tomograms.append(item)
    tomograms.write()
    tomograms.close()
