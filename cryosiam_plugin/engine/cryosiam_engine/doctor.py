"""``cryosiam-engine doctor``: is this installation fit to compute, and if not, what to do.

PyTorch is imported only when the report is collected: the command line stays fast, and an
installation whose PyTorch cannot even be imported still gets its diagnosis.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from cryosiam_engine.doctor_report import MODELS_VARIABLE, DoctorReport, GpuReport, render, to_json
from cryosiam_engine.errors import EngineError

_REINSTALL = "Install the engine again, or use the container."
_BUSY = "See with nvidia-smi whether another program holds the GPU, or choose another one."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the doctor command."""
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "fp32", "bf16", "fp16"),
        help="arithmetic to check (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="write the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Write the report to standard output; return 0 when the engine is usable, else 1."""
    report = collect(args.device, args.precision)
    sys.stdout.write((to_json(report) if args.json else render(report)) + "\n")
    return 0 if report.usable else 1


def collect(device: str = "auto", precision: str = "auto") -> DoctorReport:
    """Examine this installation.

    Parameters
    ----------
    device, precision
        As a run would be given them; see :func:`cryosiam_engine.device.choose_device` and
        :func:`cryosiam_engine.precision.resolve_precision`.
    """
    report = DoctorReport(driver=driver_version())
    _examine_models(report)
    try:
        _examine_libraries(report)
        _examine_gpus(report)
        _examine_host(report)
    except (ImportError, OSError) as error:
        report.add("error", f"The engine's libraries cannot be loaded: {error}.", _REINSTALL)
        return report
    _examine_arithmetic(report, device, precision)
    return report


def _examine_libraries(report: DoctorReport) -> None:
    """Find the versions of PyTorch and what it was built with."""
    import torch

    from cryosiam_engine.device.precision import cudnn_text, known_bad

    report.torch = torch.__version__
    report.cuda = torch.version.cuda
    cudnn = torch.backends.cudnn.version()
    report.cudnn = cudnn_text(cudnn) if cudnn else None
    fault = known_bad(torch.__version__, cudnn)
    if fault:
        report.add(
            "warning",
            fault,
            "Update PyTorch to 2.10 or newer, which brings a mended cuDNN; until then use "
            "precision 'fp32' to be safe.",
        )


def _examine_gpus(report: DoctorReport) -> None:
    """List the GPUs that PyTorch sees."""
    import torch

    from cryosiam_engine.device import missing_gpu
    from cryosiam_engine.device.precision import supported_precisions

    if missing_gpu() is not None:
        return
    for index in range(torch.cuda.device_count()):
        try:
            name = torch.cuda.get_device_name(index)
            capability = torch.cuda.get_device_capability(index)
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            report.add("warning", f"GPU {index} does not answer: {reason}.", _BUSY)
            continue
        number = f"{capability[0]}.{capability[1]}"
        precisions = supported_precisions(capability)
        report.gpus.append(GpuReport(index, name, number, total, free, precisions))


def _examine_host(report: DoctorReport) -> None:
    """Find memory, threads and the cache folder."""
    from cryosiam_engine.checkpoint import cache_folder
    from cryosiam_engine.device.host import cpu_threads, free_host_memory

    report.host_memory_free = free_host_memory()
    report.threads = cpu_threads()
    folder = cache_folder()
    report.cache_folder = str(folder)
    report.cache_writable = _is_writable(folder)
    if not report.cache_writable:
        report.add(
            "warning",
            f"The cache folder {folder} cannot be written: every run reads the slower checkpoint.",
            "Set CRYOSIAM_CACHE to a folder that you may write to.",
        )


def _examine_models(report: DoctorReport) -> None:
    """Look into the folder of the published models, if one is set."""
    report.models_folder = os.environ.get(MODELS_VARIABLE) or None
    if report.models_folder is None:
        return
    folder = Path(report.models_folder)
    report.models = sorted(
        path.name for path in folder.glob("*") if path.suffix in (".ckpt", ".safetensors")
    )
    if not report.models:
        fault = "has no model (.ckpt, .safetensors) in it" if folder.is_dir() else "is not a folder"
        report.add(
            "warning",
            f"{MODELS_VARIABLE} is {folder}, which {fault}.",
            f"Set {MODELS_VARIABLE} to the folder with the downloaded models (in a container, a "
            "folder that is bound into it), or name the model's file in trained_model.",
        )


def _examine_arithmetic(report: DoctorReport, device: str, precision: str) -> None:
    """Find what a run would use and check its numbers."""
    from cryosiam_engine.device import choose_device, missing_gpu
    from cryosiam_engine.device.precision import check_precision, describe_check, resolve_precision

    try:
        chosen = choose_device(device)
        resolved = resolve_precision(precision, chosen)
    except EngineError as error:
        report.add("error", error.message, error.remedy)
        return
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        report.add("error", f"Device '{device}' cannot be used: {reason}.", _BUSY)
        return
    report.device, report.precision = str(chosen), resolved.name
    report.precision_note = resolved.note
    missing = missing_gpu() if device == "auto" else None
    if missing is not None:
        message = f"No GPU is used, because {missing.reason}; the CPU takes 50 to 100 times longer."
        report.add("warning", message, missing.remedy)
    check = check_precision(resolved, chosen)
    report.self_check = {
        name: value if not isinstance(value, float) or math.isfinite(value) else None
        for name, value in asdict(check).items()
    }
    report.self_check["summary"] = describe_check(check)
    if not check.passed:
        report.add(
            "error",
            f"{chosen} computes wrong 3D convolutions in {resolved.name}: {describe_check(check)}.",
            "Do not trust results of this device. Update PyTorch and the driver, choose another "
            "device, or ask for 'cpu'.",
        )


def driver_version() -> str | None:
    """Ask nvidia-smi, where there is one, for the driver's version."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        # A program found on the PATH with constant arguments: nothing of it is a user's text.
        answer = subprocess.run(  # noqa: S603
            query, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip().partition("\n")[0] or None


def _is_writable(folder: Path) -> bool:
    """Try to write where `folder` is or would be made; permission bits lie on network disks."""
    try:
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
