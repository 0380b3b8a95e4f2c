from __future__ import annotations

import argparse
import json
import logging
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.simulation import (
    SimulatedTomogram,
    SimulationSettings,
    simulate,
    write_simulation,
)
from cryosiam_engine.simulation.command import add_arguments, run
from cryosiam_engine.simulation.drawing import draw_particle, draw_vesicle
from cryosiam_engine.simulation.settings import LARGEST_VOXEL_SIZE, SPECIES_NAMES
from cryosiam_engine.simulation.species import SPECIES, mass_centre
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

EVERY_NEIGHBOUR = np.ones((3, 3, 3))


def small(**changes: object) -> SimulationSettings:
    defaults = SimulationSettings(
        shape=(44, 56, 51),
        voxel_size=16.0,
        particles_per_species={"ribosome": 4, "rubisco": 5, "proteasome": 2},
        membranes=1,
        membrane_radius=(110.0, 130.0),
    )
    return replace(defaults, **changes)


@pytest.fixture(scope="module")
def simulated() -> SimulatedTomogram:
    return simulate(small())


def volumes(simulation: SimulatedTomogram) -> list[np.ndarray]:
    names = ("tomogram", "clean", "semantic", "instances", "lamella")
    return [getattr(simulation, name) for name in names]


# --- random numbers ---------------------------------------------------------------------------


def test_same_seed_same_bytes(simulated: SimulatedTomogram) -> None:
    again = simulate(small())
    for first, second in zip(volumes(simulated), volumes(again), strict=True):
        assert first.tobytes() == second.tobytes()
    pd.testing.assert_frame_equal(simulated.particles, again.particles, check_exact=True)


def test_another_seed_is_another_sample_and_other_noise(simulated: SimulatedTomogram) -> None:
    other = simulate(small(seed=1))
    assert not np.array_equal(simulated.instances, other.instances)
    noise = [s.tomogram - simulate(replace(s.settings, snr=math.inf)).tomogram
             for s in (simulated, other)]  # fmt: skip
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


# --- truth ------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(30, 44), st.integers(30, 52), st.integers(30, 52)),
    voxel_size=st.floats(10, 20),
)
def test_truth_is_consistent(seed: int, shape: tuple[int, int, int], voxel_size: float) -> None:
    result = simulate(small(seed=seed, shape=shape, voxel_size=voxel_size))
    table = result.particles
    assert [(v.shape, v.dtype) for v in volumes(result)] == [
        (shape, np.dtype(name)) for name in ("f4", "f4", "u1", "u2", "u1")
    ]
    assert np.isfinite(result.tomogram).all()
    assert (result.lamella[result.instances > 0] == 1).all()
    assert np.array_equal(result.instances > 0, result.semantic > 0)
    assert sorted(table["label"]) == list(range(1, len(table) + 1))
    for row in table.to_dict("records"):
        mask = result.instances == row["label"]
        # The area was counted before drawing: no voxel was lost to another object.
        assert mask.sum() == row["area"]
        assert (result.semantic[mask] == row["semantic_class"]).all()
        assert result.class_names[row["semantic_class"]] == row["class_name"]
        centre = np.array([row[f"centroid-{axis}"] for axis in range(3)])
        if row["class_name"] != "membrane" and SPECIES[row["class_name"]].solid:
            assert mask[tuple(np.rint(centre).astype(int))]
            assert np.linalg.norm(ndimage.center_of_mass(mask) - centre) < 0.75


@pytest.mark.parametrize("seed", range(3))
def test_objects_do_not_touch(seed: int) -> None:
    instances = simulate(small(seed=seed, particles_per_species={"rubisco": 60})).instances
    for axis in range(3):
        one, next_one = np.moveaxis(instances, axis, 0)[:-1], np.moveaxis(instances, axis, 0)[1:]
        both = (one > 0) & (next_one > 0)
        assert both.any()
        assert (one[both] == next_one[both]).all()


def test_numbers_are_as_asked_and_classes_in_the_order_given() -> None:
    wanted = {"rubisco": 6, "proteasome": 1, "ribosome": 3}
    result = simulate(small(particles_per_species=wanted))
    assert result.class_names == {
        0: "background",
        1: "membrane",
        2: "rubisco",
        3: "proteasome",
        4: "ribosome",
    }
    assert result.particles["class_name"].value_counts().to_dict() == {"membrane": 1, **wanted}
    assert set(result.particles["tomo"]) == {"TS_01"}


def relion_matrix(rot: float, tilt: float, psi: float) -> np.ndarray:
    """From the reference to the tomogram, written out as RELION's documentation defines it."""
    (ca, cb, cg), (sa, sb, sg) = (f(np.radians([rot, tilt, psi])) for f in (np.cos, np.sin))
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


def test_angles_and_centres_reproduce_every_mask() -> None:
    result = simulate(small(seed=5))
    oriented = result.particles[result.particles["semantic_class"] > 1]
    grid = np.stack(np.indices(result.semantic.shape), axis=-1)
    for row in oriented.to_dict("records"):
        centre = [row[f"centroid-{axis}"] for axis in range(3)]
        points = ((grid - centre) * result.settings.voxel_size)[..., ::-1]
        in_frame = points @ relion_matrix(row["rot"], row["tilt"], row["psi"])
        shape = SPECIES[row["class_name"]].shape
        inside = shape(in_frame + np.array(mass_centre(row["class_name"]))) <= 0
        mask = result.instances == row["label"]
        assert np.count_nonzero(inside != mask) <= 0.002 * mask.sum()


def test_what_finds_no_place_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = simulate(small(particles_per_species={"rubisco": 2000}, shape=(20, 24, 24)))
    placed = int((result.particles["class_name"] == "rubisco").sum())
    assert 0 < placed < 2000
    assert f"Only {placed} of 2000 x rubisco" in caplog.text


def test_lamella_is_a_slab_of_the_thickness_asked_for() -> None:
    result = simulate(small(lamella_thickness=320.0, lamella_tilt=0.0))
    assert set(np.unique(result.lamella.sum(axis=0))) == {20}
    vacuum = result.clean[result.lamella == 0]
    assert vacuum.mean() < 0.1 * result.clean[result.lamella == 1].mean()


def test_tilted_lamella_slopes() -> None:
    lamella = simulate(small(lamella_thickness=200.0, lamella_tilt=20.0)).lamella
    middle = ndimage.center_of_mass(lamella)
    z, y, x = (np.argwhere(lamella) - middle).T
    slope = np.linalg.lstsq(np.stack((y, x), axis=1), z, rcond=None)[0]
    assert math.degrees(math.atan(np.hypot(*slope))) == pytest.approx(20, abs=1.5)


# --- particles --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECIES_NAMES)
@pytest.mark.parametrize("voxel_size", [8.0, 13.48, 20.0])
def test_drawings_are_whole(name: str, voxel_size: float) -> None:
    drawing = draw_particle(name, voxel_size, np.random.default_rng(3))
    assert ndimage.label(drawing.mask, EVERY_NEIGHBOUR)[1] == 1
    assert drawing.cover.max() <= 1
    border = np.ones(drawing.mask.shape, bool)
    border[1:-1, 1:-1, 1:-1] = False
    assert drawing.cover[border].max() < 0.05
    volume = drawing.cover.sum() * voxel_size**3
    fine = np.mgrid[-1:1:60j, -1:1:60j, -1:1:60j].reshape(3, -1).T * SPECIES[name].radius
    expected = (SPECIES[name].shape(fine) <= 0).mean() * (2 * SPECIES[name].radius) ** 3
    assert volume == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("name", SPECIES_NAMES)
def test_the_largest_voxels_still_show_every_particle(name: str) -> None:
    drawing = draw_particle(name, LARGEST_VOXEL_SIZE, np.random.default_rng(3))
    assert drawing.mask.sum() > 8


@pytest.mark.parametrize(
    ("name", "shortest", "longest"),
    [("ribosome", 20, 31), ("proteasome", 10, 42), ("rubisco", 10, 12), ("microtubule", 24, 75)],
)
def test_particles_are_of_the_size_in_textbooks(name: str, shortest: float, longest: float) -> None:
    species = SPECIES[name]
    axis = np.linspace(-species.radius, species.radius, 81)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    inside = points[species.shape(points) <= 0]
    extent = np.ptp(inside, axis=0) / 10
    assert shortest <= extent.min()
    assert 0.85 * longest <= extent.max() <= longest
    assert np.linalg.norm(inside, axis=1).max() < species.radius
    assert (species.shape(np.array(mass_centre(name))) < 0) == species.solid


def test_barrel_of_the_proteasome_is_hollow() -> None:
    along_axis = np.stack((np.zeros(21), np.zeros(21), np.linspace(-60, 60, 21)), axis=1)
    assert (SPECIES["proteasome"].shape(along_axis) > 0).all()
    assert (SPECIES["proteasome"].shape(along_axis + np.array([40, 0, 0])) < 0).all()


@pytest.mark.parametrize("voxel_size", [6.0, 13.48, 40.0])
def test_vesicles_are_closed(voxel_size: float) -> None:
    drawing = draw_vesicle((230.0, 260.0), voxel_size, np.random.default_rng(0))
    assert ndimage.label(drawing.mask, EVERY_NEIGHBOUR)[1] == 1
    # Outside and lumen: two regions that share not even a corner.
    assert ndimage.label(~np.pad(drawing.mask, 1), EVERY_NEIGHBOUR)[1] == 2


def test_membrane_has_two_leaflets() -> None:
    drawing = draw_vesicle((200.0, 200.0), 5.0, np.random.default_rng(0))
    z, y, x = (round(middle) for middle in drawing.centre)
    ray = drawing.cover[z, y, x:]
    peaks = np.flatnonzero((ray[1:-1] > ray[:-2]) & (ray[1:-1] >= ray[2:]) & (ray[1:-1] > 0.5)) + 1
    assert len(peaks) == 2
    assert 25 <= (peaks[1] - peaks[0]) * 5 <= 50
    assert ray[peaks[0] : peaks[1]].min() < 0.5 * ray[peaks].min()


# --- imaging ----------------------------------------------------------------------------------


def in_wedge(shape: tuple[int, ...], tilt_range: float) -> np.ndarray:
    """Fourier components between the last tilt and the beam, by their angle."""
    z, _, x = np.meshgrid(*(np.fft.fftfreq(size) for size in shape), indexing="ij")
    return np.degrees(np.arctan2(np.abs(z), np.abs(x))) > tilt_range + 1e-6


@pytest.mark.parametrize("shape", [(44, 56, 51), (41, 47, 50)])
@pytest.mark.parametrize("tilt_range", [40.0, 60.0])
def test_missing_wedge_is_empty(shape: tuple[int, int, int], tilt_range: float) -> None:
    result = simulate(small(shape=shape, tilt_range=tilt_range))
    power = np.abs(np.fft.fftn(result.tomogram.astype(float))) ** 2
    wedge = in_wedge(shape, tilt_range)
    assert power[wedge].max() < 1e-8 * power[~wedge].mean()
    # All the rest is measured, but for the mean.
    power[0, 0, 0] = np.inf
    assert power[~wedge].min() > 1e-8 * np.median(power[~wedge])


def test_full_tilt_range_leaves_no_wedge() -> None:
    result = simulate(small(tilt_range=90.0))
    power = np.abs(np.fft.fftn(result.tomogram.astype(float))) ** 2
    wedge = in_wedge(power.shape, 60.0)
    assert np.median(power[wedge]) > 0.1 * np.median(power[~wedge])


def test_protein_is_dark_in_the_tomogram_and_bright_in_the_sample() -> None:
    result = simulate(small())
    ice = (result.semantic == 0) & (result.lamella == 1)
    for semantic_class in range(1, 5):
        where = result.semantic == semantic_class
        assert result.tomogram[where].mean() < result.tomogram[ice].mean()
        assert result.clean[where].mean() > result.clean[ice].mean()


@pytest.mark.parametrize("snr", [0.05, 0.3, 2.0])
def test_snr_is_as_asked(snr: float) -> None:
    noisy, quiet = simulate(small(snr=snr)), simulate(small(snr=math.inf))
    assert np.array_equal(noisy.instances, quiet.instances)
    inside = noisy.lamella == 1
    noise = (noisy.tomogram - quiet.tomogram)[inside]
    assert quiet.tomogram[inside].var() / noise.var() == pytest.approx(snr, rel=0.02)


def test_noise_is_coloured() -> None:
    noisy = simulate(small(tilt_range=90.0))
    noise = noisy.tomogram - simulate(replace(noisy.settings, snr=math.inf)).tomogram
    power = np.abs(np.fft.fftn(noise)) ** 2
    frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*map(np.fft.fftfreq, noise.shape),
                                                      indexing="ij")))  # fmt: skip
    low, high = (frequency > 0) & (frequency < 0.15), frequency > 0.4
    assert power[low].mean() > 3 * power[high].mean() > 0


# --- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"shape": (1, 64, 64)}, "shape"),
        ({"voxel_size": 0.0}, "voxel_size"),
        ({"voxel_size": math.nan}, "voxel_size"),
        ({"lamella_thickness": -1.0}, "lamella_thickness"),
        ({"lamella_tilt": 80.0}, "lamella_tilt"),
        ({"particles_per_species": {"ribosom": 3}}, "Did you mean ribosome"),
        ({"particles_per_species": {"ribosome": -3}}, "ribosome"),
        ({"membranes": -1}, "membranes"),
        ({"membrane_radius": (300.0, 200.0)}, "membrane_radius"),
        ({"snr": 0.0}, "snr"),
        ({"tilt_range": 91.0}, "tilt_range"),
        ({"dtype": "float64"}, "int16"),
        ({"seed": -1}, "seed"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word) as caught:
        small(**changes)
    assert caught.value.remedy


def test_every_species_name_can_be_drawn() -> None:
    assert tuple(SPECIES) == SPECIES_NAMES


# --- files ------------------------------------------------------------------------------------


def test_files_hold_what_was_simulated(simulated: SimulatedTomogram, tmp_path: Path) -> None:
    written = write_simulation(simulated, tmp_path)
    assert sorted(written) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    truth = tmp_path / "truth"
    paths = [tmp_path / "tomograms" / "TS_01.mrc"]
    paths += [truth / f"TS_01_{kind}.mrc" for kind in ("clean", "semantic", "instances", "lamella")]
    for path, volume in zip(paths, volumes(simulated), strict=True):
        with mrcfile.open(path) as mrc:
            assert np.array_equal(mrc.data, volume)
            assert mrc.voxel_size.tolist() == pytest.approx((16.0, 16.0, 16.0), abs=1e-4)
    pd.testing.assert_frame_equal(
        pd.read_csv(truth / "TS_01_particles.csv"), simulated.particles, check_exact=False
    )
    classes = json.loads((truth / "TS_01_classes.json").read_text())
    assert {int(number): name for number, name in classes.items()} == simulated.class_names


def test_star_file_lists_the_oriented_particles(
    simulated: SimulatedTomogram, tmp_path: Path
) -> None:
    write_simulation(simulated, tmp_path)
    star = starfile.read(tmp_path / "truth" / "TS_01_particles.star")
    expected = simulated.particles[simulated.particles["class_name"] != "membrane"]
    pairs = {
        "rlnCoordinateX": "centroid-2",
        "rlnCoordinateY": "centroid-1",
        "rlnCoordinateZ": "centroid-0",
        "rlnAngleRot": "rot",
        "rlnAngleTilt": "tilt",
        "rlnAnglePsi": "psi",
        "rlnLabel": "label",
        "rlnClassNumber": "semantic_class",
    }
    for column, source in pairs.items():
        assert star[column].to_numpy() == pytest.approx(expected[source].to_numpy(), abs=1e-5)
    assert set(star["rlnMicrographName"]) == {"TS_01"}


def test_sample_without_particles_is_written_too(tmp_path: Path) -> None:
    result = simulate(small(particles_per_species={}, membranes=0))
    write_simulation(result, tmp_path)
    table = pd.read_csv(tmp_path / "truth" / "TS_01_particles.csv")
    assert table.empty
    assert "centroid-0" in table
    assert "_rlnCoordinateX" in (tmp_path / "truth" / "TS_01_particles.star").read_text()


@pytest.mark.parametrize(("dtype", "mode"), [("int8", 0), ("int16", 1)])
def test_tomogram_can_be_written_as_integers(
    simulated: SimulatedTomogram, tmp_path: Path, dtype: str, mode: int
) -> None:
    as_integers = replace(simulated, settings=replace(simulated.settings, dtype=dtype))
    write_simulation(as_integers, tmp_path)
    with mrcfile.open(tmp_path / "tomograms" / "TS_01.mrc") as mrc:
        assert int(mrc.header.mode) == mode
        scale = np.iinfo(dtype).max / np.abs(simulated.tomogram).max()
        assert np.abs(mrc.data - simulated.tomogram * scale).max() <= 0.51


# --- the command ------------------------------------------------------------------------------


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def test_command_writes_tomograms_of_consecutive_seeds(tmp_path: Path) -> None:
    args = parsed(
        *("--output", str(tmp_path), "--number", "2", "--shape", "24", "32", "30"),
        *("--voxel-size", "16", "--seed", "7", "--snr", "0.5", "--membranes", "0"),
        *("--species", "rubisco=3", "ribosome=1", "--dtype", "int16", "--tilt-range", "50"),
    )
    assert run(args) == 0
    wanted = SimulationSettings(
        shape=(24, 32, 30),
        voxel_size=16.0,
        particles_per_species={"rubisco": 3, "ribosome": 1},
        membranes=0,
        snr=0.5,
        tilt_range=50.0,
        dtype="int16",
        seed=8,
    )
    with mrcfile.open(tmp_path / "truth" / "TS_02_clean.mrc") as mrc:
        assert np.array_equal(mrc.data, simulate(wanted, "TS_02").clean)
    assert sorted(path.name for path in (tmp_path / "tomograms").iterdir()) == [
        "TS_01.mrc",
        "TS_02.mrc",
    ]


def test_options_default_to_the_settings_defaults() -> None:
    args, defaults = parsed("--output", "x"), SimulationSettings()
    for name in ("shape", "voxel_size", "membranes", "snr", "tilt_range", "dtype", "seed"):
        assert getattr(args, name) == getattr(defaults, name)
    assert args.lamella_thickness is defaults.lamella_thickness


@pytest.mark.parametrize("words", [["ribosome"], ["ribosome=many"], ["rubisco=1", "rubisco=2"]])
def test_command_explains_a_bad_count(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--species"):
        run(parsed("--output", str(tmp_path), "--species", *words))


def test_command_refuses_no_tomograms(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--number"):
        run(parsed("--output", str(tmp_path), "--number", "0"))


def test_help_loads_no_numerical_library() -> None:
    code = (
        "import argparse, sys\n"
        "from cryosiam_engine.simulation.command import add_arguments\n"
        "add_arguments(argparse.ArgumentParser())\n"
        "sys.exit(' '.join({'numpy', 'scipy', 'pandas'} & set(sys.modules)) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
