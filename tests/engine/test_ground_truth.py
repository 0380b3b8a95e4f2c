from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cryosiam_engine.config.training import GroundTruthConfig
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.training.ground_truth import run, select_labels
from cryosiam_engine.volume import read_header, read_volume
from scipy import ndimage
from training_files import ARGS, blobs, load, write_labels  # noqa: F401


def test_one_label_becomes_a_mask_grown_by_one_voxel() -> None:
    labels = blobs((20, 24, 28), 4)
    expected = ndimage.binary_dilation(labels == 3)  # the six neighbours
    found = select_labels(labels, [3])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_several_labels_keep_their_classes_in_the_given_order() -> None:
    labels = np.zeros((9, 9, 20), np.int16)
    labels[4, 4, 3], labels[4, 4, 10], labels[4, 4, 16] = 700, 5, 6
    found = select_labels(labels, [700, 5])
    assert np.unique(found).tolist() == [0, 1, 2]
    for index, x in ((1, 3), (2, 10)):
        places = np.argwhere(found == index)
        assert len(places) == 7
        assert places.mean(axis=0).tolist() == [4, 4, x]


def test_no_class_takes_the_voxels_of_another() -> None:
    labels = blobs((20, 24, 28), 4)
    found = select_labels(labels, [2, 1])
    assert (found[labels == 2] == 1).all()
    assert (found[labels == 1] == 2).all()


def test_the_command(tmp_path: Path, load: Any) -> None:  # noqa: F811
    source = tmp_path / "all_labels"
    labels = blobs((12, 14, 16), 3)
    write_labels(source, "TS_1", labels)
    write_labels(source, "TS_2", np.where(labels == 2, 0, labels).astype(np.uint8))
    write_labels(source, "TS_3", labels / np.float32(2))  # probabilities, not labels
    config = load(GroundTruthConfig, selected_labels=[2, 1])
    report = run(config, ARGS)
    assert (sorted(report.done), list(report.failed)) == (["TS_1", "TS_2"], ["TS_3"])
    assert report.exit_code == 1
    written = tmp_path / "labels" / "TS_1.mrc"
    np.testing.assert_array_equal(read_volume(written).data, select_labels(labels, [2, 1]))
    one, other = read_header(written), read_header(source / "TS_1.mrc")
    assert (one.voxel_size, one.origin) == (other.voxel_size, other.origin)
    table = pd.read_csv(tmp_path / "labels" / "label_mapping.csv")
    assert table.to_dict("list") == {"label": [2, 1], "class": [1, 2]}
    status_file = tmp_path / "labels" / "status" / config.command / "TS_2.json"
    assert "label 2" in json.loads(status_file.read_text())["warnings"][0]
    # Nothing is computed twice; another choice is another result.
    assert sorted(run(config, ARGS).skipped) == ["TS_1", "TS_2"]
    assert run(load(GroundTruthConfig, selected_labels=[1, 2]), ARGS).skipped == []


def test_nonsense_is_refused(tmp_path: Path, load: Any) -> None:  # noqa: F811
    same = str(tmp_path / "labels")
    with pytest.raises(ConfigurationError, match="are the same"):
        load(GroundTruthConfig, labels_folder_for_filtering=same)
    with pytest.raises(ConfigurationError, match="names one twice"):
        load(GroundTruthConfig, selected_labels=[1, 1])
    with pytest.raises(ConfigurationError, match="expected a list of whole numbers of 1 or more"):
        load(GroundTruthConfig, selected_labels=[0])
    with pytest.raises(ConfigurationError, match="labels_folder is missing"):
        load(GroundTruthConfig, labels_folder=None)
    with pytest.raises(ConfigurationError, match="no such folder"):
        run(load(GroundTruthConfig), ARGS)
    (tmp_path / "all_labels").mkdir()
    with pytest.raises(ConfigurationError, match=r"has no file that ends with \.mrc"):
        run(load(GroundTruthConfig), ARGS)
