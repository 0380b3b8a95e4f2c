from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.processing.balls import ball_mask
from cryosiam_engine.volume import read_header, read_volume, write_mrc
from hypothesis import given, settings
from hypothesis import strategies as st
from processing_runs import run_processing, status_of, write_star

BINARY = "processing_create_sphere_mask"
MULTICLASS = "processing_create_sphere_mask_multiclass"
GEOMETRY = {"voxel_size": (7.1, 7.2, 7.3), "origin": (11.0, -12.0, 13.5)}


def tomogram(path: Path, shape: tuple[int, int, int] = (30, 32, 34)) -> Path:
    write_mrc(path, np.zeros(shape, np.int8), **GEOMETRY)
    return path


def picks(path: Path, rows: list[tuple]) -> Path:
    columns = ["centroid-0", "centroid-1", "centroid-2", "tomo", "semantic_class"]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(("radius", "voxels"), [(0, 1), (1, 7), (3, 123), (5, 515)])
def test_a_ball_has_the_voxels_of_the_original(radius: float, voxels: int) -> None:
    centre = np.array([[10.9, 11.2, 12.5]])
    mask = ball_mask((24, 24, 24), centre, np.array([1]), {1: radius})
    inside = np.argwhere(mask.labels)
    assert len(inside) == voxels
    assert inside.mean(axis=0).tolist() == [10, 11, 12]
    assert (mask.clipped, mask.outside) == (0, 0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(*[st.floats(-6, 18, allow_nan=False)] * 3, st.integers(1, 3)),
        min_size=1,
        max_size=6,
    ),
    st.tuples(*[st.sampled_from([0.5, 2.0, 3.3, 5.0])] * 3),
)
def test_the_nearest_centre_wins_and_the_lower_class_of_two(
    particles: list[tuple[float, float, float, int]], radii: tuple[float, float, float]
) -> None:
    """Against every voxel measured to every centre."""
    shape = (11, 12, 13)
    centres = np.array([particle[:3] for particle in particles])
    classes = np.array([particle[3] for particle in particles])
    found = ball_mask(shape, centres, classes, dict(enumerate(radii, 1)))
    grid = np.moveaxis(np.indices(shape), 0, -1)
    squares = ((grid[..., None, :] - np.trunc(centres)) ** 2).sum(-1)
    squares[squares > np.array(radii)[classes - 1] ** 2] = np.inf
    nearest = squares.min(-1)
    at_nearest = np.where(squares == nearest[..., None], classes, 99).min(-1)
    np.testing.assert_array_equal(found.labels, np.where(np.isinf(nearest), 0, at_nearest))
    assert found.outside == np.isinf(squares).all((0, 1, 2)).sum()


def test_masks_of_every_tomogram_with_its_geometry(tmp_path: Path) -> None:
    folder = tmp_path / "tomograms"
    tomogram(folder / "TS_1.mrc")
    tomogram(folder / "TS_2.rec", (20, 20, 20))
    rows = [(10, 11, 12, "TS_1", 1), (1, 30, 33, "TS_1.mrc", 1), (9, 9, 9, "TS_2", 1)]
    coordinates = picks(tmp_path / "picks.csv", rows)
    out = tmp_path / "masks"
    options = {"coordinates_file": coordinates, "tomogram_path": folder, "output_dir": out}
    assert run_processing(BINARY, sphere_radius=3, **options) == 0
    mask, other = read_volume(out / "TS_1.mrc"), read_volume(out / "TS_2.mrc")
    assert set(np.unique(mask.data)) == {0, 1}
    assert mask.data[7:14, 8:15, 9:16].sum() == 123
    assert 123 < mask.data.sum() < 246
    assert other.data.sum() == 123
    header = read_header(folder / "TS_1.mrc")
    assert (mask.header.voxel_size, mask.header.origin) == (header.voxel_size, header.origin)
    assert status_of(out, BINARY, "TS_1")["summary"] == {
        "particles": 2,
        "cut_by_the_border": 1,
        "outside": 0,
    }


def test_a_missing_tomogram_fails_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tomogram(tmp_path / "TS_1.mrc")
    rows = [(10, 11, 12, "TS_1", 1), (9, 9, 9, "TS_2", 1), (900, 9, 9, "TS_1", 1)]
    coordinates = picks(tmp_path / "picks.csv", rows)
    out = tmp_path / "masks"
    options = {"coordinates_file": coordinates, "tomogram_path": tmp_path, "output_dir": out}
    assert run_processing(BINARY, sphere_radius=3, **options) == 1
    assert read_volume(out / "TS_1.mrc").data.sum() == 123
    assert not (out / "TS_2.mrc").exists()
    assert "No tomogram TS_2" in status_of(out, BINARY, "TS_2")["error"]["message"]
    assert "1 of 2 particles are outside" in status_of(out, BINARY, "TS_1")["warnings"][0]
    assert "No tomogram TS_2" in caplog.text


def test_coordinates_of_another_binning_make_no_empty_mask(tmp_path: Path) -> None:
    tomogram(tmp_path / "TS_1.mrc")
    coordinates = picks(tmp_path / "picks.csv", [(500, 600, 700, "TS_1", 1)])
    out = tmp_path / "masks"
    options = {"coordinates_file": coordinates, "tomogram_path": tmp_path, "output_dir": out}
    assert run_processing(BINARY, sphere_radius=3, **options) == 1
    assert not (out / "TS_1.mrc").exists()
    # 500 px of 0.15 Å are 10 voxels.
    size = {"coordinates_pixel_size": 0.15}
    assert run_processing(BINARY, sphere_radius=3, **options, **size) == 0
    assert read_volume(out / "TS_1.mrc").data.sum() == 123


def test_one_tomogram_for_all_and_one_name_only(tmp_path: Path) -> None:
    example = tomogram(tmp_path / "example.mrc")
    rows = [(10, 11, 12, "A", 1), (9, 9, 9, "B", 1)]
    coordinates = picks(tmp_path / "picks.csv", rows)
    options = {"coordinates_file": coordinates, "tomogram_path": example, "sphere_radius": 3}
    assert run_processing(BINARY, output_dir=tmp_path / "all", **options) == 0
    assert sorted(p.name for p in (tmp_path / "all").glob("*.mrc")) == ["A.mrc", "B.mrc"]
    assert run_processing(BINARY, output_dir=tmp_path / "one", tomo_name="B", **options) == 0
    assert [p.name for p in (tmp_path / "one").glob("*.mrc")] == ["B.mrc"]
    assert run_processing(BINARY, output_dir=tmp_path / "none", tomo_name="C", **options) == 1


def test_classes_of_a_star_file_beyond_255(tmp_path: Path) -> None:
    example = tomogram(tmp_path / "TS_1.mrc", (20, 20, 60))
    n_classes = 300
    table = pd.DataFrame(
        {
            "rlnCoordinateX": [10.0, 40.0],
            "rlnCoordinateY": [10.0, 10.0],
            "rlnCoordinateZ": [10.0, 10.0],
            "rlnTomoName": ["TS_1", "TS_1"],
            "rlnClassNumber": [1, n_classes],
        }
    )
    coordinates = write_star(tmp_path / "picks.star", table)
    radii = ",".join(["5"] * (n_classes - 1) + ["3"])
    out = tmp_path / "masks"
    options = {"coordinates_file": coordinates, "tomogram_path": example, "output_dir": out}
    assert run_processing(MULTICLASS, sphere_radius=radii, **options) == 0
    labels, counts = np.unique(mrcfile.read(out / "TS_1.mrc"), return_counts=True)
    assert dict(zip(labels.tolist(), counts.tolist(), strict=True)) == {
        0: 20 * 20 * 60 - 123 - 515,
        1: 515,
        n_classes: 123,
    }
    assert mrcfile.read(out / "TS_1.mrc").dtype == np.uint16


def test_impossible_options_are_refused(tmp_path: Path) -> None:
    example = tomogram(tmp_path / "TS_1.mrc")
    coordinates = picks(tmp_path / "picks.csv", [(10, 11, 12, "TS_1", 3)])
    options = {"tomogram_path": example, "output_dir": tmp_path / "o"}
    with pytest.raises(ConfigurationError, match="classes 3, and radii"):
        run_processing(MULTICLASS, coordinates_file=coordinates, sphere_radius="3,4", **options)
    with pytest.raises(ConfigurationError, match="'3;4'"):
        run_processing(MULTICLASS, coordinates_file=coordinates, sphere_radius="3;4", **options)
    with pytest.raises(ConfigurationError, match="radius of nan"):
        run_processing(BINARY, coordinates_file=coordinates, sphere_radius="nan", **options)
    plain = tmp_path / "plain.csv"
    plain.write_text("centroid-0,centroid-1,centroid-2\n1,2,3\n")
    with pytest.raises(ConfigurationError, match="which tomograms"):
        folder = {**options, "tomogram_path": tmp_path}
        run_processing(BINARY, coordinates_file=plain, sphere_radius=3, **folder)
    with pytest.raises(ConfigurationError, match="which class"):
        run_processing(MULTICLASS, coordinates_file=plain, sphere_radius="3", **options)
    assert run_processing(BINARY, coordinates_file=plain, sphere_radius=3, **options) == 0


def test_a_mask_never_replaces_its_tomogram(tmp_path: Path) -> None:
    example = tomogram(tmp_path / "TS_1.mrc")
    before = example.read_bytes()
    coordinates = picks(tmp_path / "picks.csv", [(10, 11, 12, "TS_1", 1)])
    options = {"tomogram_path": tmp_path, "output_dir": tmp_path}
    assert run_processing(BINARY, coordinates_file=coordinates, sphere_radius=3, **options) == 1
    assert example.read_bytes() == before
