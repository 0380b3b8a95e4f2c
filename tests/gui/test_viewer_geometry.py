"""Planes, zoom and scale bar: where a voxel is on the screen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryosiam_plugin.viewers.planes import PLANES
from cryosiam_plugin.viewers.viewport import Viewport, scale_bar

SCREEN = (500, 400)
finite = st.floats(-1000, 1000)
viewports = st.builds(Viewport, finite, finite, st.floats(0.05, 40))


@pytest.mark.parametrize("name", list(PLANES))
def test_a_position_makes_the_round_trip_through_every_plane(name):
    plane = PLANES[name]
    position = (3.0, 5.0, 7.0)
    row, column = plane.row_column(position)
    assert plane.position(position[plane.axis], row, column) == position


def test_planes_are_named_after_their_axes_the_horizontal_one_first():
    volume_shape = (2, 3, 4)  # z, y, x
    sizes = dict(zip("zyx", volume_shape))
    for name, plane in PLANES.items():
        assert plane.shape(volume_shape) == (sizes[name[1]], sizes[name[0]])
        assert plane.across not in name


@given(viewports, finite, finite)
def test_screen_and_slice_are_inverse(viewport, row, column):
    x, y = viewport.to_screen(row, column, SCREEN)
    assert viewport.to_slice(x, y, SCREEN) == pytest.approx((row, column), abs=1e-6)


@given(viewports, st.floats(0.1, 10), st.floats(0, 500), st.floats(0, 400))
def test_zoom_leaves_the_voxel_under_the_mouse_there(viewport, factor, x, y):
    before = viewport.to_slice(x, y, SCREEN)
    viewport.zoom(factor, x, y, SCREEN)
    assert viewport.to_slice(x, y, SCREEN) == pytest.approx(before, abs=1e-6)


def test_pan_moves_the_picture_with_the_mouse_and_rows_count_upwards():
    viewport = Viewport(10, 20, 2.0)
    x, y = viewport.to_screen(10, 20, SCREEN)
    viewport.pan(30, -8)
    assert viewport.to_screen(10, 20, SCREEN) == (x + 30, y - 8)
    assert viewport.to_screen(11, 20, SCREEN)[1] < viewport.to_screen(10, 20, SCREEN)[1]


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_fit_shows_the_whole_slice_as_large_as_possible(rows, columns):
    viewport = Viewport()
    viewport.fit((rows, columns), SCREEN)
    left, bottom = viewport.to_screen(-0.5, -0.5, SCREEN)
    right, top = viewport.to_screen(rows - 0.5, columns - 0.5, SCREEN)
    if viewport.scale in (0.02, 64.0):
        return  # at the ends of the zoom
    assert left >= -1e-6
    assert right <= SCREEN[0] + 1e-6
    assert top >= -1e-6
    assert bottom <= SCREEN[1] + 1e-6
    assert math.isclose(right - left, SCREEN[0]) or math.isclose(bottom - top, SCREEN[1])


@given(st.floats(0.5, 100), st.floats(0.02, 64), st.floats(20, 500))
def test_scale_bar_is_round_fits_and_is_not_much_shorter_than_it_could_be(voxel, scale, room):
    nanometres, pixels = scale_bar(voxel, scale, room)
    digits = nanometres / 10 ** math.floor(math.log10(nanometres) + 1e-9)
    assert min(abs(digits - step) for step in (1, 2, 5)) < 1e-6
    assert pixels <= room * (1 + 1e-9)
    assert pixels > room / 2.6
    # Its length on the screen is its length in voxels times the zoom.
    assert np.isclose(pixels, nanometres * 10 / voxel * scale)
