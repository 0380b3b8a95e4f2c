from __future__ import annotations

import bz2
import gzip
import itertools
import logging
import tracemalloc
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from cryosiam_engine import preprocessing
from cryosiam_engine.errors import ConfigurationError, OutputError, TomogramError
from cryosiam_engine.volume import check_values, read_header, read_volume, write_mrc
from cryosiam_engine.volume.checks import RunningStatistics
from hypothesis import given, settings
from hypothesis import strategies as st

MRC_TYPES = ["int8", "int16", "float32", "uint16", "float16"]
IMOD_STAMP = 1146047817


def voxels(shape=(4, 5, 6), dtype="float32", seed=0) -> np.ndarray:
    """Values that use the whole range of the type, where that is an integer one."""
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.normal(100, 20, shape).astype(dtype)
    limits = np.iinfo(dtype)
    data = random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    data.flat[:2] = limits.min, limits.max
    return data


def raw_mrc(path: Path, data: np.ndarray, **fields) -> Path:
    """An MRC file written by the mrcfile library, with header fields changed afterwards.

    A field is named as there, or by its offset: ``at152=...`` is an int32 at byte 152.
    """
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(data)
        mrc.set_volume()
        mrc.voxel_size = 10
        for name, value in fields.items():
            if not name.startswith("at"):
                setattr(mrc.header, name, value)
    content = bytearray(path.read_bytes())
    order = "big" if data.dtype.byteorder == ">" else "little"
    for name, value in fields.items():
        if name.startswith("at"):
            content[int(name[2:]) : int(name[2:]) + 4] = value.to_bytes(4, order)
    path.write_bytes(content)
    return path


# --- writing -------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 9), st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from(MRC_TYPES),
    voxel_size=st.tuples(*[st.floats(0.3, 200)] * 3),
    origin=st.tuples(*[st.floats(-1e4, 1e4, width=32)] * 3),
    nstart=st.tuples(*[st.integers(-5000, 5000)] * 3),
)
def test_what_is_written_is_read(
    tmp_path_factory, shape, dtype, voxel_size, origin, nstart
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.mrc"
    data = voxels(shape, dtype)
    write_mrc(path, data, voxel_size=voxel_size, origin=origin, nstart=nstart)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, data)
    assert volume.data.dtype == data.dtype
    assert volume.path == path
    assert volume.header == read_header(path)
    assert volume.header.shape == shape
    assert volume.header.origin == origin
    assert volume.header.nstart == nstart
    np.testing.assert_allclose(volume.header.voxel_size, voxel_size, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", MRC_TYPES)
def test_other_programs_read_what_is_written(tmp_path, dtype, monkeypatch, capsys) -> None:
    monkeypatch.setattr(preprocessing, "SLAB_VOXELS", 31)
    data = voxels((7, 5, 6), dtype)
    path = tmp_path / "TS_01.mrc"
    write_mrc(path, data, voxel_size=13.48, origin=(11, -22, 33), nstart=(1, 2, 3))
    # The library's own check of the statistics overflows in half precision.
    assert dtype == "float16" or mrcfile.validate(path), capsys.readouterr().out
    with mrcfile.open(path) as mrc:
        np.testing.assert_array_equal(mrc.data, data)
        assert mrc.is_volume()
        assert mrc.header.ispg == 1
        assert mrc.header.nsymbt == 0
        assert mrc.header.origin.tolist() == (11, -22, 33)
        assert mrc.nstart.tolist() == (1, 2, 3)
        assert mrc.voxel_size.tolist() == pytest.approx((13.48,) * 3)
        wide = data.astype(np.float64)
        assert mrc.header.dmin == wide.min()
        assert mrc.header.dmax == wide.max()
        assert mrc.header.dmean == pytest.approx(wide.mean(), rel=1e-6)
        assert mrc.header.rms == pytest.approx(wide.std(), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=60),
    offset=st.sampled_from([0.0, 1e6]),
    cut=st.integers(1, 20),
)
def test_statistics_do_not_depend_on_the_slabs(values, offset, cut) -> None:
    data = np.array(values) + offset
    statistics = RunningStatistics()
    for start in range(0, data.size, cut):
        statistics.add(data[start : start + cut])
    assert statistics.minimum == data.min()
    assert statistics.maximum == data.max()
    assert statistics.mean == pytest.approx(data.mean(), rel=1e-12, abs=1e-9)
    assert statistics.deviation == pytest.approx(data.std(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "stored"),
    [
        ("bool", 0, 1, "int8"),
        ("uint8", 0, 127, "int8"),
        ("uint8", 0, 128, "uint16"),
        ("int32", -32768, 32767, "int16"),
        ("int64", 0, 32768, "uint16"),
        ("uint32", 0, 65535, "uint16"),
        (">i4", 0, 300, "int16"),
        (">f4", -2, 3, "float32"),
        ("float64", -2, 3, "float32"),
    ],
)
def test_types_that_mrc_lacks(tmp_path, dtype, low, high, stored) -> None:
    data = np.full((3, 4, 5), low, dtype=dtype)
    data[1, 2, 3] = high
    write_mrc(tmp_path / "a.mrc", data, voxel_size=1.0)
    read = read_volume(tmp_path / "a.mrc").data
    assert read.dtype == np.dtype(stored)
    np.testing.assert_array_equal(read, data)


@pytest.mark.parametrize(("low", "high"), [(0, 65536), (-1, 40000), (-40000, 0)])
def test_ids_too_large_for_mrc(tmp_path, low, high) -> None:
    data = np.full((3, 4, 5), low, dtype=np.int64)
    data[0, 0, 0] = high
    with pytest.raises(ConfigurationError, match=r"instances\.mrc.*h5"):
        write_mrc(tmp_path / "instances.mrc", data, voxel_size=1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_view_in_another_order_is_written_in_its_own_order(tmp_path) -> None:
    data = voxels((4, 6, 8)).transpose(2, 0, 1)[::-1, :, ::2]
    write_mrc(tmp_path / "a.mrc", data, voxel_size=np.float32(7.84))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.mrc").data, data)


@pytest.mark.parametrize("data", [np.zeros((3, 4)), np.zeros((0, 3, 4)), np.zeros((1, 2, 3, 4))])
def test_only_volumes_are_written(tmp_path, data) -> None:
    with pytest.raises(ValueError, match=r"\(z, y, x\)"):
        write_mrc(tmp_path / "a.mrc", data, voxel_size=1.0)


def test_the_same_volume_gives_the_same_bytes(tmp_path) -> None:
    for name in ("a.mrc", "b.mrc"):
        write_mrc(tmp_path / name, voxels(), voxel_size=13.48)
    assert (tmp_path / "a.mrc").read_bytes() == (tmp_path / "b.mrc").read_bytes()


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.mrc"
    write_mrc(path, voxels(seed=1), voxel_size=1.0)
    monkeypatch.setattr(preprocessing, "SLAB_VOXELS", 30)
    add, calls = RunningStatistics.add, []

    def add_twice(self, slab):
        calls.append(slab)
        if len(calls) == 3:
            raise KeyboardInterrupt
        add(self, slab)

    monkeypatch.setattr(RunningStatistics, "add", add_twice)
    with pytest.raises(KeyboardInterrupt):
        write_mrc(path, voxels(seed=2), voxel_size=1.0)
    assert list(tmp_path.iterdir()) == [path]
    np.testing.assert_array_equal(read_volume(path).data, voxels(seed=1))


def test_a_name_that_is_taken_by_a_folder(tmp_path) -> None:
    (tmp_path / "a.mrc").mkdir()
    with pytest.raises(OutputError, match=r"a\.mrc"):
        write_mrc(tmp_path / "a.mrc", voxels(), voxel_size=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mrc"]


def test_memory_stays_small_beside_the_volume(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(preprocessing, "SLAB_VOXELS", 50_000)
    labels = np.zeros((40, 200, 200), dtype=np.uint32)
    floats = voxels((40, 200, 200))
    tracemalloc.start()
    try:
        write_mrc(tmp_path / "labels.mrc", labels, voxel_size=1.0)
        write_mrc(tmp_path / "floats.mrc", floats, voxel_size=1.0)
        check_values(floats, "floats.mrc")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < labels.nbytes / 3


# --- reading what others wrote -------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "gzip", "bzip2"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", MRC_TYPES)
def test_every_mode_order_and_compression(tmp_path, dtype, order, compression) -> None:
    data = voxels((4, 5, 6), dtype)
    # The name says nothing: what the file is, its bytes tell.
    path = tmp_path / "tomogram.rec"
    with mrcfile.new(path, compression=compression) as mrc:
        mrc.set_data(data.astype(data.dtype.newbyteorder(order)))
        mrc.voxel_size = (7.84, 7.9, 8.0)
        mrc.header.origin = (1, -2, 3)
        mrc.nstart = (4, 5, -6)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, data)
    assert volume.data.dtype == data.dtype
    assert volume.data.dtype.isnative
    assert volume.data.flags.writeable
    assert volume.header.voxel_size == pytest.approx((7.84, 7.9, 8.0), abs=1e-5)
    assert volume.header.origin == (1, -2, 3)
    assert volume.header.nstart == (4, 5, -6)
    assert read_header(path) == volume.header


@pytest.mark.parametrize("kind", [b"FEI1", b"SERI", b"AGAR", b"\xff\x00\x17 "])
def test_extended_headers_are_skipped(tmp_path, kind) -> None:
    path = tmp_path / "a.mrc"
    data = voxels()
    with mrcfile.new(path) as mrc:
        mrc.set_data(data)
        mrc.set_extended_header(np.frombuffer(bytes(range(256)) * 9, dtype="V1"))
        mrc.header.exttyp = kind
    np.testing.assert_array_equal(read_volume(path).data, data)


def test_unsigned_bytes_of_old_imod(tmp_path) -> None:
    data = voxels(dtype="int8")
    unsigned = raw_mrc(tmp_path / "old.mrc", data, at152=IMOD_STAMP, at156=0)
    signed = raw_mrc(tmp_path / "new.mrc", data, at152=IMOD_STAMP, at156=1)
    unmarked = raw_mrc(tmp_path / "other.mrc", data)
    read = read_volume(unsigned).data
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, data.view(np.uint8))
    np.testing.assert_array_equal(read_volume(signed).data, data)
    np.testing.assert_array_equal(read_volume(unmarked).data, data)


def test_imod_flags_do_not_touch_other_modes(tmp_path) -> None:
    data = voxels(dtype="int16")
    path = raw_mrc(tmp_path / "a.mrc", data, at152=IMOD_STAMP, at156=0)
    np.testing.assert_array_equal(read_volume(path).data, data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("stamp", [0, 0x44440000, 0x11110000, 0x00004444])
def test_no_map_mark_and_a_wrong_stamp(tmp_path, order, stamp) -> None:
    data = voxels(dtype="int16").astype(np.dtype("int16").newbyteorder(order))
    path = raw_mrc(tmp_path / "old.mrc", data, at208=0, at212=stamp)
    np.testing.assert_array_equal(read_volume(path).data, data)


@pytest.mark.parametrize("codes", list(itertools.permutations((1, 2, 3))))
def test_axes_are_put_in_order(tmp_path, codes) -> None:
    data = voxels((4, 5, 6), dtype="int16")
    position_of = {"z": 0, "y": 1, "x": 2}
    stored_axes = [position_of["xyz"[code - 1]] for code in reversed(codes)]
    starts = [(10, 20, 30)[code - 1] for code in codes]
    path = raw_mrc(
        tmp_path / "a.mrc",
        np.ascontiguousarray(data.transpose(stored_axes)),
        **dict(zip(("mapc", "mapr", "maps"), codes, strict=True)),
        **dict(zip(("nxstart", "nystart", "nzstart"), starts, strict=True)),
        mx=6,
        my=5,
        mz=4,
        cella=(6 * 2.0, 5 * 3.0, 4 * 4.0),
    )
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, data)
    assert volume.data.flags.c_contiguous
    assert volume.header.shape == read_header(path).shape == (4, 5, 6)
    assert volume.header.voxel_size == (2, 3, 4)
    assert volume.header.nstart == (10, 20, 30)


@pytest.mark.parametrize("codes", [(0, 0, 0), (1, 1, 2)])
def test_axes_that_make_no_sense_are_as_stored(tmp_path, codes) -> None:
    mapc, mapr, maps = codes
    path = raw_mrc(tmp_path / "a.mrc", voxels(), mapc=mapc, mapr=mapr, maps=maps)
    np.testing.assert_array_equal(read_volume(path).data, voxels())


def test_bytes_after_the_voxels_are_ignored(tmp_path) -> None:
    path = raw_mrc(tmp_path / "a.mrc", voxels())
    path.write_bytes(path.read_bytes() + b"more")
    np.testing.assert_array_equal(read_volume(path).data, voxels())


@pytest.mark.parametrize(
    "fields", [{"cella": (0, 0, 0)}, {"mx": 0, "my": 0, "mz": 0}, {"cella": (np.nan, -1, np.inf)}]
)
def test_no_voxel_size_is_kept_as_none_and_told(tmp_path, caplog, fields) -> None:
    path = raw_mrc(tmp_path / "TS_01.mrc", voxels(), **fields)
    with caplog.at_level(logging.WARNING):
        assert read_header(path).voxel_size == (0, 0, 0)
    assert "TS_01.mrc" in caplog.text
    assert "voxel size" in caplog.text


def test_reading_needs_no_second_copy(tmp_path) -> None:
    data = voxels((40, 200, 200))
    for order in "<>":
        path = raw_mrc(tmp_path / "a.mrc", data.astype(data.dtype.newbyteorder(order)))
        tracemalloc.start()
        try:
            volume = read_volume(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        np.testing.assert_array_equal(volume.data, data)
        assert peak < 1.3 * data.nbytes


# --- files that are no tomogram ------------------------------------------------------------------


def refused(path: Path, message: str) -> None:
    """Both readers refuse `path`, name it, and say what to do."""
    for read in (read_volume, read_header):
        with pytest.raises(TomogramError, match=message) as caught:
            read(path)
        assert str(path) in caught.value.message
        assert caught.value.remedy


def test_missing_files(tmp_path) -> None:
    refused(tmp_path / "a.mrc", "does not exist")
    (tmp_path / "link.mrc").symlink_to(tmp_path / "nowhere.mrc")
    refused(tmp_path / "link.mrc", "link to a file that does not exist")
    refused(tmp_path, "is not a file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"MAP ", "only 4 bytes"),
        (b"# a text file about tomograms\n" * 100, "is not an MRC file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 8, "is not an MRC file"),
        (b"II*\x00" * 400, "is not an MRC file"),
        (bytes(2000), "no voxels"),
    ],
)
def test_other_files(tmp_path, content, message) -> None:
    path = tmp_path / "a.mrc"
    path.write_bytes(content)
    refused(path, message)


@pytest.mark.parametrize("missing", [1, 60, 480])
def test_cut_off(tmp_path, missing) -> None:
    path = raw_mrc(tmp_path / "a.mrc", voxels())
    path.write_bytes(path.read_bytes()[:-missing])
    refused(path, rf"cut off: {missing} of \d+ bytes are missing")


@pytest.mark.parametrize("module", [gzip, bz2])
def test_compressed_and_damaged(tmp_path, module) -> None:
    whole = raw_mrc(tmp_path / "a.mrc", voxels((20, 20, 20))).read_bytes()
    path = tmp_path / "b.mrc"
    path.write_bytes(module.compress(whole[:-100]))
    with pytest.raises(TomogramError, match="cut off: 100 of"):
        read_volume(path)
    packed = bytearray(module.compress(whole))
    path.write_bytes(packed[:-200])
    with pytest.raises(TomogramError, match=r"b\.mrc .*(damaged|cut off)"):
        read_volume(path)
    packed[len(packed) // 2 :] = bytes(len(packed) - len(packed) // 2)
    path.write_bytes(packed)
    with pytest.raises(TomogramError, match=r"b\.mrc .*(damaged|cannot be read)"):
        read_volume(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nx": 0}, "no voxels"),
        ({"nx": -6}, "not an MRC file"),
        ({"mode": 4}, "mode 4 .complex"),
        ({"mode": 3}, "mode 3 .complex"),
        ({"mode": 101}, "mode 101"),
        ({"mode": 9}, "mode 9"),
        ({"ispg": 401, "mz": 2}, "several volumes"),
    ],
)
def test_headers_that_cannot_be_used(tmp_path, fields, message) -> None:
    refused(raw_mrc(tmp_path / "a.mrc", voxels(), **fields), message)


def test_two_dimensional(tmp_path) -> None:
    refused(raw_mrc(tmp_path / "volume.mrc", voxels((1, 5, 6))), "two-dimensional")
    with mrcfile.new(tmp_path / "image.mrc", voxels((5, 6))):
        pass
    refused(tmp_path / "image.mrc", "two-dimensional")


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*MRC_TYPES, "uint8"])
def test_sound_values(dtype) -> None:
    check_values(voxels(dtype=dtype), "a.mrc")


def test_values_that_are_not_finite(monkeypatch) -> None:
    monkeypatch.setattr(preprocessing, "SLAB_VOXELS", 30)
    data = voxels()
    data[0, 0, 0], data[3, 1:3, 2], data[2, 2, 2] = np.nan, np.inf, -np.inf
    with pytest.raises(TomogramError, match=r"TS_01\.mrc holds 4 voxels of 120"):
        check_values(data, "TS_01.mrc")


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_constant_values(dtype) -> None:
    with pytest.raises(TomogramError, match=r"TS_01\.mrc has the same value \(7"):
        check_values(np.full((3, 4, 5), 7, dtype=dtype), Path("TS_01.mrc"))


# --- real files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TS_a", "TS_b", "TS_c", "TS_edge", "TS_small"])
def test_golden_tomograms(golden, tmp_path, name) -> None:
    path = golden / "inputs" / "tomograms" / f"{name}.mrc"
    volume = read_volume(path)
    with mrcfile.open(path) as mrc:
        np.testing.assert_array_equal(volume.data, mrc.data)
        assert volume.data.dtype == mrc.data.dtype
        assert volume.header.origin == mrc.header.origin.tolist()
        assert volume.header.mode == mrc.header.mode
    assert volume.header.voxel_size == pytest.approx((13.48,) * 3, abs=1e-4)
    check_values(volume.data, path)
    copy = tmp_path / "copy.mrc"
    header = volume.header
    write_mrc(
        copy,
        volume.data,
        voxel_size=header.voxel_size,
        origin=header.origin,
        nstart=header.nstart,
    )
    assert read_header(copy) == header


def test_real_lamella(shared) -> None:
    path = shared / "data" / "EMPIAR-11658" / "tomo_171.mrc"
    volume = read_volume(path)
    assert volume.header.shape == volume.data.shape == (128, 256, 256)
    assert volume.data.dtype == np.int8
    assert volume.header.voxel_size == pytest.approx((31.36,) * 3, abs=1e-4)
    check_values(volume.data, path)
