from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cryosiam_engine import __version__, doctor
from cryosiam_engine import device as device_module
from cryosiam_engine.device import convolution_check as check_module
from cryosiam_engine.doctor import add_arguments, collect, run
from cryosiam_engine.doctor_report import DoctorReport, GpuReport, render, to_json


@pytest.fixture(autouse=True)
def _no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRYOSIAM_MODELS", raising=False)


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def problems(report: DoctorReport, severity: str) -> str:
    return "\n".join(p.message for p in report.problems if p.severity == severity)


def test_the_cpu_is_usable(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(options("--device", "cpu")) == 0
    text = capsys.readouterr().out
    assert f"cryosiam-engine {__version__}" in text
    assert f"PyTorch {torch.__version__}" in text
    assert "Numerical check: passed" in text
    assert "Ready to compute." in text
    assert "ERROR" not in text


def test_json_parses_and_agrees_with_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    for device in ("cpu", "cuda:99"):
        code = run(options("--json", "--device", device))
        found = json.loads(capsys.readouterr().out)
        assert found["usable"] is (code == 0)
        assert found["torch"] == torch.__version__
        assert found["threads"] >= 1
        assert found["host_memory_free"] > 0
    assert code == 1


def test_every_problem_has_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CRYOSIAM_MODELS", str(tmp_path / "absent"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("CRYOSIAM_CACHE", str(tmp_path / "file" / "cache"))
    report = collect("cuda:99")
    assert len(report.problems) >= 3
    text = render(report)
    for problem in report.problems:
        assert problem.remedy
        assert problem.message in text
        assert problem.remedy in text
    assert "NOT ready" in text


@pytest.mark.parametrize(
    ("device", "precision"), [("cpu", "fp16"), ("gpu", "auto"), ("cuda:99", "auto")]
)
def test_what_a_run_would_refuse_is_an_error(device: str, precision: str) -> None:
    report = collect(device, precision)
    assert not report.usable
    assert report.device is None


def test_wrong_numbers_are_an_error_and_still_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        check_module,
        "_convolve",
        lambda volume, weight, stride, padding: torch.full((1, 1, 99, 99, 99), float("nan")),
    )
    report = collect("cpu")
    assert not report.usable
    assert "wrong 3D convolutions" in problems(report, "error")
    # JSON has no word for infinity.
    assert json.loads(to_json(report))["self_check"]["relative_error"] is None
    assert "Numerical check: FAILED" in render(report)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_run_without_gpu_is_usable_with_a_warning() -> None:
    report = collect("auto")
    assert report.usable
    assert report.device == "cpu"
    assert "No GPU is used" in problems(report, "warning")
    assert "No GPU" not in problems(collect("cpu"), "warning")


def test_known_bad_versions_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.0+cu128")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    report = collect("cpu")
    assert report.cudnn == "9.10.2"
    assert "PyTorch 2.9.0+cu128 with cuDNN 9.10.2" in problems(report, "warning")


def test_models_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CRYOSIAM_MODELS", str(tmp_path))
    assert "no model (.ckpt, .safetensors)" in problems(collect("cpu"), "warning")
    for name in ("b.ckpt", "a.ckpt", "notes.txt"):
        (tmp_path / name).touch()
    report = collect("cpu")
    assert report.models == ["a.ckpt", "b.ckpt"]
    assert "CRYOSIAM_MODELS" not in problems(report, "warning")
    assert f"{tmp_path} (2 checkpoints)" in render(report)


def test_the_cache_folder_is_tried_and_not_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = tmp_path / "new" / "cache"
    monkeypatch.setenv("CRYOSIAM_CACHE", str(cache))
    report = collect("cpu")
    assert (report.cache_folder, report.cache_writable) == (str(cache), True)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CRYOSIAM_CACHE", str(tmp_path / "file" / "cache"))
    report = collect("cpu")
    assert report.cache_writable is False
    assert report.usable
    assert "cannot be written" in problems(report, "warning")


def test_the_driver_is_asked_of_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.driver_version() is None
    for script, expected in (
        ("echo 570.86.15; echo 570.86.15", "570.86.15"),
        ("exit 9", None),
        ("true", None),
    ):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        assert doctor.driver_version() == expected


class TestGpus:
    # No GPU is needed: the functions that ask CUDA are replaced, and nothing is computed there.
    @pytest.fixture(autouse=True)
    def _two_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def memory(index: int) -> tuple[int, int]:
            if index == 1:
                raise RuntimeError("CUDA error: all CUDA-capable devices are busy\nCUDA kernel")
            return 3 * 2**30, 4 * 2**30

        monkeypatch.setattr(device_module, "missing_gpu", lambda: None)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
        monkeypatch.setattr(torch.cuda, "mem_get_info", memory)

    def test_they_are_described(self) -> None:
        report = collect("cpu")
        expected = GpuReport(0, "Tesla T4", "7.5", 4 * 2**30, 3 * 2**30, ["fp32", "fp16"])
        assert report.gpus == [expected]
        assert "3.0 GiB of 4.0 GiB free" in render(report)

    def test_one_that_does_not_answer_is_a_warning(self) -> None:
        report = collect("cpu")
        assert report.usable
        assert "GPU 1 does not answer: CUDA error" in problems(report, "warning")


def in_fresh_python(script: str) -> str:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_options_need_no_torch() -> None:
    script = (
        "import argparse, sys; from cryosiam_engine import doctor; "
        "doctor.add_arguments(argparse.ArgumentParser()); print('torch' in sys.modules)"
    )
    assert in_fresh_python(script).strip() == "False"


def test_a_missing_torch_is_diagnosed() -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from cryosiam_engine import doctor\n"
        "report = doctor.collect('cpu')\n"
        "print(report.usable); print(doctor.render(report)); doctor.to_json(report)"
    )
    text = in_fresh_python(script)
    assert text.startswith("False")
    assert "torch" in text.split("ERROR:")[1]
    assert "NOT ready" in text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_gpu_is_usable() -> None:
    report = collect("cuda")
    assert report.usable, render(report)
    assert report.gpus[0].memory_free <= report.gpus[0].memory_total
    assert report.device == "cuda:0"
