from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from cryosiam_engine.errors import ConfigurationError
from embedding_runs import (
    CENTERS,
    Project,
    embeddings_in,
    labels_in,
    recorded_patches,
    status_in,
    table_in,
    write_centers,
)

SHAPE = (20, 24, 28)
ZYX = "centroid-0,centroid-1,centroid-2,tomo"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.add("TS_01", particle_at((10, 12, 14)))
    return project


def particle_at(center: tuple[float, float, float]) -> np.ndarray:
    """A tomogram with one round particle, brightest at its centre, of known shape."""
    squares = sum((axis - c) ** 2 for axis, c in zip(np.indices(SHAPE), center, strict=True))
    return np.exp(-squares / 8).astype(np.float32)


@pytest.mark.parametrize("edge", [5, 6])
@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(
    "center", [(10, 12, 14), (0, 0, 0), (19, 23, 27), (0, 23, 14), (10, 0, 14), (19, 12, 0)]
)
def test_a_particle_is_in_the_middle_of_its_patch(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    edge: int,
    size: int,
    center: tuple[int, int, int],
) -> None:
    """Wherever it lies: what the network sees differs only by what the border cuts off."""
    project.add("TS_01", particle_at(center))
    write_centers(project.folder, [(*center, "TS_01")], ZYX)
    seen = recorded_patches(monkeypatch)
    data = {"patch_size": [size] * 3}
    report = project.run(CENTERS, centers_patch_size=edge, parameters={"data": data})
    assert report.done
    (patch,) = seen
    middle = (size - edge) // 2 + edge // 2
    assert np.unravel_index(patch.argmax(), patch.shape) == (middle,) * 3
    assert patch.max() == 1
    offsets = np.indices(patch.shape) - middle
    inside = ((offsets >= -(edge // 2)) & (offsets < edge - edge // 2)).all(axis=0)
    place = offsets + np.reshape(center, (3, 1, 1, 1))
    inside &= ((place >= 0) & (place < np.reshape(SHAPE, (3, 1, 1, 1)))).all(axis=0)
    expected = np.where(inside, np.exp(-(offsets**2).sum(axis=0) / 8), 0)
    np.testing.assert_allclose(patch, expected, atol=1e-6)


def test_all_tomograms_are_in_one_file(project: Project) -> None:
    """Named with or without extension, and numbered through the whole file."""
    project.add("TS_02.6Apx", particle_at((5, 5, 5)))
    rows = [
        (5, 5, 5, "TS_02.6Apx.mrc"),
        (10, 12, 14, "TS_01"),
        (8, 8, 8, "folder/TS_02.6Apx.mrc"),
        (3, 3, 3, "TS_99"),
    ]
    write_centers(project.folder, rows, ZYX)
    assert project.run(CENTERS).done == ["TS_01", "TS_02.6Apx"]
    assert labels_in(project.out, "TS_01").tolist() == [2]
    assert labels_in(project.out, "TS_02.6Apx").tolist() == [1, 3]
    assert embeddings_in(project.out, "TS_02.6Apx").shape == (2, 64)
    table = table_in(project.out, "TS_02.6Apx")
    columns = ["label", "area", "centroid-0", "centroid-1", "centroid-2"]
    assert list(table) == columns
    assert table["area"].tolist() == [8**3] * 2
    numbered = pd.read_csv(project.out / "centers_with_labels.csv")
    assert numbered["label"].tolist() == [1, 2, 3, 4]
    assert numbered["tomo"].tolist() == ["TS_02.6Apx", "TS_01", "TS_02.6Apx", "TS_99"]


def test_star_files(project: Project) -> None:
    star = project.folder / "particles.star"
    table = pd.DataFrame(
        {
            "rlnCoordinateX": [14.0],
            "rlnCoordinateY": [12.0],
            "rlnCoordinateZ": [10.0],
            "rlnMicrographName": ["TS_01.mrc"],
        }
    )
    starfile.write(table, star)
    assert project.run(CENTERS, centers_file=str(star)).done
    written = table_in(project.out, "TS_01")
    assert written[["centroid-0", "centroid-1", "centroid-2"]].to_numpy().tolist() == [[10, 12, 14]]
    star_blocks = starfile.read(project.out / "centers_with_labels.star", always_dict=True)
    numbered = next(iter(star_blocks.values()))
    assert int(np.ravel(numbered["rlnLabel"])[0]) == 1


def test_repeated_labels_are_warned_about(project: Project) -> None:
    rows = [(1, 10, 12, 14, "TS_01"), (1, 5, 5, 5, "TS_01"), (2, 5, 5, 5, "TS_01")]
    write_centers(project.folder, rows, f"label,{ZYX}")
    assert project.run(CENTERS).done
    assert labels_in(project.out, "TS_01").tolist() == [1, 1, 2]
    assert "1 of 3 particles" in status_in(project.out, "TS_01").warnings[0]


def test_a_class_stays_with_its_particle(project: Project) -> None:
    write_centers(project.folder, [(7, 3, 10, 12, 14, "TS_01")], f"label,semantic_class,{ZYX}")
    assert project.run(CENTERS).done
    table = table_in(project.out, "TS_01")
    assert (table["label"].tolist(), table["semantic_class"].tolist()) == ([7], [3])
    assert not (project.out / "centers_with_labels.csv").exists()


def test_particles_outside_are_left_out_and_counted(project: Project) -> None:
    rows = [(10, 12, 14), (-4, 0, 0), (-3, 0, 0), (23, 0, 0), (24, 0, 0), (10, 12, 1400)]
    write_centers(project.folder, [(*row, "TS_01") for row in rows], ZYX)
    assert project.run(CENTERS).done
    # A cube of 8 voxels reaches from 4 below its centre to 3 above.
    assert labels_in(project.out, "TS_01").tolist() == [1, 3, 4]
    status = status_in(project.out, "TS_01")
    assert "3 of 6 particles" in status.warnings[0]
    assert status.summary["particles_outside"] == 3


def test_coordinates_in_other_units_are_refused(project: Project) -> None:
    rows = [(100.0, 120.0, 140.0, "TS_01"), (110.0, 120.0, 140.0, "TS_01")]
    write_centers(project.folder, rows, ZYX)
    assert "not in Å" in project.run(CENTERS).failed["TS_01"]


def test_a_tomogram_without_particles(project: Project) -> None:
    write_centers(project.folder, [(1, 2, 3, "TS_77")], ZYX)
    assert project.run(CENTERS).done == ["TS_01"]
    assert embeddings_in(project.out, "TS_01").shape == (0, 64)
    assert labels_in(project.out, "TS_01").shape == (0,)
    assert "TS_77" in status_in(project.out, "TS_01").warnings[0]


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        ([("", 2, 3, "TS_01")], ZYX, "not numbers"),
        ([("nan", 2, 3, "TS_01")], ZYX, "not numbers"),
        ([(1.5, 1, 2, 3, "TS_01")], f"label,{ZYX}", "not whole numbers"),
        ([("", 1, 2, 3, "TS_01")], f"label,{ZYX}", "not whole numbers"),
        ([(1, 2, 3)], "centroid-0,centroid-1,centroid-2", "lacks the columns tomo"),
    ],
)
def test_tables_that_make_no_sense(
    project: Project, rows: list[tuple], columns: str, words: str
) -> None:
    write_centers(project.folder, rows, columns)
    with pytest.raises(ConfigurationError, match=words):
        project.run(CENTERS)


def test_only_a_tomograms_own_particles_make_it_outdated(project: Project) -> None:
    project.add("TS_02", particle_at((5, 5, 5)))
    rows = [(1, 10, 12, 14, "TS_01"), (2, 5, 5, 5, "TS_02")]
    write_centers(project.folder, rows, f"label,{ZYX}")
    assert len(project.run(CENTERS).done) == 2
    write_centers(project.folder, [rows[0], (2, 5, 5, 6, "TS_02")], f"label,{ZYX}")
    report = project.run(CENTERS)
    assert (report.skipped, report.done) == (["TS_01"], ["TS_02"])


def test_a_model_for_masked_particles_is_warned_about(project: Project) -> None:
    write_centers(project.folder, [(10, 12, 14, "TS_01")], ZYX)
    name = "simsiam_embeds_denoised_strict.ckpt"
    project.make_model(name)
    assert project.run(CENTERS, trained_model=str(project.folder / name)).done
    assert "masking_type 2" in status_in(project.out, "TS_01").warnings[0]


def test_a_missing_file_of_centers(project: Project) -> None:
    with pytest.raises(ConfigurationError, match="centers_file"):
        project.run(CENTERS)
