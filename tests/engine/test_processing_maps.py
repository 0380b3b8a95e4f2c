from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cryosiam_engine.errors import ConfigurationError, MaskError
from cryosiam_engine.simulation.species import SPECIES, mass_centre
from cryosiam_engine.volume import read_volume, write_mrc
from processing_runs import run_processing, small_simulation, status_of, write_star
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

NAME = "processing_create_binary_map_after_sta"
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
VOXEL = 13.48


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def identity_map(path: Path, voxel_size: float = VOXEL, edge: int = 40) -> Path:
    """A ribosome in its own frame, positive inside; its surface is the level 0."""
    axis = (np.arange(edge) - edge // 2) * voxel_size
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = np.stack((x, y, z), axis=-1) + np.asarray(mass_centre("ribosome"))
    density = -SPECIES["ribosome"].shape(points).astype(np.float32)
    write_mrc(path, density, voxel_size=voxel_size)
    return path


def particle_table(particles: pd.DataFrame, shift: tuple[float, float, float]) -> pd.DataFrame:
    """RELION 5's form: Å from the middle, and a part of the position in the origin shift."""
    table = pd.DataFrame({"rlnTomoName": particles["tomo"]})
    sizes = {"X": 72, "Y": 64, "Z": 48}
    columns = {"X": "centroid-2", "Y": "centroid-1", "Z": "centroid-0"}
    for (axis, column), moved in zip(columns.items(), shift, strict=True):
        angstrom = (particles[column] - sizes[axis] / 2) * VOXEL
        table[f"rlnCenteredCoordinate{axis}Angst"] = angstrom + moved
        table[f"rlnOrigin{axis}Angst"] = moved
    table[list(ANGLES)] = particles[["rot", "tilt", "psi"]].to_numpy()
    return table


@pytest.mark.parametrize(
    ("map_voxel", "edge"), [(VOXEL, 40), (VOXEL, 41), (6.0, 80)], ids=["even", "odd", "finer"]
)
def test_placed_maps_are_the_simulated_particles(
    tmp_path: Path, map_voxel: float, edge: int
) -> None:
    """The map at identity, put where the truth says, covers the voxels of the true instances."""
    truth = small_simulation()
    example = tmp_path / "TS_01.mrc"
    write_mrc(example, truth.tomogram, voxel_size=VOXEL)
    average = identity_map(tmp_path / "average.mrc", map_voxel, edge)
    out = tmp_path / "masks"
    options = {
        "map_file": average,
        "map_threshold": 0.0,
        "example_tomogram": example,
        "output_dir": out,
    }
    star = write_star(tmp_path / "a.star", particle_table(truth.particles, (0.0, 0.0, 0.0)))
    assert run_processing(NAME, star_file=star, **options) == 0
    mask = read_volume(out / "TS_01.mrc").data > 0
    assert len(truth.particles) == 4
    assert dice(mask, truth.instances > 0) > 0.985
    for label in truth.particles["label"]:
        true = truth.instances == label
        assert (mask & true).sum() / true.sum() > 0.97


def test_shifts_are_subtracted(tmp_path: Path) -> None:
    truth = small_simulation()
    example = tmp_path / "TS_01.mrc"
    write_mrc(example, truth.tomogram, voxel_size=VOXEL)
    average = identity_map(tmp_path / "average.mrc")
    options = {"map_file": average, "map_threshold": 0.0, "example_tomogram": example}
    masks = []
    for index, shift in enumerate([(0.0, 0.0, 0.0), (55.0, -31.0, 7.0)]):
        star = write_star(tmp_path / f"{index}.star", particle_table(truth.particles, shift))
        assert (
            run_processing(NAME, star_file=star, output_dir=tmp_path / str(index), **options) == 0
        )
        masks.append(read_volume(tmp_path / str(index) / "TS_01.mrc").data)
    np.testing.assert_array_equal(*masks)


def test_other_conventions_would_be_noticed(tmp_path: Path) -> None:
    """The particle is asymmetric enough: with the angles of the opposite turn it does not fit."""
    truth = small_simulation()
    example = tmp_path / "TS_01.mrc"
    write_mrc(example, truth.tomogram, voxel_size=VOXEL)
    average = identity_map(tmp_path / "average.mrc")
    table = particle_table(truth.particles, (0.0, 0.0, 0.0))
    turned = Rotation.from_euler("ZYZ", table[list(ANGLES)], degrees=True).inv()
    table[list(ANGLES)] = turned.as_euler("ZYZ", degrees=True)
    star = write_star(tmp_path / "a.star", table)
    options = {"map_file": average, "map_threshold": 0.0, "example_tomogram": example}
    assert run_processing(NAME, star_file=star, output_dir=tmp_path / "o", **options) == 0
    mask = read_volume(tmp_path / "o" / "TS_01.mrc").data > 0
    assert dice(mask, truth.instances > 0) < 0.9


def test_whole_turns_about_every_axis_move_voxels_exactly(tmp_path: Path) -> None:
    """One voxel of the map off the origin, by RELION's definition of the three angles."""
    density = np.zeros((9, 9, 9), np.float32)
    density[4, 4, 7] = 1  # x = +3
    write_mrc(tmp_path / "map.mrc", density, voxel_size=10)
    write_mrc(tmp_path / "t.mrc", np.zeros((21, 21, 21), np.int8), voxel_size=10)
    # The frame turns by the angle, so the particle turns back: +x goes to -y, at tilt to +z.
    cases = {(90, 0, 0): (0, -3, 0), (0, 90, 0): (0, 0, 3), (0, 0, 90): (0, -3, 0)}
    for angles, (x, y, z) in cases.items():
        table = pd.DataFrame({f"rlnCoordinate{axis}": [10.0] for axis in "XYZ"})
        table[list(ANGLES)] = angles
        star = write_star(tmp_path / "a.star", table)
        out = tmp_path / "_".join(map(str, angles))
        options = {"map_file": tmp_path / "map.mrc", "map_threshold": 0.9}
        example = tmp_path / "t.mrc"
        code = run_processing(
            NAME, star_file=star, example_tomogram=example, output_dir=out, **options
        )
        assert code == 0
        mask = read_volume(out / "t.mrc").data
        assert np.argwhere(mask).tolist() == [[10 + z, 10 + y, 10 + x]], angles


def test_a_real_ribosome_and_the_border(tmp_path: Path, shared: Path) -> None:
    """A published density, turned by interpolation of the whole box, and cut by the border."""
    source = read_volume(shared / "data" / "densities_10A" / "4v4r.mrc")
    density = source.data.astype(np.float32)
    threshold = float(density.max()) / 4
    angles = (33.0, 71.0, -120.0)
    edge = max(density.shape) + 40
    centre = np.array([edge // 2, edge // 2 + 3, 6])  # near the border in x
    write_mrc(tmp_path / "t.mrc", np.zeros((edge, edge, edge), np.int8), voxel_size=10)
    write_mrc(tmp_path / "map.mrc", density, voxel_size=10)
    table = pd.DataFrame([centre[::-1]], columns=[f"rlnCoordinate{axis}" for axis in "XYZ"])
    table[list(ANGLES)] = angles
    star = write_star(tmp_path / "a.star", table)
    options = {"map_file": tmp_path / "map.mrc", "map_threshold": threshold}
    out = tmp_path / "o"
    example = tmp_path / "t.mrc"
    run_processing(NAME, star_file=star, example_tomogram=example, output_dir=out, **options)
    mask = read_volume(out / "t.mrc").data > 0
    grid = np.indices(mask.shape).reshape(3, -1).T - centre
    turn = Rotation.from_euler("ZYZ", angles, degrees=True)
    places = turn.apply(grid[:, ::-1])[:, ::-1] + np.asarray(density.shape) // 2
    expected = map_coordinates(density, places.T, order=1).reshape(mask.shape) >= threshold
    np.testing.assert_array_equal(mask, expected)
    assert status_of(out, NAME, "t")["summary"]["cut_by_the_border"] == 1


def test_useless_inputs_are_refused(tmp_path: Path) -> None:
    average = identity_map(tmp_path / "average.mrc")
    write_mrc(tmp_path / "t.mrc", np.zeros((9, 9, 9), np.int8), voxel_size=10)
    table = pd.DataFrame({f"rlnCoordinate{axis}": [4.0] for axis in "XYZ"})
    star = write_star(tmp_path / "a.star", table)
    options = {"star_file": star, "example_tomogram": tmp_path / "t.mrc", "map_file": average}
    with pytest.raises(ConfigurationError, match="no orientations"):
        run_processing(NAME, map_threshold=0.0, output_dir=tmp_path / "o", **options)
    with pytest.raises(MaskError, match="No voxel"):
        run_processing(NAME, map_threshold=1e9, output_dir=tmp_path / "o", **options)
    with pytest.raises(MaskError, match="Every voxel"):
        run_processing(NAME, map_threshold=-1e9, output_dir=tmp_path / "o", **options)
