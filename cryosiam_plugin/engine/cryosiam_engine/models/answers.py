"""What the hub's refusals mean for somebody who wants a model."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

from cryosiam_engine.errors import DownloadError, EngineError, UnreachableError
from cryosiam_engine.models.registry import HUB, PublishedModel

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")
#: Waits so many seconds.
Pause = Callable[[float], None]

#: Answers that ask to try again: too slow, too many requests, trouble on their side.
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)
_ATTEMPTS = 4
#: Seconds: longer than this nobody wants to wait in front of a terminal.
_LONGEST_WAIT = 300.0
#: Seconds: what is asked for beyond it is no sensible number.
_A_YEAR = 365 * 24 * 3600


def endpoint() -> str:
    """The address of the hub: ``$HF_ENDPOINT``, else Hugging Face's own."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def patiently(model: PublishedModel, ask: Callable[[], _Answer], pause: Pause) -> _Answer:
    """Ask again, after a while, when the hub says so; its errors become ours.

    Parameters
    ----------
    model
        What it is about, for messages.
    ask
        Asks once.
    pause
        Waits so many seconds.

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
            status, told = status_of(error), _told_wait(error)
            # A second more than asked for, which may have been rounded.
            wait = float(2**attempt) if told is None else told + 1
            if status not in _TRY_AGAIN or attempt == _ATTEMPTS or wait > _LONGEST_WAIT:
                raise _refused(model, status, told) from error
            logger.info("%s: the hub answers %d, next try in %.0f s", model.file, status, wait)
            pause(wait)
        except Exception as error:  # of the library beneath, which is another in each version
            raise _unreachable(model, error) from error


def status_of(error: Any) -> int:
    """The status code of an answer that the library beneath raised as an error; 0: none."""
    return int(getattr(error.response, "status_code", 0))


def _told_wait(error: Any) -> float | None:
    """Seconds that the hub asks to wait, in one of the ways to say so; None: it does not."""
    from huggingface_hub.utils import parse_ratelimit_headers

    if error.response is None:
        return None
    headers = error.response.headers
    told = [_retry_after(headers)]
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        told.append(min(limit.reset_in_seconds, _A_YEAR))
    return max((seconds for seconds in told if seconds is not None), default=None)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """What ``Retry-After`` says, in seconds: it may be a number or a date."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _A_YEAR)
    until = _date(text)
    if until is None:
        return None
    # By the hub's clock where it tells: that of this machine may be wrong.
    now = _date(headers.get("Date", "")) or datetime.now(timezone.utc)
    return min(max(0.0, (until - now).total_seconds()), _A_YEAR)


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)


def _refused(model: PublishedModel, status: int, wait: float | None) -> DownloadError:
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
        when = "later" if wait is None else f"in {max(1, math.ceil(wait / 60))} min or later"
        return DownloadError(
            f"The hub has had too many requests from here (answer 429) to give {what}.",
            remedy=f"Run the same command {when}; with HF_TOKEN set to a token of your account it "
            "allows more.",
        )
    return DownloadError(
        f"The hub cannot give {what} now (answer {status}).",
        remedy="Run the same command later: it goes on where it stopped.",
    )


def _unreachable(model: PublishedModel, error: Exception) -> UnreachableError:
    remedy = "What has arrived is kept: the same command, run later, goes on from there."
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        reason, remedy = "HF_HUB_OFFLINE is set", ""
    elif "Timeout" in type(error).__name__:
        reason = (
            "nothing came for too long (HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT say for "
            "how many seconds an answer and a file's next piece are waited for)"
        )
    elif isinstance(error, FileNotFoundError) and (missing := _missing_certificates()):
        reason = f"there is no {missing}, which a container does not see where it is not bound"
    else:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UnreachableError(
        f"{model.file} cannot be downloaded from {endpoint()}: {reason}.", remedy=remedy
    )


def _missing_certificates() -> str:
    """The first of the variables for certificates that names what is not there; else empty."""
    named = ((name, os.environ.get(name, "")) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    missing = (f"{path} ({name})" for name, path in named if path and not Path(path).exists())
    return next(missing, "")
