"""Every error a user can meet: what is wrong, with which file, and what to do now."""

from __future__ import annotations


class EngineError(Exception):
    """Base of all errors that are the user's to act on.

    Parameters
    ----------
    message
        What is wrong, naming the file.
    remedy
        What to do now, as an instruction. Kept apart from the message because the status file
        and Scipion's summary show both.

    Examples
    --------
    >>> str(EngineError("TS_01.mrc is empty.", remedy="Copy it again."))
    'TS_01.mrc is empty. Copy it again.'
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class ConfigurationError(EngineError, ValueError):
    """The YAML configuration or the command line asks for something impossible."""


class TomogramError(EngineError, ValueError):
    """A tomogram cannot be read, or its voxels make no sense (NaN, constant, two-dimensional)."""


class MaskError(EngineError, ValueError):
    """A mask is missing, unreadable or empty."""


class CheckpointError(EngineError, ValueError):
    """A checkpoint is unreadable, of another task, or does not fit the network it describes."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint asks for code to be run when it is loaded; nothing of it was executed."""


class DeviceError(EngineError, RuntimeError):
    """The device asked for is absent, out of memory, or computes wrong numbers."""


class OutputError(EngineError, OSError):
    """A result cannot be written: no space, no permission, or the folder is the input's."""


class DownloadError(EngineError, OSError):
    """A model cannot be downloaded, or is not the file that was published."""


class UnreachableError(DownloadError):
    """The place that models are downloaded from cannot be reached from this machine."""


class BusyError(EngineError, RuntimeError):
    """Another run is writing the same result."""


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop by SIGINT or SIGTERM.

    Not an :class:`EngineError`: no ``except Exception`` on the way may swallow it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.signal_number = signal_number
