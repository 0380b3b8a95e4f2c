from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from cryosiam_engine.centers import particle_centers
from cryosiam_engine.errors import ConfigurationError, OutputError
from cryosiam_engine.hdf5 import read_dataset
from cryosiam_engine.particles_table import (
    merge_tables,
    read_particles,
    tomogram_stem,
    write_class_tables,
)
from hypothesis import given
from hypothesis import strategies as st

COLUMNS = ["label", "area", "centroid-0", "centroid-1", "centroid-2", "tomo"]


def table(*rows: tuple) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=COLUMNS)
    numeric = dict.fromkeys(COLUMNS[1:5], float)
    return frame.astype({"label": "int64", **numeric, "tomo": str})


def star_lines(path: Path) -> list[str]:
    # The first line holds the time of writing.
    return path.read_text().splitlines()[1:]


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("11_semantic_to_centers", {"min_voxels": [3, 20, 40, 5]}),
        ("11b_semantic_to_centers_default", {}),
    ],
)
def test_files_are_those_of_the_original(
    golden: Path, tmp_path: Path, case: str, options: dict
) -> None:
    folder = golden / case / "out"
    by_class: dict[int, list[pd.DataFrame]] = {c: [] for c in range(1, 5)}
    # The order in which the original found the files.
    for stem in ("TS_small", "TS_c", "TS_a", "TS_b", "TS_edge"):
        labels = read_dataset(folder / f"{stem}_preds.h5", "labels")
        for c, found in particle_centers(labels, n_classes=5, **options).items():
            by_class[c].append(found.assign(tomo=stem))
    paths = write_class_tables({c: pd.concat(parts) for c, parts in by_class.items()}, tmp_path)
    assert [path.name for path in paths] == [
        name for c in range(1, 5) for name in (f"labels_{c}.csv", f"labels_{c}_particles.star")
    ]
    for path in paths:
        ours, theirs = path.read_bytes(), (folder / path.name).read_bytes()
        if path.suffix == ".star":
            ours, theirs = ours.split(b"\n", 1)[1], theirs.split(b"\n", 1)[1]
        assert sorted(ours.split(b"\n")) == sorted(theirs.split(b"\n"))
        head = 13 if path.suffix == ".star" else 1
        assert ours.split(b"\n")[: head - 1] == theirs.split(b"\n")[: head - 1]


def test_a_class_without_particles_gets_headed_files(tmp_path: Path) -> None:
    csv, star = write_class_tables({2: table()}, tmp_path / "new")
    assert csv.read_bytes() == b"label,area,centroid-0,centroid-1,centroid-2,tomo\n"
    assert [line for line in star_lines(star) if line.startswith("_")] == [
        "_rlnLabel #1",
        "_rlnArea #2",
        "_rlnCoordinateZ #3",
        "_rlnCoordinateY #4",
        "_rlnCoordinateX #5",
        "_rlnMicrographName #6",
    ]
    for path in (csv, star):
        assert len(read_particles(path)) == 0


def test_other_columns_are_not_written(tmp_path: Path) -> None:
    extra = table((1, 2, 3, 4, 5, "TS_1")).assign(score=0.5)
    csv, _ = write_class_tables({1: extra[["score", *reversed(COLUMNS)]]}, tmp_path)
    assert csv.read_text().splitlines() == [",".join(COLUMNS), "1,2.0,3.0,4.0,5.0,TS_1"]


def test_a_refused_write_leaves_the_old_files(tmp_path: Path) -> None:
    _, star = write_class_tables({1: table((1, 2, 3, 4, 5, "TS_1"))}, tmp_path)
    before = star.read_bytes()
    (tmp_path / "labels_1.csv").unlink()
    (tmp_path / "labels_1.csv").mkdir()
    with pytest.raises(OutputError, match=r"labels_1\.csv"):
        write_class_tables({1: table()}, tmp_path)
    assert star.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels_1.csv", star.name]


def test_merge_replaces_the_tomograms_searched_now(tmp_path: Path) -> None:
    earlier = table(
        (1, 10, 0.1, 0.2, 1 / 3, "TS_1"), (2, 9, 1, 1, 1, "TS_2"), (1, 8, 2, 2, 2, "TS_2")
    )
    csv, _ = write_class_tables({1: earlier}, tmp_path)
    new = table((3, 7, 3, 3, 3, "TS_0"), (1, 6, 4, 4, 4, "TS_0"))
    merged = merge_tables(csv, new, {"TS_0", "TS_1"})
    expected = table(
        (1, 6, 4, 4, 4, "TS_0"),
        (3, 7, 3, 3, 3, "TS_0"),
        (1, 8, 2, 2, 2, "TS_2"),
        (2, 9, 1, 1, 1, "TS_2"),
    )
    pd.testing.assert_frame_equal(merged, expected)


def test_merge_keeps_every_digit_and_numeric_names(tmp_path: Path) -> None:
    earlier = table((1, 3, 0.1 + 0.2, 1e-17, 2 / 3, "007"), (2, 3, 1, 1, 1, "NA"))
    csv, _ = write_class_tables({1: earlier}, tmp_path)
    before = csv.read_bytes()
    write_class_tables({1: merge_tables(csv, table(), {"8"})}, tmp_path)
    assert csv.read_bytes() == before


@pytest.mark.parametrize("earlier", [None, table()])
@pytest.mark.parametrize("new", [table(), table((1, 2, 3, 4, 5, "TS_1"))])
def test_merge_with_nothing_keeps_the_types(
    tmp_path: Path, earlier: pd.DataFrame | None, new: pd.DataFrame
) -> None:
    if earlier is not None:
        write_class_tables({1: earlier}, tmp_path)
    pd.testing.assert_frame_equal(merge_tables(tmp_path / "labels_1.csv", new, {"TS_1"}), new)


def test_merge_into_another_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "labels_1.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigurationError, match=r"labels_1\.csv lacks the columns label"):
        merge_tables(path, table(), set())


def test_read_back_what_was_written(tmp_path: Path) -> None:
    written = table((1, 10, 0.25, 1.5, 2, "01"), (2, 20, 3, 4, 5.125, "TS 2.5A"))
    for path in write_class_tables({1: written}, tmp_path):
        read = read_particles(path)
        assert list(read.columns) == [
            "centroid-0",
            "centroid-1",
            "centroid-2",
            "tomo",
            "label",
            "area",
        ]
        pd.testing.assert_frame_equal(read[COLUMNS], written, check_dtype=False)


def test_original_star_without_labels(golden: Path) -> None:
    read = read_particles(golden / "16_centers_star_nolabel/in/centers.star")
    assert list(read.columns) == ["centroid-0", "centroid-1", "centroid-2", "tomo"]
    assert set(read["tomo"]) == {"TS_small", "TS_a"}
    # Its rows are those of a table that the original wrote, to six decimals.
    source = read_particles(golden / "11_semantic_to_centers/out/labels_2.csv")
    for _, row in read.iterrows():
        same = source[source["tomo"] == row["tomo"]].iloc[:, :3].astype(float)
        distances = np.abs(same - row.iloc[:3].astype(float)).max(axis=1)
        assert distances.min() < 1e-6


def relion5(**columns: list) -> pd.DataFrame:
    xyz = {f"rlnCoordinate{axis}": [1.0, 2.0] for axis in "XYZ"}
    return pd.DataFrame({**xyz, "rlnTomoName": ["TS_1", "TS_2"], **columns})


def test_particles_block_of_several(tmp_path: Path) -> None:
    optics = pd.DataFrame({"rlnOpticsGroup": [1, 2]})
    particles = relion5(rlnClassNumber=[3, 4])
    starfile.write({"optics": optics, "particles": particles}, tmp_path / "p.star")
    read = read_particles(tmp_path / "p.star")
    assert read["tomo"].tolist() == ["TS_1", "TS_2"]
    assert read["semantic_class"].tolist() == [3, 4]


def test_several_blocks_without_particles(tmp_path: Path) -> None:
    starfile.write({"a": relion5(), "b": relion5()}, tmp_path / "p.star")
    with pytest.raises(ConfigurationError, match="2 tables"):
        read_particles(tmp_path / "p.star")


def test_kind_is_seen_from_the_content_without_a_known_suffix(tmp_path: Path) -> None:
    starfile.write(relion5(), tmp_path / "p.star")
    (tmp_path / "p.star").rename(tmp_path / "p.txt")
    table((1, 1, 2, 2, 2, "TS_9")).to_csv(tmp_path / "q.txt", index=False)
    assert read_particles(tmp_path / "p.txt")["tomo"].tolist() == ["TS_1", "TS_2"]
    assert read_particles(tmp_path / "q.txt")["tomo"].tolist() == ["TS_9"]


def test_missing_columns_are_named(tmp_path: Path) -> None:
    starfile.write(relion5().drop(columns=["rlnCoordinateY", "rlnTomoName"]), tmp_path / "p.star")
    with pytest.raises(ConfigurationError, match="rlnCoordinateY, rlnMicrographName") as caught:
        read_particles(tmp_path / "p.star")
    assert "p.star" in caught.value.message
    assert "rlnTomoName" in caught.value.remedy


@pytest.mark.parametrize("name", ["absent.csv", "absent.star", "absent", "folder.csv"])
def test_unreadable_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigurationError, match=name) as caught:
        read_particles(tmp_path / name)
    assert caught.value.remedy


@pytest.mark.parametrize("suffix", [".csv", ".star", ".dat"])
@pytest.mark.parametrize("content", [b"", bytes(range(256)) * 9, b"1,2\n1,2,3\n"])
def test_files_of_something_else(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"p{suffix}"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError):
        read_particles(path)


@pytest.mark.parametrize("value", ["", "here", "nan", "inf"])
def test_coordinates_that_are_no_numbers(tmp_path: Path, value: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f"centroid-0,centroid-1,centroid-2,tomo\n1,2,3,a\n1,{value},3,a\n")
    with pytest.raises(ConfigurationError, match=r"centroid-1 .*row 2"):
        read_particles(path)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("TS_01.mrc", "TS_01"),
        ("job7/tomograms/TS_01.rec", "TS_01"),
        ("TS_01.MRC.gz", "TS_01"),
        ("TS_01.tomostar", "TS_01"),
        ("TS_56_6.80Apx", "TS_56_6.80Apx"),
        ("TS_56_6.80Apx.mrc", "TS_56_6.80Apx"),
    ],
)
def test_tomogram_stem(name: str, stem: str) -> None:
    assert tomogram_stem(name) == stem


@given(st.from_regex(r"[A-Za-z0-9_]{1,8}(\.[0-9]{1,3})?", fullmatch=True))
def test_stem_of_a_stem_is_itself(stem: str) -> None:
    assert tomogram_stem(stem) == stem
    assert tomogram_stem(f"folder/{stem}.mrc") == stem
