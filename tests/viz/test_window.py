"""The window, the picture in its place where there is no display, and the view command."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from viz_scenes import ink

import viz.viewers.panel
import viz.viewers.window
from pointmap.errors import InputError
from recon.reconstruction import Reconstruction
from viz.command import main


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_no_display_and_dead_displays_are_told(
    no_display: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not viz.viewers.window.has_display()
    monkeypatch.setenv("DISPLAY", ":4242")
    assert not viz.viewers.window.has_display()
    monkeypatch.setenv("WAYLAND_DISPLAY", "no-such-socket")
    assert not viz.viewers.window.has_display()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_a_display_that_never_answers_does_not_hang(
    no_display: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a stale ssh tunnel: the connection is taken and nothing comes back."""
    with socket.socket() as server:
        for number in range(60, 200):
            try:
                server.bind(("127.0.0.1", 6000 + number))
                break
            except OSError:
                continue
        server.listen()
        monkeypatch.setenv("DISPLAY", f"127.0.0.1:{number}")
        assert not viz.viewers.window.has_display(timeout_s=1.0)


def test_without_a_display_a_picture_is_written_instead(
    scene: Reconstruction,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(viz.viewers.window, "has_display", lambda: False)
    with caplog.at_level(logging.WARNING):
        path = viz.viewers.window.show(scene, picture=tmp_path / "view.png")
    assert path == tmp_path / "view.png"
    assert "no display" in caplog.text
    assert str(path) in caplog.text
    assert ink(np.asarray(Image.open(path))).mean() > 0.02


def test_a_picture_that_is_not_the_viewers_is_not_replaced(
    scene: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viz.viewers.window, "has_display", lambda: False)
    (tmp_path / "view.png").write_bytes(b"drawn by hand")
    with pytest.raises(InputError, match=r"view\.png .* --save"):
        viz.viewers.window.show(scene, picture=tmp_path / "view.png")
    assert (tmp_path / "view.png").read_bytes() == b"drawn by hand"
    # Its own it does replace.
    viz.viewers.window.save_picture(scene, tmp_path / "view.png")
    viz.viewers.window.show(scene, picture=tmp_path / "view.png")


@pytest.fixture
def virtual_display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed: the window cannot be tried")
    reading, writing = os.pipe()
    command = [
        "Xvfb",
        "-displayfd",
        str(writing),
        "-screen",
        "0",
        "1400x900x24",
        # Else the server restarts when has_display() hangs up, and meanwhile refuses the window.
        "-noreset",
        "-nolisten",
        "tcp",
    ]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as answer:
        number = answer.readline().strip()
    if not number:
        server.wait(10)
        pytest.skip("Xvfb does not start here")
    monkeypatch.setenv("DISPLAY", f":{number}")
    yield
    server.terminate()
    server.wait(10)


def test_the_panel_window_shows_what_its_controls_say(
    virtual_display: None, tmp_path: Path
) -> None:
    if viz.viewers.panel.ask_driver() is None:
        pytest.skip("no Vulkan driver: the window with a panel cannot be tried")
    tests = Path(__file__).parents[1]
    try:
        done = subprocess.run(
            [
                sys.executable,
                str(tests / "helpers/panel_driver.py"),
                str(tmp_path / "pictures.npz"),
            ],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests / "helpers")]),
            },
            capture_output=True,
            text=True,
            # The software driver takes a minute, more where the machine is busy.
            timeout=300,
        )
    except subprocess.TimeoutExpired:
        if viz.viewers.panel.panel_works():
            raise
        pytest.skip("the software Vulkan driver did not come to an end")
    assert done.returncode == 0, done.stderr
    taken = np.load(tmp_path / "pictures.npz")
    share = {name: ink(taken[name]).mean() for name in taken}
    assert share["home"] > share["mesh"] > 0.01
    assert share["nothing"] == 0
    assert share["large points"] > share["cloud"] > 1.5 * share["mesh"]
    seen = ink(taken["large points"]) & ink(taken["normal"])
    change = np.abs(taken["normal"].astype(int) - taken["large points"])[seen]
    assert change.mean() > 30
    assert share["confident"] < 0.95 * share["normal"]
    assert share["none confident"] == 0
    assert 0.001 < share["cameras"] < share["mesh"]
    # From the clicked camera the others are seen, elsewhere than from home.
    assert (ink(taken["clicked"]) ^ ink(taken["cameras"])).mean() > 0.001
    assert (ink(taken["home again"]) ^ ink(taken["cameras"])).mean() < 1e-4


def test_the_plain_window_shows_and_toggles_its_parts(
    scene: Reconstruction, virtual_display: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: list[viz.viewers.window._SceneWindow] = []
    seen: list[np.ndarray] = []
    keep = viz.viewers.window._SceneWindow.__init__

    def remember(window: Any, *arguments: Any) -> None:
        keep(window, *arguments)
        windows.append(window)

    steps: list[Callable[[viz.viewers.window._SceneWindow], object]] = [
        lambda window: None,
        lambda window: window.toggle("K"),
        lambda window: window.toggle("C"),
        lambda window: window.toggle("M"),
        lambda window: window.filter_by(0.5),
        lambda window: window.next_look(),
        lambda window: (window.toggle("K"), window.next_photo(1)),
        lambda window: (window.see_home(), window.save_screenshot()),
    ]

    def act(_: float) -> None:
        """Between two polls of the window: press the next key, look, close at the end."""
        window = windows[0]
        if len(seen) == len(steps):
            window.visualizer.close()
            return
        steps[len(seen)](window)
        seen.append(np.asarray(window.visualizer.capture_screen_float_buffer(do_render=True)))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(viz.viewers.window._SceneWindow, "__init__", remember)
    monkeypatch.setattr(viz.viewers.window, "panel_works", lambda: False)
    monkeypatch.setattr(viz.viewers.window, "time", SimpleNamespace(sleep=act))
    assert viz.viewers.window.has_display()
    assert viz.viewers.window.show(scene, picture=tmp_path / "view.png") is None
    assert not (tmp_path / "view.png").exists()
    pictures = [np.rint(picture * 255) for picture in seen]
    mesh_and_cameras, mesh, both, cloud, sure = (ink(picture).mean() for picture in pictures[:5])
    assert mesh_and_cameras > mesh > 0.01
    assert both >= cloud > 1.5 * mesh
    assert 0.3 * cloud < sure < 0.8 * cloud
    *_, photo, depth, from_photo, home = pictures
    assert (ink(photo) ^ ink(depth)).mean() < 0.02
    assert np.abs(photo - depth)[ink(photo)].mean() > 30
    assert (ink(from_photo) ^ ink(depth)).mean() > 0.05
    np.testing.assert_allclose(np.asarray(Image.open("pointmap-1.png")), home, atol=2)


# python -m viz


@pytest.fixture(scope="module")
def saved(scene: Reconstruction, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scene.save(tmp_path_factory.mktemp("saved") / "scene")


def test_command_draws_a_saved_scene(saved: Path, tmp_path: Path) -> None:
    assert main([str(saved), "--save", str(tmp_path / "view.png")]) == 0
    assert ink(np.asarray(Image.open(tmp_path / "view.png"))).mean() > 0.02


def test_command_without_a_display_ends_by_itself(saved: Path) -> None:
    keep = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-m", "viz", str(saved)],
        cwd=Path(viz.__file__).parents[1],
        env=keep,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    assert "no display" in done.stderr
    assert (saved / "view.png").exists()


@pytest.mark.parametrize("spoil", ["no folder", "a file", "no cameras.json", "no place to save"])
def test_command_tells_what_is_wrong_in_one_line(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: str
) -> None:
    target, save = tmp_path / "scene", tmp_path / "view.png"
    if spoil == "a file":
        target.write_text("no scene")
    if spoil == "no cameras.json":
        shutil.copytree(saved, target)
        (target / "cameras.json").unlink()
    if spoil == "no place to save":
        target, save = saved, tmp_path / "missing" / "view.png"
    assert main([str(target), "--save", str(save)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert (str(save) if spoil == "no place to save" else str(target)) in said
