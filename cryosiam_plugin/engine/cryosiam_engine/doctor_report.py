"""What ``cryosiam-engine doctor`` reports, for people and for programs."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from typing import Any

from cryosiam_engine import __version__

#: The folder where a site keeps the published models.
MODELS_VARIABLE = "CRYOSIAM_MODELS"

_GIBIBYTE = 2**30


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, and what to do; an 'error' makes the engine unusable as asked."""

    severity: str
    message: str
    remedy: str


@dataclass(frozen=True)
class GpuReport:
    """One GPU as PyTorch sees it; memory in bytes."""

    index: int
    name: str
    capability: str
    memory_total: int
    memory_free: int
    precisions: list[str]


@dataclass
class DoctorReport:
    """All that was found; None where it is absent or could not be found out.

    Attributes
    ----------
    device, precision, precision_note, self_check
        What a run with these options would use, and how its numerical check ended.
    host_memory_free
        Bytes this process can take, within the limits of the job and the container.
    models_folder, models
        ``$CRYOSIAM_MODELS`` and the checkpoints in it.
    """

    engine: str = __version__
    python: str = field(default_factory=platform.python_version)
    platform: str = field(default_factory=platform.platform)
    torch: str | None = None
    cuda: str | None = None
    cudnn: str | None = None
    driver: str | None = None
    gpus: list[GpuReport] = field(default_factory=list)
    device: str | None = None
    precision: str | None = None
    precision_note: str | None = None
    self_check: dict[str, Any] | None = None
    host_memory_free: int | None = None
    threads: int | None = None
    cache_folder: str | None = None
    cache_writable: bool | None = None
    models_folder: str | None = None
    models: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """True when no problem is an error."""
        return not any(problem.severity == "error" for problem in self.problems)

    def add(self, severity: str, message: str, remedy: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(severity, message, remedy))


def to_json(report: DoctorReport) -> str:
    """Write `report` as a JSON object, with 'usable' beside its attributes."""
    return json.dumps({"usable": report.usable, **asdict(report)}, indent=2, allow_nan=False)


def render(report: DoctorReport) -> str:
    """Write `report` for people."""
    lines = [
        f"cryosiam-engine {report.engine}, Python {report.python}, {report.platform}",
        f"PyTorch {_or_none(report.torch)}, CUDA {_or_none(report.cuda)}, "
        f"cuDNN {_or_none(report.cudnn)}, NVIDIA driver {_or_none(report.driver)}",
    ]
    lines += [_gpu_line(gpu) for gpu in report.gpus] or ["GPU: none"]
    if report.device:
        lines.append(f"A run uses: {report.device}, {report.precision} ({report.precision_note})")
    if report.self_check:
        verdict = "passed" if report.self_check["passed"] else "FAILED"
        lines.append(f"Numerical check: {verdict} ({report.self_check['summary']})")
    lines.append(
        f"Host: {_gibibytes(report.host_memory_free)} of memory free for this process, "
        f"{_or_none(report.threads)} threads"
    )
    state = "writable" if report.cache_writable else "NOT writable"
    lines.append(f"Cache of converted checkpoints: {_or_none(report.cache_folder)} ({state})")
    models = f"{report.models_folder} ({len(report.models)} checkpoints)"
    lines.append(f"Models: {models if report.models_folder else f'${MODELS_VARIABLE} is not set'}")
    for problem in report.problems:
        lines.append(f"{problem.severity.upper()}: {problem.message}\n  {problem.remedy}")
    lines.append("Ready to compute." if report.usable else "NOT ready: see the errors above.")
    return "\n".join(lines)


def _gpu_line(gpu: GpuReport) -> str:
    return (
        f"GPU {gpu.index}: {gpu.name}, compute capability {gpu.capability}, "
        f"{_gibibytes(gpu.memory_free)} of {_gibibytes(gpu.memory_total)} free, "
        f"{' '.join(gpu.precisions)}"
    )


def _gibibytes(amount: int | None) -> str:
    return "unknown" if amount is None else f"{amount / _GIBIBYTE:.1f} GiB"


def _or_none(value: object) -> str:
    return "none" if value is None else str(value)
