"""The browser viewer: served on loopback, drawn by a real browser, ended by Ctrl-C."""

from __future__ import annotations

import dataclasses
import io
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
from chromium import Chromium, wait_until
from PIL import EpsImagePlugin, Image
from running_viewer import RunningViewer, status
from scene_factory import make_scene
from viz_scenes import ink

from pointmap.errors import InputError
from recon.reconstruction import Reconstruction
from recon.scene import Mesh, PointCloud
from viz.viewers.browser import BrowserView, browse

CHECK = """[...document.querySelectorAll('label')].find(l => l.textContent.trim() === '{label}')
    .closest('div').parentElement.querySelector('input[type=checkbox]')"""


@pytest.fixture
def served(scene: Reconstruction) -> Iterator[BrowserView]:
    pytest.importorskip("viser", reason="viser (the extra 'browser') is not installed")
    view = BrowserView(scene, port=18431)
    yield view
    view.stop()


def test_a_browser_draws_the_scene_and_its_switches_work(
    served: BrowserView, tmp_path: Path
) -> None:
    def drawn() -> np.ndarray:
        """What the page draws, below its notices and beside its panel."""
        return ink(browser.picture()[200:, :460])

    def press(label: str) -> None:
        browser.run(CHECK.format(label=label) + ".click()")

    with Chromium(tmp_path / "profile") as browser:
        browser.open(served.address)
        wait_until(lambda: drawn().mean() > 0.01)
        # The page fades in, and parts arrive one by one.
        wait_until(lambda: settled(drawn))
        surface = drawn()
        press("Cameras")
        # While it loads anew the page is blank for a moment: less than the surface, but not bare.
        wait_until(lambda: 0.005 < drawn().mean() < surface.mean() - 0.001)
        wait_until(lambda: settled(drawn))
        bare = drawn()
        assert 0.005 < bare.mean() < surface.mean()
        press("Points")
        wait_until(lambda: drawn().mean() > 1.2 * bare.mean())
        press("Points")
        press("Surface")
        wait_until(lambda: drawn().mean() < 0.001)
        press("Points")
        wait_until(lambda: drawn().mean() > 1.2 * bare.mean())
        # The page comes back under the same address, with what its switches last said.
        browser.open("about:blank")
        browser.open(served.address)
        wait_until(lambda: drawn().mean() > 1.2 * bare.mean())


def settled(drawn: Callable[[], np.ndarray]) -> bool:
    """Whether pictures taken over a second are alike; a busy machine may take long for the next."""
    first = drawn()
    for _ in range(4):
        time.sleep(0.25)
        if (drawn() ^ first).mean() >= 1e-4:
            return False
    return True


def test_a_port_that_is_taken_is_passed_over(served: BrowserView, scene: Reconstruction) -> None:
    second = BrowserView(scene, port=urlsplit(served.address).port or 0)
    try:
        assert second.address != served.address
        for view in (served, second):
            with urlopen(view.address, timeout=30) as page:
                assert page.status == 200
    finally:
        second.stop()


def test_scenes_without_points_surface_or_cameras_are_served(tmp_path: Path) -> None:
    pytest.importorskip("viser", reason="viser (the extra 'browser') is not installed")
    scene = make_scene(tmp_path, names=("a.jpg",), unregistered=("a.jpg",))
    bare = dataclasses.replace(scene, cloud=PointCloud.empty(), surface=Mesh.empty())
    view = BrowserView(bare, port=18631)
    try:
        with urlopen(view.address, timeout=30) as page:
            assert page.status == 200
    finally:
        view.stop()


def test_the_command_serves_a_saved_scene_until_it_is_interrupted(
    scene: Reconstruction, tmp_path: Path
) -> None:
    folder = scene.save(tmp_path / "scene")
    with RunningViewer("-m", "viz", str(folder), "--browser", "--port", "18531") as viewer:
        assert viewer.port == 18531
        assert status(viewer.page(viewer.path)) == 200
        assert viewer.interrupt() == ("", "closed\n")
        assert viewer.process.returncode == 0


def test_an_eps_in_a_screenshots_place_starts_no_program(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A page answers a screenshot with what it likes; viser reads it as below."""
    iio = pytest.importorskip("imageio.v3", reason="it comes with viser")
    started: list[object] = []

    def record(*arguments: object, **_: object) -> None:
        started.append(arguments)
        raise OSError("no program is started in tests")

    # As in a new process: Pillow has not looked for Ghostscript yet.
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    request.getfixturevalue("served")
    monkeypatch.setattr(subprocess, "Popen", record)
    answer = io.BytesIO()
    Image.new("L", (40, 30)).save(answer, "EPS")
    with pytest.raises(OSError, match="Ghostscript"):
        iio.imread(io.BytesIO(answer.getvalue()), extension=".jpeg")
    assert started == []


def test_without_viser_the_remedy_is_told(
    scene: Reconstruction, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    with caplog.at_level(logging.INFO), pytest.raises(InputError, match=r"pip install.*browser"):
        browse(scene)
