"""Downloads of models: whole and verified, or not there at all."""

from __future__ import annotations

import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO, Literal, cast

from cryosiam_engine.errors import (
    BusyError,
    DownloadError,
    EngineError,
    OutputError,
    UnreachableError,
)
from cryosiam_engine.files import PARTIAL_MARK, sha256_of
from cryosiam_engine.locks import locked
from cryosiam_engine.models import hub
from cryosiam_engine.models.disk import Room, disk_errors
from cryosiam_engine.models.hub import RemoteFile
from cryosiam_engine.models.progress import CountedFile, DownloadProgress
from cryosiam_engine.models.record import ModelRecord, read_records, write_record
from cryosiam_engine.models.registry import PublishedModel

logger = logging.getLogger(__name__)

#: At once: the hub and most networks give several files faster than one after the other.
PARALLEL = 4

#: What became of a model: brought and verified, there already (verified now, or as its record
#: says), there but nobody could be asked, or not to be had.
State = Literal["downloaded", "verified", "unverified", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one model.

    Parameters
    ----------
    model
        Which one.
    state
        See `State`.
    error
        Why it failed.
    """

    model: PublishedModel
    state: State
    error: EngineError | None = None


@dataclass(frozen=True)
class _Downloads:
    """What the downloads into a folder share; `refusal`: why nothing can be written there."""

    folder: Path
    progress: DownloadProgress
    refusal: OutputError | None = None
    room: Room = field(default_factory=Room)


def download_models(
    models: list[PublishedModel], folder: Path, progress: DownloadProgress
) -> list[Outcome]:
    """Bring models into a folder, several at once; one that fails does not stop the others.

    Parameters
    ----------
    models
        Which ones.
    folder
        Is made where missing. A model that lies in it is verified and left as it is, also where
        nothing can be written.
    progress
        Counts the bytes.

    Raises
    ------
    OutputError
        When the folder cannot be written and none of the models is in it.
    Interrupted
        When the process was asked to stop; what has arrived is kept and used the next time.
    """
    lock = folder / ".download.lock"
    try:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock.touch()
    except OutputError as error:
        if not any((folder / model.file).exists() for model in models):
            raise
        return _download_all(models, _Downloads(folder, progress, refusal=error))
    downloads, what = _Downloads(folder, progress), f"the folder {folder}"
    try:
        with locked(lock, what=what):
            return _download_all(models, downloads)
    except BusyError:
        logger.info("Waiting for another download into %s ...", folder)
    with locked(lock, what=what, wait=True):
        return _download_all(models, downloads)


def _download_all(models: list[PublishedModel], downloads: _Downloads) -> list[Outcome]:
    def one(model: PublishedModel) -> Outcome:
        try:
            return Outcome(model, _bring(model, downloads))
        except EngineError as error:
            return Outcome(model, "failed", error)

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="download") as threads:
        try:
            return list(threads.map(one, models))
        except BaseException:  # a signal to stop, before the threads are waited for
            downloads.progress.stopped.set()
            threads.shutdown(cancel_futures=True)
            raise


def _bring(model: PublishedModel, downloads: _Downloads) -> State:
    """Verify the model that is there, or download it."""
    path = downloads.folder / model.file
    record = read_records(downloads.folder).get(model.file)
    if path.exists():
        return _judge(model, path, record, downloads)
    if downloads.refusal is not None:
        raise downloads.refusal
    revision = record.revision if record else model.revision
    try:
        remote = hub.describe(model, revision, downloads.progress.pause)
    except UnreachableError:
        cached = hub.cached_file(model, revision)
        if cached is None:
            raise
        # The hub's cache names its files as the hub would.
        remote = RemoteFile("", cached.parent.name, cached.resolve().name, None)
    else:
        cached = hub.cached_file(model, remote.commit)
    partial = _partial(path, remote.etag)
    size = remote.size if cached is None else cached.stat().st_size
    with downloads.room.claimed(partial, size, path):
        if cached is None:
            _fill(model, remote, partial, path, downloads.progress)
        else:
            with disk_errors(path):
                shutil.copyfile(cached, partial)
    sha256 = _check(model, remote, record, partial)
    with disk_errors(path):
        partial.replace(path)
    _remember(model, remote.commit, path, sha256)
    return "downloaded"


def _judge(
    model: PublishedModel, path: Path, record: ModelRecord | None, downloads: _Downloads
) -> State:
    """Say what is known about a file that is there; it is never replaced."""
    commit = record.revision if record else model.revision
    expected = model.sha256 or (record.sha256 if record else None)
    if expected is None:
        try:
            remote = hub.describe(model, model.revision, downloads.progress.pause)
        except UnreachableError as error:
            logger.warning("%s is there, but cannot be verified. %s", path.name, error.message)
            return "unverified"
        expected, commit = remote.sha256, remote.commit
    with disk_errors(path):
        found = sha256_of(path)
    if expected is None:
        logger.warning("%s is there, but the hub does not tell its checksum.", path.name)
        return "unverified"
    if found != expected:
        raise DownloadError(
            f"{path} is not the published {model.file}: its sha256 is {found}, not {expected}.",
            remedy="Delete it, or give it another name, and run the same command again.",
        )
    if record is None and downloads.refusal is None:
        _remember(model, commit, path, found)
    elif record is None:
        logger.warning("The checksum of %s is not kept: %s", path.name, downloads.refusal)
    return "verified"


def _partial(path: Path, etag: str) -> Path:
    """Where the bytes of this very content are gathered; those of another are of no use."""
    name = f".{path.name}{PARTIAL_MARK}"
    wanted = path.with_name(f"{name}{etag[:16]}")
    for other in path.parent.glob(f"{name}*"):
        if other != wanted:
            other.unlink(missing_ok=True)
    return wanted


def _fill(
    model: PublishedModel,
    remote: RemoteFile,
    partial: Path,
    path: Path,
    progress: DownloadProgress,
) -> None:
    """Add to a partial file what it lacks."""
    with disk_errors(path):
        partial.touch()
        with partial.open("r+b") as file:
            there = file.seek(0, os.SEEK_END)
            if remote.size is not None:
                if there > remote.size:
                    there = file.truncate(file.seek(0))
                progress.expect(remote.size, there)
            counted = cast("BinaryIO", CountedFile(file, path, progress))
            hub.fetch(model, remote, counted, progress.pause)


def _check(
    model: PublishedModel, remote: RemoteFile, record: ModelRecord | None, partial: Path
) -> str:
    """Give the SHA-256 of what has arrived, or delete it where it is not what it should be."""
    with disk_errors(partial):
        found = sha256_of(partial)
    expected = model.sha256 or (record.sha256 if record else None) or remote.sha256
    if expected is None:
        logger.warning("The hub does not tell the checksum of %s: only its size.", model.file)
    elif found != expected:
        partial.unlink()
        raise DownloadError(
            f"{model.file} arrived damaged: its sha256 is {found}, not {expected}.",
            remedy="Nothing of it was kept: run the same command again. If that does not help, a "
            "proxy changes it on the way, or it was replaced since it was first verified.",
        )
    return found


def _remember(model: PublishedModel, commit: str, path: Path, sha256: str) -> None:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    size = path.stat().st_size
    record = ModelRecord(model.file, sha256, size, model.repository, commit, now)
    write_record(path.parent, record)
