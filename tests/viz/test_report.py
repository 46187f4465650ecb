"""The report page: whole, self-contained, escaped, and true to the scene."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import re
import zlib
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Chromium, wait_until
from PIL import Image
from scene_factory import empty_cloud, empty_mesh, make_scene
from view_maps import with_maps
from viz_scenes import ink

import viz.pages.scene_page
from recon.reconstruction import Reconstruction
from recon.scene import Mesh, PairRecord, PhotoVerdict, PointCloud, Verdict, World
from viz.drawing.viewpoint import scene_frame
from viz.pages.html_page import page_html, write_page
from viz.pages.packing import packed
from viz.pages.plots import camera_plot, pair_matrix
from viz.pages.report import report_html, write_report
from viz.pages.scene_data import scene_data, thin_mesh
from viz.pages.scene_page import scene_page_html

NASTY = ("<b>&\"'</script>.jpg", "Küche 日本.jpg", "${x} `y` \\.jpg", "d.jpg")
TURN = """
  const canvas = document.querySelector("canvas");
  for (let k = 0; k < 8; k++) canvas.dispatchEvent(new KeyboardEvent("keydown", {key: "-"}));
"""
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Reads a page; keeps its text, its elements' attributes, and checks that elements nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            name = self.elements[-1][1].get("id") or f"{self.open[-1]} {len(self.scripts)}"
            self.scripts[name] = data
        else:
            self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    scene = make_scene(
        tmp_path_factory.mktemp("photos"), names=NASTY, unregistered={"Küche 日本.jpg"}
    )
    pairs = (
        PairRecord(0, 2, 300, 250, "essential", True),
        PairRecord(0, 3, 90, 12, "pnp", False),
    )
    options = {"seed": 3, "network": {"weights": "<none>", "size": 512}}
    warnings = ("<img src=x onerror=alert(1)> is not connected",)
    return dataclasses.replace(scene, pairs=pairs, options=options, warnings=warnings)


@pytest.fixture(scope="module")
def page(scene: Reconstruction) -> Page:
    return Page(report_html(scene))


def test_page_needs_nothing_from_outside(page: Page) -> None:
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            if name in ("src", "href", "action", "data", "poster", "srcset"):
                assert value is not None
                assert value.startswith("data:"), (tag, name, value[:60])
    assert page.of("link") == []
    code = "".join(page.scripts.values())
    assert not re.search(
        r"https?://|//[a-z]+\.|@import|url\(|fetch\(|XMLHttpRequest|import\(", code
    )


def test_what_users_name_is_escaped(scene: Reconstruction, page: Page) -> None:
    text = "".join(page.text)
    for name in NASTY:
        assert text.count(name) >= 2  # its card and its row
    assert scene.warnings[0] in text
    assert "<none>" in text
    assert "onerror" not in {name for _, attributes in page.elements for name in attributes}
    assert len(page.of("b")) == 0


def test_numbers_of_the_scene_are_shown(scene: Reconstruction, page: Page) -> None:
    text = "".join(page.text)
    assert "3 of 4" in text
    assert f"{len(scene.cloud.points):,}" in text
    assert f"{len(scene.surface.faces):,}" in text
    assert "610.0–620.0 px" in text
    assert "1.8 s" in text  # 1.25 + 0.5 seconds
    assert "too few matches with the other photos" in text
    assert "network.size" in text
    assert "640 × 480" in text
    assert f"{np.degrees(2 * np.arctan(320 / 610)):.1f}°" in text
    assert "1 of 2 pairs are used" in text
    for stage in scene.stages:
        assert stage.name in text


def test_the_verdict_is_said_with_its_reason_and_the_photos_that_are_off(
    scene: Reconstruction,
) -> None:
    photos = tuple(
        PhotoVerdict(view.name, "wrong" if k == 0 else "sound", 0.5, 20.0)
        for k, view in enumerate(scene.views)
    )
    verdict = Verdict("doubtful", "matches <contradict>", 0.6, 0.5, 2.0, photos)
    page = report_html(dataclasses.replace(scene, verdict=verdict))
    section = page[page.index("<div class='verdict doubtful'>") :].split("</div>")[0]
    assert "matches &lt;contradict&gt;" in section
    assert section.count("<li>") == 1
    assert escape(scene.views[0].name) in section
    assert "class='verdict" not in report_html(scene)


def test_every_photo_has_its_three_pictures(scene: Reconstruction, page: Page) -> None:
    pictures = [image for image in page.of("img") if image["alt"] and ": " in image["alt"]]
    for view in scene.views:
        own = [image for image in pictures if (image["alt"] or "").startswith(view.name + ": ")]
        assert len(own) == 3
        photo, depth, confidence = (
            np.asarray(Image.open(io.BytesIO(base64.b64decode((i["src"] or "").split(",")[1]))))
            for i in own
        )
        assert photo.shape == depth.shape == confidence.shape == view.pixels.shape
        assert np.abs(photo.astype(int) - view.pixels).mean() < 25  # JPEG
        assert np.abs(depth.astype(int) - photo).mean() > 40


def test_only_placed_photos_can_be_looked_from(page: Page) -> None:
    chosen = [b["data-camera"] for b in page.of("button") if "data-camera" in b]
    assert chosen == ["0", "2", "3"]
    data = json.loads(page.scripts["scene-data"])
    assert [camera["index"] for camera in data["cameras"]] == [0, 2, 3]


@pytest.mark.parametrize(
    "kind", ["one photo", "none placed", "empty mesh", "empty cloud", "nothing", "bare"]
)
def test_poor_scenes_have_a_page(tmp_path: Path, kind: str) -> None:
    names = ("only.jpg",) if kind == "one photo" else ("a.jpg", "b.jpg")
    unregistered = names if kind == "none placed" else ()
    scene = make_scene(tmp_path, names=names, unregistered=unregistered)
    if kind in ("empty mesh", "nothing"):
        scene = dataclasses.replace(scene, surface=empty_mesh())
    if kind in ("empty cloud", "nothing"):
        scene = dataclasses.replace(scene, cloud=empty_cloud())
    if kind == "bare":
        scene = dataclasses.replace(scene, pairs=(), stages=(), warnings=(), options={})
    if kind == "nothing":
        views = [with_maps(view, depth=0 * view.depth) for view in scene.views]
        scene = dataclasses.replace(scene, views=tuple(views))
    page = Page(report_html(scene))
    assert "nan" not in "".join(Page(scene_page_html(scene)).text).lower()
    text = "".join(page.text)
    shown = {b["data-show"] for b in page.of("button") if "data-show" in b}
    assert all(name in text for name in names)
    assert ("mesh" in shown) == (len(scene.surface.faces) > 0)
    assert ("cloud" in shown) == (len(scene.cloud.points) > 0)
    assert "nan" not in text.lower()
    assert ("Pairs" in text) == bool(scene.pairs)
    assert ("Not placed" in text) == (kind == "none placed")


def test_page_is_written_whole_or_not_at_all(
    scene: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    assert write_report(scene, path) == path
    assert path.stat().st_size < 3e6
    before = path.read_text(encoding="utf-8")

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_report(scene, path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == before


def test_same_scene_same_page(scene: Reconstruction) -> None:
    assert report_html(scene) == report_html(scene)


# The 3D view's data


def columns(text: str, count: int, widths: list[int]) -> list[np.ndarray]:
    """What viewer/decoding.js makes of packed columns."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(-1, count)
    read, start = [], 0
    for width in widths:
        folded = sum(planes[start + k].astype(np.int64) << (8 * k) for k in range(width))
        steps = (folded >> 1) ^ -(folded & 1)
        read.append(np.cumsum(steps) % (1 << (8 * width)))
        start += width
    return read


def solid(part: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places, colours, confidence and normals of a part of the view's data."""
    read = columns(part["points"], part["count"], [2, 2, 2, 1, 1, 1, 1, 1, 1, 1])
    places = np.array(part["low"]) + np.array(part["span"]) * np.stack(read[:3], axis=1) / 65535
    normals = np.stack(read[7:], axis=1).astype(np.uint8).view(np.int8) / 127
    return places, np.stack(read[3:6], axis=1), read[6] / 255, normals


@pytest.mark.parametrize("width", [1, 2, 4])
def test_columns_come_back_as_they_were(width: int) -> None:
    rng = np.random.default_rng(width)
    values = rng.integers(0, 1 << (8 * width), 50)
    ends = np.array([0, (1 << (8 * width)) - 1, 0, 1])
    text = packed([values, np.resize(ends, 50)], widths=(width, width))
    first, second = columns(text, 50, [width, width])
    np.testing.assert_array_equal(first, values)
    np.testing.assert_array_equal(second, np.resize(ends, 50))


def test_view_data_hold_the_points_where_they_are(scene: Reconstruction) -> None:
    data = scene_data(scene)
    frame = scene_frame(scene)
    places, colours, confidence, normals = solid(data["cloud"])
    # Every eighth point first, then those between.
    order = np.concatenate([np.arange(len(places))[k::8] for k in (0, 4, 2, 6, 1, 5, 3, 7)])
    world = frame.centre + places * [1, -1, -1] * frame.radius @ frame.axes.T
    np.testing.assert_allclose(world, scene.cloud.points[order], atol=2e-4 * frame.radius)
    np.testing.assert_array_equal(colours, scene.cloud.colours[order])
    np.testing.assert_allclose(confidence, scene.cloud.confidence[order], atol=0.003)
    turned = normals * [1, -1, -1] @ frame.axes.T
    np.testing.assert_allclose(turned, scene.cloud.normals[order], atol=0.04)
    camera = data["cameras"][0]
    eye = np.array(camera["eye"]) * [1, -1, -1] * frame.radius
    pose = scene.views[0].camera.cam_to_world
    np.testing.assert_allclose(frame.centre + frame.axes @ eye, pose[:3, 3], atol=1e-3)
    axes = np.array(camera["axes"]) * [1, -1, -1] @ frame.axes.T
    np.testing.assert_allclose(axes, pose[:3, :3].T, atol=1e-4)


def test_boxes_of_an_upright_scenes_page_are_boxes_of_the_scene(scene: Reconstruction) -> None:
    for up, level in (((0.0, 0.0, 1.0), True), ((0.0, 1.0, 0.0), True)):
        world = World("upright", up, 0.5)
        frame = scene_data(dataclasses.replace(scene, world=world))["frame"]
        assert frame["level"] == level
        axes = np.array(frame["axes"])
        np.testing.assert_allclose(axes[1], up)
        np.testing.assert_allclose(np.linalg.det(axes), 1)
        np.testing.assert_allclose(axes[0], [1, 0, 0])


def test_view_data_are_thinned(scene: Reconstruction) -> None:
    data = scene_data(scene, most_points=100, most_vertices=60)
    assert 50 < data["cloud"]["count"] <= 100
    (mesh,) = data["mesh"]
    assert 20 < mesh["count"] <= 60
    faces = columns(mesh["faces"], mesh["triangles"], [4, 4, 4])
    assert np.max(faces) == mesh["count"] - 1


def test_large_meshes_come_in_levels(
    scene: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viz.pages.scene_data._COARSE", 60)
    coarse, fine = scene_data(scene)["mesh"]
    assert coarse["count"] <= 60
    assert fine["count"] == len(scene.surface.vertices)
    np.testing.assert_allclose(coarse["span"], fine["span"], rtol=0.3)


def test_thinned_mesh_keeps_shape_and_sides() -> None:
    """A fine ball: thinned, it keeps its radius, and every face still looks outward."""
    across, around = np.meshgrid(
        np.linspace(0.02, np.pi - 0.02, 80), np.linspace(0, 2 * np.pi, 160)
    )
    points = np.stack(
        [np.sin(across) * np.cos(around), np.sin(across) * np.sin(around), np.cos(across)], axis=-1
    ).reshape(-1, 3)
    k = np.arange(len(points)).reshape(across.shape)
    a, b, c, d = (x.ravel() for x in (k[:-1, :-1], k[:-1, 1:], k[1:, 1:], k[1:, :-1]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    faces = faces[:, ::-1] if _outward(points, faces).mean() < 0 else faces
    ball = Mesh(
        points.astype(np.float32),
        np.ascontiguousarray(faces, np.int32),
        np.full(points.shape, 77, np.uint8),
        points.astype(np.float32),
    )
    thin = thin_mesh(ball, 500)
    assert 200 < len(thin.vertices) <= 500
    np.testing.assert_allclose(np.linalg.norm(thin.vertices, axis=1), 1, atol=0.06)
    assert (_outward(thin.vertices, thin.faces) > 0).mean() > 0.98
    assert (thin.colours == 77).all()
    assert len(np.unique(thin.faces, axis=0)) == len(thin.faces)
    assert thin_mesh(ball, len(points)) is ball


def _outward(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (points[faces[:, k]] for k in range(3))
    return np.einsum("ij,ij->i", np.cross(b - a, c - a), a + b + c)


# Drawings


def test_camera_plot_is_to_scale(scene: Reconstruction) -> None:
    """Seen from above, distances on the page are the world's times the scale bar's scale."""
    drawing = camera_plot(scene, side="top")
    Page(drawing)
    dots = np.array(re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawing), float)
    frame = scene_frame(scene)
    centres = np.array(
        [v.camera.cam_to_world[:3, 3] for v in scene.views if v.camera.cam_to_world is not None]
    )
    level = frame.to_frame(centres)[:, [0, 2]] * [1, -1]
    start, end = re.search(r'<path d="M([\d.]+) [\d.]+V[\d.]+H([\d.]+)V', drawing).groups()
    length = float(re.search(r">([\d.]+) units</text>", drawing).group(1))
    scale = (float(end) - float(start)) / length
    np.testing.assert_allclose(dots - dots[0], (level - level[0]) * scale, atol=0.3)


def test_camera_plot_sides_show_height_and_depth(scene: Reconstruction) -> None:
    top, side = camera_plot(scene, side="top"), camera_plot(scene, side="side")
    assert top != side
    picture = re.search(r"data:image/webp;base64,([^\"]+)", side).group(1)
    cloud = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
    seen = np.flatnonzero(cloud[..., 3].any(axis=0))
    cameras = np.array(re.findall(r'<circle cx="([\d.]+)"', side), float)
    # The cameras look to the right, at the ball and the wall: most of the cloud is right of them.
    assert cameras.max() < np.median(seen)


def test_pair_matrix_names_both_photos_of_each_pair(scene: Reconstruction) -> None:
    names = [view.name for view in scene.views]
    drawing = pair_matrix(names, scene.pairs)
    titles = "".join(Page(drawing).text)
    assert titles.count(f"{names[0]} – {names[2]}: 250 inliers of 300 matches, essential") == 2
    assert titles.count("pnp, not used") == 2
    assert drawing.count('fill="none"') == 2


def test_page_of_many_photos_stays_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene = make_scene(tmp_path, names=[f"{k}.jpg" for k in range(12)])
    views = []
    for view in scene.views:
        noise = rng.integers(0, 255, (48, 64, 3), np.uint8)
        pixels = np.asarray(Image.fromarray(noise).resize((512, 384), Image.Resampling.BICUBIC))
        depth = pixels[..., 0].astype(np.float32) + 1
        views.append(with_maps(view, pixels=pixels, depth=depth, confidence=depth / 256))
    path = write_report(dataclasses.replace(scene, views=tuple(views)), tmp_path / "report.html")
    assert path.stat().st_size < 6e6


# In a browser


def test_browsers_draw_both_pages(scene: Reconstruction, tmp_path: Path) -> None:
    """Surface, points and cameras of the report and of the scene's own page, switched."""
    pages = {"report": report_html(scene), "scene": scene_page_html(scene)}
    with Chromium(tmp_path / "profile") as browser:

        def drawn() -> np.ndarray:
            left, top, width, height = browser.run(
                "(r => [r.left, r.top, r.width, r.height].map(Math.round))"
                "(document.querySelector('canvas').getBoundingClientRect())"
            )
            # Where the page is scrolled to, its edge may round to one pixel more or less.
            picture = browser.picture()[top : top + min(height, 330), left : left + width]
            # The notes over the view are no part of what is drawn.
            return ink(picture)

        def press(*parts: str) -> None:
            for part in parts:
                browser.run(f"document.querySelector('[data-show={part}]').click()")
            browser.run("new Promise((done) => setTimeout(done, 300))")

        for name, page in pages.items():
            # Without the still picture, what is seen was drawn by the page's own script.
            bare_page = re.sub(r'(<div class=.stage.>)<img src="[^"]*"', r"\1<img", page)
            path = tmp_path / f"{name}.html"
            path.write_text(bare_page, encoding="utf-8")
            browser.open(path.as_uri())
            browser.run("document.querySelectorAll('h1,dl,.hint').forEach(e => e.remove())")
            wait_until(lambda: browser.run("document.querySelector('#viewer').dataset.ready"))
            browser.run("document.querySelector('canvas').scrollIntoView()")
            press()
            surface = drawn()
            press("cameras")
            bare_surface = drawn()
            press("cloud")
            bare_points = drawn()
            press("cloud")
            assert drawn().mean() < 0.001
            press("mesh")
            browser.run(TURN)
            press()
            turned = drawn()
            browser.run("document.querySelectorAll('[data-camera]')[1].click()")
            browser.run("new Promise((done) => setTimeout(done, 1200))")
            browser.run("document.querySelector('canvas').scrollIntoView()")
            press()
            assert 0.01 < bare_surface.mean() < surface.mean() < 0.5
            assert bare_points.mean() > 0.01
            assert (bare_points ^ bare_surface).mean() > 0.005
            assert (turned ^ bare_surface).mean() > 0.001
            assert (drawn() ^ turned).mean() > 0.01


def test_pages_fit_a_phone(scene: Reconstruction, tmp_path: Path) -> None:
    with Chromium(tmp_path / "profile") as browser:
        browser.resize(390, 780, phone=True)
        for number, page in enumerate((report_html(scene), scene_page_html(scene))):
            path = tmp_path / f"{number}.html"
            path.write_text(page, encoding="utf-8")
            browser.open(path.as_uri())
            assert browser.run("document.documentElement.scrollWidth") == 390
            wait_until(lambda: browser.run("document.querySelector('#viewer').dataset.ready"))
            too_small = """[...document.querySelectorAll('button')].filter(
                b => b.offsetParent && b.getBoundingClientRect().height < 28).length"""
            assert browser.run(too_small) == 0


def test_the_scene_page_needs_nothing_from_outside(scene: Reconstruction) -> None:
    page = Page(scene_page_html(scene))
    for _, attributes in page.elements:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert page.of("link") == []
    assert [b["data-camera"] for b in page.of("button") if "data-camera" in b] == ["0", "2", "3"]
    assert {b["data-show"] for b in page.of("button") if "data-show" in b} == {
        "mesh",
        "cloud",
        "cameras",
    }


def test_a_large_scene_is_thinned_to_a_page_below_15_mb(scene: Reconstruction) -> None:
    """A hundredth of the page's limits, and 2.5 triangles per kept vertex: surfaces have two."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9_000, 3)).astype(np.float32)
    colours = rng.integers(0, 255, (len(points), 3), np.uint8)
    cloud = PointCloud(points, colours, points, np.ones(len(points), np.float32))
    faces = rng.integers(0, len(points), (5_000, 3)).astype(np.int32)
    tangle = Mesh(points, faces, colours, points)
    data = scene_data(
        dataclasses.replace(scene, cloud=cloud, surface=tangle),
        most_points=viz.pages.scene_page.MOST_POINTS // 100,
        most_vertices=viz.pages.scene_page.MOST_VERTICES // 100,
    )
    assert len(json.dumps(data)) < 15e6 / 100


def test_a_page_lets_its_own_scripts_run_and_no_others() -> None:
    page = page_html("t", "<p>b</p>", {}, scripts=("gallery.js",))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy and "default-src 'none'" in policy


def test_a_page_has_the_rights_of_the_users_new_files(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        path = write_page("\udcff", tmp_path / ("p" * 250 + ".html"))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600 and path.read_text() == "\\udcff"
    assert list(tmp_path.iterdir()) == [path]
