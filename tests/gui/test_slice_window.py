"""The slice viewer's windows, on a real screen."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.gui

tkinter = pytest.importorskip("tkinter")

from cryosiam_plugin.viewers.scene import open_scene  # noqa: E402
from cryosiam_plugin.viewers.slice_window import SliceWindow  # noqa: E402
from cryosiam_plugin.viewers.tomogram_list import TomogramList  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]


def settle(window, seconds=0.6):
    """Let the window manager do its work."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        window.update()
        time.sleep(0.02)


@pytest.fixture
def viewer(root, simulated_files):
    viewer = SliceWindow(tkinter.Toplevel(root), open_scene(simulated_files))
    settle(viewer.window)
    viewer.window.focus_force()
    settle(viewer.window, 0.2)
    return viewer


def press(viewer, key):
    viewer.canvases[0].event_generate(f"<{key}>")
    viewer.window.update()


def inner_widgets(widget):
    for child in widget.winfo_children():
        if not isinstance(child, tkinter.Toplevel):
            yield child
            yield from inner_widgets(child)


def clipped(window):
    """Widgets that are not completely inside their window, or smaller than what is in them."""
    bad = []
    right = window.winfo_rootx() + window.winfo_width()
    bottom = window.winfo_rooty() + window.winfo_height()
    for widget in inner_widgets(window):
        outside = (
            widget.winfo_rootx() + widget.winfo_width() > right
            or widget.winfo_rooty() + widget.winfo_height() > bottom
        )
        has_text = widget.winfo_class() in ("TLabel", "TButton", "TCheckbutton", "TRadiobutton")
        if outside or (has_text and widget.winfo_width() < widget.winfo_reqwidth()):
            bad.append((str(widget), widget.winfo_class()))
    return bad


def test_everything_fits_on_a_small_screen(viewer, screenshot):
    screenshot("slice-viewer")
    window = viewer.window
    assert window.winfo_rootx() + window.winfo_width() <= window.winfo_screenwidth()
    assert window.winfo_rooty() + window.winfo_height() <= window.winfo_screenheight()
    assert clipped(window) == []


def test_the_picture_is_on_the_screen(viewer, screenshot):
    canvas = viewer.canvases[1]
    width, height = canvas.screen
    x, y = canvas.winfo_rootx() + width // 2 + 20, canvas.winfo_rooty() + height // 2
    patch = np.asarray(screenshot("picture").convert("RGB"), dtype=int)[
        y - 30 : y + 30, x - 30 : x + 30
    ]
    expected = viewer.state.picture(1, canvas.screen)
    corner = (x - canvas.winfo_rootx() - 30, y - canvas.winfo_rooty() - 30)
    wanted = np.asarray(expected.crop((*corner, corner[0] + 60, corner[1] + 60)), dtype=int)
    # Circles and the cross are drawn over it.
    assert np.mean(np.abs(patch - wanted) < 3) > 0.8


def test_the_wheel_steps_through_slices_and_zooms_with_control(viewer):
    canvas, state = viewer.canvases[0], viewer.state
    before = state.index
    canvas.event_generate("<Button-4>", x=50, y=60)
    canvas.event_generate("<Button-4>", x=50, y=60)
    canvas.event_generate("<Button-5>", x=50, y=60, state=0x1)
    viewer.window.update()
    assert state.index == before + 2 - 10
    scale = state.viewport.scale
    under_mouse = state.viewport.to_slice(50, 60, canvas.screen)
    canvas.event_generate("<Button-4>", x=50, y=60, state=0x4)
    viewer.window.update()
    assert state.viewport.scale > scale
    assert state.viewport.to_slice(50, 60, canvas.screen) == pytest.approx(under_mouse)
    assert state.index == before - 8


def test_both_pictures_move_together(viewer):
    viewer.canvases[1].event_generate("<ButtonPress-1>", x=100, y=100)
    viewer.canvases[1].event_generate("<B1-Motion>", x=140, y=90)
    viewer.canvases[1].event_generate("<ButtonRelease-1>", x=140, y=90)
    viewer.window.update()
    circles = [
        [canvas.coords(item) for item in canvas.find_withtag("circle")]
        for canvas in viewer.canvases
    ]
    assert circles[0]
    assert circles[0] == circles[1]


def test_keys_change_plane_slice_and_what_is_shown(viewer, screenshot):
    state = viewer.state
    for key, name in (("Key-2", "xz"), ("Key-3", "yz"), ("Key-1", "xy")):
        press(viewer, key)
        assert state.plane.name == name
        settle(viewer.window, 0.1)
        screenshot(f"plane-{name}")
    index = state.index
    press(viewer, "Up")
    press(viewer, "Next")
    assert state.index == index + 1 - 10
    press(viewer, "End")
    assert state.index == state.n_slices - 1
    press(viewer, "Home")
    assert state.index == 0
    press(viewer, "m")
    press(viewer, "p")
    assert not state.masks_shown
    assert not viewer.canvases[0].find_withtag("circle")
    press(viewer, "i")
    assert state.inverted


def test_choosing_in_the_list_goes_to_the_particle(viewer, screenshot):
    tree = viewer.particle_list._tree
    number = len(viewer.state.scene.marks.particles) - 1
    tree.selection_set(str(number))
    viewer.window.update()
    particle = viewer.state.scene.marks.particles[number]
    assert viewer.state.index == round(particle.position[0])
    screenshot("particle")
    x, y = viewer.state.viewport.to_screen(*particle.position[1:], viewer.canvases[0].screen)
    centres = [
        ((c[0] + c[2]) / 2, (c[1] + c[3]) / 2)
        for c in map(viewer.canvases[0].coords, viewer.canvases[0].find_withtag("circle"))
    ]
    assert min(abs(cx - x) + abs(cy - y) for cx, cy in centres) < 1


def test_next_particle_by_key_is_marked_in_the_list(viewer):
    press(viewer, "n")
    press(viewer, "n")
    assert viewer.state.selected == 1
    assert viewer.particle_list._tree.selection() == ("1",)
    press(viewer, "b")
    assert viewer.state.selected == 0


def test_a_click_on_a_circle_chooses_and_a_click_beside_moves_the_cross(viewer):
    state, canvas = viewer.state, viewer.canvases[0]
    press(viewer, "n")
    particle = state.scene.marks.particles[state.selected]
    state.selected = None
    x, y = (int(v) for v in state.viewport.to_screen(*particle.position[1:], canvas.screen))
    canvas.event_generate("<ButtonPress-1>", x=x, y=y)
    canvas.event_generate("<ButtonRelease-1>", x=x, y=y)
    viewer.window.update()
    assert state.selected is not None
    press(viewer, "p")
    canvas.event_generate("<ButtonPress-1>", x=x, y=y)
    canvas.event_generate("<ButtonRelease-1>", x=x, y=y)
    viewer.window.update()
    assert state.position[1:] == tuple(round(p) for p in particle.position[1:])


def test_a_click_on_the_legend_hides_a_class(viewer, screenshot):
    tree = viewer.legend._tree
    group = tree.get_children()[1]
    line = tree.get_children(group)[0]
    tree.see(line)
    viewer.window.update()
    x, y, width, height = tree.bbox(line)
    label = min(viewer.state.scene.masks[1].shown)
    tree.event_generate("<Button-1>", x=x + width // 2, y=y + height // 2)
    viewer.window.update()
    assert label not in viewer.state.scene.masks[1].shown
    screenshot("hidden-class")
    tree.event_generate("<Button-1>", x=x + width // 2, y=y + height // 2)
    viewer.window.update()
    assert label in viewer.state.scene.masks[1].shown


def test_hiding_particles_of_a_class_shortens_the_list(viewer):
    tree = viewer.legend._tree
    group = tree.get_children()[-1]
    tree.see(group)
    viewer.window.update()
    x, y, _, height = tree.bbox(group, "#0")
    tree.event_generate("<Button-1>", x=x + 60, y=y + height // 2)
    viewer.window.update()
    assert not viewer.state.shown_classes
    assert not viewer.particle_list._tree.get_children()


def test_contrast_sliders_keep_black_below_white(viewer):
    controls, state = viewer.contrast, viewer.state
    controls._black._slider.set(99.9)
    viewer.window.update()
    assert state.percentiles[0] < state.percentiles[1]
    controls._white._slider.set(0.0)
    viewer.window.update()
    assert 0 <= state.percentiles[0] < state.percentiles[1]
    controls._reset()
    assert state.percentiles == (1.0, 99.0)


def test_a_typed_slice_number_is_gone_to(viewer):
    entry = viewer.slice_bar._entry
    entry.focus_force()
    entry.delete(0, "end")
    entry.insert(0, "7")
    entry.event_generate("<Return>")
    viewer.window.update()
    assert viewer.state.index == 7


def test_the_mouse_shows_voxel_and_value(viewer):
    canvas = viewer.canvases[0]
    canvas.event_generate("<Motion>", x=canvas.screen[0] // 2, y=canvas.screen[1] // 2)
    text = viewer._status.cget("text")
    assert "x 4" in text
    assert "raw:" in text
    assert "nm)" in text


def test_a_mask_that_does_not_fit_is_told(root, simulated_files, simulated, screenshot):
    mask = replace(simulated_files.masks[0], path=simulated / "gone.mrc")
    files = replace(simulated_files, masks=[mask], beside=None)
    viewer = SliceWindow(tkinter.Toplevel(root), open_scene(files))
    settle(viewer.window)
    screenshot("note")
    notes = [w.cget("text") for w in inner_widgets(viewer.window) if w.winfo_class() == "Label"]
    assert any("gone.mrc does not exist" in text for text in notes)
    assert clipped(viewer.window) == []


def test_help_fits_the_screen(viewer, screenshot):
    viewer.show_help()
    settle(viewer.window)
    screenshot("help")
    help_window = next(w for w in viewer.window.winfo_children() if isinstance(w, tkinter.Toplevel))
    assert help_window.winfo_height() < 750
    assert clipped(help_window) == []


def test_the_list_filters_and_opens(root, simulated_files, simulated, screenshot):
    second = replace(simulated_files, name="TS_02", tomogram=simulated / "tomograms" / "TS_02.mrc")
    listed = TomogramList(root, "denoise", [simulated_files, second])
    settle(listed.window)
    screenshot("list")
    assert clipped(listed.window) == []
    listed._filter.set("02")
    root.update()
    assert [listed.tree.set(i, "tomogram") for i in listed.tree.get_children()] == ["TS_02"]
    listed.tree.event_generate("<Return>")
    settle(root)
    opened = [w.title() for w in root.winfo_children() if isinstance(w, tkinter.Toplevel)]
    assert "CryoSiam - TS_02" in opened


def test_from_a_shell(display, simulated, screenshot, tmp_path):
    truth = simulated / "truth"
    command = [sys.executable, "-m", "cryosiam_plugin.viewers.slice_viewer"]
    command += [str(simulated / "tomograms" / "TS_01.mrc")]
    command += ["--labels", str(truth / "TS_01_semantic.mrc"), "--names", "1=membrane,2=ribosome"]
    command += ["--particles", str(truth / "TS_01_particles.csv"), "--box", "18"]
    environment = {**os.environ, "DISPLAY": display, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        colours = 0
        while time.monotonic() < deadline and process.poll() is None and colours < 500:
            time.sleep(1)
            image = screenshot("shell").convert("RGB")
            colours = len(image.getcolors(maxcolors=2**24))
        assert process.poll() is None, process.stderr.read().decode()
        assert colours >= 500  # a picture, not an empty screen
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_a_wrong_file_in_a_shell_is_an_error_message(display, tmp_path):
    command = [sys.executable, "-m", "cryosiam_plugin.viewers.slice_viewer", "gone.mrc"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "gone.mrc does not exist" in done.stderr
    assert "Traceback" not in done.stderr
