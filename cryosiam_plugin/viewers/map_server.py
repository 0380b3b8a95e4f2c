"""A small web server for one map of embeddings, which takes selections back.

A page that is opened from a file cannot reach Scipion. So it is served, to this computer only:
on the loopback address, at a port that the system chooses, below a path that nobody can guess.
Nothing but the map's own files is served. What changes anything, a selection, must come as JSON
with the same secret from a page that this server gave out.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Callable
from urllib.parse import unquote, urlsplit

from cryosiam_plugin.viewers.map_http import Answer, Handler, Http, refusal, told

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
#: Letters of the name of a selection.
MOST_LETTERS = 200
#: Seconds without any request after which a server ends: a page may stay open over a day's work.
IDLE_SECONDS = 12 * 3600.0
#: Seconds between two looks at the clock.
_POLL_SECONDS = 1.0

#: Where the page sends a selection, from its own folder.
SELECTION = "selection"

#: Of the pictures that lie beside a page: the page's name without its suffix, and this.
FILES_ENDING = "_files"

#: What a page is made of.
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".webp": "image/webp",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
}

OnSelection = Callable[[str, "list[int]"], str]


class SelectionRefused(Exception):
    """Why no set was made of a selection, for the user."""


class MapServer:
    """Serves a map until it is closed, or nobody has asked for anything for a long time.

    Parameters
    ----------
    page
        The map; the pictures lie beside it in ``<stem>_files``.
    on_selection
        Called with name and rows of a selection, in a thread of the server's, one at a time;
        gives what to tell the user, or raises :class:`SelectionRefused`.
    idle_seconds
        Time without requests after which the server ends.
    """

    def __init__(
        self, page: Path, on_selection: OnSelection, *, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self.page = Path(page).absolute()
        self.token = secrets.token_urlsafe(32)
        self._on_selection = on_selection
        self._idle_seconds = idle_seconds
        self._identity = _identity(self.page)
        self._turn = threading.Lock()
        self._last_request = time.monotonic()
        self._http = Http((LOOPBACK, 0), self._handler())
        self._thread = threading.Thread(target=self._serve, name="CryoSiam map", daemon=True)
        self._ended = threading.Event()
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """The page's address; whoever knows it may look and select."""
        name = self.page.name
        return f"http://{LOOPBACK}:{self.port}/{self.token}/{name}?token={self.token}"

    @property
    def is_running(self) -> bool:
        """Whether it still answers."""
        return not self._ended.is_set()

    @property
    def is_current(self) -> bool:
        """Whether the page is still the one that it began with."""
        return _identity(self.page) == self._identity

    def close(self) -> None:
        """Stop answering."""
        self._ended.set()
        self._http.shutdown()
        self._thread.join()

    def wait(self) -> None:
        """Return when it has ended."""
        self._thread.join()

    def _serve(self) -> None:
        threading.Thread(target=self._watch, name="CryoSiam map's clock", daemon=True).start()
        try:
            self._http.serve_forever(poll_interval=0.2)
        finally:
            self._ended.set()
            self._http.server_close()

    def _watch(self) -> None:
        """End the server when nobody asks for anything any more."""
        pause = min(_POLL_SECONDS, self._idle_seconds / 2)
        while not self._ended.wait(pause):
            if time.monotonic() - self._last_request > self._idle_seconds:
                logger.info(
                    "The map %s was not used for long; it is not served any more.", self.page
                )
                self._http.shutdown()
                return

    # ----------------------------- what is answered -------------------------------------------

    def hosts(self) -> set[str]:
        """The names under which it may be asked: a page of another site may not lead here."""
        return {f"{name}:{self.port}" for name in (LOOPBACK, "localhost")}

    def get(self, path: str) -> Answer:
        """Answer the request for a file."""
        self._last_request = time.monotonic()
        name = self._name_below_secret(path)
        file = self._files().get(name) if name is not None else None
        if file is None:
            return Answer(HTTPStatus.NOT_FOUND)
        try:
            body = file.read_bytes()
        except OSError:
            return Answer(HTTPStatus.NOT_FOUND)
        return Answer(HTTPStatus.OK, body, _KINDS.get(file.suffix, "application/octet-stream"))

    def select(self, path: str, body: bytes) -> Answer:
        """Answer a selection."""
        self._last_request = time.monotonic()
        if self._name_below_secret(path) != SELECTION:
            return Answer(HTTPStatus.NOT_FOUND)
        try:
            name, rows = self._selection(json.loads(body.decode("utf-8")))
        except (KeyError, TypeError, ValueError) as error:
            return refusal(HTTPStatus.BAD_REQUEST, f"The selection cannot be understood: {error}")
        if not self.is_current:
            return refusal(
                HTTPStatus.CONFLICT,
                "This map was made again meanwhile. Open it once more from Scipion.",
            )
        with self._turn:
            return self._made(name, rows)

    def _made(self, name: str, rows: list[int]) -> Answer:
        try:
            return told(self._on_selection(name, rows), ok=True)
        except SelectionRefused as error:
            return refusal(HTTPStatus.CONFLICT, str(error))
        except Exception as error:
            logger.exception("No set could be made of a selection.")
            return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, f"Scipion could not do it: {error}")
        finally:
            self._last_request = time.monotonic()

    def _selection(self, data: Any) -> tuple[str, list[int]]:
        if not secrets.compare_digest(str(data["token"]).encode(), self.token.encode()):
            raise ValueError("it does not come from this map")
        name = " ".join(str(data["name"]).split())
        rows = data["rows"]
        if len(name) > MOST_LETTERS or not name.isprintable():
            raise ValueError("its name is too long or has characters that are no letters")
        if not isinstance(rows, list) or not rows:
            raise ValueError("it has no particles")
        if not all(type(row) is int and row >= 0 for row in rows):
            raise ValueError("its rows are no numbers")
        return name, sorted(set(rows))

    def _name_below_secret(self, path: str) -> str | None:
        parts = unquote(urlsplit(path).path).split("/", 2)
        if len(parts) != 3 or parts[0]:
            return None
        right = secrets.compare_digest(parts[1].encode(), self.token.encode())
        return parts[2] if right else None

    def _files(self) -> dict[str, Path]:
        """All that is served, by the name below the secret: there is no way to name another."""
        folder = self.page.with_name(self.page.stem + FILES_ENDING)
        beside = [path for path in folder.glob("*") if path.is_file() and not path.is_symlink()]
        return {
            self.page.name: self.page,
            **{f"{folder.name}/{path.name}": path for path in beside},
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("MapHandler", (Handler,), {"answerer": self})


def _identity(page: Path) -> tuple[int, int] | None:
    try:
        found = page.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
