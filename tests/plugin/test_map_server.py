"""The map's server: what it gives to whom, what it takes, when it ends."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from urllib.parse import quote, urlsplit

import pytest

from cryosiam_plugin.viewers.map_server import LOOPBACK, MapServer, SelectionRefused


class Map:
    """A page, its pictures, its server, and what came of selections."""

    def __init__(self, folder, **options):
        self.folder = folder
        self.page = folder / "embeddings_map.html"
        self.page.write_text("<!doctype html><title>map</title>")
        pictures = folder / "embeddings_map_files"
        pictures.mkdir()
        (pictures / "sheet-0-ab.webp").write_bytes(b"picture")
        (folder / "secret.txt").write_text("not for you")
        (pictures / "link.webp").symlink_to(folder / "secret.txt")
        self.taken = []
        self.answer = "made"
        self.server = MapServer(self.page, self.take, **options)

    def take(self, name, rows):
        self.taken.append((name, rows))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def ask(self, path, method="GET", body=None, **headers):
        connection = http.client.HTTPConnection(LOOPBACK, self.server.port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def send(self, rows=(3, 1), name="mine", token=None, path=None, **headers):
        token = self.server.token if token is None else token
        body = json.dumps({"token": token, "name": name, "rows": rows})
        path = f"/{self.server.token}/selection" if path is None else path
        headers = {"Content-Type": "application/json", **headers}
        status, text, _ = self.ask(path, "POST", body, **headers)
        return status, json.loads(text) if text else {}


@pytest.fixture
def served(tmp_path):
    served = Map(tmp_path)
    yield served
    if served.server.is_running:
        served.server.close()


def path_of(served):
    return urlsplit(served.server.url).path


def test_the_page_and_its_pictures(served):
    address = urlsplit(served.server.url)
    assert address.hostname == "127.0.0.1"
    assert address.query == f"token={served.server.token}"
    status, body, headers = served.ask(f"{address.path}?{address.query}")
    assert (status, body) == (200, served.page.read_bytes())
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    picture = f"/{served.server.token}/embeddings_map_files/sheet-0-ab.webp"
    status, body, headers = served.ask(picture)
    assert (status, body, headers["Content-Type"]) == (200, b"picture", "image/webp")


def test_it_listens_to_this_computer_only(served):
    assert served.server._http.server_address[0] == "127.0.0.1"
    names = {i[4][0] for i in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in names - {a for a in names if a.startswith("127.")}:
        with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
            socket.create_connection((address, served.server.port), timeout=2)


@pytest.mark.parametrize(
    "below",
    [
        "",
        "secret.txt",
        "../secret.txt",
        "embeddings_map_files/../secret.txt",
        "embeddings_map_files/../../../../../../etc/passwd",
        "%2e%2e/secret.txt",
        "embeddings_map_files/%2e%2e%2fsecret.txt",
        "embeddings_map_files/link.webp",
        "embeddings_map_files",
        "embeddings_map_files/",
        "/etc/passwd",
        "selection",
        "embeddings_map.html%00.txt",
    ],
)
def test_nothing_else_is_served(served, below):
    status, body, _ = served.ask(f"/{served.server.token}/{below}")
    assert (status, body) == (404, b"")


@pytest.mark.parametrize(
    "path",
    ["/", "/embeddings_map.html", "//embeddings_map.html", "/{}/embeddings_map.html", "*", "x"],
)
def test_nothing_without_the_secret(served, path):
    wrong = served.server.token[:-1] + ("A" if served.server.token[-1] != "A" else "B")
    status, body, _ = served.ask(path.format(wrong))
    assert (status, body) == (404, b"")
    assert served.send(path=f"/{wrong}/selection")[0] == 404
    assert served.taken == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{}", "127.0.0.1", "[::1]:{}", ""])
def test_a_rebound_name_gets_nothing(served, host):
    headers = {"Host": host.format(served.server.port)}
    assert served.ask(path_of(served), **headers)[0] == 403
    assert served.send(**headers)[0] == 403
    assert served.taken == []


def test_localhost_is_this_computer(served):
    headers = {"Host": f"localhost:{served.server.port}"}
    assert served.ask(path_of(served), **headers)[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{}"])
def test_pages_of_others_cannot_select(served, origin):
    assert served.send(Origin=origin.format(served.server.port))[0] == 403
    assert served.taken == []


def test_a_selection(served):
    origin = f"http://127.0.0.1:{served.server.port}"
    status, answer = served.send([7, 3, 3, 0], "  my\tribosomes ", Origin=origin)
    assert (status, answer) == (200, {"ok": True, "message": "made"})
    assert served.taken == [("my ribosomes", [0, 3, 7])]


@pytest.mark.parametrize(
    "data",
    [
        {"token": "wrong"},
        {"rows": []},
        {"rows": "all"},
        {"rows": [1, -1]},
        {"rows": [1.5]},
        {"rows": [True]},
        {"rows": ["1"]},
        {"rows": None},
        {"name": "x" * 201},
        {"name": "a\x00b"},
    ],
)
def test_a_selection_that_cannot_be_understood(served, data):
    status, answer = served.send(**{"rows": [1], **data})
    assert status == 400
    assert answer["ok"] is False
    assert "cannot be understood" in answer["message"]
    assert served.taken == []


@pytest.mark.parametrize("body", [b"", b"[1, 2]", b"{", b"\xff", b"null", b'{"token": 1}'])
def test_what_is_no_selection_at_all(served, body):
    path = f"/{served.server.token}/selection"
    assert served.ask(path, "POST", body, **{"Content-Type": "application/json"})[0] == 400
    assert served.taken == []


def test_a_form_of_another_site_is_no_selection(served):
    """Browsers send such bodies to other sites unasked; JSON they do not."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert served.send(**{"Content-Type": kind})[0] == 415
    assert served.taken == []


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (("Content-Length", str(2**40)), 413),
        (("Content-Length", "-1"), 411),
        (("Transfer-Encoding", "chunked"), 411),
    ],
)
def test_a_selection_is_limited(served, header, status):
    connection = http.client.HTTPConnection(LOOPBACK, served.server.port, timeout=10)
    connection.putrequest("POST", f"/{served.server.token}/selection")
    connection.putheader("Content-Type", "application/json")
    connection.putheader(*header)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()
    assert served.taken == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"])
def test_other_methods_are_not_there(served, method):
    assert served.ask(path_of(served), method)[0] == 501


def test_what_the_user_is_told_of_failures(served, caplog):
    served.answer = SelectionRefused("The project is open for reading only.")
    status, answer = served.send()
    assert (status, answer) == (409, {"ok": False, "message": str(served.answer)})
    served.answer = RuntimeError("disk full")
    status, answer = served.send()
    assert status == 500
    assert "disk full" in answer["message"]
    assert not answer["ok"]


def test_rows_of_an_older_map_are_refused(served):
    served.page.write_text("another map, of other particles")
    assert not served.server.is_current
    status, answer = served.send()
    assert status == 409
    assert "made again" in answer["message"]
    assert served.taken == []


def test_selections_come_one_at_a_time(served):
    running, most = [], []

    def slow(name, rows):
        running.append(name)
        most.append(len(running))
        time.sleep(0.05)
        running.remove(name)
        return "made"

    served.server._on_selection = slow
    threads = [threading.Thread(target=served.send, args=([1], str(n))) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


def test_two_maps_have_ports_and_secrets_of_their_own(tmp_path):
    maps = []
    for name in "ab":
        (tmp_path / name).mkdir()
        maps.append(Map(tmp_path / name))
    one, other = maps
    assert one.server.port != other.server.port
    assert one.server.token != other.server.token
    assert one.ask(path_of(other))[0] == 404
    for served in maps:
        served.server.close()


def test_it_ends_when_it_is_closed(served):
    served.server.close()
    assert not served.server.is_running
    with pytest.raises(OSError, match="refused"):
        served.ask(path_of(served))


def test_it_ends_when_nobody_asks_any_more(tmp_path):
    served = Map(tmp_path, idle_seconds=0.5)
    # It is not the age that counts.
    for _ in range(6):
        time.sleep(0.15)
        assert served.ask(path_of(served))[0] == 200
    served.server._thread.join(10)
    assert not served.server.is_running


def test_the_secret_is_in_no_log(served, caplog):
    with caplog.at_level("DEBUG"):
        served.ask(path_of(served))
        served.ask(quote("/../x"))
    assert served.server.token not in caplog.text
