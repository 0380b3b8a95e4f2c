"""Where the networks run: the device, what is free on it, and what its errors mean.

The rest of the engine takes from here also what :mod:`~cryosiam_engine.device.precision`,
:mod:`~cryosiam_engine.device.convolution_check` and :mod:`~cryosiam_engine.device.host` define.

``CUDA_VISIBLE_DEVICES`` is read for messages only: which GPUs a job may use is the scheduler's.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from dataclasses import dataclass

import torch

from cryosiam_engine.device.host import free_host_memory, memory_share
from cryosiam_engine.errors import ConfigurationError, DeviceError, EngineError

logger = logging.getLogger(__name__)

#: What is said when memory is short. cuDNN calls a missing workspace not supported, or no engine.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can.?t allocate memory|cannot allocate memory|not enough memory"
    r"|CUDNN_STATUS_NOT_SUPPORTED|CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED"
    r"|unable to find an engine to execute",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class MissingGpu:
    """Why PyTorch sees no GPU, and what to do about it."""

    reason: str
    remedy: str


def choose_device(requested: str = "auto") -> torch.device:
    """Turn what the user asked for into a device that can be used.

    Parameters
    ----------
    requested
        'auto', 'cpu', 'cuda' (the first GPU) or 'cuda:N'. 'auto' takes the first GPU that this
        PyTorch supports; where no GPU is seen it takes the CPU and logs a warning that says why.

    Returns
    -------
    torch.device
        'cpu', or 'cuda' with its index.

    Raises
    ------
    ConfigurationError
        The request is none of these words.
    DeviceError
        The GPU asked for is absent, or (for 'auto' too) this PyTorch has no code for it.
    """
    name, _, index = requested.partition(":")
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", requested):
        raise ConfigurationError(
            f"Unknown device {requested!r}.", remedy="Use 'auto', 'cpu', 'cuda' or 'cuda:N'."
        )
    if name == "cpu":
        return torch.device("cpu")
    missing = missing_gpu()
    if missing is None:
        return _choose_gpu(name, int(index) if index else None)
    if name == "auto":
        _warn_of_cpu(missing)
        return torch.device("cpu")
    raise DeviceError(
        f"Device '{requested}' was asked for, but {missing.reason}.",
        remedy=f"{missing.remedy} Or ask for 'cpu'.",
    )


def missing_gpu() -> MissingGpu | None:
    """Say why no GPU can be used; None when PyTorch sees at least one."""
    with warnings.catch_warnings():
        # PyTorch's own warning says the same, in words for programmers.
        warnings.simplefilter("ignore")
        if torch.cuda.is_available() and torch.cuda.device_count() > 0:
            return None
    if not torch.backends.cuda.is_built():
        return MissingGpu(
            "this PyTorch is built without CUDA",
            "Install a PyTorch with CUDA in the engine's environment, or use the container.",
        )
    try:
        # Unlike is_available, this tells the reason, and does so every time.
        torch.cuda.init()
        message = "No CUDA GPUs are available"
    except (RuntimeError, AssertionError) as error:
        message = str(error).strip() or type(error).__name__
    return _explain(message)


def unsupported_architecture(index: int) -> str | None:
    """Name the architecture of GPU `index` if this PyTorch has no code for it, else None.

    Machine code (``sm_86``) runs on GPUs of the same major number and an equal or higher minor
    one; intermediate code (``compute_90``) is translated for any later GPU. Names that end in a
    letter are for one architecture (``a``) or its family (``f``).
    """
    major, minor = torch.cuda.get_device_capability(index)
    built_for = torch.cuda.get_arch_list()
    if not built_for or any(_runs_on(code, major, minor) for code in built_for):
        return None
    return f"sm_{major}{minor}"


def free_memory(device: torch.device) -> int:
    """Give the bytes that this process can still take on `device`.

    On CUDA that is what the GPU has free and what PyTorch holds for reuse; on the CPU see
    :func:`cryosiam_engine.device.host.free_host_memory`. Of both only
    :func:`cryosiam_engine.device.host.memory_share` is given.
    """
    if device.type != "cuda":
        return int(free_host_memory() * memory_share())
    free, _ = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int((free + held) * memory_share())


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether `error` means that memory was short, so that a smaller tile may help.

    Parameters
    ----------
    error
        What a network or an allocation raised. The engine's own errors are never counted: they
        are the last word on something, not to be tried again.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, EngineError) or not isinstance(error, RuntimeError):
        return False
    return _OUT_OF_MEMORY.search(str(error)) is not None


def _warn_of_cpu(missing: MissingGpu) -> None:
    """Say loudly that the CPU is taken, and why: nobody shall wait for days unawares."""
    logger.warning(
        "No GPU is used, because %s. The CPU takes 50 to 100 times longer. %s",
        missing.reason,
        missing.remedy,
    )


def _choose_gpu(name: str, index: int | None) -> torch.device:
    """Choose among the GPUs that PyTorch sees."""
    count = torch.cuda.device_count()
    if index is not None and index >= count:
        present = ", ".join(f"cuda:{number}" for number in range(count))
        raise DeviceError(
            f"Device 'cuda:{index}' was asked for; present are {present}.",
            remedy="Ask for one of these, or 'auto'. A scheduler numbers a job's own GPUs from 0.",
        )
    candidates = range(count) if name == "auto" else [index or 0]
    for candidate in candidates:
        if unsupported_architecture(candidate) is None:
            return torch.device("cuda", candidate)
    raise _unsupported_error(candidates[0])


def _unsupported_error(index: int) -> DeviceError:
    """Make the error for a GPU that this PyTorch has no code for."""
    return DeviceError(
        f"This PyTorch ({torch.__version__}) has no code for the architecture "
        f"{unsupported_architecture(index)} of cuda:{index}; it is built for "
        f"{', '.join(torch.cuda.get_arch_list())}.",
        remedy="Install a PyTorch built for this GPU (a newer one for a new GPU, one for an older "
        "CUDA for an old GPU), choose another GPU, or ask for 'cpu'.",
    )


def _runs_on(code: str, major: int, minor: int) -> bool:
    """Say whether code of this name (``sm_90``, ``compute_90``) runs on such a GPU."""
    match = re.fullmatch(r"(sm|compute)_([0-9]+)([0-9])([af]?)", code)
    if match is None:
        return False
    kind, suffix = match[1], match[4]
    built = int(match[2]), int(match[3])
    if suffix == "a":
        return built == (major, minor)
    if kind == "compute" and not suffix:
        return built <= (major, minor)
    return built[0] == major and built[1] <= minor


def _explain(message: str) -> MissingGpu:
    """Turn what CUDA said when it was started into a reason and a remedy."""
    lower = message.lower()
    if "too old" in lower:
        found = re.search(r"found version (\d+)", message)
        version = f" (it supports CUDA {_cuda_text(int(found[1]))})" if found else ""
        return MissingGpu(
            f"the NVIDIA driver is too old for this PyTorch's CUDA {torch.version.cuda}{version}",
            "Update the driver, or install a PyTorch built for an older CUDA.",
        )
    if "no nvidia driver" in lower:
        return MissingGpu(
            "no NVIDIA driver is found",
            "Install the driver; in a container start it with GPU support (apptainer --nv).",
        )
    reason = "PyTorch sees no GPU"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        reason += f" (CUDA_VISIBLE_DEVICES is '{visible}')"
    if "no cuda gpus" not in lower:
        reason += f": {message.splitlines()[0].rstrip('.')}"
    return MissingGpu(
        reason, "Ask the scheduler for a GPU (Slurm: --gres=gpu:1) and see what nvidia-smi shows."
    )


def _cuda_text(version: int) -> str:
    """Write CUDA's version number as people do: 11040 is 11.4."""
    return f"{version // 1000}.{version % 1000 // 10}"
