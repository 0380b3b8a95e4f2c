from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cryosiam_engine.errors import ConfigurationError, TomogramError
from cryosiam_engine.processing.coordinate_files import read_coordinates
from cryosiam_engine.volume import VolumeHeader
from processing_runs import write_star
from scipy.spatial.transform import Rotation


def header(shape: tuple[int, int, int], size: float) -> VolumeHeader:
    return VolumeHeader(shape, (size, size, size), (0.0, 0.0, 0.0), (0, 0, 0), 2)


HEADER = header((40, 50, 60), 10.0)


def relion_matrix(rot: float, tilt: float, psi: float) -> np.ndarray:
    """RELION's matrix from its definition: three turns of the axes, about z, new y, new z."""

    def about_z(degrees: float) -> np.ndarray:
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])

    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    return about_z(psi) @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) @ about_z(rot)


@pytest.mark.parametrize("name", ["picks.star", "picks.mrc", "picks.csv", "picks"])
def test_star_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame(
        {
            "rlnCoordinateX": [3.5, 4],
            "rlnCoordinateY": [5, 6],
            "rlnCoordinateZ": [7, 8],
            "rlnTomoName": ["001", "tomograms/TS_6.80Apx.mrc"],
            "rlnClassNumber": [2, 1],
        }
    )
    write_star(tmp_path / "x.star", table).rename(tmp_path / name)
    found = read_coordinates(tmp_path / name)
    assert found.tomograms is not None
    assert found.classes is not None
    assert found.tomograms.tolist() == ["001", "TS_6.80Apx"]
    assert found.classes.tolist() == [2, 1]
    np.testing.assert_array_equal(found.voxels(HEADER), [[7, 5, 3.5], [8, 6, 4]])
    np.testing.assert_array_equal(found.of("TS_6.80Apx.mrc").voxels(HEADER), [[8, 6, 4]])


@pytest.mark.parametrize("name", ["picks.csv", "picks.star"])
def test_csv_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(
        "centroid-0,centroid-1,centroid-2,tomo,semantic_class\n7,5,3.5,NA,2\n8,6,4,02,1\n"
    )
    found = read_coordinates(tmp_path / name)
    assert found.tomograms is not None
    assert found.tomograms.tolist() == ["NA", "02"]
    np.testing.assert_array_equal(found.voxels(HEADER), [[7, 5, 3.5], [8, 6, 4]])


def test_centred_angstrom_and_pixels_are_the_same_place(tmp_path: Path) -> None:
    voxels = np.array([[20, 25, 30], [3, 44, 10.25], [39, 0, 59]])
    shifts = np.array([[5.0, -20, 0], [0, 0, 0], [10, 10, 3]])
    moved = voxels[:, ::-1] + shifts / 10  # the origin shift is subtracted
    pixels = pd.DataFrame(moved, columns=[f"rlnCoordinate{axis}" for axis in "XYZ"])
    centred = pd.DataFrame(
        (moved - np.array([60, 50, 40]) / 2) * 10,
        columns=[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"],
    )
    for table in (pixels, centred):
        table[[f"rlnOrigin{axis}Angst" for axis in "XYZ"]] = shifts
        found = read_coordinates(write_star(tmp_path / "x.star", table))
        np.testing.assert_allclose(found.voxels(HEADER), voxels, atol=1e-6)


def test_angstroms_do_not_lose_a_voxel_by_rounding(tmp_path: Path) -> None:
    size = 31.36
    voxels = np.arange(100.0)
    table = pd.DataFrame({f"rlnCenteredCoordinate{a}Angst": (voxels - 64) * size for a in "XYZ"})
    found = read_coordinates(write_star(tmp_path / "x.star", table))
    places = found.voxels(header((128, 128, 128), size))
    np.testing.assert_array_equal(np.trunc(places[:, 0]), voxels)


def test_pixels_of_the_unbinned_tilt_series(tmp_path: Path) -> None:
    table = pd.DataFrame({f"rlnCoordinate{axis}": [80.0] for axis in "XYZ"})
    found = read_coordinates(write_star(tmp_path / "x.star", table))
    np.testing.assert_allclose(found.voxels(HEADER, pixel_size=2.5), [[20, 20, 20]])


def test_orientations_and_shifts_of_boxes_that_were_turned(tmp_path: Path) -> None:
    """A position is the coordinate minus the box's matrix times the shift, as RELION has it."""
    box, particle, shift = (10, 20, 30), (40, 50, 60), np.array([10.0, 20, 30])
    table = pd.DataFrame({f"rlnCoordinate{axis}": [20.0] for axis in "XYZ"})
    table[[f"rlnOrigin{axis}Angst" for axis in "XYZ"]] = shift
    table[[f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi")]] = box
    table[[f"rlnAngle{angle}" for angle in ("Rot", "Tilt", "Psi")]] = particle
    found = read_coordinates(write_star(tmp_path / "x.star", table))
    expected = 20 - relion_matrix(*box) @ shift / 10
    np.testing.assert_allclose(found.voxels(HEADER)[0, ::-1], expected, atol=1e-5)
    to_tomogram = relion_matrix(*box) @ relion_matrix(*particle)
    assert isinstance(found.orientations, Rotation)
    np.testing.assert_allclose(found.orientations.as_matrix()[0], to_tomogram.T, atol=1e-6)


def test_shifts_in_pixels_are_not_ignored_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = pd.DataFrame({f"rlnCoordinate{axis}": [20.0] for axis in "XYZ"})
    table[["rlnOriginX", "rlnOriginY", "rlnOriginZ"]] = 1.0
    read_coordinates(write_star(tmp_path / "x.star", table))
    assert "relion_convert_star" in caplog.text


def test_angstroms_need_a_voxel_size(tmp_path: Path) -> None:
    table = pd.DataFrame({f"rlnCenteredCoordinate{axis}Angst": [1.0] for axis in "XYZ"})
    found = read_coordinates(write_star(tmp_path / "x.star", table))
    with pytest.raises(TomogramError, match="no voxel size"):
        found.voxels(header((40, 50, 60), 0.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "centroid-2"),
        ("centroid-0,centroid-1,centroid-2\n1,2,3\n1,x,3\n", "first is row 2"),
        ("", "cannot be read"),
        ("data_particles\n\nloop_\n_rlnTomoName #1\nTS_01\n", "rlnCoordinateX"),
    ],
)
def test_useless_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_coordinates(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_coordinates(tmp_path / "missing")
