"""The picture of a slice, and moving through a tomogram."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryosiam_plugin.viewers.colours import ColourTable
from cryosiam_plugin.viewers.marks import Particle, ParticleMarks
from cryosiam_plugin.viewers.masks import Mask
from cryosiam_plugin.viewers.planes import PLANES
from cryosiam_plugin.viewers.rendering import BACKGROUND, Grey, Overlay, paint, render
from cryosiam_plugin.viewers.scene import Scene, open_scene
from cryosiam_plugin.viewers.state import ViewerState
from cryosiam_plugin.viewers.viewport import Viewport
from cryosiam_plugin.viewers.volumes import Volume

SCREEN = (120, 90)
SHAPE = (8, 12, 16)
RED = (255, 0, 0)


def make_state(tmp_path, particles=()):
    data = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    labels = np.zeros(SHAPE, np.uint8)
    labels[4, 6, 3] = 2
    colours = ColourTable()
    masks = [Mask("classes", Volume(labels, 10.0, tmp_path), {2: "ribosome"}, colours)]
    pictures = [
        ("raw", Volume(data, 10.0, tmp_path)),
        ("denoised", Volume(data * 2, 10.0, tmp_path)),
    ]
    return ViewerState(Scene("TS", pictures, masks, ParticleMarks(particles, 4), colours, []))


def table_of(label):
    table = np.zeros((65536, 4), np.uint8)
    table[label] = (*RED, 255)
    return table


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 11), st.integers(0, 15), st.floats(0.6, 30), st.floats(-5, 5), st.floats(-5, 5)
)
def test_a_voxel_is_painted_where_the_viewport_says(row, column, scale, shift, lift):
    """The one bright voxel, and its label, are on the screen where a circle would be drawn."""
    values = np.zeros((12, 16), np.float32)
    values[row, column] = 1.0
    labels = values.astype(np.uint8) * 7
    viewport = Viewport(5.5 + lift, 7.5 + shift, scale)
    x, y = viewport.to_screen(row, column, SCREEN)
    if not (1 <= x < SCREEN[0] - 1 and 1 <= y < SCREEN[1] - 1):
        return
    grey = np.asarray(render(values, Grey((0, 1)), [], viewport, SCREEN)).astype(int)
    layers = paint([Overlay(labels, table_of(7))], 1.0, viewport, SCREEN)
    painted = np.asarray(render(values * 0, Grey((0, 1)), layers, viewport, SCREEN)).astype(int)
    for picture, channel in ((grey, 1), (painted, 0)):
        weights = np.where(picture[..., 2] == BACKGROUND[2], 0, picture[..., channel])
        if scale >= 2:
            # The centre of what is bright lies within a pixel or two of the voxel's place.
            bright = weights > 128
            rows, columns = np.nonzero(bright)
            inside = scale / 2 < min(x, y, SCREEN[0] - x, SCREEN[1] - y)
            if inside:
                assert columns.mean() + 0.5 == pytest.approx(x, abs=1.5)
                assert rows.mean() + 0.5 == pytest.approx(y, abs=1.5)
        else:
            spot = weights[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2]
            assert spot.max() > 20


def test_outside_the_slice_is_background():
    far = Viewport(500, 500, 1.0)
    picture = np.asarray(render(np.ones((12, 16)), Grey((0, 1)), [], far, SCREEN))
    assert (picture == BACKGROUND).all()
    assert picture.shape == (90, 120, 3)


def test_opacity_mixes_colour_and_grey():
    viewport = Viewport(5.5, 7.5, 4.0)
    overlay = Overlay(np.full((12, 16), 7, np.uint8), table_of(7))
    values = np.ones((12, 16), np.float32)
    layers = [paint([overlay], opacity, viewport, SCREEN) for opacity in (0.0, 0.5, 1.0)]
    pixels = [
        np.asarray(render(values, Grey((0, 1)), layer, viewport, SCREEN))[45, 60]
        for layer in layers
    ]
    assert pixels[0].tolist() == [255, 255, 255]
    assert pixels[1].tolist() == pytest.approx([255, 128, 128], abs=2)
    assert pixels[2].tolist() == [255, 0, 0]


def test_planes_pass_through_the_same_point(tmp_path):
    state = make_state(tmp_path)
    state.viewport.fit(state.slice_shape, SCREEN)
    state.go_to_slice(2)
    state.point_at(9, 13)
    assert state.position == (2, 9, 13)
    for name, index in (("xz", 9), ("yz", 13), ("xy", 2)):
        state.set_plane(name)
        assert state.index == index
        assert state.plane is PLANES[name]
    state.point_at(100, 100)
    assert state.position == (2, 9, 13)


def test_slices_end_at_the_ends(tmp_path):
    state = make_state(tmp_path)
    state.go_to_slice(-5)
    assert state.index == 0
    state.go_to_slice(10**6)
    assert state.index == SHAPE[0] - 1


def test_a_chosen_particle_is_in_the_slice_and_on_the_screen(tmp_path):
    state = make_state(tmp_path, [Particle((6.4, 1.0, 1.0)), Particle((1, 11, 15), "late")])
    state.viewport.scale = 30.0
    state.viewport.row, state.viewport.column = 11, 15
    state.select(0, SCREEN)
    assert state.index == 6
    assert state.viewport.shows(1.0, 1.0, SCREEN)
    assert [circle.particle for circle in state.circles()] == [0]


def test_the_next_particle_is_of_a_shown_class(tmp_path):
    particles = [Particle((1, 1, 1), "a"), Particle((2, 2, 2), "b"), Particle((3, 3, 3), "a")]
    state = make_state(tmp_path, particles)
    assert state.neighbour(1) == 0
    state.selected = 0
    assert state.neighbour(1) == 1
    assert state.neighbour(-1) == 2
    state.shown_classes.discard("b")
    assert state.neighbour(1) == 2
    state.shown_classes.clear()
    assert state.neighbour(1) is None


def test_the_nearest_of_two_particles_is_clicked_on(tmp_path):
    state = make_state(tmp_path, [Particle((4, 5, 5)), Particle((4, 5, 7))])
    assert state.particle_near(5, 5.4) == 0
    assert state.particle_near(5, 6.9) == 1
    assert state.particle_near(11, 0) is None
    state.particles_shown = False
    assert state.particle_near(5, 5.4) is None


def test_the_status_line_tells_voxel_values_and_class(tmp_path):
    state = make_state(tmp_path)
    text = state.describe((4.2, 6.0, 3.3))
    value = state.scene.pictures[0][1].data[4, 6, 3]
    assert "x 3  y 6  z 4" in text
    assert "3.0, 6.0, 4.0 nm" in text
    assert f"raw: {value:.5g}" in text
    assert f"denoised: {2 * value:.5g}" in text
    assert "classes: ribosome" in text
    assert "classes" not in state.describe((4, 6, 4))
    assert state.describe((4, 6, 99)) == ""


def test_masks_disappear_when_switched_off(tmp_path):
    state = make_state(tmp_path)
    state.viewport.fit(state.slice_shape, SCREEN)
    state.opacity = 1.0
    x, y = (int(v) for v in state.viewport.to_screen(6, 3, SCREEN))
    colour = state.scene.colours.colour("ribosome")
    assert state.picture(0, SCREEN).getpixel((x, y)) == colour
    state.scene.masks[0].shown.clear()
    assert state.picture(0, SCREEN).getpixel((x, y)) != colour
    state.scene.masks[0].shown.add(2)
    assert state.picture(1, SCREEN).getpixel((x, y)) == colour
    state.masks_shown = False
    assert state.picture(1, SCREEN).getpixel((x, y)) != colour


def test_simulated_particles_lie_on_their_labels(simulated_files):
    """The circles' centres and the mask's colours agree, in every plane."""
    state = ViewerState(open_scene(simulated_files))
    classes = state.scene.masks[1]
    ribosomes = [p for p in state.scene.marks.particles if p.class_name == "ribosome"]
    assert ribosomes
    # Ribosomes are massive; a proteasome's centre is a hole.
    found = {classes.name(round(classes.volume.value(p.position))) for p in ribosomes}
    assert found == {"ribosome"}
