"""A COLMAP sparse model (binary), through pycolmap.

Coordinates need no change: OpenCV axes, pixel centres at +0.5, original pixels in both.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import logging
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pointmap.camera import Array, invert_rigid
from pointmap.lens import ONE_FOCAL
from pointmap.outside.regular_file import read_regular
from pointmap.outside.values import MAX_LENGTH, MAX_SIDE_PX
from recon.export.usable_tracks import in_placed_photos, of_two_photos
from recon.scene import Camera, Scene, Tracks

if TYPE_CHECKING:
    import pycolmap

logger = logging.getLogger(__name__)

_FATAL = [
    int(getattr(signal, name))
    for name in ("SIGSEGV", "SIGILL", "SIGFPE", "SIGABRT", "SIGBUS", "SIGTERM")
    if hasattr(signal, name)
]
# A keypoint in images.bin: position and the number of its 3D point.
_KEYPOINT = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<u8")])


def write_colmap(folder: Path, scene: Scene, names: Sequence[str] | None = None) -> None:
    """Write cameras, images, points3D, rigs and frames (``.bin``) into the existing ``folder``.

    ``names``: of all photos' files, where they are not the photos' own names.

    Every placed photo is in it, as image number (its position + 1); photos with equal intrinsics
    and size share a camera. A track needs two observations in placed photos to be written: with
    fewer it is no evidence for a point. Raises ``OSError`` when the disk is full.
    """
    model = to_pycolmap(scene, names)
    model.write(str(folder))
    _check_complete(folder, model)


def to_pycolmap(scene: Scene, names: Sequence[str] | None = None) -> pycolmap.Reconstruction:
    """Return the scene as a ``pycolmap.Reconstruction`` with reprojection errors computed.

    ``names``: as in :func:`write_colmap`.
    """
    pycolmap = _pycolmap()

    model = pycolmap.Reconstruction()
    tracks = of_two_photos(in_placed_photos(scene))
    camera_ids: dict[tuple[object, ...], int] = {}
    # COLMAP keeps the positions per photo and refers to them by their number there.
    keypoint = np.zeros(len(tracks.xy), np.int64)
    for index, view in enumerate(scene.views):
        if view.camera.cam_to_world is None:
            continue
        K = view.camera.intrinsics.ravel().tolist()
        key = (view.camera.width, view.camera.height, *K, view.camera.lens)
        if key not in camera_ids:
            camera_ids[key] = len(camera_ids) + 1
            model.add_camera_with_trivial_rig(_camera(camera_ids[key], view.camera))
        rows = np.flatnonzero(tracks.view_index == index)
        keypoint[rows] = np.arange(len(rows))
        image = pycolmap.Image(
            # Undecodable file names arrive as lone surrogates, which COLMAP's UTF-8 cannot hold.
            name=(view.name if names is None else names[index])
            .encode("utf-8", errors="replace")
            .decode("utf-8"),
            keypoints=np.ascontiguousarray(tracks.xy[rows], np.float64),
            camera_id=camera_ids[key],
            image_id=index + 1,
        )
        world_to_cam = invert_rigid(view.camera.cam_to_world)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(world_to_cam[:3]))
    _add_points(model, tracks, keypoint)
    model.update_point_3d_errors()
    return model


def read_colmap(folder: Path, photos: int) -> Tracks:
    """Return the tracks of a model that :func:`write_colmap` wrote; empty when there is none.

    ``photos``: how many the scene has, placed or not.
    A damaged model is warned about and read as empty: nothing that is shown depends on it. Not read
    by pycolmap (4.2), which believes the lengths in a damaged file and takes all memory. Format:
    https://colmap.github.io/format.html
    """
    try:
        positions = _read_positions(read_regular(folder / "images.bin"))
        if positions and not 1 <= min(positions) <= max(positions) <= photos:
            raise ValueError("an image is none of the scene's")
        return _read_tracks(read_regular(folder / "points3D.bin"), positions)
    except FileNotFoundError as error:
        logger.warning("%s is missing: the scene is read without its tracks", error.filename)
    except (OSError, ValueError, LookupError, OverflowError, struct.error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        logger.warning("%s is damaged (%s): the scene is read without its tracks", folder, reason)
    return Tracks.empty()


def _read_positions(data: bytes) -> dict[int, Array]:
    """Return {image number: keypoint positions (K, 2)} of an ``images.bin``."""
    (count,), at = struct.unpack_from("<Q", data), 8
    positions = {}
    for _ in range(count):
        (number,) = struct.unpack_from("<I", data, at)
        # number, quaternion and translation, camera number, then the name up to its zero byte
        at = data.index(b"\0", at + 4 + 7 * 8 + 4) + 1
        (points,) = struct.unpack_from("<Q", data, at)
        table = np.frombuffer(data, _KEYPOINT, points, at + 8)
        positions[number] = np.stack([table["x"], table["y"]], axis=-1)
        if not (np.abs(positions[number]) <= MAX_SIDE_PX).all():
            raise ValueError("a key point lies in no photo")
        at += 8 + table.nbytes
    return positions


def _read_tracks(data: bytes, positions: dict[int, Array]) -> Tracks:
    """Return the tracks of a ``points3D.bin``, in the order of the points' numbers."""
    (count,), at = struct.unpack_from("<Q", data), 8
    points = {}
    for _ in range(count):
        number, *xyz, red, green, blue, _error, length = struct.unpack_from("<Q3d3BdQ", data, at)
        at += struct.calcsize("<Q3d3BdQ")
        elements = np.frombuffer(data, "<u4", 2 * length, at).reshape(-1, 2)
        at += elements.nbytes
        points[number] = (xyz, (red, green, blue), elements)
    if not points:
        return Tracks.empty()
    rows, colours, tracks = zip(*(points[number] for number in sorted(points)), strict=True)
    elements = np.concatenate(tracks).astype(np.int64)
    places = np.array(rows, np.float64)
    if not (np.abs(places) <= MAX_LENGTH).all():
        raise ValueError("a point is too far away")
    return Tracks(
        points=places,
        colours=np.array(colours, np.uint8),
        point_index=np.repeat(np.arange(len(tracks)), [len(track) for track in tracks]),
        view_index=elements[:, 0] - 1,
        xy=np.array([positions[image][keypoint] for image, keypoint in elements]).reshape(-1, 2),
    )


def _pycolmap() -> Any:
    """Import pycolmap without the handlers that it has for signals.

    Its logging library answers SIGTERM with a stack trace and ends the process at once, so that
    nobody removes the unfinished output; and it takes the place of whoever watches for crashes in
    the process that called us.
    """
    if "pycolmap" not in sys.modules:
        with _signal_handlers_kept():
            importlib.import_module("pycolmap")
    return sys.modules["pycolmap"]


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Put the system's handlers back as they were, whatever language they are written in."""
    if sys.platform == "win32":
        yield
        return
    sigaction = ctypes.CDLL(None).sigaction
    # Larger than the structure is anywhere; what it holds is the system's affair.
    before = {number: ctypes.create_string_buffer(1024) for number in _FATAL}
    for number, action in before.items():
        sigaction(number, None, action)
    try:
        yield
    finally:
        for number, action in before.items():
            sigaction(number, action, None)


def _camera(number: int, camera: Camera) -> pycolmap.Camera:
    pycolmap = _pycolmap()

    K, lens = camera.intrinsics, camera.lens
    one_focal = bool(K[0, 0] == K[1, 1])
    model, coefficients = lens.model, lens.coefficients
    if not lens:
        model, coefficients = "SIMPLE_PINHOLE" if one_focal else "PINHOLE", ()
    elif lens.is_radial and not one_focal:
        # The simplest of COLMAP's models with two focal lengths; its k1 and k2 mean the same.
        model, coefficients = "OPENCV", (*lens.k1_k2, 0.0, 0.0)
    focals = [K[0, 0]] if model in ONE_FOCAL else [K[0, 0], K[1, 1]]
    params = [*focals, K[0, 2], K[1, 2], *coefficients]
    return pycolmap.Camera(
        camera_id=number,
        model=model,
        width=int(camera.width),
        height=int(camera.height),
        params=params,
    )


def _add_points(model: pycolmap.Reconstruction, tracks: Tracks, keypoint: np.ndarray) -> None:
    pycolmap = _pycolmap()

    order = np.argsort(tracks.point_index, kind="stable")
    ends = np.cumsum(np.bincount(tracks.point_index, minlength=len(tracks.points)))
    for point, rows in enumerate(np.split(order, ends[:-1]) if len(ends) else []):
        track = pycolmap.Track()
        for row in rows:
            track.add_element(int(tracks.view_index[row]) + 1, int(keypoint[row]))
        model.add_point3D(tracks.points[point], track, tracks.colours[point])


def _check_complete(folder: Path, model: pycolmap.Reconstruction) -> None:
    """Raise ``OSError`` when a file is shorter than its content.

    pycolmap (4.2) says nothing when the disk fills up. Sizes by COLMAP's description of its binary
    format: https://colmap.github.io/format.html
    """
    expected = {
        "images.bin": 8
        + sum(
            4 + 7 * 8 + 4 + len(image.name.encode("utf-8")) + 1 + 8 + 24 * len(image.points2D)
            for image in model.images.values()
        ),
        "points3D.bin": 8
        + sum(8 + 3 * 8 + 3 + 8 + 8 + 8 * p.track.length() for p in model.points3D.values()),
        **{f"{name}.bin": 8 for name in ("cameras", "rigs", "frames")},
    }
    for name, size in expected.items():
        if (folder / name).stat().st_size < size:
            raise OSError(errno.ENOSPC, f"{name} was cut short: no space left on device")
