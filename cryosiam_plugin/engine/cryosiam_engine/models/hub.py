"""What is asked of Hugging Face: which file there is, and its bytes from any position on.

Plain HTTP with ``Range``: a download goes on where another process was stopped, through every
proxy, and without the packages for faster transfers.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from http.client import PARTIAL_CONTENT, REQUESTED_RANGE_NOT_SATISFIABLE
from pathlib import Path
from typing import BinaryIO

from cryosiam_engine import __version__
from cryosiam_engine.errors import DownloadError, EngineError
from cryosiam_engine.models.answers import Pause, endpoint, patiently, status_of
from cryosiam_engine.models.registry import PublishedModel

logger = logging.getLogger(__name__)

#: Tries in a row that bring nothing new before a download is given up, and seconds between them.
_LOST, _BETWEEN = 4, 1.0
#: How the engine introduces itself.
_LIBRARY = "cryosiam-engine"
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub describes it.

    Parameters
    ----------
    url
        Its address at one commit: what it gives does not change.
    commit
        That commit.
    etag
        The hub's name for its content: the SHA-256 of a large file.
    size
        Bytes; None where the hub does not tell.
    """

    url: str
    commit: str
    etag: str
    size: int | None

    @property
    def sha256(self) -> str | None:
        """The file's checksum, as far as the hub tells it."""
        return self.etag if _SHA256.fullmatch(self.etag) else None


def describe(model: PublishedModel, revision: str, pause: Pause) -> RemoteFile:
    """Ask the hub about a model's file.

    Parameters
    ----------
    model
        Which one.
    revision
        Branch, tag or commit.
    pause
        Waits so many seconds.

    Raises
    ------
    UnreachableError
        When there is no answer.
    DownloadError
        When the hub refuses, or does not have it.
    """
    from huggingface_hub import get_hf_file_metadata

    url = _url(model, revision)
    answer = patiently(
        model,
        lambda: get_hf_file_metadata(url, library_name=_LIBRARY, library_version=__version__),
        pause,
    )
    if not answer.commit_hash or not answer.etag:
        raise DownloadError(
            f"{endpoint()} answers, but not as Hugging Face does.",
            remedy="Check HF_ENDPOINT and the proxy: a page to log in to the network may be in "
            "between.",
        )
    return RemoteFile(_url(model, answer.commit_hash), answer.commit_hash, answer.etag, answer.size)


def fetch(model: PublishedModel, remote: RemoteFile, file: BinaryIO, pause: Pause) -> None:
    """Add to a file what it lacks.

    Parameters
    ----------
    model
        Which one, for messages.
    remote
        As :func:`describe` gave it.
    file
        Open for writing, at the end of what is there already.
    pause
        Waits so many seconds.

    Raises
    ------
    UnreachableError
        When the connection is lost for good.
    DownloadError
        When the hub refuses, or less comes than the file has.
    OutputError
        When the file cannot be written.
    """
    tries = _Tries(file.tell())  # also across those of `patiently`

    def go_on() -> None:
        # More than there should be is for the checksum to tell.
        while remote.size is None or file.tell() < remote.size:
            failure = _attempt(remote, file)
            if failure is None and (remote.size is None or file.tell() >= remote.size):
                return
            if tries.are_in_vain(file.tell()):
                raise failure or _short(model, tries.furthest, remote.size)
            why = failure or "less came than was announced"
            logger.debug("%s: going on at %d after: %s", model.file, file.tell(), why)
            pause(_BETWEEN)

    patiently(model, go_on, pause)


class _Tries:
    """Counts the tries in a row that bring nothing new to a file that has `there` bytes."""

    def __init__(self, there: int) -> None:
        self.furthest = there
        self._lost = 0

    def are_in_vain(self, there: int) -> bool:
        """Note how far one more try has come, and say whether it was the last one."""
        # A server that begins anew brings nothing new until it is beyond what was there before.
        self._lost = 0 if there > self.furthest else self._lost + 1
        self.furthest = max(self.furthest, there)
        return self._lost == _LOST


def _short(model: PublishedModel, there: int, size: int | None) -> DownloadError:
    return DownloadError(
        f"The hub, or a proxy on the way, sends only {there} of {size} bytes of {model.file}.",
        remedy="Run the same command later, or from another network: it goes on where it stopped. "
        "If it says the same again, a proxy keeps half a copy, which is for its owner to delete.",
    )


def _attempt(remote: RemoteFile, file: BinaryIO) -> Exception | None:
    """Append what a file lacks, as far as the connection lasts; give what broke it, if anything."""
    from huggingface_hub.utils import HfHubHTTPError

    try:
        _receive(remote, file)
    except EngineError:
        raise
    except HfHubHTTPError as error:
        # What the file has already is all that there is, for this server.
        if status_of(error) != REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
    except Exception as error:  # of the library beneath, which is another in each version
        return error
    return None


def _receive(remote: RemoteFile, file: BinaryIO) -> None:
    """Append what a file lacks, as far as the connection lasts."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    # Compressed on the way, the positions in the file would mean something else.
    headers = build_hf_headers(library_name=_LIBRARY, library_version=__version__)
    headers["Accept-Encoding"] = "identity"
    there = file.tell()
    if there:
        headers["Range"] = f"bytes={there}-"
    with get_session().stream(
        "GET",
        remote.url,
        headers=headers,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        # To where large files really lie; the token is not sent there.
        follow_redirects=True,
    ) as response:
        if response.is_error:
            response.read()
        hf_raise_for_status(response)
        if there and response.status_code != PARTIAL_CONTENT:
            file.seek(0)
            file.truncate()
        for piece in response.iter_raw():
            file.write(piece)


def cached_file(model: PublishedModel, revision: str) -> Path | None:
    """A copy in Hugging Face's own cache (``$HF_HOME``), where other programs may have put one.

    Parameters
    ----------
    model
        Which one.
    revision
        Branch, tag or commit.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model.repository, model.file, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _url(model: PublishedModel, revision: str) -> str:
    from huggingface_hub import hf_hub_url

    return str(hf_hub_url(model.repository, model.file, revision=revision, endpoint=endpoint()))
