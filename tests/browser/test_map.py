"""The map page in a real browser, driven by mouse and keyboard."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
map_page = pytest.importorskip("cryosiam_engine.map_page", reason="the engine is not installed")
Image = pytest.importorskip("PIL.Image")

pytestmark = pytest.mark.gui

SOFTWARE_GRAPHICS = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
N, SIZE = 300, 16
MALICE = "<img src=x onerror=window.hacked=1></script><script>window.hacked=1</script>"


@pytest.fixture(scope="module")
def playwright():
    with playwright_api.sync_playwright() as running:
        yield running


def launch(playwright, *arguments):
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CRYOSIAM_CHROMIUM") or next(
        filter(None, map(shutil.which, names)), None
    )
    try:
        return playwright.chromium.launch(executable_path=found, args=["--no-sandbox", *arguments])
    except playwright_api.Error as error:
        pytest.skip(f"no Chromium to run: {str(error).splitlines()[0]}")


@pytest.fixture(scope="module")
def browser(playwright):
    browser = launch(playwright, *SOFTWARE_GRAPHICS)
    yield browser
    browser.close()


@pytest.fixture
def visit(browser, request):
    """Open a page; fail the test if it, or its security policy, complained."""
    complaints, contexts = [], []

    def open_page(address, *, browser=browser, **options):
        settings = {"viewport": {"width": 1200, "height": 800}, "reduced_motion": "reduce"}
        context = browser.new_context(**{**settings, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("console", lambda m: m.type == "error" and complaints.append(m.text))
        page.goto(address if "://" in str(address) else Path(address).as_uri())
        page.wait_for_function("window.cryosiamMap")
        return page

    open_page.complaints = complaints
    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def patch_of(index):
    """A patch of blocks that compression keeps, another one for every index."""
    blocks = np.random.default_rng(index).normal(size=(4, 4, 4))
    return np.kron(blocks, np.ones((SIZE // 4,) * 3)).astype(np.float32)


def example(n=N, pictures=True):
    rng = np.random.default_rng(5)
    cluster = rng.integers(0, 4, n)
    middles = np.array([(-4.0, -3), (4, -2), (0, 4), (6, 5)])
    score = rng.random(n)
    score[::10] = np.nan
    patches = (patch_of(i) for i in range(n))
    return map_page.MapData(
        coordinates={
            "UMAP": (middles[cluster] + rng.normal(size=(n, 2))).astype(np.float32),
            "PCA": rng.normal(size=(n, 2)).astype(np.float32),
        },
        rows=np.arange(n) * 3 + 1,
        categories={
            "cluster": ["-1" if i % 7 == 0 else str(c) for i, c in enumerate(cluster)],
            "tomogram": [f'TS_{i % 5:02d}, "a"' for i in range(n)],
        },
        numbers={"label": np.arange(n) % 50, "size": np.exp(rng.normal(8, 1, n)), "score": score},
        title="Embeddings",
        subtitle="simulated",
        thumbnails=map_page.Thumbnails.from_patches(patches, size=SIZE) if pictures else None,
    )


@pytest.fixture(scope="module")
def data():
    return example()


@pytest.fixture(scope="module")
def path(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "map.html"
    map_page.write_map(path, data)
    return path


def state(page):
    return page.evaluate("cryosiamMap.state()")


def place(page, row):
    return page.evaluate("row => cryosiamMap.project(row)", int(row))


def settle(page):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 30)))")


def picture(page, selector="#stage"):
    settle(page)
    png = page.locator(selector).first.screenshot()
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), float)


def drag(page, corners):
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner)
    page.mouse.up()


def inside(corners, points):
    """Which points lie inside the polygon, by counting crossings to the left of each."""
    (px, py), result = np.transpose(points), np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]]):
        if y0 == y1:
            continue
        crosses = (np.minimum(y0, y1) <= py) & (py < np.maximum(y0, y1))
        result ^= crosses & (x0 + (py - y0) / (y1 - y0) * (x1 - x0) < px)
    return result


def places(page, data):
    return np.array(page.evaluate("rows => rows.map(cryosiamMap.project)", data.rows.tolist()))


# A flower that crosses itself nowhere but is anything but convex.
ANGLES = np.linspace(0, 2 * np.pi, 40, endpoint=False)
LASSO = [
    (
        round(440 + (190 + 90 * np.sin(5 * a)) * np.cos(a)),
        round(430 + (190 + 90 * np.sin(5 * a)) * np.sin(a)),
    )
    for a in ANGLES
]


# ---- looking ------------------------------------------------------------------------------


def test_the_points_are_drawn_where_and_in_the_colour_they_should_be(visit, path, data):
    page = visit(path)
    assert state(page)["renderer"] == "CardPoints"
    shown = picture(page)
    assert (shown.min(axis=2) < 200).mean() > 0.003
    box = page.locator("#stage").bounding_box()
    coloured = 0
    for i in range(1, 60):
        if data.categories["cluster"][i] == "-1":
            continue
        x, y = place(page, data.rows[i])
        red, green, blue = shown[round(y - box["y"]), round(x - box["x"])]
        coloured += max(red, green, blue) - min(red, green, blue) > 40
    assert coloured > 40


def test_hovering_shows_the_particle_under_the_pointer(visit, path, data):
    page = visit(path)
    points = places(page, data)
    for i in (11, 150, 298):
        # Nobody else's point is nearer to the middle of this one.
        assert np.argmin(np.hypot(*(points - points[i]).T)) == i
        page.mouse.move(*points[i])
        page.wait_for_selector("#hover canvas.ready")
        assert state(page)["hovered"] == data.rows[i]
        text = page.locator("#hover").inner_text()
        assert data.categories["tomogram"][i] in text
        assert f"row\n{data.rows[i]}" in text
        check_sections(page, "#hover", i)
    page.mouse.move(700, 60)
    settle(page)
    assert page.locator("#hover").is_hidden()


def check_sections(page, card, i):
    """The three canvases of a card look like particle `i`, and more so than like any other."""
    for k, name in enumerate(("xy", "xz", "yz")):
        canvas = picture(page, f"{card} canvas[aria-label*={name}]").mean(axis=2)
        small = Image.fromarray(canvas.astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BOX)
        drawn = np.asarray(small, float)[1:-1, 1:-1].ravel()  # the corners are round
        likeness = [
            np.corrcoef(drawn, section_of(other, k)[1:-1, 1:-1].ravel())[0, 1]
            for other in (i, i - 1, i + 1, 0, 5)
        ]
        assert likeness[0] > 0.9
        assert likeness[0] > max(likeness[1:]) + 0.2


def section_of(index, k):
    patch = patch_of(index)
    return (patch[SIZE // 2], patch[:, SIZE // 2], patch[:, :, SIZE // 2])[k]


def test_pictures_beside_the_page_are_read_when_needed(visit, data, tmp_path):
    written = map_page.write_map(tmp_path / "a map #1.html", data, embed_bytes=0)
    assert len(written) == 4
    page = visit(written[0])
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for i in (290, 40):
        page.mouse.move(*place(page, data.rows[i]))
        page.wait_for_selector("#hover canvas.ready")
        check_sections(page, "#hover", i)
    assert [Path(url).name for url in asked] == [written[3].name, written[1].name]
    assert all(url.startswith("file://") for url in asked)


def test_clicking_pins_a_particle_until_escape(visit, path, data):
    page = visit(path)
    page.mouse.click(*place(page, data.rows[20]))
    page.wait_for_selector("#pinned canvas.ready")
    page.mouse.move(*place(page, data.rows[21]))
    assert state(page)["pinned"] == data.rows[20]
    check_sections(page, "#pinned", 20)
    page.click("#pinned button[aria-label^=Add]")
    assert state(page)["selected"] == [data.rows[20]]
    page.keyboard.press("Escape")
    assert (state(page)["pinned"], state(page)["selected"]) == (None, [])
    assert page.locator("#pinned").is_hidden()


def test_zoom_keeps_what_is_under_the_pointer_and_drag_moves_it(visit, path, data):
    page = visit(path)
    x, y = place(page, data.rows[33])
    before = state(page)["view"]["scale"]
    page.mouse.move(x, y)
    page.mouse.wheel(0, -400)
    settle(page)
    assert state(page)["view"]["scale"] > 1.5 * before
    x_after, y_after = place(page, data.rows[33])
    assert abs(x_after - x) < 1.5 and abs(y_after - y) < 1.5  # a wheel turns at whole pixels
    drag(page, [(400, 300), (420, 310), (460, 330)])
    expected = (x_after + 60, y_after + 30)
    np.testing.assert_allclose(place(page, data.rows[33]), expected, atol=0.01)
    page.keyboard.press("0")
    np.testing.assert_allclose(place(page, data.rows[33]), (x, y), atol=0.01)


def test_maps_and_colourings_change(visit, path, data):
    page = visit(path)
    before = picture(page)
    page.get_by_role("radio", name="PCA").click()
    assert state(page)["map"] == "PCA"
    pca = picture(page)
    assert np.abs(pca - before).max() > 50
    page.select_option("#colour", label="size")
    assert np.abs(picture(page) - pca).max() > 50
    assert page.is_checked("#log")  # sizes spread over decades
    page.select_option("#colour", label="score")
    assert not page.is_checked("#log")
    assert "30 without a value" in page.locator("#ramp").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    page.keyboard.press("c")
    assert (state(page)["map"], state(page)["colour"]) == ("UMAP", "cluster")


# ---- selecting ----------------------------------------------------------------------------


def test_the_lasso_selects_exactly_what_is_inside(visit, path, data):
    page = visit(path)
    page.keyboard.press("l")
    drag(page, LASSO)
    expected = data.rows[inside(LASSO, places(page, data))]
    assert 20 < len(expected) < N - 20
    assert state(page)["selected"] == expected.tolist()
    assert page.locator("#selected-count").inner_text() == str(len(expected))

    box = [(500, 150), (700, 330), (860, 500)]
    corners = [(500, 150), (860, 150), (860, 500), (500, 500)]
    in_box = set(data.rows[inside(corners, places(page, data))].tolist())
    page.keyboard.press("r")
    page.keyboard.down("Shift")
    drag(page, box)
    page.keyboard.up("Shift")
    both = set(expected.tolist()) | in_box
    assert in_box - set(expected.tolist())
    assert set(state(page)["selected"]) == both
    page.keyboard.down("Alt")
    drag(page, box)
    page.keyboard.up("Alt")
    assert set(state(page)["selected"]) == both - in_box
    page.click("[data-mode=add]")
    drag(page, box)
    assert set(state(page)["selected"]) == both
    page.keyboard.press("i")
    assert set(state(page)["selected"]) == set(data.rows.tolist()) - both
    page.keyboard.press("Escape")
    assert state(page)["selected"] == []


def test_the_lasso_is_exact_in_any_view(visit, path, data):
    page = visit(path, device_scale_factor=2)
    page.mouse.move(430, 420)
    page.mouse.wheel(0, -700)
    settle(page)
    page.keyboard.press("l")
    drag(page, LASSO)
    expected = data.rows[inside(LASSO, places(page, data))]
    assert 5 < len(expected) < N / 2
    assert state(page)["selected"] == expected.tolist()


def test_what_is_hidden_is_not_selected(visit, path, data):
    page = visit(path)
    names = np.array(data.categories["cluster"])
    entry = page.locator("#legend li", has=page.locator(".name", has_text="2")).first
    entry.locator(".entry").click()
    assert state(page)["shown"] == (names != "2").sum()
    page.keyboard.press("i")
    assert state(page)["selected"] == data.rows[names != "2"].tolist()
    entry.locator(".entry").click()
    entry.get_by_role("button", name="Select 2").click()
    assert state(page)["selected"] == data.rows[names == "2"].tolist()
    entry.locator(".entry").dblclick()
    assert state(page)["shown"] == (names == "2").sum()
    page.click("#show-all")
    assert state(page)["shown"] == N
    page.locator("#legend li").last.locator("button.icon").click(modifiers=["Shift"])
    assert state(page)["selected"] == data.rows[(names == "2") | (names == "-1")].tolist()
    counts = page.locator("#counts li").all_inner_texts()
    assert [c.split("\n")[0] for c in counts] == ["2", "no cluster"]
    assert [int(c.split("\n")[1]) for c in counts] == [(names == "2").sum(), (names == "-1").sum()]


def test_finding_a_tomogram_selects_its_particles(visit, path, data):
    page = visit(path)
    page.keyboard.press("/")
    page.keyboard.type("ts_03")
    assert page.locator("#matches li").count() == 1
    page.keyboard.press("Enter")
    tomograms = np.array(data.categories["tomogram"])
    assert state(page)["selected"] == data.rows[tomograms == 'TS_03, "a"'].tolist()
    page.fill("#search", "nowhere")
    assert page.locator("#matches").inner_text() == "none"


# ---- taking away --------------------------------------------------------------------------


def test_the_exported_table_is_the_selection(visit, path, data):
    page = visit(path)
    page.keyboard.press("l")
    drag(page, LASSO)
    chosen = state(page)["selected"]
    with page.expect_download() as download:
        page.click("#export")
    assert download.value.suggested_filename == "Embeddings_selection.csv"
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8"))))
    assert [int(row["row"]) for row in rows] == chosen
    for row in rows:
        i = (int(row["row"]) - 1) // 3
        assert row["cluster"] == data.categories["cluster"][i]
        assert row["tomogram"] == data.categories["tomogram"][i]
        assert float(row["size"]) == data.numbers["size"][i]
        score = data.numbers["score"][i]
        assert row["score"] == "" if np.isnan(score) else float(row["score"]) == score
        umap = [float(row["UMAP 1"]), float(row["UMAP 2"])]
        np.testing.assert_allclose(umap, data.coordinates["UMAP"][i], rtol=1e-6)


class Scipion(SimpleHTTPRequestHandler):
    """Serves the page and answers what is sent to ./selection."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((self.path, body))
        if body["token"] == "right":  # noqa: S105
            status, text = 200, f"Set '{body['name']}' of {len(body['rows'])} particles: done."
        else:
            status, text = 403, json.dumps({"error": f"No. {MALICE}"})
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@contextmanager
def serving(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Scipion, directory=str(folder)))
    server.received = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


def send(page, name):
    page.fill("#set-name", name)
    page.click("#send")
    page.wait_for_selector("#answer.good, #answer.bad")
    return page.locator("#answer").inner_text()


def test_a_selection_goes_to_scipion(visit, path, data):
    with serving(path.parent) as server:
        address = f"http://127.0.0.1:{server.server_port}/map.html"
        page = visit(f"{address}?token=right")
        assert page.locator("#send").is_disabled()
        page.evaluate("rows => cryosiamMap.select(rows)", data.rows[5:9].tolist())
        assert send(page, "ribosomes <b>") == "Set 'ribosomes <b>' of 4 particles: done."
        sent = {"token": "right", "name": "ribosomes <b>", "rows": data.rows[5:9].tolist()}
        assert server.received == [("/selection", sent)]
        assert page.locator("#answer").get_attribute("class") == "good"

        page = visit(f"{address}?token=wrong")
        page.evaluate("cryosiamMap.select([1])")
        assert send(page, "x") == f"No. {MALICE}"
        assert page.locator("#answer").get_attribute("class") == "bad"
        assert page.evaluate("window.hacked") is None
        page = visit(address)
        assert page.locator("#create").is_hidden()
        page = visit(f"{address}?token=right")
        page.evaluate("cryosiamMap.select([1])")
    assert "does not answer" in send(page, "x")
    # The browser itself reports the refusals that this test provoked.
    assert len(visit.complaints) == 2
    assert all("Failed to load resource" in line for line in visit.complaints)
    visit.complaints.clear()


def test_a_page_opened_as_a_file_has_nobody_to_send_to(visit, path):
    page = visit(f"{path.as_uri()}?token=right")
    assert page.locator("#create").is_hidden()


# ---- looks, safety, odd cases -------------------------------------------------------------


def brightness(page):
    return picture(page)[-40:, 300:340].mean()


def test_light_and_dark(visit, path):
    dark = visit(path, color_scheme="dark")
    assert brightness(dark) < 40
    dark.keyboard.press("d")
    assert brightness(dark) > 230
    light = visit(path, color_scheme="light")
    assert brightness(light) > 230
    light.click("#theme")
    assert brightness(light) < 40


def test_names_that_are_markup_do_nothing(visit, tmp_path):
    n = 40
    names = [MALICE if i % 2 else "</script><b>" for i in range(n)]
    data = map_page.MapData(
        coordinates={MALICE: np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)},
        rows=np.arange(n),
        categories={MALICE: names, "tomogram": names},
        numbers={MALICE: np.arange(n) / 7},
        title=MALICE,
        subtitle=MALICE,
    )
    map_page.write_map(tmp_path / "map.html", data)
    page = visit(tmp_path / "map.html")
    assert page.locator("#title").inner_text() == MALICE
    assert page.title() == MALICE
    assert MALICE in page.locator("#legend").inner_text()
    page.mouse.click(*place(page, 1))
    assert MALICE in page.locator("#pinned").inner_text()
    page.fill("#search", "<img")
    assert MALICE in page.locator("#matches").inner_text()
    page.press("#search", "Enter")
    assert len(state(page)["selected"]) == n // 2
    page.select_option("#colour", index=2)
    settle(page)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, b").count() == 0


def test_nothing_is_asked_of_a_network(visit, browser, path, data):
    page = visit(path)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_function("window.cryosiamMap")
    page.mouse.move(*place(page, data.rows[3]))
    page.wait_for_selector("#hover canvas.ready")
    assert {url.split(":")[0] for url in asked} <= {"file", "data"}
    refused = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'let through', e => e.name)")
    assert refused == "TypeError"
    assert any("Content Security Policy" in line for line in visit.complaints)
    visit.complaints.clear()


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_any_particle(visit, tmp_path, n):
    map_page.write_map(tmp_path / "map.html", example(n))
    page = visit(tmp_path / "map.html")
    assert state(page)["particles"] == n
    page.keyboard.press("i")
    assert state(page)["selected"] == [1] * n
    for _ in range(5):
        page.keyboard.press("c")
    page.mouse.wheel(0, -300)
    settle(page)
    assert page.locator("#empty").is_visible() == (n == 0)


def test_particles_without_a_place_are_counted_but_not_drawn(visit, tmp_path):
    data = example(20, pictures=False)
    data.coordinates["UMAP"][3] = np.nan
    map_page.write_map(tmp_path / "map.html", data)
    page = visit(tmp_path / "map.html")
    assert "1 without a place" in page.locator("#status").inner_text()
    page.mouse.click(*place(page, data.rows[4]))
    assert page.locator("#pinned canvas").count() == 0
    assert state(page)["pinned"] == data.rows[4]


def test_a_small_window_shows_map_and_controls(visit, path, data):
    page = visit(path, viewport={"width": 390, "height": 780})
    stage, aside = (page.locator(s).bounding_box() for s in ("#stage", "aside"))
    assert stage["width"] == aside["width"] == 390
    assert stage["height"] > 300
    assert aside["y"] >= stage["y"] + stage["height"]
    x, y = places(page, data).T
    assert x.min() > 0 and x.max() < 390
    assert y.min() > stage["y"] and y.max() < stage["y"] + stage["height"]
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator("#export").scroll_into_view_if_needed()


def test_without_webgl_the_map_is_drawn_all_the_same(playwright, visit, path, data):
    browser = launch(playwright, "--disable-3d-apis")
    try:
        page = visit(path, browser=browser)
        assert state(page)["renderer"] == "PlainPoints"
        assert (picture(page).min(axis=2) < 200).mean() > 0.003
        page.mouse.move(*place(page, data.rows[11]))
        assert state(page)["hovered"] == data.rows[11]
    finally:
        browser.close()


def test_every_control_has_a_name(visit, path):
    page = visit(path)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, canvas, article')]
        .filter(e => !e.closest('[aria-hidden=true]') && !e.getAttribute('aria-label')
                     && !e.textContent.trim() && !e.labels?.length).map(e => e.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.slow
@pytest.mark.parametrize("n", [1000, 100_000])
def test_frame_rate(visit, tmp_path, record_property, n):
    """Measured while the view moves; here by the processor, without any graphics card."""
    map_page.write_map(tmp_path / "map.html", example(n, pictures=False))
    folder = os.environ.get("CRYOSIAM_SCREENSHOTS")
    start = time.perf_counter()
    page = visit(tmp_path / "map.html", viewport={"width": 1280, "height": 800})
    settle(page)
    opened = time.perf_counter() - start
    per_frame = page.evaluate(
        """() => {
          const gl = document.getElementById('points').getContext('webgl2');
          const pixel = new Uint8Array(4);
          const start = performance.now();
          for (let k = 0; k < 10; k++) {
            cryosiamMap.zoom(1.02);
            cryosiamMap.draw();
            gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
          }
          return (performance.now() - start) / 10;
        }"""
    )
    text = f"{n} points: opened in {opened:.1f} s, {per_frame:.1f} ms a frame in software"
    record_property("map page", text)
    if folder:
        page.screenshot(path=Path(folder) / f"map_{n}.png")
    page.keyboard.press("i")
    assert len(state(page)["selected"]) == n
