"""Downloads from a stand-in for Hugging Face: whole and verified, or not there at all."""

from __future__ import annotations

import argparse
import errno
import hashlib
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryosiam_engine.errors import (
    ConfigurationError,
    DownloadError,
    OutputError,
    UnreachableError,
)
from cryosiam_engine.models import command, find_model
from cryosiam_engine.models import disk as disks
from cryosiam_engine.models.download import Outcome, download_models
from cryosiam_engine.models.progress import CountedFile, DownloadProgress
from cryosiam_engine.models.record import RECORD_NAME, read_records
from file_systems import only_read, small_disk
from hub_stand_in import COMMIT, Behaviour, Hub

NAMES = ("denoising", "lamella", "semantic")
CONTENT = {
    find_model(name).file: random.Random(name).randbytes(300_000 + 1000 * n)  # noqa: S311
    for n, name in enumerate(NAMES)
}
LAMELLA = find_model("lamella").file


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    hub = Hub(CONTENT)
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    # It has read the environment long ago, if another test has imported it.
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    yield hub
    hub.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits; how long they would have is noted."""
    noted: list[float] = []
    monkeypatch.setattr(DownloadProgress, "pause", lambda self, seconds: noted.append(seconds))
    return noted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "the models"


Download = Callable[..., dict[str, Outcome]]


@pytest.fixture
def download(hub: Hub, folder: Path) -> Download:
    def run(
        *names: str, to: Path = folder, progress: type = DownloadProgress
    ) -> dict[str, Outcome]:
        models = [find_model(name) for name in names]
        with progress() as counting:
            return {o.model.name: o for o in download_models(models, to, counting)}

    return run


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def partial_of(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.partial-*"))


# ------------------------------------------------------------------ what goes well


@pytest.mark.parametrize("redirect", [True, False], ids=["redirected", "direct"])
def test_models_arrive_verified_and_recorded(redirect, hub, download, folder) -> None:
    hub.redirect = redirect
    outcomes = download(*NAMES)
    assert {str(o.error or o.state) for o in outcomes.values()} == {"downloaded"}
    assert visible(folder) == sorted([*CONTENT, RECORD_NAME])
    assert not partial_of(folder)
    records = read_records(folder)
    for name, content in CONTENT.items():
        assert (folder / name).read_bytes() == content
        record = records[name]
        assert record.sha256 == sha256(content)
        assert (record.size, record.revision) == (len(content), COMMIT)
        assert record.repository == find_model(name).repository
        assert record.date.endswith("+00:00")
    assert not hub.asked("GET", "/main/"), "what is fetched is the commit that was described"


def test_what_is_there_is_checked_without_asking_anybody(hub, download, folder) -> None:
    download("lamella")
    before = len(hub.requests)
    assert download("lamella")["lamella"].state == "verified"
    assert len(hub.requests) == before
    (folder / LAMELLA).write_bytes(b"other weights")
    error = download("lamella")["lamella"].error
    assert isinstance(error, DownloadError)
    assert sha256(CONTENT[LAMELLA]) in error.message
    assert "Delete it" in error.remedy
    assert (folder / LAMELLA).read_bytes() == b"other weights", "never replaced"


def test_a_file_that_was_copied_here_is_verified_and_recorded(hub, download, folder) -> None:
    folder.mkdir()
    (folder / LAMELLA).write_bytes(CONTENT[LAMELLA])
    assert download("lamella")["lamella"].state == "verified"
    assert read_records(folder)[LAMELLA].revision == COMMIT
    assert not hub.asked("GET")


def test_another_file_of_that_name_is_refused_and_left_alone(hub, download, folder) -> None:
    folder.mkdir()
    (folder / LAMELLA).write_bytes(b"my own lamella model")
    outcome = download("lamella")["lamella"]
    assert "is not the published" in str(outcome.error)
    assert (folder / LAMELLA).read_bytes() == b"my own lamella model"
    assert read_records(folder) == {}


def test_a_deleted_model_comes_again_from_its_commit(hub, download, folder) -> None:
    download("lamella")
    (folder / LAMELLA).unlink()
    hub.requests.clear()
    assert download("lamella")["lamella"].state == "downloaded"
    assert not [path for _, path, _ in hub.requests if "/main/" in path]


def test_a_model_that_was_published_anew_is_not_taken_for_the_verified_one(
    hub, download, folder
) -> None:
    download("lamella")
    (folder / LAMELLA).unlink()
    hub.files[LAMELLA] = b"a later version"
    outcome = download("lamella")["lamella"]
    assert "arrived damaged" in str(outcome.error)
    assert not (folder / LAMELLA).exists()


def test_a_copy_in_hugging_faces_own_cache_is_used(hub, download, folder, tmp_path) -> None:
    repository = f"models--{find_model('lamella').repository.replace('/', '--')}"
    cache = tmp_path / "hf" / "hub" / repository
    blob = cache / "blobs" / sha256(CONTENT[LAMELLA])
    link = cache / "snapshots" / COMMIT / LAMELLA
    for path in (blob, link, cache / "refs" / "main"):
        path.parent.mkdir(parents=True)
    blob.write_bytes(CONTENT[LAMELLA])
    link.symlink_to(blob)
    (cache / "refs" / "main").write_text(COMMIT)
    assert download("lamella")["lamella"].state == "downloaded"
    assert not hub.asked("GET")
    assert (folder / LAMELLA).read_bytes() == CONTENT[LAMELLA]
    # And the same without any network: the cache knows commit and checksum.
    for path in folder.iterdir():
        path.unlink()
    hub.close()
    assert download("lamella")["lamella"].state == "downloaded"
    assert read_records(folder)[LAMELLA].revision == COMMIT
    # A damaged cache is noticed.
    (folder / LAMELLA).unlink()
    blob.write_bytes(b"damaged")
    assert "arrived damaged" in str(download("lamella")["lamella"].error)
    assert not (folder / LAMELLA).exists()


# ------------------------------------------------------------------ what goes wrong on the way


def test_a_broken_connection_is_taken_up_again(hub, waits, download, folder) -> None:
    hub.behaviour[LAMELLA].cut = [120_000, 0, 50_000]
    assert download("lamella")["lamella"].state == "downloaded"
    assert (folder / LAMELLA).read_bytes() == CONTENT[LAMELLA]
    ranges = [headers.get("range") for headers in hub.asked("GET", "signature")]
    assert ranges[0] is None
    assert {"bytes=120000-", "bytes=170000-"} <= set(ranges)


def test_a_download_goes_on_where_another_run_stopped(hub, waits, download, folder) -> None:
    hub.behaviour[LAMELLA].cut = [100_000] + [0] * 100
    outcome = download("lamella")["lamella"]
    assert isinstance(outcome.error, UnreachableError)
    assert visible(folder) == [], "nothing half-written is to be seen"
    [partial] = partial_of(folder)
    assert partial.stat().st_size == 100_000
    assert partial.suffix not in (".ckpt", ".safetensors")
    hub.behaviour[LAMELLA].cut = []
    hub.requests.clear()
    assert download("lamella")["lamella"].state == "downloaded"
    assert (folder / LAMELLA).read_bytes() == CONTENT[LAMELLA]
    assert [h.get("range") for h in hub.asked("GET", "signature")] == ["bytes=100000-"]
    assert not partial_of(folder)


def test_a_server_that_knows_no_ranges_begins_anew(hub, waits, download, folder) -> None:
    hub.behaviour[LAMELLA] = Behaviour(cut=[100_000], ignores_range=True)
    assert download("lamella")["lamella"].state == "downloaded"
    assert (folder / LAMELLA).read_bytes() == CONTENT[LAMELLA]


WAYS = {
    "refuses to go on": Behaviour(),
    "goes on with nothing": Behaviour(empty_past_end=True),
    "begins anew": Behaviour(ignores_range=True),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_sends_too_little_is_given_up(way, hub, waits, download, folder) -> None:
    whole = len(CONTENT[LAMELLA])
    hub.behaviour[LAMELLA] = replace(WAYS[way], serve=CONTENT[LAMELLA][:-1000])
    error = download("lamella")["lamella"].error
    assert isinstance(error, DownloadError)
    assert not isinstance(error, UnreachableError), "there is a network"
    assert f"sends only {whole - 1000} of {whole} bytes of {LAMELLA}" in error.message
    assert "from another network" in error.remedy
    assert len(waits) == len(hub.asked("GET", "signature")) - 1, "not at once again"
    assert visible(folder) == []
    hub.behaviour[LAMELLA] = Behaviour()
    assert download("lamella")["lamella"].state == "downloaded"
    assert (folder / LAMELLA).read_bytes() == CONTENT[LAMELLA]


def test_a_proxy_that_sends_a_little_at_a_time_is_borne(hub, waits, download, folder) -> None:
    """Each of its answers is well-formed, and short."""
    hub.behaviour[LAMELLA].portion = 40_000
    assert download("lamella")["lamella"].state == "downloaded"
    assert (folder / LAMELLA).read_bytes() == CONTENT[LAMELLA]
    assert len(hub.asked("GET", "signature")) == -(-len(CONTENT[LAMELLA]) // 40_000)


def test_half_a_download_of_another_version_is_of_no_use(hub, waits, download, folder) -> None:
    hub.behaviour[LAMELLA].cut = [100_000] + [0] * 100
    download("lamella")
    hub.files[LAMELLA] = CONTENT[LAMELLA][::-1]
    hub.behaviour[LAMELLA].cut = []
    assert download("lamella")["lamella"].state == "downloaded"
    assert (folder / LAMELLA).read_bytes() == CONTENT[LAMELLA][::-1]
    assert not partial_of(folder)


def test_wrong_bytes_are_thrown_away(hub, download, folder) -> None:
    content = CONTENT[LAMELLA]
    hub.behaviour[LAMELLA].serve = content[:-1] + bytes([content[-1] ^ 1])
    error = download("lamella")["lamella"].error
    assert isinstance(error, DownloadError)
    assert "arrived damaged" in error.message
    assert "run the same command again" in error.remedy
    assert not partial_of(folder)
    assert not (folder / LAMELLA).exists()
    assert read_records(folder) == {}
    hub.behaviour[LAMELLA].serve = None
    assert download("lamella")["lamella"].state == "downloaded"


def test_one_failure_does_not_stop_the_others(hub, download, folder) -> None:
    del hub.files[LAMELLA]
    outcomes = download(*NAMES)
    assert [outcomes[name].state for name in NAMES] == ["downloaded", "failed", "downloaded"]
    error = outcomes["lamella"].error
    assert LAMELLA in error.message
    assert "404" in error.message
    assert find_model("lamella").repository in error.remedy


def test_too_many_requests_are_waited_for_as_asked(hub, waits, download) -> None:
    hub.behaviour[LAMELLA] = Behaviour(refuse_head=[429, 503], refuse_get=[429])
    assert download("lamella")["lamella"].state == "downloaded"
    assert [w for w in waits if w >= 7], "Retry-After"
    assert len(hub.asked("HEAD")) == 3


def in_two_hours() -> str:
    return format_datetime(datetime.now(timezone.utc) + timedelta(hours=2), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "waited", "told"),
    [
        ({"Retry-After": "3600"}, [], "in 60 min or later"),
        ({"Retry-After": "61"}, [62, 62, 62], "in 2 min or later"),
        ({"Retry-After": "two hours"}, [], "in 120 min or later"),
        ({"RateLimit": '"resolvers";r=0;t=200'}, [201, 201, 201], "in 4 min or later"),
        ({"RateLimit": '"resolvers";r=0;t=3000'}, [], "in 50 min or later"),
        (
            {"RateLimit": '"api";r=0;t=100', "Retry-After": "1"},
            [101, 101, 101],
            "in 2 min or later",
        ),
        ({"RateLimit": '"api";r=9;t=100', "Retry-After": "1"}, [2, 2, 2], "in 1 min or later"),
        ({}, [2, 4, 8], "the same command later"),
        ({"Retry-After": "soon", "RateLimit": "soon"}, [2, 4, 8], "the same command later"),
        ({"Retry-After": "9" * 400}, [], "in 525600 min or later"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_hub_says_how_long_to_wait(headers, waited, told, hub, waits, download) -> None:
    if headers.get("Retry-After") == "two hours":
        headers = {"Retry-After": in_two_hours()}
    hub.behaviour[LAMELLA] = Behaviour(refuse_head=[429] * 50, refuse_with=headers)
    error = download("lamella")["lamella"].error
    assert isinstance(error, DownloadError)
    assert "answer 429" in error.message
    assert told in error.remedy
    assert "HF_TOKEN" in error.remedy
    assert waits == waited


def test_a_date_to_wait_for_is_by_the_hubs_clock(hub, waits, download, monkeypatch) -> None:
    """Which is ten years behind, as far as this machine can tell."""
    from hub_stand_in import _Front

    then = datetime(2016, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    monkeypatch.setattr(_Front, "date_time_string", lambda self: format_datetime(then, usegmt=True))
    until = format_datetime(then + timedelta(seconds=30), usegmt=True)
    hub.behaviour[LAMELLA] = Behaviour(refuse_head=[429], refuse_with={"Retry-After": until})
    assert download("lamella")["lamella"].state == "downloaded"
    assert waits == [31]


def test_a_hub_in_trouble_is_given_up(hub, waits, download) -> None:
    hub.behaviour[LAMELLA].refuse_head = [500] * 50
    assert "answer 500" in download("lamella")["lamella"].error.message
    assert 2 <= len(hub.asked("HEAD")) <= 10


@pytest.fixture
def patience(hub, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set for how many seconds a download waits for its next piece."""

    def limit(seconds: float) -> None:
        constants = pytest.importorskip("huggingface_hub.constants")
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", seconds)

    return limit


def test_a_slow_hub_is_borne(hub, waits, patience, download, folder) -> None:
    """It takes longer than the limit, which is for each piece, and is one answer all the same."""
    patience(2.0)
    hub.behaviour[LAMELLA].pause = 0.5
    assert download("lamella")["lamella"].state == "downloaded"
    assert (folder / LAMELLA).read_bytes() == CONTENT[LAMELLA]
    assert len(hub.asked("GET", "signature")) == 1


def test_a_connection_that_stalls_is_left_for_another(
    hub, waits, patience, download, folder
) -> None:
    patience(0.3)
    hub.behaviour[LAMELLA].stall = [120_000, 0, 50_000]
    assert download("lamella")["lamella"].state == "downloaded"
    assert (folder / LAMELLA).read_bytes() == CONTENT[LAMELLA]
    ranges = [headers.get("range") for headers in hub.asked("GET", "signature")]
    assert ranges == [None, "bytes=120000-", "bytes=120000-", "bytes=170000-"]
    assert len(waits) == 3


def test_a_hub_that_always_stalls_is_given_up(hub, waits, patience, download, folder) -> None:
    patience(0.3)
    hub.behaviour[LAMELLA].stall = [100_000] + [0] * 100
    error = download("lamella")["lamella"].error
    assert isinstance(error, UnreachableError)
    assert "nothing came for too long" in error.message
    assert "HF_HUB_DOWNLOAD_TIMEOUT" in error.message
    assert "goes on from there" in error.remedy
    assert len(hub.asked("GET", "signature")) == 5, "one that brings something, four that do not"
    assert visible(folder) == []
    [partial] = partial_of(folder)
    assert partial.stat().st_size == 100_000


@pytest.mark.slow
def test_a_stalling_network_ends_with_the_way_around_it(hub, folder) -> None:
    hub.behaviour[LAMELLA].stall = [0] * 100
    done = subprocess.run(
        [sys.executable, "-m", "cryosiam_engine.cli", "models", "download", "lamella"],
        env={**os.environ, "HF_HUB_DOWNLOAD_TIMEOUT": "1", "CRYOSIAM_MODELS": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1
    assert "nothing came for too long" in done.stderr
    assert f"curl --fail --location --remote-name {find_model('lamella').url}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_private_model_needs_a_token_which_stays_at_the_hub(
    hub, download, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.behaviour[LAMELLA].token = "hf_secret"  # noqa: S105
    error = download("lamella")["lamella"].error
    assert "answer 401" in error.message
    assert "HF_TOKEN" in error.remedy
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert download("lamella")["lamella"].state == "downloaded"
    assert hub.asked("GET", "/resolve/")[0]["authorization"] == "Bearer hf_secret"
    assert all("authorization" not in headers for headers in hub.asked("GET", "signature"))


def test_a_page_that_is_no_hub_is_recognised(hub, download, monkeypatch) -> None:
    from hub_stand_in import _Front

    monkeypatch.setattr(_Front, "handle_file", lambda self: self.answer(200, {}))
    assert "not as Hugging Face does" in download("lamella")["lamella"].error.message


# ------------------------------------------------------------------ this machine


def test_a_folder_that_cannot_be_written_is_told_in_a_users_words(hub, download, folder) -> None:
    folder.write_text("a file of that name")
    with pytest.raises(OutputError) as caught:
        download("lamella")
    assert str(folder.parent) in caught.value.message
    assert "prediction_folder" not in caught.value.remedy


def test_a_full_disk_is_seen_before_the_download(hub, download, folder, monkeypatch) -> None:
    monkeypatch.setattr(disks.shutil, "disk_usage", lambda path: argparse.Namespace(free=1000))
    outcome = download("lamella")["lamella"]
    assert isinstance(outcome.error, OutputError)
    assert "0.3 MB are needed, 0.0 MB are free" in outcome.error.message
    assert "Free space" in outcome.error.remedy
    assert not hub.asked("GET")


def test_downloads_at_once_share_the_free_space(hub, download, tmp_path) -> None:
    """There is room for two of three models, and for each of them."""
    for behaviour in hub.behaviour.values():
        behaviour.pause = 0.05
    with small_disk(tmp_path / "disk") as disk:
        (disk / "other").write_bytes(bytes(300_000))
        outcomes = download(*NAMES, to=disk).values()
        assert sorted(o.state for o in outcomes) == ["downloaded", "downloaded", "failed"]
        [error] = [o.error for o in outcomes if o.error]
        assert isinstance(error, OutputError)
        assert "There is no space" in error.message
        assert len(hub.asked("GET", "signature")) == 2, "what does not fit is not begun"
        (disk / "other").unlink()
        assert {o.state for o in download(*NAMES, to=disk).values()} <= {"downloaded", "verified"}


def test_a_disk_that_fills_up_in_the_middle_is_no_network(hub, waits, download, tmp_path) -> None:
    class Filling(DownloadProgress):
        """Another program fills the disk when the first bytes have arrived."""

        def count(self, size: int) -> None:
            super().count(size)
            with suppress(OSError), (disk / "other").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))

    with small_disk(tmp_path / "disk") as disk:
        error = download("lamella", to=disk, progress=Filling)["lamella"].error
        assert isinstance(error, OutputError)
        assert f"{LAMELLA} in {disk}: No space left on device." in error.message
        assert "Free space" in error.remedy
        assert waits == [], "the network is not tried again"
        assert visible(disk) == ["other"]
        (disk / "other").unlink()
        assert download("lamella", to=disk)["lamella"].state == "downloaded"
        assert (disk / LAMELLA).read_bytes() == CONTENT[LAMELLA]


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "Free space."),
        (errno.EDQUOT, "ask for a larger quota"),
        (errno.EIO, "Check the disk."),
        (errno.EROFS, "Choose a folder that you may write to"),
    ],
)
@pytest.mark.parametrize("call", ["write", "seek", "truncate"])
def test_what_the_disk_refuses_is_told_as_such(number, told, call, tmp_path) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    file = argparse.Namespace(tell=lambda: 0, write=refuse, seek=refuse, truncate=refuse)
    counted = CountedFile(file, tmp_path / LAMELLA, DownloadProgress())  # type: ignore[arg-type]
    argument = b"x" if call == "write" else 0
    with pytest.raises(OutputError, match=os.strerror(number)) as caught:
        getattr(counted, call)(argument)
    assert f"{LAMELLA} in {tmp_path}" in caught.value.message
    assert told in caught.value.remedy


def test_a_folder_that_can_only_be_read_is_verified(hub, download, folder, caplog) -> None:
    """A site's folder of models, as a user sees it."""
    download("lamella")
    denoising = find_model("denoising").file
    (folder / denoising).write_bytes(CONTENT[denoising])
    (folder / ".download.lock").unlink()
    before = sorted(folder.iterdir())
    with only_read(folder):
        outcomes = download("lamella", "denoising", "semantic")
        assert outcomes["lamella"].state == "verified"
        assert outcomes["denoising"].state == "verified", "as the hub says"
        error = outcomes["semantic"].error
        assert isinstance(error, OutputError)
        assert f"{folder.name} in {folder.parent}" in error.message
        assert "--folder" in error.remedy
        assert sorted(folder.iterdir()) == before
    assert f"checksum of {denoising} is not kept" in caplog.text
    (folder / LAMELLA).write_bytes(b"other weights")
    with only_read(folder):
        error = download("lamella")["lamella"].error
        assert isinstance(error, DownloadError)
        assert "is not the published" in error.message


def test_a_folder_that_can_only_be_read_and_is_empty_is_refused(hub, download, folder) -> None:
    folder.mkdir()
    with only_read(folder), pytest.raises(OutputError) as caught:
        download("lamella")
    assert f"{folder.name} in {folder.parent}" in caught.value.message
    assert "--folder" in caught.value.remedy


def test_a_record_that_cannot_be_read_is_told(hub, download, folder) -> None:
    folder.mkdir()
    (folder / RECORD_NAME).write_text('{"format": 1, "models": [{')
    error = download("lamella")["lamella"].error
    assert isinstance(error, ConfigurationError)
    assert RECORD_NAME in error.message


# ------------------------------------------------------------------ the command


def run(*argv: str) -> int:
    from cryosiam_engine.cli import main

    return main(["models", *argv])


def test_the_command_downloads_and_tells(hub, folder, capfd) -> None:
    assert run("download", "lamella", "cryosiam_denoising", "--folder", str(folder)) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == f"lamella: downloaded, {folder / LAMELLA}"
    assert lines[1].startswith("denoising: downloaded, ")
    # All of them: this hub has but three.
    assert run("download", "all", "--folder", str(folder)) == 1
    told = capfd.readouterr()
    assert told.out.count(": verified, ") == 2
    assert told.out.count(": downloaded, ") == 1
    assert told.err.count("answer 404") == 8


def test_without_a_network_the_way_around_is_told(hub, folder, capfd) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    hub.close()
    code = subprocess.run(
        [sys.executable, "-m", "cryosiam_engine.cli", "models", "download", "lamella", "denoising"],
        env={**os.environ, "HF_ENDPOINT": address, "CRYOSIAM_MODELS": str(folder)},
        capture_output=True,
        text=True,
    )
    assert code.returncode == 1
    for name in ("lamella", "denoising"):
        model = find_model(name)
        assert f"curl --fail --location --remote-name {model.url}\n" in code.stderr
    assert f"scp {LAMELLA} {find_model('denoising').file} " in code.stderr
    assert f":'{folder}'/" in code.stderr
    assert f"cryosiam-engine models verify --folder '{folder}'" in code.stderr
    assert "Traceback" not in code.stderr


def test_offline_is_respected(hub, folder) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cryosiam_engine.cli", "models", "download", "lamella"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "CRYOSIAM_MODELS": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert hub.requests == []


def test_certificates_that_are_not_there_are_named(hub, folder, tmp_path) -> None:
    """As in a container, which has the variables of the host and not its files."""
    names = {"SSL_CERT_FILE": str(tmp_path / "ours.pem"), "CRYOSIAM_MODELS": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "cryosiam_engine.cli", "models", "download", "lamella"],
        env={**os.environ, **names},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"there is no {names['SSL_CERT_FILE']} (SSL_CERT_FILE)" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_download_goes_on(number, hub, folder) -> None:
    hub.behaviour[LAMELLA].pause = 0.5
    argv = ["models", "download", "lamella", "--folder", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "cryosiam_engine.cli", *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    ends = time.monotonic() + 60
    while not any(path.stat().st_size for path in partial_of(folder)):
        assert time.monotonic() < ends
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(number)
    told = process.communicate(timeout=60)[1]
    assert visible(folder) == []
    if number == signal.SIGTERM:
        assert process.returncode == 143
        assert "Run the same command to go on" in told
    hub.behaviour[LAMELLA].pause = 0.0
    hub.requests.clear()
    assert run(*argv[1:]) == 0
    [headers] = hub.asked("GET", "signature")
    assert int(headers["range"].removeprefix("bytes=").removesuffix("-")) > 0
    assert (folder / LAMELLA).read_bytes() == CONTENT[LAMELLA]


@pytest.mark.slow
def test_who_waits_for_the_hub_can_be_stopped(hub, folder) -> None:
    hub.behaviour[LAMELLA] = Behaviour(refuse_head=[429], refuse_with={"Retry-After": "290"})
    argv = ["models", "download", "lamella", "--folder", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "cryosiam_engine.cli", *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = ""
    while "next try in 291 s" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=100) == 143


@pytest.mark.slow
def test_two_downloads_into_a_folder_do_not_meet(hub, folder) -> None:
    for behaviour in hub.behaviour.values():
        behaviour.pause = 0.1
    command_line = [sys.executable, "-m", "cryosiam_engine.cli", "models", "download"]
    both = [
        subprocess.Popen([*command_line, *NAMES, "--folder", str(folder)], stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert len(hub.asked("GET", "/resolve/")) == len(NAMES)
    assert set(read_records(folder)) == set(CONTENT)


def test_the_progress_is_one_bar_on_a_terminal_and_lines_in_a_log(monkeypatch, caplog) -> None:
    class Terminal:
        text = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None:
            pass

    terminal = Terminal()
    with DownloadProgress(terminal) as progress:
        progress.expect(2_000_000, 500_000)
        progress.expect(1_000_000, 0)
        progress.count(2_500_000)
    assert "3.00M/3.00M" in terminal.text
    monkeypatch.setattr("cryosiam_engine.models.progress.LINE_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, "cryosiam_engine"), DownloadProgress() as progress:
        progress.expect(2_000_000, 0)
        progress.count(1_000_000)
    assert "1 of 2 MB" in caplog.text


def test_downloads_are_commands_of_their_own() -> None:
    """No prediction ever asks the hub for anything."""
    source = Path(command.__file__).parents[1]
    users = [
        path.relative_to(source).parts[0]
        for path in source.rglob("*.py")
        if "huggingface_hub" in path.read_text() or "models.download" in path.read_text()
    ]
    assert set(users) == {"models"}
