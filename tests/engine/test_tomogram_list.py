from __future__ import annotations

from pathlib import Path

import pytest
from cryosiam_engine.config import CentersConfig, DenoiseConfig, PostprocessingConfig
from cryosiam_engine.config.tomogram_list import list_tomograms, stem_of
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.files import PARTIAL_MARK
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def config(data: Path, **values) -> DenoiseConfig:
    return DenoiseConfig(
        data_folder=data, prediction_folder=data.parent / "out", trained_model="m.ckpt", **values
    )


def labels_config(data: Path | None, results: Path, **values) -> CentersConfig:
    return CentersConfig(data_folder=data, prediction_folder=results, **values)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    ("name", "extension", "stem"),
    [
        ("data.mrc/TS_01.mrc", ".mrc", "TS_01"),
        ("TS_01.mrc_bin4.mrc", ".mrc", "TS_01.mrc_bin4"),
        ("TS_56_6.80Apx.mrc", ".mrc", "TS_56_6.80Apx"),
        ("TS_01_rec.mrc", "_rec.mrc", "TS_01"),
        ("TS_01.mrc.gz", ".mrc.gz", "TS_01"),
        ("TS_01.mrc.gz", ".mrc", "TS_01"),
        ("TS_01.rec.bz2", ".mrc", "TS_01"),
        ("TS_01.rec", ".mrc", "TS_01"),
        ("TS_01", ".mrc", "TS_01"),
        (".mrc", ".mrc", ".mrc"),
    ],
)
def test_only_the_suffix_is_cut(name, extension, stem):
    assert stem_of(name, extension) == stem
    assert stem_of(Path(name), extension) == stem


@given(st.text("abAB01._-", min_size=1), st.sampled_from([".mrc", ".rec", ".mrc.gz", ".st"]))
def test_the_extension_of_a_stem_can_be_cut_again(stem, extension):
    assert stem_of(stem + extension, extension) == stem


def test_all_files_of_the_folder_sorted(data):
    touch(data, "b.mrc", "a.mrc", "c.rec", ".hidden.mrc", f".x{PARTIAL_MARK}12.mrc")
    touch(data, f"x{PARTIAL_MARK}12.mrc")
    (data / "folder.mrc").mkdir()
    assert list_tomograms(config(data)) == [data / "a.mrc", data / "b.mrc"]
    assert list_tomograms(config(data, file_extension=".rec")) == [data / "c.rec"]


def test_a_broken_link_is_listed_so_that_it_fails_aloud(data):
    (data / "a.mrc").symlink_to(data / "gone.mrc")
    assert list_tomograms(config(data)) == [data / "a.mrc"]


def test_the_command_line_goes_before_test_files_before_the_folder(data):
    touch(data, "a.mrc", "b.mrc", "c.mrc")
    listed = config(data, test_files=["b.mrc", "a.mrc"])
    assert list_tomograms(listed) == [data / "b.mrc", data / "a.mrc"]
    assert list_tomograms(listed, ["c.mrc"]) == [data / "c.mrc"]


def test_names_may_be_absolute_without_extension_or_missing(data, tmp_path):
    touch(data, "a.mrc", "TS_6.80Apx.mrc")
    touch(tmp_path, "elsewhere.mrc")
    names = [str(tmp_path / "elsewhere.mrc"), "a", "TS_6.80Apx", "missing.mrc", "other.rec"]
    assert list_tomograms(config(data), names) == [
        tmp_path / "elsewhere.mrc",
        data / "a.mrc",
        data / "TS_6.80Apx.mrc",
        data / "missing.mrc",
        data / "other.rec",
    ]


def test_a_repeated_name_counts_once(data):
    assert list_tomograms(config(data), ["a.mrc", "b.mrc", "a.mrc"]) == [
        data / "a.mrc",
        data / "b.mrc",
    ]


def test_two_tomograms_of_one_name_are_refused(data, tmp_path):
    with pytest.raises(ConfigurationError, match="Two tomograms are called a: ") as caught:
        list_tomograms(config(data), ["a.mrc", str(tmp_path / "a.mrc")])
    assert str(data / "a.mrc") in caught.value.message
    with pytest.raises(ConfigurationError, match="are called a"):
        list_tomograms(config(data), ["a.mrc", "a.rec"])


def test_no_tomograms_at_all(data, tmp_path):
    with pytest.raises(ConfigurationError, match=r"no file that ends with \.mrc") as caught:
        list_tomograms(config(data))
    assert caught.value.remedy == "Check data_folder and file_extension."
    touch(data, "a.rec", "b.rec", "notes.txt")
    with pytest.raises(ConfigurationError) as caught:
        list_tomograms(config(data))
    assert "2 that end with .rec" in caught.value.remedy
    with pytest.raises(ConfigurationError, match="test_files is an empty list"):
        list_tomograms(config(data, test_files=[]))
    with pytest.raises(ConfigurationError, match="data_folder cannot be listed"):
        list_tomograms(config(tmp_path / "absent"))


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_an_odd_name_is_kept_to_fail_alone(data, name):
    assert len(list_tomograms(config(data), [name])) == 1


def test_commands_on_labels_take_what_was_predicted(data, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    touch(results, "TS_2_preds.h5", "TS_1_preds.mrc", "TS_3.mrc", "embeddings.h5", "labels_1.csv")
    touch(data, "TS_9.mrc")
    expected = [data / "TS_1.mrc", data / "TS_2.mrc", data / "TS_3.mrc"]
    assert list_tomograms(labels_config(data, results)) == expected
    stems = [stem_of(p, ".mrc") for p in list_tomograms(labels_config(None, results))]
    assert stems == ["TS_1", "TS_2", "TS_3"]
    sizes = PostprocessingConfig(prediction_folder=results, postprocessing_sizes=[-1])
    assert [p.name for p in list_tomograms(sizes)] == ["TS_1.mrc", "TS_2.mrc", "TS_3.mrc"]


def test_a_label_name_without_extension_needs_no_tomogram(tmp_path):
    touch(tmp_path, "TS_6.80Apx_preds.h5")
    (path,) = list_tomograms(labels_config(None, tmp_path), ["TS_6.80Apx"])
    assert stem_of(path, ".mrc") == "TS_6.80Apx"


def test_a_folder_without_labels(tmp_path):
    touch(tmp_path, "embeddings.h5")
    with pytest.raises(ConfigurationError, match="no predicted labels") as caught:
        list_tomograms(labels_config(None, tmp_path))
    assert "semantic_predict" in caught.value.remedy


def test_the_labels_of_the_original(golden):
    results = golden / "06_semantic_masked" / "out"
    tomograms = golden / "inputs" / "tomograms"
    predicted = {p.name for p in list_tomograms(labels_config(tomograms, results))}
    assert predicted == {p.name for p in list_tomograms(config(tomograms))}
