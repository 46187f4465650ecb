"""Films of a scene, drawn off-screen, so that no display is needed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pointmap.errors import InputError
from pointmap.output_place import check_place
from recon.export.renames import rename_to_free
from recon.progress import Advance, unheard
from recon.scene import Scene
from recon.work.lock import Busy, exclusive_file
from viz.drawing.render import Drawer, drawing
from viz.drawing.viewpoint import Viewpoint, best_show, registered_cameras
from viz.paths import Film
from viz.paths.flight import FRAMES_PER_SECOND, flight
from viz.paths.photo_to_photo import PhotoFrame, mixed, photo_over, photo_to_photo
from viz.paths.turntable import turntable

ENDINGS = (".mp4", ".webm")
"""Files that :func:`write_video` writes, see :func:`encode_film`."""

WIDTH, HEIGHT = 1280, 720
_ROUND_S = 12.0  # of a turntable


def check_video_path(path: Path, *, overwrite: bool = True) -> None:
    """Raise ``InputError`` unless a film can be written to ``path``: before the long work."""
    if not overwrite and os.path.lexists(path):
        raise InputError(f"{path} exists already: choose another file, or add --overwrite")
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path} is no film: name a file that ends in {' or '.join(ENDINGS)}")
    check_place(path)


def write_video(
    scene: Scene,
    path: str | Path,
    *,
    film: Film = "flight",
    width: int = WIDTH,
    height: int = HEIGHT,
    overwrite: bool = True,
    advance: Advance = unheard,
) -> Path:
    """Write a film of the scene to ``path`` (.mp4 or .webm) and return it.

    Without ``overwrite``, a file that is there already stays and the film's name gets a number.
    ``width`` and ``height`` are even; ``advance`` is told of (done, all) frames. The file appears
    whole or not at all; raises ``InputError`` when it cannot be written.
    """
    path = Path(path)
    check_video_path(path)
    frames = _frames(scene, film, width / height)
    eyes = [frame.eye if isinstance(frame, Viewpoint) else frame.view.eye for frame in frames]
    try:
        with _unfinished(path) as name:
            with drawing(
                scene,
                width=width,
                height=height,
                show=best_show(scene),
                # Outlines of cameras that the film flies through would cross the picture.
                cameras=film == "turntable",
                lit_from=np.mean(eyes, axis=0),
            ) as draw:
                pictures = _drawn(draw, scene, frames, advance)
                encode_film(name, pictures, (width, height), FRAMES_PER_SECOND)
            if overwrite:
                os.replace(name, path)
            else:
                path = rename_to_free(name, path)
    except OSError as error:
        raise InputError(f"cannot write the film {path}: {error.strerror or error}") from error
    return path


def _frames(scene: Scene, film: Film, aspect: float) -> Sequence[Viewpoint | PhotoFrame]:
    if film == "turntable":
        return turntable(scene, aspect=aspect, count=round(_ROUND_S * FRAMES_PER_SECOND))
    if film == "photos" and registered_cameras(scene):
        return photo_to_photo(scene, aspect=aspect)
    return flight(scene, aspect=aspect)


def _drawn(
    draw: Drawer,
    scene: Scene,
    frames: Sequence[Viewpoint | PhotoFrame],
    advance: Advance,
) -> Iterator[NDArray[np.uint8]]:
    standing: tuple[Viewpoint, NDArray[np.uint8]] | None = None
    laid: tuple[int, NDArray[np.uint8], NDArray[np.float32]] | None = None
    for number, frame in enumerate(frames):
        view = frame if isinstance(frame, Viewpoint) else frame.view
        if standing is None or standing[0] is not view:
            standing = view, draw(view)
        picture = standing[1]
        if isinstance(frame, PhotoFrame) and frame.share > 0:
            if laid is None or laid[0] != frame.index:
                height, width = picture.shape[:2]
                laid = frame.index, *photo_over(scene.views[frame.index], view, width, height)
            picture = mixed(picture, laid[1], laid[2], frame.share)
        yield picture
        advance(number + 1, len(frames))


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
