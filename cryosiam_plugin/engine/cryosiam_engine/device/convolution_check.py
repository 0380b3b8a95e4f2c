"""Does this device compute 3D convolutions right? A short numerical check against the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

#: (input channels, output channels, kernel edge, stride) of convolutions in the networks: the
#: stem, a bottleneck's 3x3x3, the strided one that opens a stage, a shortcut, a task head.
_CONVOLUTIONS = ((1, 64, 7, 1), (64, 64, 3, 1), (128, 128, 3, 2), (128, 64, 1, 1), (64, 32, 3, 1))

#: Edge in voxels of the cubes that are convolved. On a GPU it is large enough for the kernels
#: that real tiles get; the reference is computed for a few small blocks only.
_EDGE = {"cpu": 12, "cuda": 64}
_BLOCK = 4

#: Largest error allowed, as a fraction of the largest correct value. For 16-bit types it is two
#: units in the last place: the inputs are rounded to the type before the reference is computed,
#: so that only the arithmetic counts. That of float32 is far below what TF32 would give.
_TOLERANCE = {torch.float32: 3e-5, torch.bfloat16: 2.0**-6, torch.float16: 2.0**-9}
_TF32_TOLERANCE = 2e-3


@dataclass(frozen=True)
class SelfCheck:
    """What the numerical check found.

    Attributes
    ----------
    passed
        True when every error is within the tolerance.
    max_error
        Largest absolute difference to float64 on the CPU (inf when a value is not finite).
    relative_error
        Largest difference as a fraction of the largest correct value of that convolution.
    tolerance
        The relative error up to which the check passes.
    detail
        The convolution with the largest error, or what was raised.
    """

    passed: bool
    max_error: float
    relative_error: float
    tolerance: float
    detail: str


def self_check(device: torch.device, dtype: torch.dtype) -> SelfCheck:
    """Compare 3D convolutions on `device` in `dtype` with float64 on the CPU.

    The inputs are random but always the same. On CUDA, float32 is checked as the TF32 switch
    stands, with a tolerance to match. An error of the device counts as a failed check.

    Parameters
    ----------
    device
        Where to convolve.
    dtype
        float32, bfloat16 or float16.

    Returns
    -------
    SelfCheck
        The largest error over all convolutions and memory layouts, and the verdict.
    """
    tolerance = _tolerance(device, dtype)
    worst = SelfCheck(True, 0.0, 0.0, tolerance, "")
    try:
        with torch.inference_mode():
            for name, error, relative in _errors(device, dtype):
                if not worst.detail or not relative <= worst.relative_error:
                    worst = SelfCheck(relative <= tolerance, error, relative, tolerance, name)
    except RuntimeError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return SelfCheck(False, float("inf"), float("inf"), tolerance, reason)
    return worst


def _tolerance(device: torch.device, dtype: torch.dtype) -> float:
    """Give the relative error allowed on `device` in `dtype`."""
    if device.type == "cuda" and dtype == torch.float32 and torch.backends.cudnn.allow_tf32:
        return _TF32_TOLERANCE
    return _TOLERANCE[dtype]


def _errors(device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, float, float]]:
    """Yield (name, absolute error, relative error) of every convolution and memory layout."""
    generator = torch.Generator().manual_seed(20_240_601)
    edge = _EDGE["cuda" if device.type == "cuda" else "cpu"]
    for inputs, outputs, kernel, stride in _CONVOLUTIONS:
        volume = torch.randn(1, inputs, edge, edge, edge, generator=generator).to(dtype)
        weight = torch.randn(outputs, inputs, kernel, kernel, kernel, generator=generator)
        weight = (weight / (inputs * kernel**3) ** 0.5).to(dtype)
        blocks = _reference_blocks(volume, weight, stride)
        for layout in (torch.contiguous_format, torch.channels_last_3d):
            result = _convolve(
                volume.to(device, memory_format=layout),
                weight.to(device, memory_format=layout),
                stride=stride,
                padding=kernel // 2,
            )
            absolute, relative = _largest_error(result, blocks)
            channels = f"{inputs} to {outputs} channels"
            layout_name = str(layout).removeprefix("torch.")
            yield f"{kernel}^3 stride {stride}, {channels}, {layout_name}", absolute, relative


def _convolve(volume: Tensor, weight: Tensor, *, stride: int, padding: int) -> Tensor:
    """Convolve as the networks do; kept apart so that a test can put a wrong one in its place."""
    return functional.conv3d(volume, weight, stride=stride, padding=padding)


def _reference_blocks(volume: Tensor, weight: Tensor, stride: int) -> list[tuple[int, Tensor]]:
    """Compute small cubes of the correct result, at the first, middle and last voxels.

    Parameters
    ----------
    volume
        Input `(1, channels, z, y, x)`, a cube, on the CPU.
    weight
        Kernel `(outputs, channels, k, k, k)`, on the CPU.
    stride
        Stride along every axis.

    Returns
    -------
    list of (int, Tensor)
        Start of the cube along every axis of the output, and its values in float64.
    """
    kernel = weight.shape[-1]
    padded = functional.pad(volume, [kernel // 2] * 6)
    last = (volume.shape[-1] - 1) // stride + 1 - _BLOCK
    blocks = []
    for start in sorted({0, last // 2, last}):
        reach = slice(start * stride, (start + _BLOCK - 1) * stride + kernel)
        source = padded[..., reach, reach, reach]
        blocks.append((start, functional.conv3d(source.double(), weight.double(), stride=stride)))
    return blocks


def _largest_error(result: Tensor, blocks: list[tuple[int, Tensor]]) -> tuple[float, float]:
    """Give the largest absolute and relative difference of `result` to the reference blocks."""
    largest = max(float(correct.abs().max()) for _, correct in blocks)
    # Voxels between the blocks are not compared, but a NaN there is wrong whatever the rest says.
    if not bool(torch.isfinite(result).all()):
        return float("inf"), float("inf")
    error = 0.0
    for start, correct in blocks:
        cut = slice(start, start + _BLOCK)
        found = result[..., cut, cut, cut].cpu().double()
        error = max(error, float((found - correct).abs().max()))
    return error, error / largest
