"""Which arithmetic the networks run in, and whether this computer may be trusted with it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import torch

from cryosiam_engine.device.convolution_check import SelfCheck, self_check
from cryosiam_engine.errors import ConfigurationError, DeviceError

logger = logging.getLogger(__name__)

#: Lowest compute capability (major number) with each kind of tensor core arithmetic.
_AMPERE = 8
_VOLTA = 7

_SAFE = "Use precision 'auto' or 'fp32'"


class Precision(str, Enum):
    """What a user can ask for."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


@dataclass(frozen=True)
class ResolvedPrecision:
    """The arithmetic that is really used.

    Attributes
    ----------
    name
        'fp32' (strict float32), 'tf32' (float32 on tensor cores, 10 bits of mantissa in products),
        'bf16' or 'fp16'.
    dtype
        Type of the network's weights and maps.
    note
        One sentence on why, for the log and the status file.
    """

    name: str
    dtype: torch.dtype
    note: str


_STRICT = ResolvedPrecision("fp32", torch.float32, "strict float32")
_TF32 = ResolvedPrecision(
    "tf32", torch.float32, "float32 with TF32 tensor cores, as PyTorch convolves by default"
)


def resolve_precision(requested: Precision | str, device: torch.device) -> ResolvedPrecision:
    """Decide the arithmetic for `device`, after checking that it gives right numbers there.

    On the CPU 'auto' is float32. On CUDA 'auto' is float32 with TF32 tensor cores from Ampere on,
    which is what stock PyTorch convolutions do and so what the original computes there.

    Parameters
    ----------
    requested
        'auto', 'fp32', 'bf16' or 'fp16'.
    device
        As :func:`cryosiam_engine.device.choose_device` returned it.

    Raises
    ------
    ConfigurationError
        The word is not one of the four, or the CPU was asked for fp16.
    DeviceError
        The GPU cannot do it, the installed cuDNN is known to do it wrong, or the numerical check
        failed (for 'auto': in TF32 and in strict float32; if in TF32 only, a warning is logged).
    """
    try:
        wanted = Precision(requested)
    except ValueError:
        raise ConfigurationError(
            f"Unknown precision {requested!r}.", remedy="Use 'auto', 'fp32', 'bf16' or 'fp16'."
        ) from None
    if device.type != "cuda":
        return _resolve_on_cpu(wanted)
    if wanted is Precision.FP32:
        return _STRICT
    if wanted is Precision.AUTO:
        return _resolve_auto(device)
    return _resolve_half(wanted, device)


def apply_precision(resolved: ResolvedPrecision) -> None:
    """Switch TF32 for convolutions on for 'tf32' and off for everything else.

    Matrix products stay strict in every case, as in stock PyTorch.
    """
    torch.backends.cudnn.allow_tf32 = resolved.name == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = False


def check_precision(resolved: ResolvedPrecision, device: torch.device) -> SelfCheck:
    """Run the numerical check in this arithmetic; the TF32 switches are left as they were."""
    with _applied(resolved):
        return self_check(device, resolved.dtype)


def supported_precisions(capability: tuple[int, int]) -> list[str]:
    """List the arithmetic that a GPU of this compute capability can do fast."""
    names = ["fp32"]
    names += ["fp16"] if capability[0] >= _VOLTA else []
    names += ["tf32", "bf16"] if capability[0] >= _AMPERE else []
    return names


def known_bad(torch_version: str, cudnn_version: int | None) -> str | None:
    """Name what is known to be wrong with 3D convolutions of these versions.

    cuDNN 9.8 to 9.14 computes wrong 16-bit 3D convolutions of large volumes. PyTorch 2.9.0 (with
    any cuDNN from 9.8 on) and later versions (with those) avoid it by a slow detour that takes
    several times the memory. cuDNN 9.10.2 to 9.15 has a TF32 kernel for 3D convolutions that is
    wrong too; PyTorch avoids it from 2.9.1 on. These faults show in some sizes only, so a short
    numerical check does not find them reliably: hence this table.

    Parameters
    ----------
    torch_version
        As ``torch.__version__``.
    cudnn_version
        As ``torch.backends.cudnn.version()``: 91002 is 9.10.2. None is no cuDNN.

    Returns
    -------
    str or None
        One sentence that names both versions, or None when nothing is known against them.
    """
    numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", torch_version)
    if cudnn_version is None or numbers is None:
        return None
    release = tuple(int(number or 0) for number in numbers.groups())
    faults = []
    if 90800 <= cudnn_version < 91500:
        faults.append("bf16 and fp16 3D convolutions of large volumes are wrong in this cuDNN")
        if release >= (2, 9, 0):
            faults.append("PyTorch avoids them only by taking several times the memory")
    elif release == (2, 9, 0) and cudnn_version >= 91500:
        faults.append("bf16 and fp16 3D convolutions take several times the memory")
    if 91002 <= cudnn_version < 91600 and release < (2, 9, 1):
        faults.append("TF32 3D convolutions can be wrong")
    pair = f"PyTorch {torch_version} with cuDNN {cudnn_text(cudnn_version)}"
    return f"{pair}: {'; '.join(faults)}." if faults else None


def cudnn_text(version: int) -> str:
    """Write cuDNN's version number as people do: 91002 is 9.10.2, 8907 is 8.9.7."""
    major = 10_000 if version >= 90_000 else 1_000
    return f"{version // major}.{version % major // 100}.{version % 100}"


def _resolve_on_cpu(wanted: Precision) -> ResolvedPrecision:
    """Decide for the CPU."""
    if wanted is Precision.FP16:
        raise ConfigurationError(
            "Precision fp16 was asked for on the CPU, which computes it extremely slowly.",
            remedy=f"{_SAFE}, or a GPU.",
        )
    if wanted is Precision.BF16:
        return ResolvedPrecision(
            "bf16", torch.bfloat16, "bfloat16 on the CPU, usually slower than float32 there"
        )
    return _STRICT


def _resolve_auto(device: torch.device) -> ResolvedPrecision:
    """Take TF32 where the GPU has it and computes it right, else strict float32."""
    if torch.cuda.get_device_capability(device)[0] < _AMPERE:
        return ResolvedPrecision("fp32", torch.float32, "float32: this GPU has no TF32")
    fault = _known_bad_here()
    if fault:
        logger.warning("%s Ask for precision 'fp32' to be safe, or update PyTorch.", fault)
    check = check_precision(_TF32, device)
    if check.passed:
        return _TF32
    strict = check_precision(_STRICT, device)
    if not strict.passed:
        raise DeviceError(
            f"{device} failed the numerical check of 3D convolutions ({describe_check(strict)}).",
            remedy="See with nvidia-smi whether the GPU is free and healthy, choose another one, "
            "or update PyTorch and the driver.",
        )
    note = f"strict float32, because TF32 failed its numerical check ({describe_check(check)})"
    logger.warning("Computing in %s. Update PyTorch and cuDNN.", note)
    return ResolvedPrecision("fp32", torch.float32, note)


def _resolve_half(wanted: Precision, device: torch.device) -> ResolvedPrecision:
    """Allow a 16-bit type where the GPU has it and computes it right."""
    capability = torch.cuda.get_device_capability(device)
    if wanted.value not in supported_precisions(capability):
        lowest = _AMPERE if wanted is Precision.BF16 else _VOLTA
        raise DeviceError(
            f"Precision {wanted.value} needs a GPU of compute capability {lowest}.0 or higher; "
            f"{device} has {capability[0]}.{capability[1]}.",
            remedy=f"{_SAFE}.",
        )
    fault = _known_bad_here()
    if fault:
        raise DeviceError(fault, remedy=f"{_SAFE}, or update PyTorch (2.10 or newer) and cuDNN.")
    dtype = torch.bfloat16 if wanted is Precision.BF16 else torch.float16
    resolved = ResolvedPrecision(wanted.value, dtype, "as asked; passed its numerical check")
    check = check_precision(resolved, device)
    if not check.passed:
        raise DeviceError(
            f"{device} failed the numerical check of {wanted.value} ({describe_check(check)}).",
            remedy=f"{_SAFE}, or update PyTorch and cuDNN.",
        )
    return resolved


def describe_check(check: SelfCheck) -> str:
    """Say in a few words how large the error was, what is allowed and where it was found."""
    return (
        f"relative error {check.relative_error:.1e}, allowed {check.tolerance:.1e}: {check.detail}"
    )


def _known_bad_here() -> str | None:
    """Look the installed versions up in :func:`known_bad`."""
    return known_bad(torch.__version__, torch.backends.cudnn.version())


@contextmanager
def _applied(resolved: ResolvedPrecision) -> Iterator[None]:
    """Apply `resolved` for the length of a block."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    apply_precision(resolved)
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
