"""How much memory something takes at its peak, which is over before it could be asked for."""

from __future__ import annotations

import resource
import sys
import threading
from types import TracebackType

import psutil
import torch

_SECONDS_BETWEEN_LOOKS = 0.002
#: ``ru_maxrss`` is in kilobytes, on a Mac in bytes.
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class PeakMemory:
    """Measures while a ``with`` block runs.

    Parameters
    ----------
    device
        Of a GPU, the memory that PyTorch has taken there is measured; of a CPU, by how much this
        process grows.

    Attributes
    ----------
    n_bytes
        The peak; known after the block.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._before = self._highest = self._ever_before = 0
        self.n_bytes = 0

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return self
        self._before = self._highest = self._process.memory_info().rss
        self._ever_before = _ever()
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._device.type == "cuda":
            self.n_bytes = torch.cuda.max_memory_reserved(self._device)
            return
        self._over.set()
        self._watcher.join()
        ever = _ever()
        # The system's own record is exact, but knows only the highest of all peaks.
        peak = ever if ever > self._ever_before else self._highest
        self.n_bytes = max(0, peak - self._before)

    def _watch(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_LOOKS):
            self._highest = max(self._highest, self._process.memory_info().rss)


def _ever() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
