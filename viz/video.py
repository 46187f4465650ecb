"""A film of the scene: along the path of the cameras, or swinging about the scene when there are
too few of them. Drawn off-screen, so that no display is needed.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from pointmap.errors import InputError
from recon.export.renames import rename_to_free
from recon.progress import Advance, unheard
from recon.scene import Scene
from recon.work.lock import Busy, exclusive_file
from viz.drawing.render import Drawer, drawing
from viz.drawing.viewpoint import (
    Viewpoint,
    automatic_viewpoint,
    best_show,
    photo_viewpoint,
    registered_cameras,
    scene_frame,
)

logger = logging.getLogger(__name__)

ENDINGS = (".mp4", ".webm")
"""Files that :func:`write_video` writes, see :func:`encode_film`."""

WIDTH, HEIGHT = 1280, 720
_FRAMES_PER_SECOND = 24  # cinema's
_SECONDS_PER_CAMERA = 1.0  # slow enough to see what each photo saw
_LEAST_S, _MOST_S = 8.0, 40.0  # length of a film, seconds
_LEAST_CAMERAS = 4  # fewer make no path
_SWING_DEG = 35.0  # to either side without a path: farther, the backs of surfaces show


def check_video_path(path: Path, *, overwrite: bool = True) -> None:
    """Raise ``InputError`` unless a film can be written to ``path``: before the long work."""
    if not overwrite and os.path.lexists(path):
        raise InputError(f"{path} exists already: choose another file, or add --overwrite")
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path} is no film: name a file that ends in {' or '.join(ENDINGS)}")
    if not os.path.isdir(path.absolute().parent):
        raise InputError(f"{path.parent} is no folder: make it first, or choose another place")


def write_video(
    reconstruction: Scene,
    path: str | Path,
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    overwrite: bool = True,
    advance: Advance = unheard,
) -> Path:
    """Write the film of the scene to ``path`` (.mp4 or .webm) and return it.

    Without ``overwrite``, a file that is there already stays and the film's name gets a number.
    ``width`` and ``height`` are even; ``advance`` is told of (done, all) frames. The file appears
    whole or not at all; raises ``InputError`` when it cannot be written.
    """
    path = Path(path)
    check_video_path(path)
    views = flight(reconstruction, aspect=width / height)
    along = len(registered_cameras(reconstruction)) >= _LEAST_CAMERAS
    try:
        with _unfinished(path) as name:
            with drawing(
                reconstruction,
                width=width,
                height=height,
                show=best_show(reconstruction),
                # Outlines of cameras that the film flies through would cross the picture.
                cameras=not along,
                lit_from=np.mean([view.eye for view in views], axis=0),
            ) as draw:
                frames = _drawn(draw, views, advance)
                encode_film(name, frames, (width, height), _FRAMES_PER_SECOND)
            if overwrite:
                os.replace(name, path)
            else:
                path = rename_to_free(name, path)
    except OSError as error:
        raise InputError(f"cannot write the film {path}: {error.strerror or error}") from error
    return path


def flight(reconstruction: Scene, *, aspect: float) -> list[Viewpoint]:
    """Return the film's view points, one per frame.

    Four or more cameras: along a smooth curve through them, each looking where its photo looked,
    at a steady pace. Fewer: a swing about the scene.
    """
    stops = [
        photo_viewpoint(reconstruction, index, aspect=aspect)
        for index, _, _ in registered_cameras(reconstruction)
    ]
    if len(stops) < _LEAST_CAMERAS:
        return _swing(reconstruction, aspect)
    stops = [stops[k] for k in _tour(stops, scene_frame(reconstruction).radius)]
    seconds = np.clip(_SECONDS_PER_CAMERA * len(stops), _LEAST_S, _MOST_S)
    field = float(np.median([stop.field_of_view_deg for stop in stops]))
    rows = np.array([np.concatenate([stop.eye, stop.target, stop.up]) for stop in stops])
    curve = _smooth_curve(rows, round(seconds * _FRAMES_PER_SECOND))
    return [Viewpoint(row[:3], row[3:6], row[6:], field) for row in curve]


def _swing(reconstruction: Scene, aspect: float) -> list[Viewpoint]:
    """Return views that go to one side, to the other and back, so that the film can be looped."""
    count = round(_LEAST_S * _FRAMES_PER_SECOND)
    turns = np.sin(2 * np.pi * np.arange(count) / count)
    still = automatic_viewpoint(reconstruction, aspect=aspect, yaw_deg=0.0)
    down = scene_frame(reconstruction).axes[:, 1]
    return [
        Viewpoint(
            still.target + _turned(still.eye - still.target, down, np.radians(_SWING_DEG) * turn),
            still.target,
            still.up,
            still.field_of_view_deg,
        )
        for turn in turns
    ]


def _turned(vector: Array, axis: Array, angle: float) -> Array:
    """Return ``vector`` (3,) turned about the unit ``axis`` (3,) by ``angle`` in radians."""
    from scipy.spatial.transform import Rotation

    turned: Array = Rotation.from_rotvec(angle * axis).apply(vector)
    return turned


def _tour(stops: list[Viewpoint], radius: float) -> list[int]:
    """Return an order of ``stops`` without long ways: from an outermost one always to the next.

    Photos that look elsewhere are far, too: half a turn counts as two of the scene's ``radius``.
    """
    eyes = np.array([stop.eye for stop in stops]) / radius
    forwards = np.array([stop.target - stop.eye for stop in stops])
    forwards /= np.linalg.norm(forwards, axis=1, keepdims=True)
    places = np.hstack([eyes, forwards])
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    order = [int(np.argmax(apart[int(np.argmax(apart.sum(axis=1)))]))]
    left = set(range(len(stops))) - set(order)
    while left:
        order.append(min(left, key=lambda k: apart[order[-1], k]))
        left.remove(order[-1])
    return order


def _smooth_curve(rows: Array, count: int) -> Array:
    """Return ``count`` rows (count, 9) at a steady pace along a smooth curve through ``rows``.

    The pace follows eye and target together; it starts and ends gently. The curve is a monotone
    cubic (Fritsch and Carlson 1980), which never swings beyond the cameras as other splines do.
    """
    from scipy.interpolate import PchipInterpolator

    steps = np.linalg.norm(np.diff(rows[:, :6], axis=0), axis=1)
    # Two photos from one place share a stop.
    keep = np.concatenate([[True], steps > 1e-6 * max(float(steps.sum()), 1e-12)])
    rows, steps = rows[keep], np.linalg.norm(np.diff(rows[keep][:, :6], axis=0), axis=1)
    if len(rows) < 2:
        return np.repeat(rows, count, axis=0)
    way = np.concatenate([[0.0], np.cumsum(steps)])
    time = np.linspace(0, 1, count)
    gentle = time - np.sin(2 * np.pi * time) / (2 * np.pi)
    curve: Array = PchipInterpolator(way, rows)(way[-1] * (0.7 * time + 0.3 * gentle))
    return curve


def _drawn(
    draw: Drawer, views: Sequence[Viewpoint], advance: Advance
) -> Iterator[NDArray[np.uint8]]:
    for number, view in enumerate(views):
        yield draw(view)
        advance(number + 1, len(views))


def write_frames(path: Path, frames: Sequence[NDArray[np.uint8]], frames_per_second: int) -> Path:
    """Write ``frames`` (h, w, 3), their sides made even, as a film to ``path``; return it.

    The file appears whole or not at all; raises ``InputError`` when it cannot be written.
    """
    check_video_path(path)
    h, w = (side // 2 * 2 for side in frames[0].shape[:2])
    try:
        with _unfinished(path) as name:
            encode_film(name, (frame[:h, :w] for frame in frames), (w, h), frames_per_second)
            os.replace(name, path)
    except OSError as error:
        raise InputError(f"cannot write the film {path}: {error.strerror or error}") from error
    return path


@contextlib.contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """Yield a hidden file beside ``path``, which goes unless it is moved away.

    Always the same one, so that what a killed run left is found and replaced. Raises ``InputError``
    while another run holds it.
    """
    name = path.with_name(f".{path.name}.partial{path.suffix.lower()}")
    try:
        with exclusive_file(path.with_name(f".{path.name}.lock")):
            name.unlink(missing_ok=True)
            try:
                # With the rights that the user's new files have.
                name.touch(exist_ok=False)
                yield name
            finally:
                name.unlink(missing_ok=True)
    except Busy:
        raise InputError(f"another run is writing the film {path}: wait until it ends") from None


def encode_film(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    size: tuple[int, int],
    frames_per_second: int,
) -> None:
    """Write ``frames`` (h, w, 3) of ``size`` (w, h), both even, to ``path``: H.264 in .mp4, which
    every player knows, VP9 in .webm. Raises OSError when it cannot be written.
    """
    import av

    codec: Literal["libx264", "libvpx-vp9"]
    codec = "libx264" if path.suffix == ".mp4" else "libvpx-vp9"
    try:
        with av.open(str(path), "w") as film:
            stream = film.add_stream(codec, rate=frames_per_second)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": "20" if codec == "libx264" else "28"}
            stream.thread_count = 0
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                film.mux(stream.encode(picture))
            film.mux(stream.encode())
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error
