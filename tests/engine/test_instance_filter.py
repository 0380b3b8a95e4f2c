"""``instance_filter``: which instances lie in a part of the tomogram."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import numpy as np
import pandas as pd
import pytest
import yaml
from cryosiam_engine.cli import main
from cryosiam_engine.config import InstanceFilterConfig
from cryosiam_engine.hdf5 import write_datasets
from cryosiam_engine.instances import proximity
from cryosiam_engine.instances.proximity import ids_near
from cryosiam_engine.instances.table import measure_instances, write_tables
from cryosiam_engine.volume import read_header, write_mrc
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import expand_labels

SHAPE = (12, 20, 30)

Filter = Callable[..., tuple[int, str]]


def instances() -> np.ndarray:
    """Bars 2, 3, 5 and 9 along y, at x = 4, 10, 16 and 22."""
    volume = np.zeros(SHAPE, np.uint32)
    for label, x in ((2, 4), (3, 10), (5, 16), (9, 22)):
        volume[3:6, 2:18, x : x + 2] = label
    return volume


def mask() -> np.ndarray:
    """Class 1 touches bar 2, class 3 bars 5 and 9, class 4 is two voxels away from bar 3."""
    volume = np.zeros(SHAPE, np.uint8)
    volume[5, 17, 3:5] = 1
    volume[3, 5, 17:24] = 3
    volume[4, 8, 13] = 4
    return volume


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A prediction of instances and a semantic segmentation of the same tomogram."""
    out = tmp_path / "out"
    write_datasets(out / "TS_01_instance_preds.h5", {"instances": instances()})
    table = measure_instances(instances(), np.full(SHAPE, 0.25, np.float32))
    write_tables(table, out, "TS_01", nm3_per_voxel=3.0)
    write_datasets(tmp_path / "mask" / "TS_01_preds.h5", {"labels": mask()})
    return tmp_path


@pytest.fixture
def filter_by(folder: Path, capfd: pytest.CaptureFixture[str]) -> Filter:
    """Run instance_filter with a list of labels; give the exit code and what was said."""

    def run(labels: list[int], **changes: Any) -> tuple[int, str]:
        config = {
            "prediction_folder": str(folder / "out"),
            "filtering_mask_folder": str(folder / "mask"),
            "filtering_mask_labels": labels,
            **changes,
        }
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        code = main(["instance_filter", "--config_file", str(path)])
        return code, capfd.readouterr().err

    return run


def left(folder: Path) -> np.ndarray:
    with h5py.File(folder / "out_filtered" / "TS_01_instance_preds.h5") as file:
        return file["instances"][()]


def status(folder: Path) -> dict[str, Any]:
    path = folder / "out" / "status" / "instance_filter" / "TS_01.json"
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("labels", "expand", "kept"),
    [
        ([1], 0, [2]),
        ([3], 0, [5, 9]),
        ([1, 3], 0, [2, 5, 9]),
        ([4], 0, []),
        ([4], 1.9, []),
        ([4], 2, [3]),
        ([4, 77], 3, [3, 5]),
        ([4], 100, [2, 3, 5, 9]),
        ([0], 0, [2, 3, 5, 9]),
    ],
)
def test_instances_are_kept_whole_with_their_ids(
    labels: list[int], expand: float, kept: list[int], filter_by: Filter, folder: Path
) -> None:
    code, said = filter_by(labels, filtering_mask_expand_voxels=expand)
    assert code == 0, said
    before = instances()
    assert left(folder).dtype == before.dtype
    assert np.array_equal(left(folder), np.where(np.isin(before, kept), before, 0))
    summary = status(folder)["summary"]
    assert summary["n_instances"] == len(kept)
    assert summary["n_removed"] == 4 - len(kept)
    assert ("NOTHING LEFT" in said) == (not kept)


def test_tables_are_the_predictions_cut_down(filter_by: Filter, folder: Path) -> None:
    assert filter_by([3])[0] == 0
    filtered = folder / "out_filtered"
    for name in ("TS_01_particles.csv", "TS_01_instance_regions.csv"):
        before = pd.read_csv(folder / "out" / name).set_index("label")
        after = pd.read_csv(filtered / name).set_index("label")
        # Without tomogram or MRC the voxel size is not known here.
        before = before.drop(columns="volume_nm3", errors="ignore")
        pd.testing.assert_frame_equal(after, before.loc[[5, 9]])
    assert (filtered / "TS_01_instance_regions.star").is_file()
    kinds = [output["kind"] for output in status(folder)["outputs"]]
    assert kinds == ["instances", "particles", "regions", "star"]


@pytest.mark.parametrize("what", ["absent", "of other instances", "of other sizes", "of classes"])
def test_tables_that_do_not_fit_are_measured_anew(
    what: str, filter_by: Filter, folder: Path
) -> None:
    path = folder / "out" / "TS_01_particles.csv"
    table = pd.read_csv(path)
    path.unlink()
    if what == "of other instances":
        table.assign(label=table["label"] + 1).to_csv(path, index=False)
    elif what == "of other sizes":
        table.assign(area=table["area"] + 1).to_csv(path, index=False)
    elif what == "of classes":
        table[["label", "area"]].assign(semantic_class=1).to_csv(path, index=False)
    assert filter_by([3])[0] == 0
    after = pd.read_csv(folder / "out_filtered" / "TS_01_particles.csv")
    assert "score" not in after
    expected = measure_instances(left(folder))
    pd.testing.assert_frame_equal(after[list(expected)], expected)


def test_mrc_in_and_out(filter_by: Filter, folder: Path) -> None:
    out = folder / "out"
    (out / "TS_01_instance_preds.h5").unlink()
    write_mrc(
        out / "TS_01_instance_preds.mrc",
        instances().astype(np.uint16),
        voxel_size=(7.0, 8.0, 9.0),
        origin=(1.0, 2.0, 3.0),
    )
    write_mrc(folder / "mask" / "TS_01.mrc", (mask() == 1).astype(np.int8), voxel_size=7.0)
    code, said = filter_by([1], filtering_mask_extension=".mrc", output_format="mrc")
    assert code == 0, said
    filtered = folder / "out_filtered"
    assert not (filtered / "TS_01_instance_preds.h5").exists()
    path = filtered / "TS_01_instance_preds.mrc"
    assert set(np.unique(mrcfile.read(path))) == {0, 2}
    assert read_header(path).voxel_size == (7.0, 8.0, 9.0)
    assert read_header(path).origin == (1.0, 2.0, 3.0)
    particles = pd.read_csv(filtered / "TS_01_particles.csv")
    assert particles["volume_nm3"].tolist() == pytest.approx(particles["area"] * 0.504)


def test_our_own_mrc_masks(filter_by: Filter, folder: Path) -> None:
    """As semantic_predict writes them with output_format: mrc."""
    (folder / "mask" / "TS_01_preds.h5").unlink()
    write_mrc(folder / "mask" / "TS_01_preds.mrc", mask(), voxel_size=7.0)
    code, said = filter_by([3])
    assert code == 1 and "TS_01_preds.h5" in said and "filtering_mask_extension" in said
    assert filter_by([3], filtering_mask_extension=".mrc")[0] == 0
    assert set(np.unique(left(folder))) == {0, 5, 9}


def test_the_extension_says_which_mask(filter_by: Filter, folder: Path) -> None:
    write_mrc(folder / "mask" / "TS_01.rec", (mask() == 1).astype(np.int8), voxel_size=7.0)
    assert filter_by([1, 3], filtering_mask_extension=".rec")[0] == 0
    assert set(np.unique(left(folder))) == {0, 2}


def test_an_mrc_needs_a_voxel_size(filter_by: Filter, folder: Path) -> None:
    code, said = filter_by([3], output_format="both")
    assert code == 1 and "data_folder" in said
    write_mrc(folder / "data" / "TS_01.mrc", np.zeros(SHAPE, np.float32), voxel_size=5.0)
    assert filter_by([3], output_format="both", data_folder=str(folder / "data"))[0] == 0
    filtered = folder / "out_filtered"
    assert np.array_equal(mrcfile.read(filtered / "TS_01_instance_preds.mrc"), left(folder))
    assert read_header(filtered / "TS_01_instance_preds.mrc").voxel_size == (5.0, 5.0, 5.0)


def test_a_mask_of_another_shape(filter_by: Filter, folder: Path) -> None:
    write_datasets(folder / "mask" / "TS_01_preds.h5", {"labels": np.ones((4, 5, 6), np.uint8)})
    code, said = filter_by([1])
    assert code == 1
    for part in ("TS_01_preds.h5", "(4, 5, 6)", "TS_01_instance_preds.h5", str(SHAPE)):
        assert part in said
    assert not (folder / "out_filtered").exists()


def test_a_missing_mask_folder(filter_by: Filter, folder: Path) -> None:
    code, said = filter_by([1], filtering_mask_folder=str(folder / "absent"))
    assert code == 2 and "filtering_mask_folder" in said


def test_resumed(filter_by: Filter, folder: Path) -> None:
    """Finished ones are skipped until the mask, the instances or a setting changes."""
    filter_by([1])
    assert "skipped" in filter_by([1])[1]
    assert "skipped" not in filter_by([3])[1]
    assert set(np.unique(left(folder))) == {0, 5, 9}
    write_datasets(folder / "mask" / "TS_01_preds.h5", {"labels": np.zeros(SHAPE, np.uint8)})
    assert "NOTHING LEFT" in filter_by([3])[1]
    assert not left(folder).any()


def test_nothing_to_begin_with(filter_by: Filter, folder: Path) -> None:
    empty = np.zeros(SHAPE, np.uint32)
    write_datasets(folder / "out" / "TS_01_instance_preds.h5", {"instances": empty})
    code, said = filter_by([1])
    assert code == 0 and "no instance to begin with" in said


def test_where_the_result_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def filtered(folder: str) -> Path:
        config = InstanceFilterConfig(
            prediction_folder=folder, filtering_mask_folder="mask", filtering_mask_labels=[1]
        )
        return config.filtered_folder

    assert filtered("runs/out/") == Path("runs/out_filtered")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert filtered(".") == tmp_path / "here_filtered"


VOLUMES = st.tuples(st.integers(1, 14), st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(
        arrays(np.uint16, shape, elements=st.integers(0, 6)),
        arrays(np.bool_, shape, elements=st.sampled_from([False] * 9 + [True])),
    )
)
DISTANCES = st.one_of(
    st.floats(0, 20, allow_nan=False),
    st.integers(0, 60).map(math.sqrt),  # just at the distance of two voxels
)


@given(VOLUMES, DISTANCES, st.integers(1, 6))
@settings(deadline=None, max_examples=200)
def test_distances_are_exact(
    volumes: tuple[np.ndarray, np.ndarray], distance: float, sections: int
) -> None:
    """As the whole volume at once, in double precision, whatever the slabs."""
    volume, target = volumes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proximity, "_SECTIONS", sections)
        near = ids_near(volume, target, distance)
    to_target = distance_transform_edt(~target) if target.any() else np.full(target.shape, np.inf)
    expected = set(np.unique(volume[to_target <= distance])) - {0}
    assert set(np.flatnonzero(near)) == expected
    expanded = expand_labels(target.astype(np.uint8), distance) > 0
    assert set(np.unique(volume[expanded])) - {0} == expected, "as the original expands"
