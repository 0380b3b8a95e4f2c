"""Scipion's own windows with our protocols in them: forms, wizards, Analyze Results."""

from __future__ import annotations

import os
import time
import tkinter
from collections import Counter
from pathlib import Path

import pytest

pytestmark = [pytest.mark.gui, pytest.mark.slow]

DESKTOP = "tkinter"
VOXEL_SIZE = 13.48
FORMS = ["denoise", "lamella", "semantic", "particles", "instances", "filter", "masks", "model"]


@pytest.fixture(scope="module")
def engine():
    from pyworkflow import Config

    from cryosiam_plugin import Plugin

    # Discovering the plugins gives their variables values.
    Config.getDomain().getProtocols()
    problems = Plugin.validateInstallation()
    if problems:
        pytest.skip(" ".join(problems))


@pytest.fixture(scope="module")
def project(engine):
    """Two tomograms, denoised, searched for particles and separated, in a project."""
    from pyworkflow.project import Manager
    from tomo.protocols import ProtImportTomograms

    from cryosiam_plugin.protocols import (
        ProtCryosiamDenoise,
        ProtCryosiamImportModel,
        ProtCryosiamInstanceFilter,
        ProtCryosiamInstances,
        ProtCryosiamLamella,
        ProtCryosiamMasksFromCoordinates,
        ProtCryosiamParticles,
        ProtCryosiamSemantic,
    )
    from cryosiam_plugin.tests.synthetic import CLASSES, simulated_tomograms, small_models

    manager = Manager()
    if manager.hasProject("CryosiamWindows"):
        manager.deleteProject("CryosiamWindows")
    project = manager.createProject("CryosiamWindows")
    before = Path.cwd()
    os.chdir(project.path)
    runs = {}

    def run(name, protocol_class, **parameters):
        runs[name] = project.newProtocol(protocol_class, **parameters)
        project.launchProtocol(runs[name], wait=True)
        assert runs[name].isFinished(), runs[name].getErrorMessage()

    models = small_models()
    common = {"useGpu": False, "numberOfThreads": 1}
    file = {"modelSource": 1, **common}
    folder = str(simulated_tomograms(2))
    run(
        "import",
        ProtImportTomograms,
        filesPath=folder,
        filesPattern="TS_*.mrc",
        samplingRate=VOXEL_SIZE,
    )
    raw = runs["import"].Tomograms
    model = str(models / "demo_denoising.ckpt")
    run("denoise", ProtCryosiamDenoise, inputTomograms=raw, modelFile=model, **file)
    names = ", ".join(CLASSES.values())
    model = str(models / "demo_semantic.ckpt")
    run("model", ProtCryosiamImportModel, modelFile=model, classNames=names)
    denoised = runs["denoise"].denoisedTomograms
    model = str(models / "demo_lamella.ckpt")
    run(
        "lamella",
        ProtCryosiamLamella,
        inputTomograms=denoised,
        modelFile=model,
        threshold=0.2,
        **file,
    )
    run(
        "particles",
        ProtCryosiamParticles,
        inputTomograms=denoised,
        inputMasks=runs["lamella"].lamellaMasks,
        modelSource=2,
        modelObject=runs["model"].model,
        threshold=0.3,
        minimumVoxels=5,
        boxSize=16,
        **common,
    )
    run(
        "instances",
        ProtCryosiamInstances,
        inputTomograms=denoised,
        inputMasks=runs["lamella"].lamellaMasks,
        modelFile=str(models / "demo_instance.ckpt"),
        thresholdForeground=0.6,
        minCenterDistance=0.5,
        maxCenterDistance=3.0,
        makeSurfaces=True,
        **file,
    )
    run(
        "filter",
        ProtCryosiamInstanceFilter,
        inputTomograms=denoised,
        inputInstances=runs["instances"].instanceMasks,
        inputRegions=runs["particles"].semanticMasks,
        maskClasses="membrane",
        numberOfThreads=1,
    )
    runs["semantic"] = project.newProtocol(
        ProtCryosiamSemantic, inputTomograms=denoised, inputMasks=runs["lamella"].lamellaMasks
    )
    runs["masks"] = project.newProtocol(
        ProtCryosiamMasksFromCoordinates,
        inputCoordinates=[runs["particles"].coordinates],
        classesFrom=1,
        radii="100",
    )
    project.runs_of_test = runs
    yield project
    os.chdir(before)


@pytest.fixture(scope="module")
def main_window(display):
    from pyworkflow.gui import gui

    # Its images and fonts belong to the window of an earlier file of tests, which is gone.
    gui.image_cache.clear()
    for font in (gui.FONT_NORMAL, gui.FONT_BOLD, gui.FONT_ITALIC, gui.FONT_FIXED, gui.FONT_BIG):
        vars(gui).pop(font, None)
    window = gui.Window("Scipion", None)
    errors: list = []
    window.root.master.report_callback_exception = lambda *error: errors.append(error)
    yield window
    window.root.master.destroy()
    assert not errors, errors


def settle(window, seconds=0.6):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        window.update()
        time.sleep(0.02)


def viewers_of(obj):
    from pyworkflow import Config

    return Config.getDomain().findViewers(obj, DESKTOP)


def scenes(project, obj):
    viewer = viewers_of(obj)[0](project=project, protocol=None, parent=None)
    (view,) = viewer._visualize(obj)
    return {scene.name: scene for scene in view.tomograms}


def test_our_viewer_is_the_first_for_our_results(project):
    runs = project.runs_of_test
    for name in ("denoise", "lamella", "particles", "instances", "filter"):
        assert viewers_of(runs[name])[0].__name__ == "CryosiamProtocolViewer"
        for _, output in runs[name].iterOutputAttributes():
            assert viewers_of(output)[0].__name__ == "CryosiamSetViewer"


def test_of_others_our_viewer_is_one_of_several(project):
    found = [viewer.__name__ for viewer in viewers_of(project.runs_of_test["import"].Tomograms)]
    assert "CryosiamOtherSetViewer" in found[1:]
    assert "CryosiamSetViewer" not in found


def test_denoised_tomograms_are_beside_the_raw_ones(project):
    runs = project.runs_of_test
    found = scenes(project, runs["denoise"])
    assert set(found) == {"TS_01", "TS_02"}
    scene = found["TS_01"]
    assert scene.title == "raw"
    assert scene.tomogram.samefile(next(iter(runs["import"].Tomograms)).getFileName())
    assert "ProtCryosiamDenoise" in str(scene.beside)
    assert scene.voxel_size == VOXEL_SIZE


def test_a_mask_is_shown_on_raw_and_denoised(project):
    scene = scenes(project, project.runs_of_test["lamella"].lamellaMasks)["TS_02"]
    assert (scene.title, scene.beside_title) == ("raw", "denoised")
    assert [(m.title, dict(m.names), m.shown) for m in scene.masks] == [
        ("lamella", {1: "lamella"}, True)
    ]


def test_particles_are_where_the_engine_found_them(project):
    """Scipion's coordinates, back as voxels: the numbers of the engine's own table."""
    import csv

    from cryosiam_plugin.viewers.scene import open_scene

    protocol = project.runs_of_test["particles"]
    for name, files in scenes(project, protocol).items():
        scene = open_scene(files)
        assert scene.notes == []
        assert [mask.title for mask in scene.masks] == ["lamella", "classes"]
        assert scene.masks[0].shown == set()
        assert scene.marks.radius == 8
        table = Path(protocol._getExtraPath("predictions", f"{name}_particles.csv"))
        with table.open() as file:
            expected = sorted(
                tuple(float(row[f"centroid-{axis}"]) for axis in range(3))
                for row in csv.DictReader(file)
            )
        found = sorted(particle.position for particle in scene.marks.particles)
        assert files.n_particles == len(expected)
        for position, wanted in zip(found, expected):
            assert position == pytest.approx(wanted, abs=1e-3)
        for particle in scene.marks.particles:
            assert particle.class_name in ("membrane", "ribosome", "proteasome")
            assert particle.size > 5


def test_instances_are_shown_with_numbers_and_sizes(project):
    """On raw and denoised tomograms, each in its own colour, and named under the mouse."""
    from cryosiam_plugin.viewers.scene import open_scene
    from cryosiam_plugin.viewers.state import ViewerState

    protocol = project.runs_of_test["instances"]
    for name, files in scenes(project, protocol).items():
        scene = open_scene(files)
        assert scene.notes == []
        assert [(mask.title, bool(mask.shown)) for mask in scene.masks] == [
            ("lamella", False),
            ("instances", True),
        ]
        assert scene.masks[1].holds_objects
        particles = scene.marks.particles
        assert len({particle.number for particle in particles}) == len(particles) > 0
        labels = scene.masks[1].volume.data
        state = ViewerState(scene)
        for particle in particles:
            inside = labels == particle.number
            assert inside.sum() == particle.size
            assert particle.name == f"instance {particle.number}"
            position = tuple(float(index[0]) for index in inside.nonzero())
            told = state.describe(position)
            assert f"instance {particle.number} ({particle.size} voxels, " in told, name


def test_of_the_filter_what_it_kept_is_shown_first(project):
    found = scenes(project, project.runs_of_test["filter"])
    for scene in found.values():
        layers = [(mask.title, mask.shown) for mask in scene.masks]
        assert layers == [("all instances", False), ("classes", False), ("instances", True)]
        assert scene.n_particles == len(scene.particles())


def test_surfaces_lie_on_the_instances(project):
    import numpy as np
    from scipy import ndimage

    from cryosiam_plugin.viewers.planes import PLANES
    from cryosiam_plugin.viewers.scene import open_scene

    for files in scenes(project, project.runs_of_test["instances"].surfaces).values():
        scene = open_scene(files)
        assert not any(mask.shown for mask in scene.masks)
        labels = scene.masks[1].volume.data
        total = 0
        for z in range(0, labels.shape[0], 5):  # five slices reach 2.5 voxels to each side
            points, numbers = scene.surfaces.near(PLANES["xy"], z)
            total += len(points)
            for number in np.unique(numbers):
                near = ndimage.binary_dilation(labels == number, iterations=3)
                rows, columns = np.rint(points[numbers == number, :2]).astype(int).T
                rows, columns = (np.clip(v, 0, 63) for v in (rows, columns))
                slab = near[max(z - 3, 0) : z + 4].any(axis=0)
                assert slab[rows, columns].all()
        assert total > 0


@pytest.mark.parametrize("output", ["instanceMasks", "coordinates", "surfaces"])
def test_instances_look_as_they_should(project, main_window, screenshot, output):
    """A picture for people to look at; the test sees that it is not empty."""
    instances = getattr(project.runs_of_test["instances"], output)
    scene = scenes(project, instances)["TS_01"]
    from cryosiam_plugin.viewers.slice_viewer import open_window

    window = open_window(main_window.root, scene)
    coloured: list = []
    for _ in range(30):
        settle(main_window.root)
        colours = {pixel for _, pixel in screenshot(f"slices-{output}").getcolors(1 << 24)}
        coloured = [c for c in colours if max(c) - min(c) > 60]
        if len(coloured) > 20:
            break
        # A window that came while the window manager started may never have been shown.
        window.window.withdraw()
        window.window.deiconify()
    window.window.destroy()
    settle(main_window.root)
    assert len(coloured) > 20


def test_coordinates_alone_find_their_tomograms(project):
    """As a subset would, which no protocol of ours made."""
    from cryosiam_plugin.viewers import scipion_scenes

    coordinates = project.runs_of_test["particles"].coordinates
    alone = coordinates.create(project.getTmpPath(), suffix="alone")
    alone.copyInfo(coordinates)
    alone.setPrecedents(coordinates.getPrecedents())
    for coordinate in coordinates.iterCoordinates():
        alone.append(coordinate.clone())
    alone.write()
    assert not scipion_scenes.is_ours(alone)
    found = {scene.name: scene for scene in scipion_scenes.of_set(alone, project)}
    scene = next(iter(found.values()))
    assert (scene.title, scene.masks) == ("raw", [])
    assert len(scene.particles()) == scene.n_particles > 0


def test_a_run_without_results_is_told(project):
    from pyworkflow.viewer import MessageView

    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    raw = project.runs_of_test["import"].Tomograms
    protocol = project.newProtocol(ProtCryosiamDenoise, inputTomograms=raw)
    viewer = viewers_of(protocol)[0](project=project, protocol=protocol, parent=None)
    (view,) = viewer._visualize(protocol)
    assert isinstance(view, MessageView)
    assert "no results yet" in view.getMessage()


def test_analyze_results_opens_list_and_slices(project, main_window, screenshot):
    runs = project.runs_of_test
    viewer = viewers_of(runs["particles"])[0](
        project=project, protocol=runs["particles"], parent=main_window
    )
    viewer.visualize(runs["particles"])
    settle(main_window.root)
    screenshot("analyze-results-list")
    root = main_window.root
    listed = [w for w in root.winfo_children() if isinstance(w, tkinter.Toplevel)]
    assert [w.title() for w in listed] == ["CryoSiam - particle identification"]
    tree = next(w for w in descendants(listed[0]) if w.winfo_class() == "Treeview")
    tree.focus_force()
    tree.event_generate("<Return>")
    settle(root)
    screenshot("analyze-results-slices")
    titles = [w.title() for w in root.winfo_children() if isinstance(w, tkinter.Toplevel)]
    assert titles[1:] == ["CryoSiam - TS_01"]
    for window in listed:
        window.destroy()
    settle(root)
    # The list may be closed; what it opened stays.
    left = [w for w in root.winfo_children() if isinstance(w, tkinter.Toplevel)]
    assert [w.title() for w in left] == ["CryoSiam - TS_01"]
    for window in left:
        window.destroy()


def descendants(widget):
    for child in widget.winfo_children():
        yield child
        yield from descendants(child)


def cut_texts(form):
    """Labels and buttons that have less room than their text needs."""
    return [
        (widget.cget("text"), widget.winfo_width(), widget.winfo_reqwidth())
        for widget in descendants(form.root)
        if widget.winfo_class() in ("Label", "Button", "Radiobutton", "TLabel")
        and widget.winfo_ismapped()
        and widget.cget("text")
        and widget.winfo_width() < widget.winfo_reqwidth()
    ]


def open_form(project, main_window, protocol):
    from pyworkflow.gui.form import FormWindow

    form = FormWindow(protocol.getClassLabel(), protocol, lambda *_: "", main_window)
    form.root.geometry("+0+0")
    form.root.deiconify()
    settle(form.root)
    return form


@pytest.mark.parametrize("name", FORMS)
def test_every_tab_of_every_form_is_readable(project, main_window, screenshot, name):
    form = open_form(project, main_window, project.runs_of_test[name])
    try:
        if form.protocol.hasExpert():
            form.protocol.expertLevel.set(1)
            form._checkAllChanges()
        notebook = next(w for w in descendants(form.root) if w.winfo_class() == "TNotebook")
        for tab in notebook.tabs():
            notebook.select(tab)
            form.adjustSize()
            settle(form.root, 0.4)
            text = notebook.tab(tab, "text")
            screenshot(f"form-{name}-{text.lower()}")
            assert cut_texts(form) == []
            assert form.root.winfo_reqheight() <= 780, text
    finally:
        form.root.destroy()


def unexplained(protocol):
    return [
        name
        for section in protocol.iterDefinitionSections()
        # These three are Scipion's own.
        if section.getLabel() not in ("General", "Parallelization", "Streaming")
        for name, param in section.iterParams()
        if not param.help.hasValue() or not param.label.hasValue()
    ]


@pytest.mark.parametrize("name", FORMS)
def test_every_parameter_is_explained(project, name):
    assert unexplained(project.runs_of_test[name]) == []


def pressing(monkeypatch, press):
    """Let the wizard's dialog be answered as soon as it is there."""
    from cryosiam_plugin.wizards import dialogs

    opened = []

    class Answered(dialogs._Choice):
        def wait_window(self, window=None):
            settle(self, 0.5)
            opened.append(press(self))

    defaults = dict(dialogs.choose.__kwdefaults__, dialog=Answered)
    monkeypatch.setattr(dialogs.choose, "__kwdefaults__", defaults)
    return opened


def test_the_classes_wizard_writes_the_choice(project, main_window, screenshot, monkeypatch):
    from pyworkflow.gui.dialog import RESULT_YES

    def press(dialog):
        screenshot("wizard-classes")
        before = len(dialog.tree.selection())
        dialog.tree.selection_set(dialog.tree.get_children()[1:])
        dialog._handleResult(RESULT_YES)
        return before

    form = open_form(project, main_window, project.runs_of_test["particles"])
    try:
        opened = pressing(monkeypatch, press)
        form.wizards["classes"]().show(form)
        assert opened == [3]  # an empty field means all three
        assert form.protocol.classes.get() == "ribosome, proteasome"
    finally:
        form.root.destroy()
        form.protocol.classes.set("")


def test_the_wizard_for_the_classes_of_a_mask(project, main_window, screenshot, monkeypatch):
    from pyworkflow.gui.dialog import RESULT_YES

    def press(dialog):
        names = [dialog.tree.item(i, "text") for i in dialog.tree.get_children()]
        dialog.tree.selection_set(dialog.tree.get_children()[1:])
        dialog._handleResult(RESULT_YES)
        return names

    form = open_form(project, main_window, project.runs_of_test["filter"])
    try:
        opened = pressing(monkeypatch, press)
        form.wizards["maskClasses"]().show(form)
        assert opened == [["membrane", "ribosome", "proteasome"]]
        assert form.protocol.maskClasses.get() == "ribosome, proteasome"
    finally:
        form.root.destroy()
        form.protocol.maskClasses.set("membrane")


def test_the_wizard_for_the_radii_writes_the_classes(project, main_window, screenshot, monkeypatch):
    from pyworkflow.gui.dialog import RESULT_YES

    def press(dialog):
        screenshot("wizard-radii")
        dialog._handleResult(RESULT_YES)

    protocol = project.runs_of_test["masks"]
    classes = protocol._classes()
    found = Counter(c._className.get() for c in project.runs_of_test["particles"].coordinates)
    assert {classes.names[n]: number for n, number in classes.numbers.items()} == found
    form = open_form(project, main_window, protocol)
    try:
        pressing(monkeypatch, press)
        for before, radius in (("100", 100), ("", round(16 * VOXEL_SIZE / 3))):
            form.setVar("radii", before)
            form.wizards["radii"]().show(form)
            written = ", ".join(f"{name}: {radius}" for _, name in sorted(classes.names.items()))
            assert protocol.radii.get() == written
    finally:
        form.root.destroy()
        protocol.radii.set("100")


@pytest.mark.parametrize("name", ["instances", "filter"])
def test_the_box_wizard_measures_what_there_is(project, main_window, monkeypatch, name):
    form = open_form(project, main_window, project.runs_of_test[name])
    told = []
    monkeypatch.setattr(form, "showInfo", lambda text, header="": told.append(text))
    try:
        form.wizards["boxSize"]().show(form)
        box = form.protocol.coordinates.getBoxSize()
        assert form.protocol.boxSize.get() == box > 0
        assert f"{box} voxels" in told[0]
        assert "results of this run" in told[0]
    finally:
        form.root.destroy()
        form.protocol.boxSize.set(0)


def test_before_a_run_the_box_wizard_measures_the_input(project, main_window, monkeypatch):
    from cryosiam_plugin.protocols import ProtCryosiamInstanceFilter, ProtCryosiamInstances

    runs = project.runs_of_test
    told = []
    for protocol_class, parameters, box in (
        (ProtCryosiamInstances, {}, 0),
        (
            ProtCryosiamInstanceFilter,
            {"inputInstances": runs["instances"].instanceMasks},
            runs["instances"].coordinates.getBoxSize(),
        ),
    ):
        tomograms = runs["denoise"].denoisedTomograms
        protocol = project.newProtocol(protocol_class, inputTomograms=tomograms, **parameters)
        form = open_form(project, main_window, protocol)
        monkeypatch.setattr(form, "showInfo", lambda text, header="": told.append(text))
        try:
            form.wizards["boxSize"]().show(form)
            assert form.protocol.boxSize.get() == box
        finally:
            form.root.destroy()
    assert "No instances have been measured" in told[0]
    assert "all instances of the input" in told[1]


def test_the_model_wizard_lists_the_models_for_the_task(
    project, main_window, screenshot, monkeypatch, tmp_path
):
    from pyworkflow.gui.dialog import RESULT_YES

    from cryosiam_plugin import Plugin

    for model in Plugin.publishedModels():
        (tmp_path / model.file).write_bytes(b"x" * 1_500_000)
    monkeypatch.setattr(Plugin, "getModelsFolder", classmethod(lambda cls: str(tmp_path)))

    def press(dialog):
        screenshot("wizard-models")
        names = [dialog.tree.item(i, "text") for i in dialog.tree.get_children()]
        dialog._handleResult(RESULT_YES)
        return names

    form = open_form(project, main_window, project.runs_of_test["semantic"])
    try:
        opened = pressing(monkeypatch, press)
        form.wizards["modelFile"]().show(form)
        semantic = sorted(m.file for m in Plugin.publishedModels() if m.task == "semantic")
        demo = [m.file for m in Plugin.builtInModels() if m.task == "semantic"]
        assert opened[0][: len(semantic)] == semantic
        assert set(opened[0][len(semantic) :]) <= set(demo)
        assert form.protocol.modelFile.get() == str(tmp_path / semantic[0])
    finally:
        form.root.destroy()
        form.protocol.modelFile.set("")


def test_the_tiles_wizard_sets_and_tells(project, main_window, monkeypatch):
    from cryosiam_plugin.wizards import wizards
    from cryosiam_plugin.wizards.gpu_memory import Gpu

    form = open_form(project, main_window, project.runs_of_test["semantic"])
    told = []
    monkeypatch.setattr(form, "showInfo", lambda text, header="": told.append(text))
    monkeypatch.setattr(wizards, "find_gpus", lambda: [Gpu(0, "NVIDIA A10", 24.0)])
    try:
        form.setVar("tiling", 1)
        form.wizards["batchSize"]().show(form)
        assert form.protocol.batchSize.get() == 3
        assert "NVIDIA A10, 24 GiB" in told[0]
    finally:
        form.root.destroy()
