"""The form of the training protocol in Scipion's own window, and its wands."""

from __future__ import annotations

import tkinter
from types import SimpleNamespace

import pytest
from test_scipion_gui import (  # noqa: F401 - a fixture
    cut_texts,
    descendants,
    main_window,
    open_form,
    settle,
    unexplained,
    viewers_of,
)

pytestmark = [pytest.mark.gui, pytest.mark.slow]


@pytest.fixture
def protocol(empty_project):
    from cryosiam_plugin.protocols import ProtCryosiamTrainSemantic

    return empty_project.newProtocol(ProtCryosiamTrainSemantic)


@pytest.mark.parametrize("start", [0, 1])
def test_every_tab_is_readable(empty_project, main_window, screenshot, protocol, start):  # noqa: F811
    protocol.startFrom.set(start)
    protocol.optimizer.set(2)
    protocol.expertLevel.set(1)
    form = open_form(empty_project, main_window, protocol)
    try:
        notebook = next(w for w in descendants(form.root) if w.winfo_class() == "TNotebook")
        for tab in notebook.tabs():
            notebook.select(tab)
            form.adjustSize()
            settle(form.root, 0.4)
            screenshot(f"form-training-{start}-{notebook.tab(tab, 'text').lower()}")
            assert cut_texts(form) == []
            assert form.root.winfo_reqheight() <= 780
    finally:
        form.root.destroy()


def test_every_field_is_explained(protocol):
    assert unexplained(protocol) == []


def test_the_wand_writes_the_names_of_the_masks(empty_project, protocol):
    from pyworkflow.object import Set, String
    from tomo.objects import SetOfTomoMasks, TomoMask

    from cryosiam_plugin.convert import LABEL_TABLE, format_label_table
    from cryosiam_plugin.wizards import CryosiamClassNamesWizard

    masks = SetOfTomoMasks.create(empty_project.getTmpPath(), template="masks%s.sqlite")
    masks.setSamplingRate(10.0)
    mask = TomoMask()
    mask.setTsId("TS_01")
    setattr(mask, LABEL_TABLE, String(format_label_table({1: "membrane", 3: "ribosome"})))
    # Scipion's own for tomograms would look into the file, and there is none.
    Set.append(masks, mask)
    masks.write()
    protocol.inputMasks.set(masks)
    written = []
    form = SimpleNamespace(protocol=protocol, setVar=lambda *values: written.append(values))
    CryosiamClassNamesWizard().show(form, "classNames")
    assert written == [("classNames", "membrane, class 2, ribosome")]


def test_analyze_results_of_a_run_without_curves(empty_project, main_window, protocol):  # noqa: F811
    """While the masks are looked at there is nothing to see yet; the window says so."""
    (viewer,) = [v for v in viewers_of(protocol) if "Training" in v.__name__]
    empty_project.saveProtocol(protocol)
    (view,) = viewer(project=empty_project, protocol=protocol, parent=main_window)._visualize(
        protocol
    )
    view.show()
    settle(main_window.root)
    windows = [w for w in main_window.root.winfo_children() if isinstance(w, tkinter.Toplevel)]
    (window,) = [w for w in windows if w.title() == f"CryoSiam - {protocol.getRunName()}"]
    texts = [w.cget("text") for w in descendants(window) if w.winfo_class() == "TLabel"]
    assert any("has not begun" in text for text in texts)
    window.destroy()
