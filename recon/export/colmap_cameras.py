"""Cameras of a COLMAP model that others made, binary or text.

Not read by pycolmap (4.2): it believes the counts in a damaged file and takes all memory, and knows
no camera that is none. Formats: https://colmap.github.io/format.html
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from pointmap.camera import Array, invert_rigid
from pointmap.errors import InputError
from pointmap.lens import MODELS, ONE_FOCAL, PINHOLE, Lens
from pointmap.outside.regular_file import read_regular
from pointmap.outside.values import (
    FOCAL_RANGE_PX,
    MAX_LENGTH,
    MAX_SIDE_PX,
    checked_lens,
    number,
    whole,
)
from recon.scene import Camera

T = TypeVar("T")

# The one of COLMAP's models, of number 17, that is no central projection on a plane.
_PANORAMA = "EQUIRECTANGULAR"
# How far a quaternion's length may be off 1: what three decimals leave.
_UNIT_TOLERANCE = 2e-3
# Of an image in images.bin, before its name: number, quaternion, translation, number of its camera.
_IMAGE = struct.Struct("<I7dI")
_KEYPOINT_BYTES = 24


@dataclass(frozen=True)
class _Lens:
    """A camera before it has a pose; of a panorama, ``intrinsics`` are None."""

    width: int
    height: int
    intrinsics: Array | None
    lens: Lens


@dataclass(frozen=True)
class _Image:
    name: str
    camera: int
    quat_wxyz: Sequence[float]
    translation: Sequence[float]


def read_colmap_cameras(folder: Path) -> dict[str, Camera]:
    """Return {image name: camera} of a model, .bin where it has both.

    Raises ``InputError`` when there is no model, a camera cannot be right, or is a panorama's.
    """
    try:
        if (folder / "cameras.bin").exists():
            lenses = dict(_whole(_binary_lenses, folder / "cameras.bin"))
            images = _whole(_binary_images, folder / "images.bin")
        else:
            lenses = dict(_text_lenses(_lines(folder / "cameras.txt")))
            images = list(_text_images(_lines(folder / "images.txt")))
        unknown = [image.name for image in images if image.camera not in lenses]
        if unknown:
            raise ValueError(f"no camera for {unknown[0]}")
        poses = {image.name: _cam_to_world(image) for image in images}
        if len(poses) < len(images):
            names = [image.name for image in images]
            raise ValueError(f"{next(n for n in names if names.count(n) > 1)} is in it twice")
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, OSError):
            reason = f"{Path(error.filename or folder).name}: {error.strerror}"
        raise InputError(
            f"{folder} holds no COLMAP model that can be read ({reason}): give the folder with "
            "cameras and images, .bin or .txt"
        ) from error
    return {
        image.name: _camera(folder, image, lenses[image.camera], poses[image.name])
        for image in images
    }


def _camera(folder: Path, image: _Image, lens: _Lens, pose: Array) -> Camera:
    if lens.intrinsics is None:
        raise InputError(
            f"{folder}: {image.name} is a panorama, which no lens takes: cut it into perspective"
            " views first (colmap's panorama_sfm.py does)"
        )
    return Camera(lens.intrinsics, lens.width, lens.height, pose, lens.lens)


def _cam_to_world(image: _Image) -> Array:
    """Return the pose (4, 4); ``ValueError`` when the numbers are those of none."""
    length = math.sqrt(sum(q * q for q in image.quat_wxyz))
    if not abs(length - 1) <= _UNIT_TOLERANCE:
        raise ValueError(f"the rotation of {image.name} is no unit quaternion")
    for t in image.translation:
        number(t, f"the translation of {image.name}", -MAX_LENGTH, MAX_LENGTH)
    w, x, y, z = (q / length for q in image.quat_wxyz)
    world_to_cam = np.eye(4)
    world_to_cam[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    world_to_cam[:3, 3] = image.translation
    return invert_rigid(world_to_cam)


def _lens(model: str, width: int, height: int, parameters: Sequence[float]) -> _Lens:
    """Return a lens; ``ValueError`` when its numbers are those of none."""
    for side in (width, height):
        whole(side, "the size of a camera", 1, MAX_SIDE_PX)
    if model == _PANORAMA:
        return _Lens(width, height, None, PINHOLE)
    second = 0 if model in ONE_FOCAL else 1
    if len(parameters) < second + 3:
        raise ValueError(f"{len(parameters)} parameters of a lens {model[:40]}")
    rest = parameters[second + 1 :]
    fx, fy = (
        number(parameters[k], "the focal length of a camera", *FOCAL_RANGE_PX) for k in (0, second)
    )
    cx, cy = (
        number(c, "the principal point of a camera", -FOCAL_RANGE_PX[1], FOCAL_RANGE_PX[1])
        for c in rest[:2]
    )
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)
    return _Lens(width, height, K, checked_lens(model, rest[2:]))


def _whole(parse: Callable[[bytes], Iterator[T]], path: Path) -> list[T]:
    """Return all that ``parse`` finds in a binary file; ``ValueError`` where that is cut short."""
    try:
        return list(parse(read_regular(path)))
    except struct.error:
        raise ValueError(f"{path.name} breaks off") from None


def _binary_lenses(data: bytes) -> Iterator[tuple[int, _Lens]]:
    (count,), at = struct.unpack_from("<Q", data), 8
    for _ in range(count):
        camera, model, width, height = struct.unpack_from("<IiQQ", data, at)
        names = [*MODELS, _PANORAMA]
        if not 0 <= model < len(names):
            raise ValueError(f"a lens of number {model}")
        name = names[model]
        parameters = 2
        if name != _PANORAMA:
            parameters = (3 if name in ONE_FOCAL else 4) + len(MODELS[name])
        at += 24
        yield camera, _lens(name, width, height, struct.unpack_from(f"<{parameters}d", data, at))
        at += 8 * parameters


def _binary_images(data: bytes) -> Iterator[_Image]:
    (count,), at = struct.unpack_from("<Q", data), 8
    for _ in range(count):
        _, *pose, camera = _IMAGE.unpack_from(data, at)
        start = at + _IMAGE.size
        end = data.find(b"\0", start)
        if end < 0:
            raise struct.error("a name without its end")
        (keypoints,) = struct.unpack_from("<Q", data, end + 1)
        at = end + 9 + _KEYPOINT_BYTES * keypoints
        if at > len(data):
            raise struct.error("key points are missing")
        # Names as the system has them, whatever bytes they are.
        yield _Image(os.fsdecode(data[start:end]), camera, pose[:4], pose[4:])


def _lines(path: Path) -> list[str]:
    return os.fsdecode(read_regular(path)).splitlines()


def _text_lenses(lines: Sequence[str]) -> Iterator[tuple[int, _Lens]]:
    for line in lines:
        if line.strip() and not line.startswith("#"):
            camera, model, width, height, *parameters = _words(line, 4, "cameras.txt")
            yield int(camera), _lens(model, int(width), int(height), [float(p) for p in parameters])


def _words(line: str, least: int, file: str, most: int = 0) -> list[str]:
    """Return the ``least`` words of a line or more, ``most`` of them parted where that is given."""
    words = line.split(maxsplit=most - 1)
    if len(words) < least:
        raise ValueError(f"{file} has a line of {len(words)} words, {line.strip()[:40]}")
    return words


def _text_images(lines: Sequence[str]) -> Iterator[_Image]:
    """Yield the images: each has a line of its own and one of its key points, which may be empty.

    The last of these may be missing: editors cut empty lines off.
    """
    remaining = iter(lines)
    for line in remaining:
        if not line.strip() or line.startswith("#"):
            continue
        _, *pose, camera, name = _words(line, 10, "images.txt", most=10)
        keypoints = next(remaining, "").split()
        if len(keypoints) % 3:
            raise ValueError(f"images.txt has no line of key points after {name}")
        yield _Image(
            name.strip(), int(camera), [float(p) for p in pose[:4]], [float(p) for p in pose[4:]]
        )
