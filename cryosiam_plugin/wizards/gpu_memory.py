"""How many tiles a GPU can take at once."""

from __future__ import annotations

import subprocess
from typing import NamedTuple

#: Memory that the published networks take for one tile of 128 voxels' edge with 32-bit numbers:
#: 256 maps of the tile's size and their copies while a convolution runs.
TILE_GIB = 7.0

#: Weights, the workspace of the convolutions, and what the display takes.
_OVERHEAD_GIB = 1.5
_MOST_TILES = 8

_HALF_PRECISION = ("bf16", "fp16")
_QUERY = [
    "nvidia-smi",
    "--query-gpu=index,name,memory.total",
    "--format=csv,noheader,nounits",
]


class Gpu(NamedTuple):
    """A GPU of this machine."""

    number: int
    name: str
    gib: float


class Suggestion(NamedTuple):
    """Values for the form, and why."""

    tiling: str
    batch_size: int
    reason: str


def find_gpus() -> list[Gpu]:
    """The NVIDIA GPUs of this machine; none where the driver does not answer."""
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(done.stdout)


def parse_gpus(text: str) -> list[Gpu]:
    """Read what nvidia-smi writes: index, name, MiB, a line each."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) >= 3 and fields[0].isdigit() and fields[-1].isdigit():
            name = ", ".join(fields[1:-1])
            found.append(Gpu(int(fields[0]), name, int(fields[-1]) / 1024))
    return found


def suggest(gpu: Gpu | None, tiling: str, precision: str) -> Suggestion:
    """Tiling and tiles at once for a GPU.

    Parameters
    ----------
    gpu
        None: the CPU computes.
    tiling
        What the form has: ``auto`` or ``reference``.
    precision
        What the form has: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
    """
    if tiling == "auto":
        return Suggestion(
            "auto",
            1,
            "With automatic tiling the engine makes the tiles as large as the memory "
            "allows, one at a time; the number of tiles at once is not used.",
        )
    if gpu is None:
        return Suggestion(tiling, 1, "Without a GPU more tiles at once only take more memory.")
    tile = TILE_GIB / 2 if precision in _HALF_PRECISION else TILE_GIB
    fitting = int((gpu.gib - _OVERHEAD_GIB) / tile)
    if fitting < 1:
        return Suggestion(
            "auto",
            1,
            f"A tile of the original size takes about {tile:g} GiB, more than this GPU "
            "has to spare: automatic tiling makes tiles that fit.",
        )
    batch_size = min(fitting, _MOST_TILES)
    return Suggestion(
        "reference",
        batch_size,
        f"A tile of the original size takes about {tile:g} GiB. If memory "
        "runs out all the same, the engine goes on with fewer by itself.",
    )
