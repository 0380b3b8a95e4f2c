"""What the hub's refusals mean for somebody who wants a model."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from cryosiam_engine.errors import DownloadError, EngineError, UnreachableError
from cryosiam_engine.models.registry import HUB, PublishedModel

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

#: Answers that ask to try again: too slow, too many requests, trouble on their side.
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)
_ATTEMPTS = 4
#: Seconds: longer than this nobody wants to wait in front of a terminal.
_LONGEST_WAIT = 300.0


def endpoint() -> str:
    """The address of the hub: ``$HF_ENDPOINT``, else Hugging Face's own."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def patiently(model: PublishedModel, ask: Callable[[], _Answer]) -> _Answer:
    """Ask again, after a while, when the hub says so; its errors become ours.

    Parameters
    ----------
    model
        What it is about, for messages.
    ask
        Asks once.

    Raises
    ------
    UnreachableError
        When there is no answer.
    DownloadError
        When the answer is no.
    """
    from huggingface_hub.utils import HfHubHTTPError

    attempt = 0
    while True:
        attempt += 1
        try:
            return ask()
        except EngineError:  # of our own disk
            raise
        except HfHubHTTPError as error:
            status, wait = _status(error), _wait(error, attempt)
            if status not in _TRY_AGAIN or attempt == _ATTEMPTS or wait > _LONGEST_WAIT:
                raise _refused(model, status, wait) from error
            logger.info("%s: the hub answers %d, next try in %.0f s", model.file, status, wait)
            time.sleep(wait)
        except Exception as error:  # of the library beneath, which is another in each version
            raise _unreachable(model, error) from error


def _status(error: Any) -> int:
    return int(getattr(error.response, "status_code", 0))


def _wait(error: Any, attempt: int) -> float:
    """Seconds until the next try: as the hub asks, else longer every time."""
    asked = error.response.headers.get("Retry-After", "") if error.response is not None else ""
    return float(asked) if asked.isdigit() else float(2**attempt)


def _refused(model: PublishedModel, status: int, wait: float) -> DownloadError:
    what, page = f"{model.file} of {model.repository}", f"{endpoint()}/{model.repository}"
    if status in (401, 403):
        return DownloadError(
            f"The hub does not give {what} to everyone (answer {status}).",
            remedy=f"Open {page} in a browser, ask for access there, and set HF_TOKEN to a token "
            "of your account that may read it.",
        )
    if status == 404:
        return DownloadError(
            f"The hub has no {what} (answer 404).",
            remedy=f"Look at {page}: if the file has another name there, the list of this version "
            "of the engine is outdated, and a newer version knows it.",
        )
    if status == 429:
        return DownloadError(
            f"The hub has had too many requests from here (answer 429) to give {what}.",
            remedy=f"Run the same command in {max(1, round(wait / 60))} min or later; with "
            "HF_TOKEN set to a token of your account it allows more.",
        )
    return DownloadError(
        f"The hub cannot give {what} now (answer {status}).",
        remedy="Run the same command later: it goes on where it stopped.",
    )


def _unreachable(model: PublishedModel, error: Exception) -> UnreachableError:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        reason = "HF_HUB_OFFLINE is set"
    else:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UnreachableError(f"{model.file} cannot be downloaded from {endpoint()}: {reason}.")
