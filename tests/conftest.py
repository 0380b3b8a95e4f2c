from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def shared_folder() -> Path:
    """The reference data that developers and CI have beside the checkout; users do not."""
    return Path(os.environ.get("CRYOSIAM_SHARED", REPOSITORY.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip(f"reference data absent: {folder} (set CRYOSIAM_SHARED)")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Inputs, checkpoints and outputs of the original, case by case (MANIFEST.md there)."""
    return shared / "golden"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache of converted checkpoints."""
    cache = tmp_path_factory.getbasetemp() / "checkpoint-cache"
    monkeypatch.setenv("CRYOSIAM_CACHE", str(cache))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured with ``record_property``, also when they passed."""
    measured: dict[str, list[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if getattr(report, "when", "") == "call":
                    measured.setdefault(name, []).append(str(value))
    for name, lines in sorted(measured.items()):
        terminalreporter.write_sep("=", name)
        for line in sorted(lines):
            terminalreporter.write_line(line)
