"""The command line as a user meets it: what it prints, what it leaves, what it returns."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch
from cryosiam_engine.cli import main
from cryosiam_engine.files import PARTIAL_MARK
from cryosiam_engine.volume import read_header, write_mrc
from scipy import ndimage

Write = Callable[..., Path]


def status(folder: Path, stem: str) -> dict:
    return json.loads((folder / "status" / f"{stem}.json").read_text())


def partial_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if PARTIAL_MARK in path.name]


def run(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    code = main([*map(str, arguments)])
    return code, capfd.readouterr().err


# ---- help ----------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy() -> None:
    """So that it answers at once, on a login node too."""
    code = (
        "import sys; sys.argv = ['x', '--help']\n"
        "from cryosiam_engine.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'monai', 'scipy', 'pandas', 'h5py', 'pydantic', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "semantic_to_centers" in done.stdout


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    commands = ("denoise_predict", "semantic_predict", "semantic_postprocessing", "demo")
    for command in (*commands, "semantic_to_centers", "models", "doctor", "simulate"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert command in capsys.readouterr().out


# ---- the ordinary way ----------------------------------------------------------------------------


def test_denoise_keeps_shape_voxel_size_and_origin(
    write_config: Write, tmp_path: Path, simulated: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    volume = mrcfile.read(simulated / "TS_01.mrc")
    write_mrc(data / "TS_01.mrc", volume, voxel_size=(7.1, 7.2, 7.3), origin=(11.0, -12.0, 13.5))
    config = write_config("denoising", data_folder=str(data), scale_prediction=True)
    code, _ = run(capfd, "denoise_predict", "--config_file", config)
    assert code == 0
    header = read_header(tmp_path / "out" / "TS_01.mrc")
    assert header.shape == volume.shape
    assert header.voxel_size == pytest.approx((7.1, 7.2, 7.3), abs=1e-4)
    assert header.origin == pytest.approx((11.0, -12.0, 13.5))
    denoised = mrcfile.read(tmp_path / "out" / "TS_01.mrc")
    assert denoised.dtype == np.float32
    assert denoised.min() == 0
    assert denoised.max() == 1
    done = status(tmp_path / "out", "TS_01")
    assert done["state"] == "done"
    assert done["device"] == "cpu"
    assert done["precision"] == "fp32"
    assert done["model_name"] == "denoising.ckpt"
    assert done["outputs"][0]["kind"] == "tomogram"


def test_labels_in_both_formats(
    write_config: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = write_config("semantic", {"threshold": 0.3}, output_format="both")
    code, _ = run(capfd, "semantic_predict", "--config_file", config, "--filename", "TS_02.mrc")
    assert code == 0
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir() if p.is_file()} == {"TS_02_preds.h5", "TS_02_preds.mrc"}
    with h5py.File(out / "TS_02_preds.h5") as file:
        labels = file["labels"][()]
    assert np.array_equal(labels, mrcfile.read(out / "TS_02_preds.mrc"))
    assert read_header(out / "TS_02_preds.mrc").voxel_size == pytest.approx((13.48,) * 3, abs=1e-4)
    counts = status(out, "TS_02")["summary"]["voxels_per_class"]
    assert counts == {str(c): int((labels == c).sum()) for c in (1, 2, 3)}


def test_particles_have_a_score(
    write_config: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The mean probability of the particle's class over its voxels."""
    network = {"threshold": 0.3, "out_channels": 4, "min_voxels": 3}
    config = write_config(
        "semantic", network, save_confidence=True, save_internal_files=True, output_format="both"
    )
    assert run(capfd, "semantic_predict", "--config_file", config)[0] == 0
    assert run(capfd, "semantic_to_centers", "--config_file", config)[0] == 0
    out = tmp_path / "out"
    particles = pd.read_csv(out / "TS_01_particles.csv")
    assert len(particles) > 3
    assert "score" not in pd.read_csv(out / "labels_1.csv").columns
    with h5py.File(out / "TS_01_preds.h5") as file:
        labels, probs = file["labels"][()], file["probs"][()]
    for class_id, rows in particles.groupby("semantic_class"):
        eroded = ndimage.binary_erosion(
            labels == class_id, ndimage.generate_binary_structure(3, 1), border_value=1
        )
        numbered, _ = ndimage.label(eroded, np.ones((3, 3, 3)))
        for row in rows.itertuples():
            expected = probs[class_id][numbered == row.label].mean()
            assert row.score == pytest.approx(expected, abs=0.006)  # whole percents
    confidence = mrcfile.read(out / "TS_01_confidence.mrc")
    assert not confidence[labels == 0].any()
    kinds = [output["kind"] for output in status(out, "TS_01")["outputs"]]
    assert kinds == ["labels", "labels", "confidence"]


def test_a_second_run_skips_and_a_filtered_segmentation_stays_valid(
    write_config: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network = {"threshold": 0.3, "postprocessing_sizes": [-1, 20, 20, 20]}
    config = write_config("semantic", network, output_format="both")
    assert run(capfd, "semantic_predict", "--config_file", config)[0] == 0
    assert run(capfd, "semantic_postprocessing", "--config_file", config)[0] == 0
    filtered = mrcfile.read(tmp_path / "out" / "TS_01_preds.mrc")
    with h5py.File(tmp_path / "out" / "TS_01_preds.h5") as file:
        assert np.array_equal(file["labels"][()], filtered)

    code, said = run(capfd, "semantic_predict", "--config_file", config)
    assert code == 0
    assert said.count("finished already") == 3
    assert np.array_equal(mrcfile.read(tmp_path / "out" / "TS_01_preds.mrc"), filtered)

    # Other sizes start from the unfiltered labels again.
    changed = write_config("semantic", {**network, "postprocessing_sizes": [-1, 5, 5, 5]}, "b")
    assert "finished already" not in run(capfd, "semantic_predict", "--config_file", changed)[1]


def test_a_log_file_lies_beside_the_results(
    write_config: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = write_config("denoising", test_files=["TS_01.mrc", "absent.mrc"])
    assert run(capfd, "denoise_predict", "--config_file", config)[0] == 1
    (log,) = (tmp_path / "out" / "logs").iterdir()
    text = log.read_text()
    assert "scale_prediction" in text or "trained_model" in text  # the configuration
    assert "absent.mrc" in text
    assert "1 done, 0 finished before, 1 failed" in text


def test_compressed_input_gives_plain_output(
    write_config: Write, tmp_path: Path, simulated: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import gzip

    data = tmp_path / "data"
    data.mkdir()
    (data / "TS_01.mrc.gz").write_bytes(gzip.compress((simulated / "TS_01.mrc").read_bytes()))
    config = write_config("denoising", data_folder=str(data), file_extension=".mrc.gz")
    assert run(capfd, "denoise_predict", "--config_file", config)[0] == 0
    assert read_header(tmp_path / "out" / "TS_01.mrc").shape == (40, 48, 56)


# ---- bad input -----------------------------------------------------------------------------------


def assert_one_line(said: str, *words: str) -> None:
    """One clear error line that has these words in it, and no traceback."""
    errors = [line for line in said.splitlines() if line.startswith("ERROR")]
    assert len(errors) == 1, said
    assert "Traceback" not in said
    for word in words:
        assert word in errors[0], errors[0]


def test_runs_that_cannot_begin(
    write_config: Write, models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    semantic = write_config("semantic", {"threshold": 0.3}, "semantic")
    cases = [
        ("denoise_predict", tmp_path / "absent.yaml", ["absent.yaml"]),
        ("semantic_predict", write_config("denoising", {"threshold": 0.3}, "a"), ["denoising"]),
        ("denoise_predict", write_config("instance", name="b"), ["instance", "denoising"]),
        ("denoise_predict", write_config("absent", name="c"), ["trained_model", "absent.ckpt"]),
        ("semantic_predict", write_config("semantic", name="d"), ["threshold", "missing"]),
        ("denoise_predict", write_config("denoising", name="e", tilling="auto"), ["tiling"]),
        (
            "semantic_predict",
            write_config("semantic", {"threshold": 0.3, "postprocessing": True}, "f"),
            ["postprocessing", "4 classes"],
        ),
    ]
    for command, config, words in cases:
        code, said = run(capfd, command, "--config_file", config)
        assert code == 2, said
        assert_one_line(said, *words)
    code, said = run(capfd, "semantic_predict", "--config_file", semantic, "--device", "cuda")
    if not torch.cuda.is_available():
        assert code == 2
        assert_one_line(said, "cuda")
        # The host believes status files only, so every tomogram has one.
        assert status(tmp_path / "out", "TS_03")["state"] == "failed"
        assert status(tmp_path / "out", "TS_03")["error"]["remedy"]


def test_checkpoints_that_are_damaged(
    write_config: Write, models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = torch.load(models / "denoising.ckpt", weights_only=True)
    keys = list(whole["state_dict"])
    bad = tmp_path / "bad.ckpt"
    cases: list[tuple[dict | bytes, list[str]]] = [
        ((models / "denoising.ckpt").read_bytes()[:-2000], ["bad.ckpt"]),
        (b"", ["empty"]),
        ({**whole, "state_dict": {k: whole["state_dict"][k] for k in keys[1:]}}, ["conv1.weight"]),
        (
            {**whole, "state_dict": {**whole["state_dict"], keys[0]: torch.zeros(3)}},
            ["conv1.weight"],
        ),
    ]
    config = write_config("denoising", trained_model=str(bad))
    for content, words in cases:
        if isinstance(content, bytes):
            bad.write_bytes(content)
        else:
            torch.save(content, bad)
        code, said = run(capfd, "denoise_predict", "--config_file", config)
        assert code == 2, said
        assert_one_line(said, *words)


def test_a_malicious_checkpoint_runs_nothing(
    write_config: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace"

    class Evil:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {trace}",)

    torch.save({"state_dict": Evil(), "hyper_parameters": {}}, tmp_path / "evil.ckpt")
    config = write_config("denoising", trained_model=str(tmp_path / "evil.ckpt"))
    code, said = run(capfd, "denoise_predict", "--config_file", config)
    assert code == 2
    assert_one_line(said, "system")
    assert not trace.exists()
    torch.load(tmp_path / "evil.ckpt", weights_only=False)  # it would have
    assert trace.exists()


def test_bad_tomograms_fail_alone(
    write_config: Write, tmp_path: Path, simulated: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    good = (simulated / "TS_01.mrc").read_bytes()
    (data / "good.mrc").write_bytes(good)
    (data / "empty.mrc").write_bytes(b"")
    (data / "truncated.mrc").write_bytes(good[: len(good) // 2])
    volume = mrcfile.read(simulated / "TS_01.mrc").copy()
    mrcfile.write(data / "constant.mrc", np.ones((8, 9, 10), np.float32))
    mrcfile.write(data / "flat.mrc", volume[0])
    volume[3, 4, 5] = np.nan
    mrcfile.write(data / "nan.mrc", volume)
    (data / "gone.mrc").symlink_to(data / "nowhere")
    config = write_config("denoising", data_folder=str(data))
    code, said = run(capfd, "denoise_predict", "--config_file", config)
    assert code == 1
    assert "Traceback" not in said
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir() if p.is_file()} == {"good.mrc"}
    assert status(out, "good")["state"] == "done"
    for stem, word in (
        ("empty", "empty"),
        ("truncated", "missing"),
        ("constant", "constant"),
        ("flat", "two-dimensional"),
        ("nan", "NaN"),
        ("gone", "gone.mrc"),
    ):
        error = status(out, stem)["error"]
        assert word.lower() in error["message"].lower(), error
        assert f"{stem}.mrc" in error["message"]
        assert error["remedy"]


def masks(folder: Path, **arrays: np.ndarray) -> str:
    folder.mkdir()
    for stem, array in arrays.items():
        with h5py.File(folder / f"{stem}_preds.h5", "w") as file:
            file["labels"] = array
    return str(folder)


def test_masks(write_config: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Another shape is resized with a warning; empty or missing fails that tomogram alone."""
    folder = masks(
        tmp_path / "masks",
        TS_01=np.ones((20, 24, 28), np.uint8),
        TS_02=np.zeros((40, 48, 56), np.uint8),
    )
    config = write_config("semantic", {"threshold": 0.3}, mask_folder=folder)
    code, said = run(capfd, "semantic_predict", "--config_file", config)
    assert code == 1
    out = tmp_path / "out"
    assert any("20 x 24 x 28" in warning for warning in status(out, "TS_01")["warnings"])
    assert "20 x 24 x 28" in said
    assert "empty" in status(out, "TS_02")["error"]["message"]
    assert "TS_03" in status(out, "TS_03")["error"]["message"]


def test_nothing_recognised_is_said_loudly(
    write_config: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = write_config("semantic", {"threshold": 1.0}, test_files=["TS_01.mrc"])
    code, said = run(capfd, "semantic_predict", "--config_file", config)
    assert code == 0
    assert "ALL VOXELS ARE BACKGROUND" in said
    assert status(tmp_path / "out", "TS_01")["warnings"]


def test_a_file_in_the_place_of_the_folder(
    write_config: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("not a folder")
    code, said = run(capfd, "denoise_predict", "--config_file", write_config("denoising"))
    assert code == 2
    assert_one_line(said, str(tmp_path / "out"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte; only root can mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no permission to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("command", ["denoise_predict", "semantic_predict"])
def test_no_space_left(
    command: str, write_config: Write, small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = "denoising" if command.startswith("denoise") else "semantic"
    network = {} if command.startswith("denoise") else {"threshold": 0.3}
    config = write_config(
        model,
        network,
        prediction_folder=str(small_disk / "out"),
        **({"save_internal_files": True} if network else {}),
    )
    code, said = run(capfd, command, "--config_file", config)
    assert code == 1
    assert "No space left" in said
    assert "Traceback" not in said
    out = small_disk / "out"
    assert partial_files(out) == []
    done = {p.stem.removesuffix("_preds") for p in out.iterdir() if p.is_file()}
    for stem in ("TS_01", "TS_02", "TS_03"):
        assert status(out, stem)["state"] == ("done" if stem in done else "failed")


def test_a_read_only_folder(
    write_config: Write, small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    config = write_config("denoising", prediction_folder=str(small_disk / "out"))
    code, said = run(capfd, "denoise_predict", "--config_file", config)
    assert code == 2
    assert_one_line(said, "permission", "prediction_folder")


# ---- processes -----------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Two tomograms that take long enough to be interrupted."""
    folder = tmp_path / "large"
    folder.mkdir()
    noise = np.random.default_rng(0).normal(size=(160, 200, 200)).astype(np.float32)
    write_mrc(folder / "TS_01.mrc", noise[:20, :40, :40], voxel_size=10)
    write_mrc(folder / "TS_02.mrc", noise, voxel_size=10)
    return folder


def start(config: Path) -> subprocess.Popen[str]:
    options = ("--config_file", str(config), "--tiling", "reference")
    return subprocess.Popen(
        [sys.executable, "-m", "cryosiam_engine.cli", "denoise_predict", *options],
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def is_running(out: Path, stem: str) -> bool:
    path = out / "status" / f"{stem}.json"
    return path.exists() and json.loads(path.read_text())["state"] == "running"


@pytest.mark.slow
def test_sigterm_ends_cleanly_and_a_second_run_goes_on(
    write_config: Write, large: Path, tmp_path: Path
) -> None:
    config = write_config("denoising", data_folder=str(large))
    out = tmp_path / "out"
    process = start(config)
    wait_until(lambda: is_running(out, "TS_02"))
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "Traceback" not in said
    assert status(out, "TS_01")["state"] == "done"
    assert status(out, "TS_02")["state"] == "failed"
    assert status(out, "TS_02")["error"]["message"] == "interrupted"
    assert partial_files(out) == []
    assert not (out / "TS_02.mrc").exists()

    shutil.copyfile(large / "TS_01.mrc", large / "TS_02.mrc")  # a quick one, to end soon
    again = start(config)
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert "TS_01 is finished already" in said
    assert status(out, "TS_02")["state"] == "done"


@pytest.mark.slow
def test_two_runs_on_one_folder(write_config: Write, large: Path, tmp_path: Path) -> None:
    config = write_config("denoising", data_folder=str(large), test_files=["TS_02.mrc"])
    out = tmp_path / "out"
    first = start(config)
    try:
        wait_until(lambda: is_running(out, "TS_02"))
        second = start(config)
        _, said = second.communicate(timeout=60)
        assert second.returncode == 1
        assert "being written by another run" in said
        assert is_running(out, "TS_02")  # the first run's status was left alone
    finally:
        first.terminate()
        first.communicate(timeout=60)
