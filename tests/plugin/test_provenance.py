"""What runs say about the engine, its image and its configuration."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from cryosiam_plugin.slurm_core.image_digest import (
    CRYOSIAM_IMAGE,
    CRYOSIAM_IMAGE_SHA256,
    image_variables,
)

from cryosiam_plugin.engine_status import EngineStatus, read_status
from cryosiam_plugin.protocols.provenance import (
    configuration_sentence,
    engine_words,
    image_lines,
    note_engine,
)
from cryosiam_plugin.slurm_core import image_digest

IMAGE = {"path": "/images/engine.sif", "sha256": "ab" * 32, "version": "0.1.0"}


def status(command: str = "semantic_predict", version: str = "0.1.0", **values) -> EngineStatus:
    return EngineStatus(command, "TS_01", "done", engine_version=version, **values)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, and nothing remembered in this process."""
    monkeypatch.setenv("CRYOSIAM_CACHE", str(tmp_path / "cache"))
    image_digest._digest.cache_clear()
    return tmp_path / "cache"


def test_the_image_and_the_configuration_are_in_the_methods() -> None:
    record: dict = {}
    made = status(determinants={"config_sha256": "c0"}, origin={"image": IMAGE})
    centres = status("semantic_to_centers", determinants={"config_sha256": "c1"}, origin={})
    note_engine(record, [made])
    note_engine(record, [made])
    record = json.loads(json.dumps(record))  # as a run keeps it
    note_engine(record, [made])
    assert engine_words(record) == (
        f"cryosiam-engine 0.1.0 in the container image engine.sif (SHA-256 {'ab' * 32})"
    )
    assert image_lines(record) == [f"Container: engine.sif (SHA-256 {'ab' * 6}...)."]
    note_engine(record, [centres])
    assert "c0 (semantic_predict), c1 (semantic_to_centers)" in configuration_sentence(record)


def test_an_update_in_the_middle_of_a_run_is_told() -> None:
    record: dict = {}
    note_engine(record, [status(), status(version="0.2.0", origin={"image": IMAGE})])
    words = engine_words(record)
    assert words.startswith("cryosiam-engine 0.1.0 and cryosiam-engine 0.2.0 in the container")
    assert configuration_sentence(record) == ""


def test_a_native_engine_has_no_image() -> None:
    record: dict = {}
    note_engine(record, [status(origin={"image": None})])
    assert engine_words(record) == "cryosiam-engine 0.1.0"
    assert image_lines(record) == []


def test_records_of_an_earlier_plugin_are_still_told() -> None:
    record = {"version": "0.1.0", "model": "m", "sha256": "1"}
    assert engine_words(record) == "cryosiam-engine 0.1.0"
    assert configuration_sentence(record) == ""
    assert image_lines(record) == []


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ({"path": "/images/mine.sif"}, "the container image mine.sif"),
        ({"version": "0.1.0", "revision": "f00"}, "the container image version 0.1.0 (f00)"),
    ],
)
def test_an_image_is_named_as_far_as_it_is_known(image: dict, words: str) -> None:
    record: dict = {}
    note_engine(record, [status(origin={"image": image})])
    assert engine_words(record) == f"cryosiam-engine 0.1.0 in {words}"


def test_a_status_with_and_without_an_origin(tmp_path: Path) -> None:
    values = {"command": "denoise_predict", "tomogram": "TS_01", "state": "done", "outputs": []}
    (tmp_path / "TS_01.json").write_text(json.dumps(values))
    old = read_status(tmp_path, "TS_01")
    assert old is not None
    assert old.image is None
    assert old.config_sha256 is None
    values["origin"] = {"image": IMAGE}
    values["determinants"] = {"config_sha256": "c0"}
    (tmp_path / "TS_01.json").write_text(json.dumps(values))
    new = read_status(tmp_path, "TS_01")
    assert new is not None
    assert new.image == IMAGE
    assert new.config_sha256 == "c0"


def test_the_digest_of_an_image_is_computed_once(cache: Path, tmp_path: Path) -> None:
    sif = tmp_path / "engine.sif"
    sif.write_bytes(b"image")
    link = tmp_path / "latest.sif"
    link.symlink_to(sif)
    known = {CRYOSIAM_IMAGE: str(sif), CRYOSIAM_IMAGE_SHA256: hashlib.sha256(b"image").hexdigest()}
    assert image_variables(str(link)) == known
    # Another process reads what this one remembered: a wrong digest shows where it is from.
    store = cache / "image_digests.json"
    store.write_text(store.read_text().replace(known[CRYOSIAM_IMAGE_SHA256], "remembered"))
    image_digest._digest.cache_clear()
    assert image_variables(str(sif))[CRYOSIAM_IMAGE_SHA256] == "remembered"
    sif.write_bytes(b"other")
    os.utime(sif, ns=(1, 1))
    other = image_variables(str(sif))[CRYOSIAM_IMAGE_SHA256]
    assert other == hashlib.sha256(b"other").hexdigest()


def test_without_a_cache_the_digest_is_still_known(cache: Path, tmp_path: Path) -> None:
    cache.write_text("a file where the folder should be")
    sif = tmp_path / "engine.sif"
    sif.write_bytes(b"image")
    digest = image_variables(str(sif))[CRYOSIAM_IMAGE_SHA256]
    assert digest == hashlib.sha256(b"image").hexdigest()


def test_an_image_without_a_digest_is_named(cache: Path, tmp_path: Path) -> None:
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    assert image_variables(str(sandbox)) == {CRYOSIAM_IMAGE: str(sandbox)}
    assert image_variables(str(tmp_path / "gone.sif")) == {CRYOSIAM_IMAGE: f"{tmp_path}/gone.sif"}
