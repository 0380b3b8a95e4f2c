"""The engine itself, on a disk that takes long for some files: for kills while it writes.

usage: slow_engine.py SECONDS PATTERN ARGUMENTS OF cryosiam-engine ...

A file whose final name is as PATTERN says stays half-written for so many seconds, but only once:
the next process finds PATTERN.was_slow in the working folder.
"""

from __future__ import annotations

import fnmatch
import os
import sys
import time
from pathlib import Path

seconds, pattern, *arguments = sys.argv[1:]
replace = Path.replace


def slowly(self: Path, target: Path) -> Path:
    if fnmatch.fnmatch(Path(target).name, pattern):
        try:
            os.close(os.open(f"{pattern.strip('*')}.was_slow", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return replace(self, target)
        time.sleep(float(seconds))
    return replace(self, target)


Path.replace = slowly  # type: ignore[method-assign]
sys.argv = ["cryosiam-engine", *arguments]

from cryosiam_engine.cli import main  # noqa: E402

sys.exit(main(arguments))
