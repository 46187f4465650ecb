"""The film: its path, its frames read back, and what is said when it cannot be written."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from chromium import Chromium
from scene_factory import make_scene
from viz_scenes import ink

import viz.paths.flight
import viz.video
from pointmap.errors import InputError
from recon.reconstruction import Reconstruction
from recon.scene import Mesh, PointCloud
from viz.command import main
from viz.drawing.render import render_scene
from viz.paths.flight import flight
from viz.video import check_video_path, write_video

SIZE = {"width": 160, "height": 96}


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viz.paths.flight, "LEAST_S", 0.5)
    monkeypatch.setattr(viz.paths.flight, "MOST_S", 0.5)
    monkeypatch.setattr(viz.video, "_ROUND_S", 0.5)


def frames_of(path: Path) -> list[np.ndarray]:
    reader = cv2.VideoCapture(str(path))
    frames = []
    while (read := reader.read())[0]:
        frames.append(read[1][..., ::-1])
    return frames


def test_the_film_shows_the_scene_along_its_path(
    scene: Reconstruction, tmp_path: Path, brief: None
) -> None:
    told: list[tuple[int, int]] = []
    path = write_video(scene, tmp_path / "film.mp4", advance=lambda *now: told.append(now), **SIZE)
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]
    frames = frames_of(path)
    views = flight(scene, aspect=160 / 96)
    assert told == [(k + 1, 12) for k in range(12)]
    assert len(frames) == len(views) == 12
    for number in (0, 11):
        still = render_scene(scene, cameras=False, viewpoint=views[number], **SIZE)
        assert ink(still).mean() > 0.02
        # Shading and compression differ a little, the shape does not.
        assert (ink(still) ^ ink(frames[number])).mean() < 0.03
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 3


def test_browsers_play_the_film(scene: Reconstruction, tmp_path: Path, brief: None) -> None:
    with Chromium(tmp_path / "profile") as browser:
        for ending in (".mp4", ".webm"):
            path = write_video(scene, tmp_path / f"film{ending}", **SIZE)
            page = tmp_path / "page.html"
            page.write_text(f"<video muted src='{path.as_uri()}'></video>")
            browser.open(page.as_uri())
            played = """new Promise((done) => {
                const video = document.querySelector('video');
                video.onended = () => done([video.videoWidth, video.videoHeight, video.duration]);
                video.onerror = () => done(video.error.message);
                video.play().catch((error) => done(String(error)));
            })"""
            assert browser.run(played) == [160, 96, 0.5]


def test_a_scene_with_nothing_placed_gives_a_film_of_its_ground(
    tmp_path: Path, brief: None
) -> None:
    names = ("a.jpg", "b.jpg")
    scene = make_scene(tmp_path, names=names, unregistered=names)
    bare = dataclasses.replace(scene, cloud=PointCloud.empty(), surface=Mesh.empty())
    frames = frames_of(write_video(bare, tmp_path / "film.webm", **SIZE))
    assert len(frames) == 12
    assert not any(ink(frame).any() for frame in frames)


def test_the_command_writes_films_and_tells_what_is_wrong(
    scene: Reconstruction,
    tmp_path: Path,
    brief: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(write_video.__kwdefaults__, "width", 64)
    monkeypatch.setitem(write_video.__kwdefaults__, "height", 48)
    saved = scene.save(tmp_path / "scene")
    assert main([str(saved), "--save", str(tmp_path / "film.webm")]) == 0
    assert len(frames_of(tmp_path / "film.webm")) == 12
    assert main([str(saved), "--film", "turntable", "--save", str(tmp_path / "round.webm")]) == 0
    round_ = [frame.astype(int) for frame in frames_of(tmp_path / "round.webm")]
    # It comes back to where it began.
    apart = [np.abs(frame - round_[0]).mean() for frame in (round_[3], round_[-1])]
    assert apart[1] < 0.9 * apart[0]
    assert main([str(saved), "--save", str(tmp_path / "missing" / "film.mp4")]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_a_full_disk_leaves_no_film(
    scene: Reconstruction, tmp_path: Path, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str, *_: object) -> None:
        Path(name).write_bytes(b"half a film")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(viz.video, "encode_film", full)
    with pytest.raises(InputError, match="No space left"):
        write_video(scene, tmp_path / "film.mp4", **SIZE)
    assert list(tmp_path.iterdir()) == []


def test_what_would_be_left_undone_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = str(tmp_path / "page.html")
    for more in (
        ["--browser", "--save", page],
        ["--film", "turntable"],
        ["--film", "photos", "--save", page],
    ):
        # Before the scene is looked for.
        assert main([str(tmp_path / "scene"), *more]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {more[0]}") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_film_that_cannot_be_is_refused_before_the_long_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from recon.cli import main as reconstruct

    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"never read")
    for film in (tmp_path / "film.avi", tmp_path / "missing" / "film.mp4"):
        arguments = [str(photo), "--out", str(tmp_path / "scene"), "--video", str(film)]
        assert reconstruct(arguments) == 2
    with pytest.raises(InputError, match=r"ends in \.mp4 or \.webm"):
        check_video_path(tmp_path / "film.avi")
    # Whoever runs the tests may be allowed everything.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.access", lambda path, mode: False)
        with pytest.raises(InputError, match="no permission to write to its folder"):
            check_video_path(tmp_path / "film.mp4")
    (tmp_path / "film.mp4").write_bytes(b"another film")
    arguments = [
        str(photo),
        "--out",
        str(tmp_path / "scene"),
        "--video",
        str(tmp_path / "film.mp4"),
    ]
    assert reconstruct(arguments) == 2
    assert "film.mp4 exists already" in capsys.readouterr().err
    assert (tmp_path / "film.mp4").read_bytes() == b"another film"


def test_a_film_that_appears_while_ours_is_drawn_stays(
    scene: Reconstruction, tmp_path: Path, brief: None
) -> None:
    film = tmp_path / "film.mp4"

    def save_another(done: int, total: int) -> None:
        film.write_bytes(b"another film")

    ours = write_video(scene, film, overwrite=False, advance=save_another, **SIZE)
    assert ours == tmp_path / "film-2.mp4" and len(frames_of(ours)) == 12
    assert film.read_bytes() == b"another film"


@pytest.mark.skipif(os.name != "posix", reason="no umask")
def test_a_film_has_the_users_rights_and_what_a_killed_run_left_goes(
    scene: Reconstruction, tmp_path: Path, brief: None
) -> None:
    (tmp_path / ".film.mp4.partial.mp4").write_bytes(b"half of a film")
    before = os.umask(0o077)
    try:
        film = write_video(scene, tmp_path / "film.mp4", **SIZE)
    finally:
        os.umask(before)
    assert film.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
