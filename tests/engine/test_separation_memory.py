"""The separation of a densely filled tomogram fits beside its maps and a tomogram read ahead."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

SIDE = 192
#: Prints the peak growth of the memory (kB) during the separation, and the foreground's share.
MEASURED = f"""
import re
from pathlib import Path
import numpy as np
from scipy import ndimage
from cryosiam_engine.separation import SeparationSettings, separate

def memory(name):
    text = Path("/proc/self/status").read_text()
    return int(re.search(name + r":\\s*(\\d+) kB", text).group(1))

rng = np.random.default_rng(0)
distances = np.empty(({SIDE},) * 3, np.float32)
for plane in distances:
    plane[...] = ndimage.gaussian_filter(rng.standard_normal(plane.shape, np.float32), 2)
ndimage.gaussian_filter1d(distances, 2, axis=0, output=distances)
distances *= 1 / distances[:8].std()
foreground = (distances > 1).astype(np.float32)
distances += 2
settings = SeparationSettings(0.5, 1, 1, 4)
separate(foreground[:9], distances[:9], settings, threads=2)
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
labels = separate(foreground, distances, settings, threads=2)
print(memory("VmHWM") - before, labels.max(), foreground.mean())
"""


@pytest.mark.slow
def test_dense_foreground(record_property: Callable[[str, object], None]) -> None:
    run = subprocess.run([sys.executable, "-c", MEASURED], stdout=subprocess.PIPE, text=True)
    assert run.returncode == 0
    growth, instances, share = (float(word) for word in run.stdout.split())
    assert instances > 100
    volume = 4 * SIDE**3
    peak, bound = growth * 1024 + 3 * volume, 8 * volume
    record_property(
        "peak memory of the separation",
        f"{peak / volume:.1f} x the tomogram at {share:.0%} foreground, 8 allowed",
    )
    assert peak < bound
