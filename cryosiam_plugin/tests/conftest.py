"""For pytest: the same home for Scipion as the project's other tests have."""

from __future__ import annotations

import runpy
from pathlib import Path

_SETTINGS = Path(__file__).parents[2] / "tests" / "plugin" / "conftest.py"

# Only in a checkout; an installed plugin is tested by `scipion3 tests`, which has set everything.
if _SETTINGS.exists():
    runpy.run_path(str(_SETTINGS))
