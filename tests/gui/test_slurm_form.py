"""The form's part about Slurm in Scipion's own window."""

from __future__ import annotations

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


def test_what_slurm_is_asked_for_is_readable(empty_project, main_window, screenshot):  # noqa: F811
    from cryosiam_plugin.protocols import ProtCryosiamInstances

    protocol = empty_project.newProtocol(ProtCryosiamInstances)
    assert unexplained(protocol) == []
    protocol.whereToRun.set(1)
    protocol.expertLevel.set(1)
    form = open_form(empty_project, main_window, protocol)
    try:
        form._checkAllChanges()
        notebook = next(w for w in descendants(form.root) if w.winfo_class() == "TNotebook")
        where = next(t for t in notebook.tabs() if notebook.tab(t, "text") == "Where to run")
        notebook.select(where)
        form.adjustSize()
        settle(form.root, 0.4)
        screenshot("form-slurm")
        assert cut_texts(form) == []
        assert form.root.winfo_reqheight() <= 780
    finally:
        form.root.destroy()
