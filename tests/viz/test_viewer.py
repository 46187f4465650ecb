"""The pages' 3D view in a real browser: real clicks, drags, touches and keys, and what is seen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium, wait_until
from scene_factory import make_scene
from viewer_page import ViewerPage
from viz_scenes import ink, wall_and_ball

from recon.reconstruction import Reconstruction
from viz.pages.scene_page import scene_page_html

NAME = "<img src=x onerror=alert(1)>.jpg"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    """The factory's ball, measured in metres, its first camera bending lines a little."""
    scene = make_scene(tmp_path_factory.mktemp("photos"), names=(NAME, "b.jpg", "c.jpg"), k1=-0.05)
    return dataclasses.replace(scene, cloud=wall_and_ball(), units="metres")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("browser"), width=720, height=680) as browser:
        yield browser


@pytest.fixture(scope="module")
def written(scene: Reconstruction, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(scene_page_html(scene), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Chromium, written: Path) -> ViewerPage:
    page = ViewerPage(browser, written)
    page.open()
    return page


def test_two_clicks_measure_in_metres(page: ViewerPage, scene: Reconstruction) -> None:
    page.fly(1)
    page.press("[data-do=measure]")
    ends = [[-0.5, 0.3, -np.sqrt(0.66)], [0.4, -0.2, -np.sqrt(0.8)]]
    said = page.measured(scene.views[1].camera, ends)
    number, unit = said.removeprefix("Distance ").split()
    assert unit == "m"
    # The mesh of the ball has rather large triangles.
    assert float(number) == pytest.approx(np.linalg.norm(np.subtract(*ends)), rel=0.03)
    label = page.run("document.querySelector('.stage svg text').textContent")
    assert label == f"{number} m"
    page.press(".measured button")
    assert page.run("document.querySelectorAll('.stage svg text').length") == 0


def test_beside_everything_there_is_nothing_to_measure(page: ViewerPage) -> None:
    page.press("[data-do=measure]")
    left, top, _, _ = page.box("canvas")
    page.browser.mouse((left + 5, top + 5))
    assert page.said() == "Nothing is there to measure at."


def test_just_beside_an_edge_its_near_side_is_measured(page: ViewerPage) -> None:
    page.press("[data-show=cameras]")
    picture = ink(page.picture())
    left, top, _, _ = page.box("canvas")
    end = int(np.flatnonzero(picture.any(axis=0)).max())
    y = top + float(np.flatnonzero(picture[:, end]).mean())
    page.press("[data-do=measure]")
    page.browser.mouse((left + end + 12, y))
    assert page.said() == "Nothing is there to measure at."
    page.browser.mouse((left + end + 5, y))
    page.browser.mouse((left + end - 2, y))
    number, unit = page.said().removeprefix("Distance ").split()
    assert float(number) * {"m": 1, "cm": 0.01}[unit] < 0.3


def test_the_box_cuts_by_its_sliders_and_by_its_handles(page: ViewerPage) -> None:
    page.press("[data-show=cameras]")
    whole = ink(page.picture()).sum()
    page.press("[data-do=cut]")
    page.browser.mouse(page.middle("[data-face='0,0']"))  # the left side, to the middle
    page.run("document.querySelectorAll('.handle').forEach((h) => { h.style.opacity = 0; })")
    half = ink(page.picture()).sum()
    assert half < 0.75 * whole
    text = page.run("document.querySelector('[data-box]').textContent")
    assert "m across" in text
    # The handle of the right side, dragged to the left, takes more.
    x, y = page.middle(".handle:nth-of-type(2)")
    page.browser.mouse((x, y), (x - 30, y), (x - 60, y))
    assert ink(page.picture()).sum() < 0.9 * half
    page.press("[data-do=whole]")
    page.press("[data-do=cut]")
    assert ink(page.picture()).sum() == pytest.approx(whole, rel=0.02)


def test_a_section_takes_away_one_side_and_draws_its_line(page: ViewerPage) -> None:
    page.press("[data-show=cameras]")
    page.press("[data-do=cut]")
    page.run(
        "(s => { s.value = 'front'; s.dispatchEvent(new Event('change')); })"
        "(document.querySelector('[data-section]'))"
    )
    page.settle()
    before = page.picture()
    x, y = page.middle("[data-depth]")
    page.browser.mouse((x - 25, y))
    page.browser.key("ArrowRight")
    after = page.picture().astype(int)
    orange = (after[..., 0] > 200) & (abs(after[..., 1] - 158) < 40) & (after[..., 2] < 90)
    assert orange.sum() > 200
    assert (abs(after - before).max(axis=-1) > 20).mean() > 0.002


def test_a_photo_fades_in_over_the_model_from_its_own_camera(
    page: ViewerPage, scene: Reconstruction
) -> None:
    page.press("[data-show=cameras]")
    page.fly(1)
    assert page.run("document.querySelector('[data-name]').textContent") == "b.jpg"
    left, _, width, _ = page.box("[data-fade]")
    y = page.middle("[data-fade]")[1]
    pictures = {}
    for name, x in (("model", left + 1), ("photo", left + width - 1)):
        page.browser.mouse((x, y))
        pictures[name] = page.picture().astype(int)
    # At the slider's end the photo is all that is seen.
    view = scene.views[1]
    h, w = pictures["photo"].shape[:2]
    camera = view.camera
    scale = min(w / camera.width, h / camera.height)
    for share in ((0.3, 0.4), (0.6, 0.7), (0.5, 0.2)):
        px, py = (
            np.array(share) * [camera.width, camera.height] - [camera.width / 2, camera.height / 2]
        ) * scale
        shown = pictures["photo"][round(h / 2 + py), round(w / 2 + px)]
        rows, columns = view.pixels.shape[:2]
        true = view.pixels[int(share[1] * rows), int(share[0] * columns)].astype(int)
        assert abs(shown - true).max() < 60  # the photo has few pixels
    # And the ball of the model lies where it lies in the photo.
    ball = ink(pictures["model"])
    for point, inside in (([0, 0, -1], True), ([0.9, 0, 0], True), ([1.3, 0, 0], False)):
        x, y = page.pixel_of(scene.views[1].camera, point)
        canvas = page.box("canvas")
        assert ball[round(y - canvas[1]), round(x - canvas[0])] == inside
    # From elsewhere no photo lies over the model.
    x, y = page.middle("canvas")
    page.browser.mouse((x, y), (x + 40, y), (x + 80, y))
    assert ink(page.picture())[5:40, 5:40].mean() == 0


def test_colours_show_photo_confidence_normal_and_height(page: ViewerPage) -> None:
    page.press("[data-show=cloud]")
    pictures = {}
    for name in ("photo", "confidence", "normal", "height"):
        page.run(
            f"(s => {{ s.value = '{name}'; s.dispatchEvent(new Event('change')); }})"
            "(document.querySelector('[data-colour]'))"
        )
        pictures[name] = page.picture().astype(int)
        legend = page.run(
            "(e => e.hidden ? '' : [...e.children].map(c => c.textContent).join(' '))"
            "(document.querySelector('.colours'))"
        )
        assert ("sure" in legend) == (name == "confidence")
        assert (" m " in f"{legend} ") == (name == "height")
    seen = ink(pictures["photo"])
    for name in ("confidence", "normal", "height"):
        assert abs(pictures[name] - pictures["photo"])[seen].mean() > 20
    # The left half of the scene is unsure: dark violet; the right half is a light green.
    sure = pictures["confidence"]
    rows, columns = np.nonzero(seen)
    left, right = (sure[rows[c], columns[c]].mean(axis=0) for c in (
        columns < np.percentile(columns, 20), columns > np.percentile(columns, 80)))  # fmt: skip
    assert right[1] > left[1] + 50


def test_a_link_leads_to_the_same_view(page: ViewerPage) -> None:
    page.fly(0)
    page.press("[data-do=measure]")
    x, y = page.middle("canvas")
    page.browser.mouse((x, y))
    page.browser.mouse((x + 40, y + 20))
    page.press("[data-do=measure]")
    page.browser.mouse((x, y), (x + 30, y + 10), (x + 60, y + 20))
    page.press("[data-do=link]")
    shown, address = page.picture(), page.run("location.hash")
    assert address.startswith("#view=")
    page.open()
    assert page.run("location.hash") == ""
    page.open(address)
    assert (abs(page.picture().astype(int) - shown).max(axis=-1) > 20).mean() < 0.01
    assert page.run("document.querySelectorAll('.measured li').length") == 1


@pytest.mark.parametrize(
    "address",
    [
        "#view=1,2",
        "#view=0,0,0,nan,0,0,0,1,1,0,0",
        "#view=0,0,0,-1,0,0,0,1,1,0,0&photo=99,1",
        "#%%%",
    ],
)
def test_addresses_that_make_no_sense_show_the_scene_all_the_same(
    page: ViewerPage, address: str
) -> None:
    usual = ink(page.picture()).mean()
    page.open(address)
    assert ink(page.picture()).mean() == pytest.approx(usual, rel=0.05)


def test_everything_can_be_done_without_a_mouse(page: ViewerPage) -> None:
    page.run("document.querySelector('canvas').focus()")
    first = page.picture()
    for _ in range(6):
        page.browser.key("ArrowRight")
    turned = page.picture()
    assert (ink(first) ^ ink(turned)).mean() > 0.002
    page.browser.key("Home")
    page.settle()
    page.browser.key("n")
    assert page.said() == f"Photo 1 of 3: {NAME}"
    page.settle()
    page.browser.key("m")
    page.browser.key("Enter")
    page.browser.key("ArrowDown", shift=True)
    page.browser.key("Enter")
    assert page.said().startswith("Distance ")
    page.browser.key("Escape")
    page.browser.key("c")
    assert page.run("document.querySelector('.cut').hidden") is False


def test_fingers_turn_and_pinch(page: ViewerPage) -> None:
    first = ink(page.picture())
    x, y = page.middle("canvas")
    page.browser.fingers([(x, y)], [(x + 30, y)], [(x + 60, y)])
    turned = ink(page.picture())
    assert (first ^ turned).mean() > 0.002
    page.browser.fingers(
        [(x - 30, y), (x + 30, y)], [(x - 60, y), (x + 60, y)], [(x - 90, y), (x + 90, y)]
    )
    assert ink(page.picture()).sum() > 1.3 * turned.sum()


def test_a_pressed_camera_is_flown_to(page: ViewerPage) -> None:
    left, top, width, height = page.box("canvas")
    where = page.run(
        "JSON.stringify((() => { const d = JSON.parse(document.getElementById('scene-data')"
        ".textContent), v = viewpoint.looking(d.view.eye, d.view.target, d.view.fov);"
        "const o = d.cameras[2].outline.slice(1).reduce((s, p) => vectors.add(s, p), [0, 0, 0]);"
        f"return viewpoint.seen(v, {width}, {height}, vectors.scaled(o, 0.25)); }})())"
    )
    x, y, _ = json.loads(where)
    page.browser.mouse((left + x, top + y))
    assert page.said() == "Photo 3 of 3: c.jpg"


def test_controls_have_names(page: ViewerPage) -> None:
    page.press("[data-do=cut]")
    nodes = page.browser("Accessibility.getFullAXTree")["nodes"]
    named = [
        node for node in nodes
        if not node.get("ignored")
        and node["role"]["value"] in ("button", "slider", "combobox", "application", "image")
    ]  # fmt: skip
    assert len(named) > 15
    assert all(node["name"]["value"].strip() for node in named)


def test_text_stands_out_from_its_ground(page: ViewerPage) -> None:
    """Contrast of 4.5 at least (WCAG 2.2, 1.4.3)."""
    page.press("[data-do=measure]")
    pairs = json.loads(
        page.run("""JSON.stringify([...document.querySelectorAll(
        '#viewer button, #viewer label, #viewer .said, #viewer summary')].map((e) => {
            let ground = e;
            const clear = () => getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)';
            while (clear()) ground = ground.parentElement;
            return [getComputedStyle(e).color, getComputedStyle(ground).backgroundColor]; }))""")
    )

    def light(colour: str) -> float:
        rgb = np.array(colour[colour.index("(") + 1 : -1].split(",")[:3], float) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    assert len(pairs) > 15
    for pair in pairs:
        dark, bright = sorted(light(colour) for colour in pair)
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, pair


def test_without_webgl_a_picture_and_a_sentence_are_left(page: ViewerPage) -> None:
    page.browser("Page.enable")
    off = page.browser(
        "Page.addScriptToEvaluateOnNewDocument",
        source="HTMLCanvasElement.prototype.getContext = () => null;",
    )
    page.browser.open("about:blank")
    page.browser.open(page.path.as_uri())
    page.browser("Page.removeScriptToEvaluateOnNewDocument", identifier=off["identifier"])
    assert "no WebGL 2" in page.run("document.querySelector('.still').innerText")
    assert page.run("getComputedStyle(document.querySelector('.still')).display") != "none"
    assert ink(page.browser.picture()[:500]).mean() > 0.03
    assert page.run("[...document.querySelectorAll('#viewer button')].filter("
                    "(b) => b.offsetParent !== null).length") == 0  # fmt: skip


def test_while_it_turns_a_slow_machine_draws_the_coarse_surface(
    browser: Chromium,
    scene: Reconstruction,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("viz.pages.scene_data._COARSE", 60)
    page = ViewerPage(browser, tmp_path / "page.html")
    page.path.write_text(scene_page_html(scene), encoding="utf-8")
    browser("Page.enable")
    # A card that takes 30 ms for a frame.
    slow = browser(
        "Page.addScriptToEvaluateOnNewDocument",
        source="const read = WebGL2RenderingContext.prototype.readPixels;"
        "WebGL2RenderingContext.prototype.readPixels = function (...what) {"
        " const end = performance.now() + 30; while (performance.now() < end);"
        " return read.apply(this, what); };",
    )
    page.open()
    browser("Page.removeScriptToEvaluateOnNewDocument", identifier=slow["identifier"])
    page.press("[data-show=cameras]")
    fine = ink(page.picture())
    levels = page.run(
        "new Promise((done) => { const canvas = document.querySelector('canvas'), seen = [];"
        "canvas.focus();"
        "canvas.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));"
        "const watch = () => { seen.push(canvas.dataset.level);"
        " canvas.dataset.rest === 'yes' ? done(seen.join(' ')) : requestAnimationFrame(watch); };"
        "requestAnimationFrame(watch); })"
    ).split()
    assert "coarse" in levels and levels[-1] == "fine"
    assert (ink(page.picture()) ^ fine).mean() < 0.05


def test_the_whole_screen_and_back(page: ViewerPage) -> None:
    page.run("document.querySelector('canvas').focus()")
    small = page.box("canvas")
    page.browser.key("f")
    wait_until(lambda: page.run("document.fullscreenElement !== null"))
    assert page.run("document.fullscreenElement.id") == "viewer"
    page.settle()
    large = page.box("canvas")
    assert large[2] * large[3] > small[2] * small[3]
    page.browser.key("f")
    wait_until(lambda: page.run("document.fullscreenElement === null"))


def test_the_scene_comes_back_when_the_graphics_card_was_lost(page: ViewerPage) -> None:
    before = page.picture()
    page.run("window.lost = document.querySelector('canvas').getContext('webgl2')"
             ".getExtension('WEBGL_lose_context'); lost.loseContext()")  # fmt: skip
    wait_until(lambda: page.run("document.querySelector('#viewer.live') === null"))
    page.run("lost.restoreContext()")
    wait_until(lambda: page.run("document.querySelector('#viewer.live') !== null"))
    assert (abs(page.picture().astype(int) - before).max(axis=-1) > 20).mean() < 0.01
