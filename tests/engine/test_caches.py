from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryosiam_engine import caches
from cryosiam_engine.caches import ensure_numba_cache


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that cannot be written, also not by root, as far as the engine can see."""
    folder = tmp_path / "locked"
    folder.mkdir()
    allowed = os.access

    def access(path: str | Path, mode: int) -> bool:
        return folder not in (Path(path), *Path(path).parents) and allowed(path, mode)

    monkeypatch.setattr(caches.os, "access", access)
    monkeypatch.setattr(caches.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    return folder


@pytest.mark.parametrize("name", ["NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"])
def test_a_folder_that_can_be_written_is_left_to_numba(
    name: str, locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "not yet there"))
    before = os.environ.get("NUMBA_CACHE_DIR")
    ensure_numba_cache()
    assert os.environ.get("NUMBA_CACHE_DIR") == before


@pytest.mark.parametrize("set_to", ["", "below"], ids=["unset", "locked"])
def test_without_one_there_is_one_of_the_users_own(
    set_to: str, locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(locked / set_to) if set_to else "")
    ensure_numba_cache()
    folder = tmp_path / f"cryosiam-{os.getuid()}"
    assert os.environ["NUMBA_CACHE_DIR"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_another_users_folder_is_not_taken(
    locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compiled is run again: a link that somebody else has put there could be anything."""
    (tmp_path / f"cryosiam-{os.getuid()}").symlink_to(locked)
    ensure_numba_cache()
    found = Path(os.environ["NUMBA_CACHE_DIR"])
    assert found.is_dir()
    assert found.resolve().parent == tmp_path
    assert locked not in (found.resolve(), *found.resolve().parents)
