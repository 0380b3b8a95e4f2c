from __future__ import annotations

import os
import tempfile
from itertools import count
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pwem.objects import Transform
from tomo.constants import BOTTOM_LEFT_CORNER
from tomo.objects import (
    SetOfCoordinates3D,
    SetOfTomograms,
    SetOfTomoMasks,
    TomoAcquisition,
    Tomogram,
)

from cryosiam_plugin.convert import (
    CLASS_NAME,
    N_VOXELS,
    coordinate_from,
    coordinates_from,
    index_of,
    label_table_of,
    link_tomogram,
    read_particles,
    rows_with_box_inside,
    tomo_mask_from,
    tomogram_from,
    voxel_origin,
    write_run_config,
)
from cryosiam_plugin.mrc import is_mrc, read_voxel_size, write_voxel_size
from cryosiam_plugin.objects import CryosiamModel

FRACTION_OF_A_VOXEL = 1e-3


@pytest.fixture(autouse=True)
def _scipion(domain) -> None:
    """Image formats are registered when Scipion looks for its plugins."""


def write_mrc(path: Path, shape=(6, 8, 10), voxel_size=7.84, dtype=np.float32) -> Path:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(np.zeros(shape, dtype=dtype))
        mrc.set_volume()
        mrc.voxel_size = voxel_size
    return path


def tomogram_at(path: Path, ts_id="TS_01", sampling_rate=7.84, origin=None) -> Tomogram:
    tomogram = Tomogram()
    tomogram.setFileName(str(path))
    tomogram.setSamplingRate(sampling_rate)
    tomogram.setTsId(ts_id)
    if origin is not None:
        shifts = Transform()
        shifts.setShifts(*origin)
        tomogram.setOrigin(shifts)
    return tomogram


@pytest.fixture
def tomogram(tmp_path: Path) -> Tomogram:
    return tomogram_at(write_mrc(tmp_path / "raw tomogram.mrc"))


# ------------------------------------------------------------------ tomograms to the engine


def test_a_tomogram_is_linked_under_its_ts_id(tomogram: Tomogram, tmp_path: Path) -> None:
    (tmp_path / "import.mrc").symlink_to("raw tomogram.mrc")  # as Scipion's import leaves it
    tomogram.setFileName(str(tmp_path / "import.mrc"))
    link = Path(link_tomogram(tomogram, str(tmp_path / "Runs" / "input")))
    assert link == tmp_path / "Runs" / "input" / "TS_01.mrc"
    assert os.readlink(link) == str((tmp_path / "raw tomogram.mrc").resolve())


def test_a_relative_file_is_linked_absolutely(tomogram: Tomogram, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    tomogram.setFileName("raw tomogram.mrc:mrc")
    assert link_tomogram(tomogram, "input") == "input/TS_01.mrc"
    assert os.readlink("input/TS_01.mrc") == str(tmp_path.resolve() / "raw tomogram.mrc")


def test_linking_again_follows_a_changed_input(tomogram: Tomogram, tmp_path: Path) -> None:
    folder = str(tmp_path / "input")
    first = link_tomogram(tomogram, folder)
    assert link_tomogram(tomogram, folder) == first
    other = write_mrc(tmp_path / "other.rec")
    tomogram.setFileName(str(other))
    assert os.readlink(link_tomogram(tomogram, folder)) == str(other.resolve())
    assert [path.name for path in (tmp_path / "input").iterdir()] == ["TS_01.mrc"]


@pytest.mark.parametrize("extension", [".em", ".tif"])
def test_other_formats_are_converted(extension: str, tomogram: Tomogram, tmp_path: Path) -> None:
    data = np.arange(6 * 8 * 10, dtype=np.float32).reshape(6, 8, 10)
    source = tmp_path / f"volume{extension}"
    write_format(source, data)
    tomogram.setFileName(str(source))
    made = link_tomogram(tomogram, str(tmp_path / "input"))
    assert not Path(made).is_symlink()
    with mrcfile.open(made) as mrc:
        np.testing.assert_array_equal(mrc.data, data)
        assert mrc.data.dtype == np.float32
        assert mrc.is_volume()
    assert read_voxel_size(Path(made)) == pytest.approx(7.84, rel=1e-5)
    before = Path(made).stat().st_mtime_ns
    assert link_tomogram(tomogram, str(tmp_path / "input")) == made
    assert Path(made).stat().st_mtime_ns == before, "converted once"


def write_format(path: Path, data: np.ndarray) -> None:
    if path.suffix == ".tif":
        import tifffile

        tifffile.imwrite(path, data)
    else:
        header = np.zeros(128, dtype="<i4")
        header[0] = np.frombuffer(bytes([6, 0, 0, 5]), dtype="<i4")[0]
        header[1:4] = data.shape[::-1]
        path.write_bytes(header.tobytes() + data.astype("<f4").tobytes())


def test_an_image_is_no_tomogram(tomogram: Tomogram, tmp_path: Path) -> None:
    write_format(tmp_path / "image.tif", np.zeros((8, 10), dtype=np.float32))
    tomogram.setFileName(str(tmp_path / "image.tif"))
    with pytest.raises(ValueError, match=r"image\.tif is not a volume"):
        link_tomogram(tomogram, str(tmp_path / "input"))


def test_a_missing_or_strange_file_is_named(tomogram: Tomogram, tmp_path: Path) -> None:
    tomogram.setFileName(str(tmp_path / "gone.mrc"))
    with pytest.raises(FileNotFoundError, match=r"TS_01.*gone\.mrc"):
        link_tomogram(tomogram, str(tmp_path / "input"))
    strange = tmp_path / "strange.em"
    strange.write_bytes(b"hello")
    tomogram.setFileName(str(strange))
    with pytest.raises(ValueError, match=r"strange\.em cannot be read"):
        link_tomogram(tomogram, str(tmp_path / "input"))


def test_a_damaged_mrc_is_left_to_the_engine_to_refuse(tomogram: Tomogram, tmp_path) -> None:
    cut = tmp_path / "cut.mrc"
    cut.write_bytes((tmp_path / "raw tomogram.mrc").read_bytes()[:1100])
    tomogram.setFileName(str(cut))
    assert Path(link_tomogram(tomogram, str(tmp_path / "input"))).is_symlink()


def test_the_configuration_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    mapping = {
        "data_folder": tmp_path / "ä folder: with 'all' \"that\"",
        "test_files": None,
        "scale_prediction": True,
        "parameters": {
            "network": {"threshold": np.float32(0.5), "postprocessing_sizes": (np.int64(-1), 5000)},
            "data": {"patch_size": [64, 64, 64]},
        },
        "tomogram": "1e5",
    }
    assert write_run_config(str(path), {"old": 1}) == str(path)
    write_run_config(str(path), mapping)
    assert yaml.safe_load(path.read_text("utf-8")) == {
        "data_folder": str(mapping["data_folder"]),
        "test_files": None,
        "scale_prediction": True,
        "parameters": {
            "network": {"threshold": 0.5, "postprocessing_sizes": [-1, 5000]},
            "data": {"patch_size": [64, 64, 64]},
        },
        "tomogram": "1e5",
    }
    assert list(yaml.safe_load(path.read_text("utf-8"))) == list(mapping)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.yaml"]


# ------------------------------------------------------------------ volumes to Scipion


def full_tomogram(tmp_path: Path) -> Tomogram:
    tomogram = tomogram_at(write_mrc(tmp_path / "raw.mrc"), origin=(-10.5, 20.25, 3.0))
    tomogram.setAcquisition(TomoAcquisition(angleMin=-60, angleMax=60, step=3))
    tomogram.setHalfMaps(["odd.mrc", "even.mrc"])
    tomogram.setCtfCorrected(True)
    tomogram.setObjId(12)
    return tomogram


def test_a_denoised_tomogram_keeps_everything_but_the_halves(tmp_path: Path) -> None:
    source = full_tomogram(tmp_path)
    result = write_mrc(tmp_path / "TS_01.mrc", voxel_size=1.0)
    made = tomogram_from(source, str(result))
    assert type(made) is Tomogram
    assert made.getFileName() == str(result)
    assert not made.hasHalfMaps()
    assert made.getTsId() == "TS_01"
    assert made.getSamplingRate() == 7.84
    assert made.getShiftsFromOrigin() == (-10.5, 20.25, 3.0)
    assert made.getAcquisition().getAngleMin() == -60
    assert made.ctfCorrected()
    assert read_voxel_size(result) == pytest.approx(7.84, rel=1e-5), "Scipion's counts"
    assert source.getHalfMaps() == "odd.mrc,even.mrc"
    assert source.getFileName().endswith("raw.mrc")


def test_a_tomogram_of_which_little_is_known(tmp_path: Path) -> None:
    """Without acquisition and origin, as other programs' imports may leave it."""
    source = tomogram_at(write_mrc(tmp_path / "raw.mrc"))
    result = str(write_mrc(tmp_path / "TS_01.mrc"))
    for made in (tomogram_from(source, result), tomo_mask_from(source, result, {})):
        assert (made.getTsId(), made.getSamplingRate()) == ("TS_01", 7.84)
        assert made.getShiftsFromOrigin() == source.getShiftsFromOrigin()
        assert made.getFileName() == result


def test_a_mask_in_a_set_keeps_its_labels(tmp_path: Path) -> None:
    source = full_tomogram(tmp_path)
    result = write_mrc(tmp_path / "TS_01_preds.mrc", dtype=np.int8)
    masks = SetOfTomoMasks.create(str(tmp_path), template="masks%s.sqlite")
    masks.setSamplingRate(7.84)
    masks.append(tomo_mask_from(source, str(result), {2: "actin", 1: "Zellmembran ä"}))
    masks.write()
    masks.close()
    opened = SetOfTomoMasks(filename=masks.getFileName())
    [mask] = [item.clone() for item in opened]
    assert label_table_of(mask) == {1: "Zellmembran ä", 2: "actin"}
    assert mask.getVolName() == source.getFileName()
    assert mask.getTsId() == "TS_01"
    assert mask.getSamplingRate() == 7.84
    assert mask.getShiftsFromOrigin() == (-10.5, 20.25, 3.0)
    assert not mask.hasHalfMaps()


def test_a_mask_of_another_program_has_no_table(tomogram: Tomogram) -> None:
    assert label_table_of(tomogram) == {}


@pytest.mark.parametrize("order", ["<", ">"])
def test_only_the_voxel_size_of_a_header_changes(order: str, tmp_path: Path) -> None:
    path = tmp_path / "volume.mrc"
    write_mrc(path, voxel_size=1.0)
    with mrcfile.open(path, mode="r+") as mrc:
        mrc.data[:] = np.random.default_rng(1).normal(size=mrc.data.shape)
        mrc.header.origin = (1.0, 2.0, 3.0)
    if order == ">":
        swap_bytes(path)
    before, when = path.read_bytes(), path.stat().st_mtime_ns
    assert write_voxel_size(path, 13.6)
    assert path.stat().st_mtime_ns == when, "the engine knows its results by the time of change"
    after = path.read_bytes()
    assert (before[:40], before[52:]) == (after[:40], after[52:])
    assert read_voxel_size(path) == pytest.approx(13.6, rel=1e-6)
    with mrcfile.open(path) as mrc:
        assert mrc.voxel_size.tolist() == pytest.approx((13.6, 13.6, 13.6), rel=1e-6)
    assert not write_voxel_size(path, 13.6)
    assert not write_voxel_size(path, 13.6001)


def swap_bytes(path: Path) -> None:
    with mrcfile.open(path) as mrc:
        header, data = mrc.header.byteswap(), mrc.data.byteswap()
    header["machst"] = (0x11, 0x11, 0, 0)
    header["map"] = b"MAP "
    path.write_bytes(header.tobytes() + data.tobytes())


def test_what_an_mrc_file_is(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "volume.anything")
    assert is_mrc(path)
    content = bytearray(path.read_bytes())
    content[208:212] = bytes(4)
    path.write_bytes(content)
    assert is_mrc(path), "old programs leave out the word MAP"
    for other in (b"", b"MAP ", bytes(2000), b"\x89HDF" + bytes(2000), b"II*\0" + bytes(2000)):
        path.write_bytes(other)
        assert not is_mrc(path)
    path.write_bytes(b"\x1f\x8b" + bytes(100))
    assert is_mrc(path), "compressed: the engine reads it"


# ------------------------------------------------------------------ particles


TABLE = """label,area,centroid-0,centroid-1,centroid-2,tomo,semantic_class
1,120,2.5,3.25,4.125,TS_01,1
2,60.0,1.0,2.0,3.0,TS_01,3
"""


def test_the_table_of_particles(tmp_path: Path) -> None:
    path = tmp_path / "TS_01_particles.csv"
    path.write_text(TABLE)
    first, second = read_particles(str(path))
    assert [first["centroid-0"], first["centroid-1"], first["centroid-2"]] == [2.5, 3.25, 4.125]
    assert (first["semantic_class"], first["label"], first["area"]) == (1, 1, 120)
    assert (second["semantic_class"], second["area"], second["tomo"]) == (3, 60, "TS_01")


def test_a_table_without_particles(tmp_path: Path) -> None:
    path = tmp_path / "TS_01_particles.csv"
    path.write_text(TABLE.splitlines()[0] + "\n")
    assert read_particles(str(path)) == []


@pytest.mark.parametrize("text", ["a,b\n1,2\n", TABLE.replace("2.5", "x"), TABLE + "3,\n"])
def test_what_is_no_table_of_particles(text: str, tmp_path: Path) -> None:
    path = tmp_path / "TS_01_particles.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match="TS_01_particles"):
        read_particles(str(path))


def test_coordinates_of_a_table(tomogram: Tomogram, tmp_path: Path) -> None:
    path = tmp_path / "TS_01_particles.csv"
    path.write_text(TABLE)
    tomogram.setObjId(5)
    first, second = coordinates_from(read_particles(str(path)), tomogram, {1: "ribosome"})
    assert (first.getGroupId(), getattr(first, CLASS_NAME).get()) == (1, "ribosome")
    assert (second.getGroupId(), getattr(second, CLASS_NAME).get()) == (3, "class 3")
    assert getattr(first, N_VOXELS).get() == 120
    assert (first.getTomoId(), first.getVolId()) == ("TS_01", 5)
    assert first.getPosition(BOTTOM_LEFT_CORNER) == (4.125, 3.25, 2.5)
    assert index_of(first) == (2.5, 3.25, 4.125)


@given(
    shape=st.tuples(*[st.integers(8, 40)] * 3),
    box=st.integers(1, 12),
    corner=st.tuples(*[st.integers(-3, 40)] * 3),
)
def test_a_box_is_inside_when_it_can_be_cut_out(shape, box, corner) -> None:
    """Against the cut itself: a box with its first voxel at `corner`, and its centre between."""
    fits = all(c >= 0 and c + box <= n for c, n in zip(corner, shape))
    centre = {f"centroid-{axis}": c + (box - 1) / 2 for axis, c in enumerate(corner)}
    assert rows_with_box_inside([centre], shape, box) == ([centre] if fits else [])


def test_the_engines_table_is_understood(tmp_path: Path, tomogram: Tomogram) -> None:
    """A missing score is none, not an error; one that is there is kept."""
    rows = [{"centroid-0": 1, "centroid-1": 2, "centroid-2": 3, "semantic_class": 1}]
    [plain] = coordinates_from(rows, tomogram, {})
    [scored] = coordinates_from([{**rows[0], "score": 0.75}], tomogram, {})
    assert (plain.getScore(), scored.getScore()) == (0.0, 0.75)


# ------------------------------------------------------------------ there and back again

SHAPES = st.tuples(*[st.integers(2, 41)] * 3)
SHIFTS = st.tuples(*[st.floats(-5000, 5000, allow_nan=False, width=32)] * 3)
POSITIONS = st.tuples(*[st.floats(0, 1, allow_nan=False)] * 3)
NUMBERS = count()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=SHAPES,
    sampling_rate=st.sampled_from([1.0, 1.7, 7.84, 13.48]),
    origin=st.none() | SHIFTS,
    position=POSITIONS,
)
def test_a_voxel_is_where_tomo_puts_it(shape, sampling_rate, origin, position, tmp_path) -> None:
    """Our quick way gives what tomo's own setPosition and getPosition give."""
    path = write_mrc(tmp_path / f"{next(NUMBERS)}.mrc", shape)
    tomogram = tomogram_at(path, sampling_rate=sampling_rate, origin=origin)
    index = tuple(p * (length - 1) for p, length in zip(position, shape))
    coordinate = coordinate_from(index, tomogram)
    assert coordinate.getPosition(BOTTOM_LEFT_CORNER) == pytest.approx(index[::-1], abs=1e-6)
    assert index_of(coordinate) == pytest.approx(index, abs=1e-6)
    assert index_of(coordinate, voxel_origin(tomogram)) == pytest.approx(index, abs=1e-6)
    path.unlink()


def coordinate_set(folder: Path, tomograms: list[Tomogram], indices: list) -> SetOfCoordinates3D:
    """A set in a database, as a protocol leaves it: written, closed, opened again."""
    precedents = SetOfTomograms.create(str(folder), template="tomograms%s.sqlite")
    precedents.setSamplingRate(tomograms[0].getSamplingRate())
    for tomogram in tomograms:
        precedents.append(tomogram)
    precedents.write()
    precedents.close()
    precedents = SetOfTomograms(filename=precedents.getFileName())
    precedents.loadAllProperties()
    made = SetOfCoordinates3D.create(str(folder), template="coordinates%s.sqlite")
    made.setPrecedents(precedents)
    made.setSamplingRate(precedents.getSamplingRate())
    made.setBoxSize(10)
    for tomogram, its_indices in zip([item.clone() for item in precedents], indices):
        for number, index in enumerate(its_indices):
            made.append(coordinate_from(index, tomogram, class_id=number % 3 + 1, class_name="ä"))
    made.write()
    made.close()
    opened = SetOfCoordinates3D(filename=made.getFileName())
    opened.loadAllProperties()
    opened.setPrecedents(precedents)
    return opened


def geometries(origins: st.SearchStrategy) -> st.SearchStrategy:
    """Several tomograms: shape, origin in Å, particles. Scipion sets origins for all or none."""
    particles = st.lists(POSITIONS, min_size=1, max_size=5)
    return st.lists(st.tuples(SHAPES, origins, particles), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    tomos=geometries(st.none()) | geometries(SHIFTS),
    sampling_rate=st.sampled_from([1.0, 1.7, 7.84, 13.48]),
)
def test_round_trip_through_relion_5(tomos, sampling_rate) -> None:
    """Voxel index, Scipion's database, RELION 5's STAR file, Scipion, voxel index.

    Both STAR files: of tomo's export protocol, and of the RELION 5 plugin's extraction.
    """
    relion = pytest.importorskip("reliontomo.convert", reason="needs scipion-em-reliontomo")
    from reliontomo.constants import IN_PARTICLES_STAR
    from reliontomo.convert import convert50_tomo

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tomograms, indices = [], []
        for number, (shape, origin, positions) in enumerate(tomos):
            path = write_mrc(folder / f"TS_{number}.mrc", shape)
            tomograms.append(tomogram_at(path, f"TS_{number}", sampling_rate, origin))
            indices.append(
                [tuple(p * (n - 1) for p, n in zip(position, shape)) for position in positions]
            )
        exported = coordinate_set(folder, tomograms, indices)
        precedents = exported.getPrecedents()
        ids = precedents.getTSIds()
        star_of_tomo = exported_by_tomo(exported, folder)
        convert50_tomo.Writer.coords2Star(
            exported, {item.getTsId(): item.clone() for item in precedents}, str(folder)
        )
        for number, star in enumerate((star_of_tomo, folder / IN_PARTICLES_STAR)):
            back = SetOfCoordinates3D.create(str(folder), template=f"back{number}%s.sqlite")
            back.setPrecedents(precedents)
            back.setSamplingRate(sampling_rate)
            reader, _ = relion.createReaderTomo(str(star), True, isCoordsStar=True)
            reader.starFile2Coords3D(back, precedents, 1)
            assert_same_indices(back, ids, indices)


def exported_by_tomo(coordinates: SetOfCoordinates3D, folder: Path) -> Path:
    """Run the step of tomo's export protocol that does the work, without a project around it."""
    from tomo.protocols import ProtExportCoordinates3D
    from tomo.protocols.protocol_export_coords import EXPORT_TO_STAR

    protocol = ProtExportCoordinates3D(workingDir=str(folder))
    protocol.inputCoordinates.set(coordinates)
    protocol.exportCoordsStep(EXPORT_TO_STAR, None)
    return Path(protocol._getExportPath("coords.star"))


def assert_same_indices(coordinates: SetOfCoordinates3D, ids: list, indices: list) -> None:
    for ts_id, wanted in zip(ids, indices):
        tomogram = coordinates.getPrecedents()[{Tomogram.TS_ID_FIELD: ts_id}]
        found = [index_of(item) for item in coordinates.iterCoordinates(volume=tomogram)]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=FRACTION_OF_A_VOXEL)


# ------------------------------------------------------------------ the model


def test_a_model_survives_the_database(tmp_path: Path) -> None:
    from pwem.objects import EMSet

    class Models(EMSet):
        ITEM_TYPE = CryosiamModel

    model = CryosiamModel(path="/models/m ä.ckpt", task="semantic")
    model.setClassNames({2: "actin", 1: "membrane ä"})
    model.setNClasses(5)
    model.setSamplingRate(6.8)
    model.setSha256("ab" * 32)
    models = Models(filename=str(tmp_path / "models.sqlite"))
    models.append(model)
    models.write()
    models.close()
    opened = Models(filename=str(tmp_path / "models.sqlite"))
    [again] = [item.clone() for item in opened]
    assert again.getPath() == "/models/m ä.ckpt"
    assert (again.getTask(), again.getNClasses(), again.getSamplingRate()) == ("semantic", 5, 6.8)
    assert again.getClassNames() == {1: "membrane ä", 2: "actin"}
    assert again.getSha256() == "ab" * 32
    assert again.getDisplayName() == "m ä.ckpt"
    for part in ("semantic", "5 classes", "6.80 Å/px", "abababab", "m ä.ckpt"):
        assert part in str(again)


def test_a_model_of_which_nothing_is_known() -> None:
    model = CryosiamModel()
    assert (model.getPath(), model.getTask(), model.getClassNames()) == ("", "", {})
    assert (model.getNClasses(), model.getSamplingRate(), model.getFiles()) == (0, 0.0, set())
    assert "unknown task" in str(model)
