"""What all pages share: their policy and their files, and that browsers draw them."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium, wait_until
from page_reader import Page, hostile_scene
from viz_scenes import ink

from recon.reconstruction import Reconstruction
from viz.pages.html_page import page_html, write_page
from viz.pages.report import report_html
from viz.pages.scene_page import scene_page_html

TURN = """
  const canvas = document.querySelector("canvas");
  for (let k = 0; k < 8; k++) canvas.dispatchEvent(new KeyboardEvent("keydown", {key: "-"}));
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    return hostile_scene(tmp_path_factory.mktemp("photos"))


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
