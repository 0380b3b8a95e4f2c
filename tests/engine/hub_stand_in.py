"""A stand-in for Hugging Face on this machine: what it answers when a file is asked for."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: More requests are an endless loop, which a refusal ends.
AT_MOST = 500


@dataclass
class Behaviour:
    """How the hub treats one file; the numbers are used up.

    ``cut``: so many bytes of an answer are sent before the connection breaks, each time one of the
    list; ``stall``: so many bytes, and then nothing more. ``refuse``: status codes to answer with
    first, ``refuse_with`` their headers. ``serve``: other bytes than the checksum's.
    ``portion``: so many bytes at most in an answer, which is well-formed all the same.
    ``empty_past_end``: nothing, where there is nothing more to send, rather than a refusal.
    """

    cut: list[int] = field(default_factory=list)
    stall: list[int] = field(default_factory=list)
    refuse_head: list[int] = field(default_factory=list)
    refuse_get: list[int] = field(default_factory=list)
    refuse_with: dict[str, str] = field(default_factory=lambda: {"Retry-After": "7"})
    serve: bytes | None = None
    token: str | None = None
    pause: float = 0.0
    ignores_range: bool = False
    portion: int | None = None
    empty_past_end: bool = False


class Hub:
    """Serves files of a repository, large ones by way of a second server, as the real one does."""

    def __init__(self, files: dict[str, bytes], *, redirect: bool = True) -> None:
        self.files = dict(files)
        self.behaviour: dict[str, Behaviour] = {name: Behaviour() for name in files}
        self.redirect = redirect
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        #: Ends what stalls.
        self.closing = threading.Event()
        self._servers = [self._serve(_Front), self._serve(_Storage)]
        self.address, self.storage = (f"http://127.0.0.1:{s.server_port}" for s in self._servers)

    def _serve(self, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.hub = self
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def close(self) -> None:
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def asked(self, method: str, part: str = "") -> list[dict[str, str]]:
        """Headers of the requests for addresses that have `part` in them."""
        return [headers for m, path, headers in self.requests if m == method and part in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def log_message(self, *arguments: object) -> None:
        pass

    def note(self) -> str:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append((self.command, self.path, headers))
        return unquote(urlsplit(self.path).path)

    def answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def send_file(self, name: str, more: dict[str, str] | None = None) -> None:
        if len(self.hub.requests) > AT_MOST:
            return self.answer(400, {})
        behaviour = self.hub.behaviour[name]
        content = self.hub.files[name] if behaviour.serve is None else behaviour.serve
        wanted = "" if behaviour.ignores_range else self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        if wanted and start >= len(content) and not behaviour.empty_past_end:
            return self.answer(416, {"Content-Range": f"bytes */{len(content)}"})
        part = content[start:][: behaviour.portion]
        headers = {**(more or {}), "Content-Length": str(len(part)), "Accept-Ranges": "bytes"}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(206 if wanted else 200, headers)
        if self.command == "GET":
            self.send_part(part, behaviour)
        return None

    def send_part(self, part: bytes, behaviour: Behaviour) -> None:
        broken, stalled = bool(behaviour.cut), bool(behaviour.stall)
        if broken or stalled:
            part = part[: (behaviour.cut or behaviour.stall).pop(0)]
        for begin in range(0, len(part), 50_000):
            time.sleep(behaviour.pause)
            try:
                self.wfile.write(part[begin : begin + 50_000])
            except OSError:  # the other side has gone
                return
        self.wfile.flush()
        if stalled:
            self.hub.closing.wait()
        if broken or stalled:
            self.connection.close()
            self.close_connection = True

    def do_GET(self) -> None:
        self.handle_file()

    def do_HEAD(self) -> None:
        self.handle_file()

    def handle_file(self) -> None:
        raise NotImplementedError


class _Front(_Handler):
    """``/<owner>/<repository>/resolve/<revision>/<file>``."""

    def handle_file(self) -> None:
        parts = self.note().strip("/").split("/")
        if len(parts) != 5 or parts[2] != "resolve" or parts[3] not in ("main", COMMIT):
            return self.answer(404, {"X-Error-Code": "RepoNotFound"})
        name = parts[4]
        if name not in self.hub.files:
            return self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        behaviour = self.hub.behaviour[name]
        if behaviour.token and self.headers.get("Authorization") != f"Bearer {behaviour.token}":
            return self.answer(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
        queue = behaviour.refuse_head if self.command == "HEAD" else behaviour.refuse_get
        if queue:
            return self.answer(queue.pop(0), behaviour.refuse_with)
        content = self.hub.files[name]
        described = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Linked-Size": str(len(content)),
        }
        if self.hub.redirect:
            location = f"{self.hub.storage}/{name}?signature=x"
            return self.answer(302, {**described, "Location": location})
        return self.send_file(name, described)


class _Storage(_Handler):
    """The place that large files really lie in, which must never see a token."""

    def handle_file(self) -> None:
        self.send_file(self.note().strip("/"))
