from __future__ import annotations

import logging
import string
from pathlib import Path

import pytest
from cryosiam_engine.config import (
    CONFIGS,
    CentersConfig,
    DenoiseConfig,
    PostprocessingConfig,
    SemanticConfig,
    load_config,
    read_yaml,
    validate_keys,
)
from cryosiam_engine.config.keys import KNOWN_KEYS, PUBLISHED_MISSPELLINGS, suggestion
from cryosiam_engine.config.yaml_file import YamlDocument
from cryosiam_engine.errors import ConfigurationError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

DENOISING = """\
data_folder: '/scratch/set/tomograms'
log_dir: '/scratch/set/'
prediction_folder: '/scratch/set/denoised'
trained_model: '/scratch/models/cryosiam_denoising.ckpt'
file_extension: '.rec'
test_files: null
save_raw_predictions: True
scale_prediction: False
parameters:
  gpu_devices: [ 0 ]
  data:
    patch_size: [ 128, 128, 128 ]
    min: 0
    max: 1
    mean: null
    std: null
  network:
    in_channels: 1
    spatial_dims: 3
hyper_parameters:
  batch_size: 3
"""

LAMELLA = """\
data_folder: denoised
prediction_folder: lamella
trained_model: cryosiam_lamella.ckpt
save_internal_files: False
parameters:
  network:
    threshold: 0.9
    postprocessing: True
    3d_postprocessing: True
"""

PARTICLES = """\
data_folder: denoised
mask_folder: lamella
log_dir: logs
prediction_folder: particles
trained_model: cryosiam_semantic_myco_candidates.ckpt
test_files: [TS_01.mrc, TS_02.mrc]
parameters:
  gpu_devices: 1
  data: {patch_size: [128, 128, 128], min: 0, max: 1, mean: 0, std: 1}
  network:
    in_channels: 1
    spatial_dims: 3
    out_channels: 14
    threshold: 0.7
    min_voxels: 10
    postprocessing_sizes: [ -1, 5000, -1 ]
hyper_parameters:
  batch_size: 2
"""

TRAINING = """\
data_folder: denoised
labels_folder: labels
noisy_data_folder: null
patches_folder: patches
temp_dir: temp
log_dir: logs
prediction_folder: predictions
pretrained_model: dense_simsiam_pretrained.ckpt
train_files: [a.mrc]
val_files: null
validation_ratio: 0.1
continue_training: False
labels_folder_for_filtering: null
selected_labels: null
parameters:
  nodes: 1
  gpu_devices: 8
  data: {patch_size: [128, 128, 128], patch_overlap: 0.5, remove_only_background: False}
  transforms:
    low_pass_sigma_range: [ 0.1, 0.6 ]
    high_pass_sigma_range: [ 0.1, 0.2 ]
    high_pass_sigma2_range: [ 4, 6 ]
    noise_sigma_range: [ 0.01, 0.05 ]
    combine_transforms: False
    use_noisy_input: False
    scale_intensity_factors: null
    elastic: null
    zoom: [ 0.8, 1.2 ]
    rotate: [ 3.14, 3.14, 3.14 ]
    flip: True
  network:
    out_channels: 7
    dense_dim: 64
    filters: [ 32, 64 ]
    kernel_size: 3
    padding: 1
    distance_prediction: True
    use_dice_loss: True
    unfreeze_decoder: True
    unfreeze_backbone: True
hyper_parameters:
  cache_rate: 0
  replace_rate: 0
  val_interval: 1
  optimizer: adamw
  lr: 0.001
  momentum: 0.9
  weight_decay: 0.00001
  max_epochs: 200
"""


@pytest.fixture
def write(tmp_path: Path):
    def _write(text: str | bytes, name: str = "run.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write


def failure(path: Path, command: str = "semantic_predict") -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_config(path, command)
    assert caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message
    return caught.value


def test_a_documented_denoising_configuration_is_read_as_written(write):
    config = load_config(write(DENOISING), "denoise_predict")
    assert isinstance(config, DenoiseConfig)
    assert config.trained_model == Path("/scratch/models/cryosiam_denoising.ckpt")
    assert config.file_extension == ".rec"
    assert config.test_files is None
    assert config.save_raw_predictions
    assert not config.scale_prediction
    assert config.batch_size == 3
    assert (config.intensity.min, config.intensity.max) == (0, 1)
    assert config.intensity.mean is None
    assert config.intensity.std is None


def test_keys_that_are_left_out_or_null_take_the_documented_defaults(write):
    base = "data_folder: a\nprediction_folder: b\ntrained_model: m.ckpt\n"
    nulls = "file_extension:\nscale_prediction:\nparameters:\nhyper_parameters: {batch_size: }\n"
    short = load_config(write(base), "denoise_predict")
    assert short == load_config(write(base + nulls), "denoise_predict")
    assert short.scale_prediction
    assert not short.save_raw_predictions
    assert short.batch_size == 1
    assert short.file_extension == ".mrc"
    assert short.tiling == "auto"
    assert vars(short.intensity) == {"min": 0, "max": 1, "mean": 0, "std": 1}


def test_a_documented_lamella_configuration(write):
    config = load_config(write(LAMELLA), "semantic_predict")
    assert isinstance(config, SemanticConfig)
    assert config.threshold == 0.9
    assert config.postprocessing
    assert config.hull_3d
    assert config.mask_folder is None
    assert config.output_format == "h5"


def test_one_documented_file_serves_all_commands_of_particle_identification(write):
    path = write(PARTICLES)
    semantic = load_config(path, "semantic_predict")
    assert semantic.mask_folder == Path("lamella")
    assert semantic.test_files == ["TS_01.mrc", "TS_02.mrc"]
    sizes = load_config(path, "semantic_postprocessing")
    assert isinstance(sizes, PostprocessingConfig)
    assert sizes.postprocessing_sizes == [-1, 5000, -1]
    centers = load_config(path, "semantic_to_centers")
    assert isinstance(centers, CentersConfig)
    assert (centers.out_channels, centers.min_voxels) == (14, 10)


def test_the_tutorials_misspelt_key_counts_and_is_reported(write, caplog):
    path = write(PARTICLES.replace("out_channels", "out_chanels"))
    with caplog.at_level(logging.WARNING):
        assert load_config(path, "semantic_to_centers").out_channels == 14
    assert "out_chanels (line 13) is read as out_channels" in caplog.text
    both = PARTICLES.replace("    threshold", "    out_chanels: 3\n    threshold")
    assert "Did you mean out_channels?" in failure(write(both)).message


def test_training_keys_are_known(write):
    validate_keys(read_yaml(write(TRAINING)))


def test_every_configuration_of_the_original_is_understood(golden, monkeypatch):
    monkeypatch.chdir(golden)
    parsed = set()
    for path in sorted(Path().glob("*/config.yaml")):
        validate_keys(read_yaml(path))
        words = (path.parent / "command.txt").read_text().split()
        for command in set(words) & set(CONFIGS):
            config = load_config(path, command)
            values = read_yaml(path).values
            assert config.prediction_folder == Path(values["prediction_folder"])
            assert config.test_files == values["test_files"]
            if isinstance(config, SemanticConfig | DenoiseConfig):
                config.check_paths()
                assert config.batch_size == values["hyper_parameters"]["batch_size"]
                assert config.intensity.mean == values["parameters"]["data"]["mean"]
            parsed.add(command)
    of_ours = {"simsiam_embeddings_hdbscan_clustering", "simsiam_embeddings_map"}
    training = {
        name for name in CONFIGS if name.startswith(("semantic_train", "semantic_filter", "train"))
    }
    assert parsed == set(CONFIGS) - of_ours - training


def test_unused_keys_are_only_logged_for_debugging(write, caplog):
    with caplog.at_level(logging.DEBUG, "cryosiam_engine.config"):
        load_config(write(DENOISING), "denoise_predict")
    records = [r for r in caplog.records if "no effect" in r.getMessage()]
    assert {r.levelno for r in records} == {logging.DEBUG}
    unused = " ".join(r.getMessage() for r in records)
    assert "parameters.data.patch_size has no effect" in unused
    assert "trained_model has" not in unused
    assert "parameters has" not in unused


def test_a_configuration_cannot_be_changed(write):
    config = load_config(write(LAMELLA), "semantic_predict")
    with pytest.raises(ValidationError):
        config.threshold = 0.5


# --- names ---------------------------------------------------------------------------------------


def test_the_usual_typo(write):
    text = LAMELLA.replace("threshold: 0.9", "treshold: 0.9")
    error = failure(write(text))
    assert error.message.endswith(
        "unknown key parameters.network.treshold (line 7). Did you mean threshold?"
    )


def test_a_key_of_another_section_is_sent_there(write):
    text = LAMELLA + "threshold: 0.9\nbatch_size: 2\nnetwork: {mask_folder: a}\n"
    message = failure(write(text)).message
    assert "unknown key threshold (line 10). It belongs under parameters.network." in message
    assert "unknown key batch_size (line 11). It belongs under hyper_parameters." in message
    assert "unknown key network (line 12). It belongs under parameters." in message
    nested = LAMELLA.replace("    threshold", "    mask_folder: a\n    threshold")
    assert "It belongs at the top level." in failure(write(nested)).message


def test_a_key_like_no_other_gets_no_suggestion(write):
    message = failure(write(LAMELLA + "xyzzy: 1\n")).message
    assert message.endswith("unknown key xyzzy (line 10).")


@pytest.mark.parametrize("key", ["1", "no", "null", "1.5", "2020-01-01"])
def test_a_key_that_is_no_text_is_unknown(write, key):
    assert "unknown key" in failure(write(f"{LAMELLA}{key}: 1\n")).message


@pytest.mark.parametrize("value", ["3", "[1, 2]", "text"])
def test_a_section_without_keys(write, value):
    error = failure(write(f"trained_model: a\nparameters: {value}\n"))
    assert "parameters (line 2) is a section" in error.message


@pytest.mark.parametrize(
    ("section", "typo", "meant"),
    [
        (("parameters", "data"), "mai", "max"),
        (("parameters", "data"), "sd", "std"),
        (("hyper_parameters",), "l", "lr"),
        (("hyper_parameters",), "rl", "lr"),
        (("hyper_parameters",), "x", ""),
    ],
)
def test_short_keys_are_recognised_too(section, typo, meant):
    assert suggestion(typo, section) == (f" Did you mean {meant}?" if meant else "")


def typos(word: str) -> st.SearchStrategy[str]:
    letters = st.sampled_from(string.ascii_lowercase + string.digits + "_")
    places = st.integers(0, len(word) - 1)
    return st.one_of(
        st.builds(lambda i: word[:i] + word[i + 1 :], places),
        st.builds(lambda i, c: word[:i] + c + word[i:], st.integers(0, len(word)), letters),
        st.builds(lambda i, c: word[:i] + c + word[i + 1 :], places, letters),
        st.builds(lambda i: word[:i] + word[i : i + 2][::-1] + word[i + 2 :], places),
    )


SECTION_AND_KEY = sorted((section, key) for section, keys in KNOWN_KEYS.items() for key in keys)


@given(st.sampled_from(SECTION_AND_KEY).flatmap(lambda k: st.tuples(st.just(k), typos(k[1]))))
@settings(max_examples=400, deadline=None)
def test_any_one_letter_typo_is_refused_with_the_right_name(case):
    (section, key), typo = case
    if any(typo in keys for keys in KNOWN_KEYS.values()):
        return
    values = {typo: 1}
    for name in reversed(section):
        values = {name: values}
    with pytest.raises(ConfigurationError) as caught:
        validate_keys(YamlDocument(Path("run.yaml"), values, {}))
    name, _, suggested = caught.value.message.partition(". Did you mean ")
    assert name.endswith(".".join((*section, typo)))
    # "mix" may be min or max: any key that this typo can come from is right.
    others = [k for k in KNOWN_KEYS[section] if f"{k}?" == suggested]
    assert others, caught.value.message
    assert others == [key] or _distance(others[0], typo) <= 1 or _is_swap(others[0], typo)


def _distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(row[-1] + 1, previous[j] + 1, previous[j - 1] + (x != y)))
    return row[-1]


def _is_swap(a: str, b: str) -> bool:
    return sorted(a) == sorted(b) and sum(x != y for x, y in zip(a, b, strict=True)) == 2


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "line", "message"),
    [
        (
            "semantic_predict",
            "parameters: {network: {threshold: high}}",
            'parameters.network.threshold: expected a number between 0 and 1, got "high" (line 4)',
        ),
        (
            "semantic_predict",
            "parameters:\n  network:\n    threshold: 1.01",
            "parameters.network.threshold: expected a number between 0 and 1, got 1.01 (line 6)",
        ),
        (
            "semantic_predict",
            "parameters: {network: {threshold: True}}",
            "expected a number between 0 and 1, got True",
        ),
        (
            "semantic_predict",
            "parameters: {network: {threshold: .nan}}",
            "expected a number between 0 and 1, got nan",
        ),
        (
            "denoise_predict",
            "hyper_parameters: {batch_size: 0}",
            "hyper_parameters.batch_size: expected a whole number of 1 or more, got 0 (line 4)",
        ),
        ("denoise_predict", "hyper_parameters: {batch_size: 2.5}", "got 2.5"),
        ("denoise_predict", "scale_prediction: maybe", 'expected True or False, got "maybe"'),
        (
            "denoise_predict",
            "parameters: {data: {std: -1}}",
            "parameters.data.std: expected a number of 0 or more, or null, got -1",
        ),
        (
            "denoise_predict",
            "parameters: {data: {min: null}}",
            "parameters.data.min: expected a number, got null",
        ),
        ("denoise_predict", "test_files: TS_01.mrc", "a list of file names (numbers in quotes)"),
        ("denoise_predict", "test_files: [TS_01.mrc, 20240101]", "got ['TS_01.mrc', 20240101]"),
        ("denoise_predict", "file_extension: a/b", "file_extension: expected a file ending"),
        ("denoise_predict", "tiling: 64", "tiling: expected auto or reference, got 64"),
        ("semantic_predict", "output_format: tiff", 'expected h5, mrc or both, got "tiff"'),
        (
            "semantic_postprocessing",
            "parameters: {network: {postprocessing_sizes: 30}}",
            "expected a list of whole numbers",
        ),
        (
            "semantic_postprocessing",
            "parameters: {network: {postprocessing_sizes: [-1, 2.5]}}",
            "got [-1, 2.5]",
        ),
        (
            "semantic_to_centers",
            "parameters: {network: {min_voxels: [3, many]}}",
            "parameters.network.min_voxels: expected a number of 0 or more, or a list of them",
        ),
        ("semantic_to_centers", "parameters: {network: {min_voxels: -1}}", "got -1"),
        ("semantic_to_centers", "parameters: {network: {out_channels: 0}}", "got 0"),
    ],
)
def test_a_wrong_value_is_quoted_with_what_was_expected(write, command, line, message):
    text = f"data_folder: a\nprediction_folder: b\ntrained_model: m.ckpt\n{line}\n"
    error = failure(write(text), command)
    assert message in error.message
    assert error.remedy


def test_each_wrong_value_is_reported_once_and_all_of_them_together(write):
    network = "parameters: {network: {min_voxels: [a, b], out_channels: many}}\n"
    message = failure(write(f"prediction_folder: 3\n{network}"), "semantic_to_centers").message
    assert message.count("expected") == 3
    assert message.count("min_voxels") == 1


def test_numbers_that_yaml_takes_for_text_are_numbers(write):
    text = LAMELLA.replace("0.9", "9e-1")
    assert load_config(write(text), "semantic_predict").threshold == 0.9


def test_missing_keys_are_listed_with_examples(write):
    error = failure(write("file_extension: .mrc\n"))
    for key in (
        "data_folder",
        "prediction_folder",
        "trained_model",
        "parameters.network.threshold",
    ):
        assert f"{key} is missing" in error.message
    assert "'threshold: 0.9' under parameters.network" in error.remedy
    assert (
        "postprocessing_sizes is missing"
        in failure(write("prediction_folder: a\n"), "semantic_postprocessing").message
    )


def test_commands_on_labels_need_neither_tomograms_nor_a_model(write):
    config = load_config(write("prediction_folder: a\n"), "semantic_to_centers")
    assert config.data_folder is None
    assert config.min_voxels == 100


def test_an_unknown_command_is_refused_by_name(write):
    with pytest.raises(ConfigurationError, match="denoise_train"):
        load_config(write(DENOISING), "denoise_train")


# --- paths ---------------------------------------------------------------------------------------


def test_home_is_expanded_and_a_dollar_sign_is_not(write, monkeypatch):
    monkeypatch.setenv("HOME", "/people/ada")
    text = "data_folder: ~/a\nprediction_folder: $HOME/b\ntrained_model: ~nobody here/${HOME}\n"
    config = load_config(write(text), "denoise_predict")
    assert config.data_folder == Path("/people/ada/a")
    assert config.prediction_folder == Path("$HOME/b")
    assert config.trained_model == Path("~nobody here/${HOME}")


def test_a_folder_may_have_the_name_of_a_variable(write, tmp_path):
    for name in ("$HOME", "$NO_SUCH"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.ckpt").touch()
        text = f"data_folder: {tmp_path}/{name}\nprediction_folder: {tmp_path}/{name}/out\n"
        text += f"trained_model: {tmp_path}/{name}/model.ckpt\n"
        load_config(write(text), "denoise_predict").check_paths()


@pytest.mark.parametrize(("given_value", "kept"), [("mrc", ".mrc"), (".mrc.gz", ".mrc.gz")])
def test_the_dot_of_the_extension_may_be_left_out(write, given_value, kept):
    text = LAMELLA + f"file_extension: {given_value}\n"
    assert load_config(write(text), "semantic_predict").file_extension == kept


@pytest.mark.parametrize("value", ["''", "null", "~"])
def test_an_empty_mask_folder_is_no_mask(write, value):
    config = load_config(write(LAMELLA + f"mask_folder: {value}\n"), "semantic_predict")
    assert config.mask_folder is None


def test_results_may_not_overwrite_their_input(write, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "raw")
    raw = f"data_folder: {tmp_path}/raw\nprediction_folder: {tmp_path}/link/\ntrained_model: m\n"
    error = failure(write(raw), "denoise_predict")
    assert "prediction_folder and data_folder are the same" in error.message
    semantic = raw + "parameters: {network: {threshold: 0.5}}\n"
    load_config(write(semantic), "semantic_predict")  # HDF5 beside the tomograms does no harm
    for key in ("save_original_file_extension: True", "output_format: both"):
        assert "data_folder are the same" in failure(write(f"{semantic}{key}\n")).message
    masked = f"{semantic}mask_folder: {tmp_path}/raw\n"
    assert "mask_folder are the same" in failure(write(masked)).message


def test_paths_are_checked_apart_from_parsing(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(write(LAMELLA + "mask_folder: masks\n"), "semantic_predict")
    with pytest.raises(ConfigurationError, match=r"trained_model: no such file: cryosiam_lam"):
        config.check_paths()
    Path("cryosiam_lamella.ckpt").touch()
    with pytest.raises(ConfigurationError, match="mask_folder: no such folder: masks"):
        config.check_paths()
    Path("masks").mkdir()
    config.check_paths()


# --- hash ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("[TS_01.mrc, TS_02.mrc]", "[TS_01.mrc, TS_02.mrc, TS_03.mrc]", True),
        ("batch_size: 2", "batch_size: 7", True),
        ("data_folder: denoised", "data_folder: elsewhere", True),
        ("prediction_folder: particles", "prediction_folder: elsewhere", True),
        ("myco_candidates.ckpt", "renamed.ckpt", True),
        ("threshold: 0.7", "threshold: 0.70", True),
        ("log_dir: logs", "log_dir: other", True),
        ("log_dir: logs", "tiling: reference", True),
        ("threshold: 0.7", "threshold: 0.71", False),
        ("mask_folder: lamella", "mask_folder: other", False),
        ("min: 0", "min: 0.1", False),
        ("mean: 0", "mean: null", False),
        ("log_dir: logs", "save_internal_files: True", False),
        ("log_dir: logs", "output_format: mrc", False),
    ],
)
def test_the_hash_changes_only_with_the_result(write, before, after, same):
    assert PARTICLES.count(before) == 1
    one = load_config(write(PARTICLES), "semantic_predict").sha256()
    other = load_config(write(PARTICLES.replace(before, after)), "semantic_predict").sha256()
    assert len(one) == 64
    assert (one == other) is same


def test_the_hash_of_a_relative_mask_folder_depends_on_where_it_is(write, tmp_path, monkeypatch):
    config = load_config(write(PARTICLES), "semantic_predict")
    monkeypatch.chdir(tmp_path)
    here = config.sha256()
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    assert config.sha256() != here


def test_commands_have_different_hashes(write):
    path = write(PARTICLES)
    follow_ups = ("semantic_predict", "semantic_postprocessing", "semantic_to_centers")
    commands = ("denoise_predict", *follow_ups)
    assert len({load_config(path, command).sha256() for command in commands}) == 4


# --- the file itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the configuration is empty"),
        ("# only a comment\n", "the configuration is empty"),
        ("- a\n- b\n", "expected lines of the form 'key: value', got list"),
        ("just words\n", "got str"),
        ("a: 1\nparameters:\n\tdata: 1\n", "line 3: not valid YAML: a tab character"),
        ("a: 1\nb: [1, 2\nc: 3\n", "line 3: not valid YAML"),
        ("trained_model: a: b\n", "line 1: not valid YAML: mapping values are not allowed"),
        ("a: 1\n---\nb: 2\n", "line 2: not valid YAML"),
        ("a: 1\nb: \x00\n", "line 2: not valid YAML: a character that text files do not have"),
        (b"a: 1\nb: \xff\xfe\n", "line 2 is not UTF-8 text"),
        ("data_folder: a\nb: 1\ndata_folder: c\n", "data_folder is given twice (lines 1 and 3)"),
        (
            "parameters:\n  network:\n    threshold: 1\n    threshold: 0\n",
            "parameters.network.threshold is given twice (lines 3 and 4)",
        ),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1: not valid YAML"),
        ("a: !!int many\n", "not valid YAML"),
        ("a: 2020-13-45\n", "not valid YAML"),
        ("[" * 3000, "nested too deeply"),
        ("a: " + "x" * 1_000_001, "too large to be a configuration"),
    ],
)
def test_a_file_that_is_no_configuration(write, text, message):
    error = failure(write(text))
    assert message in error.message
    assert error.remedy


def test_a_tab_has_its_own_remedy(write):
    assert "spaces" in failure(write("a:\n\tb: 1\n")).remedy


def test_files_that_cannot_be_read(tmp_path):
    assert "no such configuration file" in failure(tmp_path / "none.yaml").message
    assert "is a folder" in failure(tmp_path).message
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    assert "cannot be read" in failure(tmp_path / "loop.yaml").message


def test_a_byte_order_mark_does_no_harm(write):
    config = load_config(write(b"\xef\xbb\xbf" + LAMELLA.encode()), "semantic_predict")
    assert config.data_folder == Path("denoised")


def test_anchors_and_merges_are_yaml_too(write):
    text = (
        "data_folder: a\nprediction_folder: b\ntrained_model: m\n"
        "parameters:\n  network: {threshold: &t 0.3}\nhyper_parameters: {lr: *t}\n"
    )
    assert load_config(write(text), "semantic_predict").threshold == 0.3
    listed = "hyper_parameters: {optimizer: [{lr: 1}, {lr: 2}]}\n"
    assert load_config(write(LAMELLA + listed), "semantic_predict").batch_size == 1
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(c)}: &{chr(c)} [{', '.join(['*' + chr(c - 1)] * 9)}]\n" for c in range(98, 118)
    )
    assert "unknown key" in failure(write(bomb)).message
    assert "expected" in failure(write("test_files: &a [*a]\n")).message


@given(st.text(max_size=200) | st.binary(max_size=100))
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_content_raises_anything_but_our_error(tmp_path, content):
    path = tmp_path / "fuzz.yaml"
    path.write_bytes(
        content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    )
    try:
        load_config(path, "denoise_predict")
    except ConfigurationError as error:
        assert str(path) in error.message


def test_the_misspellings_are_not_known_keys():
    for *section, wrong in PUBLISHED_MISSPELLINGS:
        assert wrong not in KNOWN_KEYS[tuple(section)]
