"""The form's part about Slurm, and the questions of Scipion's queue, in Scipion's own windows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from test_scipion_gui import (  # noqa: F401 - a fixture
    cut_texts,
    descendants,
    main_window,
    open_form,
    settle,
    unexplained,
)

pytestmark = [pytest.mark.gui, pytest.mark.slow]


@pytest.fixture
def form(empty_project, main_window):  # noqa: F811
    """The form of a protocol that no queue and no Slurm is chosen in."""
    from cryosiam_plugin.protocols import ProtCryosiamInstances

    protocol = empty_project.newProtocol(ProtCryosiamInstances)
    protocol.expertLevel.set(1)
    form = open_form(empty_project, main_window, protocol)
    yield form
    form.root.destroy()


@pytest.mark.parametrize("choice", [0, 1])
def test_what_slurm_is_asked_for_is_readable(form, screenshot, choice):
    assert unexplained(form.protocol) == []
    form.protocol.whereToRun.set(choice)
    form._checkAllChanges()
    notebook = next(w for w in descendants(form.root) if w.winfo_class() == "TNotebook")
    where = next(t for t in notebook.tabs() if notebook.tab(t, "text") == "Where to run")
    notebook.select(where)
    form.adjustSize()
    settle(form.root, 0.4)
    screenshot(f"form-slurm-{choice}")
    assert cut_texts(form) == []
    assert form.root.winfo_reqheight() <= 780


@pytest.mark.parametrize("queue", ["cpu", "gpu"])
def test_the_questions_of_the_queue_are_readable(form, screenshot, monkeypatch, queue):
    """Of the configuration that we ship; the answers are what the protocol is submitted with."""
    from pyworkflow.gui.dialog import RESULT_YES, Dialog
    from pyworkflow.protocol import HostConfig

    import cryosiam_plugin

    hosts = Path(cryosiam_plugin.__file__).parent / "templates" / "hosts.slurm.conf"
    host = HostConfig.load(str(hosts))["localhost"]
    monkeypatch.setattr(form, "_getHostConfig", lambda: host)
    form.protocol.setQueueParams((queue, {"JOB_MEMORY": "64G"}))
    cut = []

    def answer():
        found = [w for w in form.root.winfo_children() if isinstance(w, Dialog)]
        if not found or not found[0].winfo_viewable():
            form.root.after(100, answer)
            return
        (dialog,) = found
        settle(dialog, 0.4)
        screenshot(f"queue-{queue}")
        cut.append(cut_texts(SimpleNamespace(root=dialog)) + cut_entries(dialog))
        dialog._handleResult(RESULT_YES)

    form.root.after(100, answer)
    assert form._editQueueParams()
    assert cut == [[]]
    form.protocol.setHostConfig(host)
    values = form.protocol.getSubmitDict()
    assert (values["JOB_QUEUE"], values["JOB_MEMORY"]) == (queue, "64G")
    assert values["QUEUE_FOR_JOBS"] == "N"


def cut_entries(dialog):
    """Fields with less room than what is in them at first."""
    return [
        widget.get()
        for widget in descendants(dialog)
        if widget.winfo_class() == "Entry" and len(widget.get()) > int(widget.cget("width"))
    ]
