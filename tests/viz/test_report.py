"""The report page: whole, self-contained, escaped, and true to the scene."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_reader import NASTY, Page, hostile_scene
from PIL import Image
from scene_factory import make_scene
from view_maps import with_maps

from recon.reconstruction import Reconstruction
from recon.scene import Camera, Mesh, PhotoVerdict, PointCloud, Verdict
from viz.drawing.viewpoint import scene_frame
from viz.pages.plots import camera_plot, pair_matrix
from viz.pages.report import report_html, write_report
from viz.pages.scene_page import scene_page_html


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    return hostile_scene(tmp_path_factory.mktemp("photos"))


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
    assert "610–620 px" in text
    assert "1.8 s" in text  # 1.25 + 0.5 seconds
    assert "too few matches with the other photos" in text
    assert "network.size" in text
    assert "640 × 480" in text
    assert f"{np.degrees(2 * np.arctan(320 / 610)):.1f}°" in text
    assert "1 of 2 pairs are used" in text
    for stage in scene.stages:
        assert stage.name in text


def test_scenes_of_other_places_are_linked(scene: Reconstruction) -> None:
    page = Page(report_html(dataclasses.replace(scene, further=(scene, scene))))
    links = [attributes["href"] for attributes in page.of("a")]
    assert links == ["scene-2/report.html", "scene-3/report.html"]
    assert "(3 photos placed)" in "".join(page.text)


def test_the_focal_lengths_are_those_of_placed_photos(scene: Reconstruction) -> None:
    views = [
        view if view.registered else dataclasses.replace(view, camera=elsewhere(view.camera))
        for view in scene.views
    ]
    page = Page(report_html(dataclasses.replace(scene, views=tuple(views))))
    assert "610–620 px" in "".join(page.text)


def elsewhere(camera: Camera) -> Camera:
    K = camera.intrinsics.copy()
    K[0, 0] = K[1, 1] = 9999.0
    return dataclasses.replace(camera, intrinsics=K)


def test_the_verdict_is_said_with_its_reason_and_the_photos_that_are_off(
    scene: Reconstruction,
) -> None:
    photos = tuple(
        PhotoVerdict(view.name, "wrong", 0.5, 20.0, "hangs on <one>")
        if k == 0
        else PhotoVerdict(view.name, "sound", 0.5, 0.5)
        for k, view in enumerate(scene.views)
    )
    verdict = Verdict("doubtful", "matches <contradict>", 0.6, 0.5, 2.0, photos)
    warnings = ["the cameras are doubtful: matches <contradict>", "photos that look alike: a, b"]
    page = report_html(dataclasses.replace(scene, verdict=verdict, warnings=warnings))
    section = page[page.index("<div class='verdict doubtful'>") :].split("</div>")[0]
    assert "matches &lt;contradict&gt;" in section
    assert section.count("<li>") == 1 and "wrong: hangs on &lt;one&gt;" in section
    assert escape(scene.views[0].name) in section
    # Said once, and other warnings as ever.
    assert page.count("matches &lt;contradict&gt;") == 1 and "that look alike: a, b" in page
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
        scene = dataclasses.replace(scene, surface=Mesh.empty())
    if kind in ("empty cloud", "nothing"):
        scene = dataclasses.replace(scene, cloud=PointCloud.empty())
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
