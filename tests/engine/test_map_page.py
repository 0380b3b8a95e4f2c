"""The map page as a file: what it embeds, what lies beside it, and names that would be markup."""

from __future__ import annotations

import base64
import json
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from cryosiam_engine.errors import ConfigurationError, OutputError
from cryosiam_engine.map_page import MapData, Thumbnails, write_map
from cryosiam_engine.map_page.encoding import safe_json
from cryosiam_engine.map_page.thumbnails import COLUMNS, MIDDLE_GREY, PER_SHEET, central_sections
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image


def map_data(n: int = 5, **changes) -> MapData:
    rng = np.random.default_rng(n)
    parts = {
        "coordinates": {"UMAP": rng.normal(size=(n, 2)).astype(np.float32)},
        "rows": np.arange(n),
        "categories": {"cluster": [str(i % 3) for i in range(n)]},
        "numbers": {"size": rng.integers(1, 1000, n)},
    }
    return MapData(**{**parts, **changes})


def patch_of(index: int, size: int = 16) -> np.ndarray:
    """A patch of blocks that compression keeps, another one for every index."""
    blocks = np.random.default_rng(index).normal(size=(4, 4, 4))
    return np.kron(blocks, np.ones((size // 4,) * 3)).astype(np.float32)


def thumbnails_of(n: int, size: int = 16) -> Thumbnails:
    return Thumbnails.from_patches((patch_of(i, size) for i in range(n)), size=size)


def content(page: Path) -> dict:
    found = re.search(r'id="map-data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    return json.loads(found[1])


def array(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def test_the_page_holds_every_value(tmp_path):
    data = map_data(7, rows=np.array([9, 2, 40, 5, 6, 7, 0]))
    assert write_map(tmp_path / "map.html", data) == [tmp_path / "map.html"]
    held = content(tmp_path / "map.html")
    np.testing.assert_array_equal(array(held["rows"], "<i4"), data.rows)
    np.testing.assert_array_equal(array(held["numbers"]["size"], "<f8"), data.numbers["size"])
    umap = array(held["coordinates"]["UMAP"], "<f4").reshape(-1, 2)
    np.testing.assert_array_equal(umap, data.coordinates["UMAP"])
    cluster = held["categories"]["cluster"]
    names = [cluster["names"][code] for code in array(cluster["codes"], "<u4")]
    assert names == data.categories["cluster"]


def test_names_are_in_natural_order_and_those_of_nothing_last(tmp_path):
    names = ["10", "2", "", "-1", "TS_10", "TS_9", "nan", "None", "2", "9" * 5000]
    data = map_data(len(names), categories={"cluster": names})
    write_map(tmp_path / "map.html", data)
    cluster = content(tmp_path / "map.html")["categories"]["cluster"]
    assert cluster["names"][:5] == ["2", "10", "9" * 5000, "TS_9", "TS_10"]
    assert {cluster["names"][code] for code in cluster["nameless"]} == {"", "-1", "nan", "None"}
    assert cluster["nameless"] == [5, 6, 7, 8]


def test_the_same_data_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        folder = tmp_path / name
        write_map(folder / "map.html", map_data(20, thumbnails=thumbnails_of(20)))
    assert (tmp_path / "a/map.html").read_bytes() == (tmp_path / "b/map.html").read_bytes()


def test_pictures_are_in_the_page_up_to_the_budget_and_beside_it_beyond(tmp_path):
    n, page = PER_SHEET + 3, tmp_path / "my map.html"
    data = map_data(n, thumbnails=thumbnails_of(n))
    bytes_needed = sum(sheet.stat().st_size for sheet in data.thumbnails.sheets()) * 4 // 3
    assert write_map(page, data, embed_bytes=bytes_needed) == [page]
    assert len(re.findall(r'id="sheet-\d+"', page.read_text())) == 2
    assert content(page)["thumbnails"]["files"] == []
    assert not (tmp_path / "my map_files").exists()

    written = write_map(page, data, embed_bytes=bytes_needed - 1)
    assert written[0] == page
    assert sorted((tmp_path / "my map_files").iterdir()) == written[1:]
    assert len(written) == 3
    assert 'id="sheet-' not in page.read_text()
    files = content(page)["thumbnails"]["files"]
    assert [f.replace("%20", " ") for f in files] == [f"my map_files/{p.name}" for p in written[1:]]
    assert "my%20map_files" in files[0]


def test_a_page_written_again_removes_the_pictures_of_the_old_one_only(tmp_path):
    page = tmp_path / "map.html"
    old = write_map(page, map_data(3, thumbnails=thumbnails_of(3)), embed_bytes=0)
    own = tmp_path / "map_files" / "notes.txt"
    own.write_text("mine")
    other = Thumbnails.from_patches((patch_of(i + 50) for i in range(3)), size=16)
    new = write_map(page, map_data(3, thumbnails=other), embed_bytes=0)
    assert old[1] != new[1]
    assert sorted((tmp_path / "map_files").iterdir()) == sorted([own, new[1]])
    write_map(page, map_data(3))
    assert list((tmp_path / "map_files").iterdir()) == [own]


def test_sheets_show_every_particle_in_its_place(tmp_path):
    n, size = PER_SHEET + COLUMNS + 1, 16
    with thumbnails_of(n, size) as thumbnails:
        sheets = [np.asarray(Image.open(path).convert("L"), float) for path in thumbnails.sheets()]
        folder = thumbnails.sheets()[0].parent
    assert not folder.exists()
    assert [sheet.shape for sheet in sheets] == [(256, 384), (32, 384)]
    for i in (0, 1, COLUMNS, PER_SHEET - 1, PER_SHEET, n - 1):
        row, column = divmod(i % PER_SHEET, COLUMNS)
        tile = sheets[i // PER_SHEET][row * size :, column * 3 * size :][:size, : 3 * size]
        expected = central_sections(patch_of(i), size).astype(float)
        assert np.corrcoef(tile.ravel(), expected.ravel())[0, 1] > 0.9


def test_central_sections_are_the_planes_through_the_middle():
    patch = np.arange(9 * 9 * 9, dtype=np.float64).reshape(9, 9, 9) ** 0.5
    xy, xz, yz = np.split(central_sections(patch, 9).astype(float), 3, axis=1)
    for section, plane in ((xy, patch[4]), (xz, patch[:, 4]), (yz, patch[:, :, 4])):
        order = np.argsort(plane.ravel(), kind="stable")
        assert (np.diff(section.ravel()[order]) >= 0).all()
        assert np.ptp(section) > 0
    # One contrast for the three: the same voxel has the same grey in all of them.
    assert xy[4, 4] == xz[4, 4] == yz[4, 4]


@pytest.mark.parametrize("size", [8, 16, 48])
@pytest.mark.parametrize("shape", [(16, 16, 16), (9, 20, 31), (1, 1, 1)])
def test_sections_of_any_shape_fit(shape, size):
    patch = np.random.default_rng(0).normal(size=shape).astype(np.float16)
    assert central_sections(patch, size).shape == (size, 3 * size)


def test_voxels_without_contrast_are_grey():
    for patch in (np.zeros((4, 4, 4)), np.full((4, 4, 4), np.nan)):
        assert (central_sections(patch, 8) == MIDDLE_GREY).all()
    patch = patch_of(0)
    patch[0, 0, 0] = np.nan
    patch[8, 0, 0] = 1e30
    drawn = central_sections(patch, 16)
    assert np.ptp(drawn[:, 16:32]) > 200  # one wild voxel leaves the contrast of the others


def test_a_particle_without_a_picture_is_grey_and_keeps_the_count():
    with Thumbnails(size=8) as thumbnails:
        thumbnails.add(None)
        thumbnails.add(patch_of(1, 8))
        sheet = np.asarray(Image.open(thumbnails.sheets()[0]).convert("L"), float)
        assert len(thumbnails) == 2
    assert np.abs(sheet[:, :20] - MIDDLE_GREY).max() < 30
    assert np.ptp(sheet[:, 24:48]) > 150


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_any_particle(tmp_path, n):
    write_map(tmp_path / "map.html", map_data(n, thumbnails=thumbnails_of(n)))
    assert len(array(content(tmp_path / "map.html")["rows"], "<i4")) == n


def test_unknown_numbers_and_places_are_kept(tmp_path):
    numbers = {"score": np.array([0.5, np.nan, np.inf])}
    umap = np.array([[0, 0], [np.nan, 1], [2, 2]], np.float32)
    data = map_data(3, numbers=numbers, coordinates={"UMAP": umap})
    write_map(tmp_path / "map.html", data)
    held = content(tmp_path / "map.html")
    np.testing.assert_array_equal(array(held["numbers"]["score"], "<f8"), numbers["score"])
    np.testing.assert_array_equal(array(held["coordinates"]["UMAP"], "<f4"), umap.ravel())


NASTY = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "{{script}} {{data}}",
    "\u2028\u2029 \ud800 \x00",
    '"quoted", \\ and &amp;',
]


def test_names_stay_data(tmp_path):
    n, page = len(NASTY), tmp_path / "map.html"
    data = map_data(n, categories=dict.fromkeys(NASTY, NASTY), title=NASTY[0], subtitle=NASTY[1])
    write_map(page, data)
    write_map(tmp_path / "plain.html", map_data(n))
    for markup in ("<script", "</script", "<img", "<!--"):
        plain = (tmp_path / "plain.html").read_text("utf-8")
        assert page.read_text("utf-8").count(markup) == plain.count(markup)
    held = content(page)
    assert list(held["categories"]) == NASTY
    assert sorted(held["categories"][NASTY[0]]["names"]) == sorted(NASTY)
    assert (held["title"], held["subtitle"]) == (NASTY[0], NASTY[1])


@given(st.dictionaries(st.text(), st.lists(st.text() | st.integers() | st.booleans())))
def test_safe_json_is_json_that_cannot_end_a_script(value):
    text = safe_json(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert not set("<>&\n\r") & set(text)


def test_the_policy_allows_this_script_and_nothing_from_elsewhere(tmp_path):
    from hashlib import sha256

    write_map(tmp_path / "map.html", map_data())
    text = (tmp_path / "map.html").read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', text)[1]
    for tag in ("script", "style"):
        inner = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(inner) == 1
        digest = base64.b64encode(sha256(inner[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"coordinates": {}}, "coordinates"),
        ({"coordinates": {"PCA": np.zeros((4, 2))}}, "PCA"),
        ({"coordinates": {"PCA": np.zeros((5, 3))}}, "PCA"),
        ({"categories": {"tomogram": ["a"]}}, "tomogram"),
        ({"numbers": {"score": np.zeros(6)}}, "score"),
        ({"rows": np.array([1, 2, 2, 3, 4])}, "repeats"),
        ({"rows": np.arange(5) - 1}, "row numbers"),
        ({"rows": np.arange(5) + 2**31}, "row numbers"),
        ({"thumbnails": "three"}, "thumbnails"),
    ],
)
def test_parts_of_different_particles_are_refused(tmp_path, changes, named):
    if "thumbnails" in changes:
        changes = {"thumbnails": thumbnails_of(3)}
    with pytest.raises(ConfigurationError, match=named) as caught:
        write_map(tmp_path / "map.html", map_data(5, **changes))
    assert caught.value.remedy
    assert not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    page = tmp_path / "map.html"
    write_map(page, map_data(3))
    before = page.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cryosiam_engine.map_page.writer._embed", full)
    with pytest.raises(OutputError, match="No space"):
        write_map(page, map_data(4))
    assert page.read_bytes() == before
    assert list(tmp_path.iterdir()) == [page]


def test_no_part_of_the_page_asks_a_network(tmp_path):
    write_map(tmp_path / "map.html", map_data())
    text = (tmp_path / "map.html").read_text("utf-8")
    addresses = set(re.findall(r"\w+://[\w./-]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of a markup language
    assert "innerHTML" not in text


# How a colour-blind eye sees linear red, green and blue (Machado, Oliveira & Fernandes 2009).
SIGHT = {
    "normal": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def oklab(linear: np.ndarray) -> np.ndarray:
    """Coordinates in which equal distances look about equal."""
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(np.clip(linear, 0, 1) @ np.transpose(to_cones)) @ np.transpose(to_lab)


@pytest.mark.parametrize("sight", SIGHT)
def test_the_colours_of_groups_are_told_apart_by_every_eye(sight):
    text = resources.files("cryosiam_engine.map_page").joinpath("assets/colours.js").read_text()
    palette = re.findall(r'"#([0-9a-f]{6})"', text[: text.index(".map(parseColour)")])
    assert len(palette) >= 20
    encoded = np.array([[int(c[k : k + 2], 16) / 255 for k in (0, 2, 4)] for c in palette])
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = oklab(linear @ np.transpose(SIGHT[sight]))
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=2) + 9 * np.eye(len(seen))
    # About 0.02 is the least difference that is seen at all, side by side.
    assert distances.min() > 0.055
    assert distances[:8, :8].min() > 0.08
