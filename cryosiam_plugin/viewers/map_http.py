"""HTTP as the map's server speaks it: who may ask, how much, and how it answers."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Protocol

logger = logging.getLogger(__name__)

#: Bytes of a selection: a million rows have less.
MOST_BYTES = 16 * 2**20
#: Seconds that a connection may take for a request.
REQUEST_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """What the server says to a request."""

    status: HTTPStatus
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"


def refusal(status: HTTPStatus, message: str) -> Answer:
    """An answer that says why there is no other."""
    return told(message, ok=False, status=status)


def told(message: str, *, ok: bool, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """An answer as the page understands it."""
    text = json.dumps({"ok": ok, "message": message}, ensure_ascii=False)
    return Answer(status, text.encode("utf-8"), "application/json; charset=utf-8")


class Answerer(Protocol):
    """What knows the answers."""

    def hosts(self) -> set[str]:
        """The names under which it may be asked."""

    def get(self, path: str) -> Answer:
        """Answer the request for a file."""

    def select(self, path: str, body: bytes) -> Answer:
        """Answer a selection."""


class Http(ThreadingHTTPServer):
    """A port with a thread for each request, on one computer."""

    daemon_threads = True
    # A second server must never get requests of the first one.
    allow_reuse_address = False

    def server_bind(self) -> None:
        """Take a port, without asking the network for this computer's name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong: mostly a page that was closed before its answer came."""
        logger.debug("A request to the map's server was broken off.", exc_info=True)


class Handler(BaseHTTPRequestHandler):
    """One request: whether it may be made at all, and the answer on its way."""

    answerer: Answerer
    protocol_version = "HTTP/1.1"
    server_version = "CryoSiam"
    sys_version = ""
    timeout = REQUEST_SECONDS

    def do_GET(self) -> None:
        """Answer the request for a file."""
        self._say(self.answerer.get(self.path) if self._is_for_us() else _NOT_FOR_US)

    def do_POST(self) -> None:
        """Answer a selection."""
        self._say(self._posted() if self._is_for_us() else _NOT_FOR_US)

    def _posted(self) -> Answer:
        # Without these words a page of another site could send it unasked.
        if self.headers.get_content_type() != "application/json":
            return refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "A selection is sent as JSON.")
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            return refusal(HTTPStatus.LENGTH_REQUIRED, "A selection says how long it is.")
        if int(length) > MOST_BYTES:
            return refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The selection is too large.")
        return self.answerer.select(self.path, self.rfile.read(int(length)))

    def _is_for_us(self) -> bool:
        hosts = self.answerer.hosts()
        origin = self.headers.get("Origin")
        from_us = origin is None or origin in {f"http://{host}" for host in hosts}
        return self.headers.get("Host", "") in hosts and from_us

    def _say(self, answer: Answer) -> None:
        # What was not read of a request would be taken for the next one.
        self.close_connection = True
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log what was answered."""
        # The address has the secret in it.
        logger.debug("A request to the map's server: %s", arguments[1:] if arguments else "")


_NOT_FOR_US = Answer(HTTPStatus.FORBIDDEN)
