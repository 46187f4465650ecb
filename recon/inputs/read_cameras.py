"""Cameras that the user knows, read from a file: which are meant, and whose they are."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from pointmap.camera import Array
from pointmap.errors import InputError, number_of, some_of
from pointmap.lens import Lens
from pointmap.outside.regular_file import read_regular
from pointmap.photo_files import PHOTO_EXTENSIONS
from pointmap.photo_names import composed
from recon.export.cameras_json import ListedCamera, listed_cameras, units_of, world_of
from recon.export.json_file import read_json
from recon.inputs.known_cameras import FOCALS, KnownCameras, KnownLens
from recon.scene import World

if TYPE_CHECKING:
    from pointmap.images import Photo

logger = logging.getLogger(__name__)

# How far R R^T may be from the identity: what six decimals in a file leave, as it is; three of
# them, or what float32 leaves of many products, as the rotation next to it.
_ROTATION_TOLERANCE, _ROUNDED_ROTATION = 1e-6, 2e-3
# Where models lie in folders that may be named in their place.
_MODEL_FOLDERS = ("*", "sparse", "sparse/*", "colmap/sparse/*")
_OFF_CENTRE = 20.0
# |k1| r^2 + |k2| r^4 at the corner: how much the lens stretches or shrinks there.
_MOST_BENT = 10.0


def load_known_cameras(path: str | None, photos: Sequence[Photo]) -> KnownCameras:
    """Read what is known of ``photos`` from a ``cameras.json``, nerfstudio's ``transforms.json`` or
    the folder of a COLMAP model.

    Cameras belong to photos by name, or by as much of the way to the photo as the file tells.
    Nothing is known of photos that the file does not name. In a ``cameras.json``, ``K`` or
    ``cam_to_world`` may be null, which leaves them open. No ``path``: nothing is known.
    Raises ``InputError`` when the file cannot be used: none of its names is a photo's, one may be
    several photos', a size differs by more than a scale, or a matrix is not what it should be.
    """
    nothing: tuple[None, ...] = (None,) * len(photos)
    if path is None:
        return KnownCameras(nothing, nothing)
    listed, units, world = _read(Path(path))
    found = [
        camera.of_size(photo.width, photo.height) if camera and camera.of_size else camera
        for photo, camera in zip(photos, _of_photos(listed, photos, path), strict=True)
    ]
    if not any(found):
        raise InputError(f"{path} names none of the photos: its names must be the photos' files")
    listed_sizes = [None if camera is None else camera.size for camera in found]
    found = [
        None if camera is None else _at_size(camera, photo, path)
        for camera, photo in zip(found, photos, strict=True)
    ]
    resized = [
        photo.name
        for photo, camera, size in zip(photos, found, listed_sizes, strict=True)
        if camera is not None and camera.size != size
    ]
    if resized:
        logger.warning(
            "%s describes %s at another size: its cameras are scaled to the photos' (%s)",
            path,
            number_of(len(resized), "photo", "photos"),
            some_of(resized),
        )
    for photo, camera in zip(photos, found, strict=True):
        if camera is not None and camera.intrinsics is not None:
            _check_lens(camera, photo)
    poses = tuple(None if camera is None else camera.cam_to_world for camera in found)
    # One pose alone leaves the scale of the others open.
    held = sum(pose is not None for pose in poses) >= 2
    return KnownCameras(
        tuple(_lens(camera, photo) for camera, photo in zip(found, photos, strict=True)),
        poses,
        units if held else "scene",
        world if any(pose is not None for pose in poses) else None,
        tuple(None if camera is None else camera.mask for camera in found),
    )


def _at_size(camera: ListedCamera, photo: Photo, path: str) -> ListedCamera:
    """Return a camera at its photo's size, if that is the same picture made smaller or larger, as
    in the ``images_4`` of nerfstudio; ``InputError`` if it is not.
    """
    if camera.size is None or camera.size == (photo.width, photo.height):
        return camera
    width, height = camera.size
    # One of the two sizes is rounded to whole pixels.
    off = abs(width * photo.height - height * photo.width)
    if off > max(width, height, photo.width, photo.height):
        raise InputError(
            f"{path} describes {photo.name} at {width} x {height} pixels, but upright it has"
            f" {photo.width} x {photo.height}: give cameras of these very files"
        )
    scale = np.array([[photo.width / width], [photo.height / height], [1.0]])
    scaled = None if camera.intrinsics is None else camera.intrinsics * scale
    return replace(camera, intrinsics=scaled, size=(photo.width, photo.height))


def _of_photos(
    listed: Mapping[str, ListedCamera], photos: Sequence[Photo], path: str
) -> list[ListedCamera | None]:
    """Return each photo's camera, None where the file has none.

    A camera's name fits a photo as far as the ends of the two paths are the same. It may be of
    another system, with backslashes or accents as characters of their own, or lack the ending, as
    in the scenes of NeRF.
    """
    by_file: dict[str, list[str]] = {}
    for name in listed:
        by_file.setdefault(_parts(name)[-1], []).append(name)
    best: dict[str, tuple[int, list[int]]] = {}
    for k, photo in enumerate(photos):
        # Of formats that few programs read they have copies (recon.export.upright).
        alike = [name for file in _called(photo) for name in by_file.get(file, [])]
        called = photo.name, f"{photo.name}.jpg", *alike
        fits = {name: _fit(name, photo) for name in called if name in listed}
        most = max(fits.values(), default=0)
        chosen = [name for name, fit in fits.items() if fit == most]
        if len(chosen) > 1:
            raise _ambiguous(path, photo.name, chosen)
        for name in chosen:
            before, numbers = best.get(name, (0, []))
            if most >= before:
                best[name] = most, [*(numbers if most == before else []), k]
    found: list[ListedCamera | None] = [None] * len(photos)
    for name, (_, numbers) in best.items():
        if len(numbers) > 1:
            raise _ambiguous(path, name, [photos[k].name for k in numbers])
        found[numbers[0]] = listed[name]
    return found


def _fit(name: str, photo: Photo) -> int:
    """Return how many parts at the ends of a camera's name and a photo's path are the same."""
    own = photo.path.absolute()
    if name in (photo.name, f"{photo.name}.jpg"):
        return len(own.parts) + 1
    *folders, file = _parts(name)
    pairs = zip(reversed(folders), map(composed, reversed(own.parent.parts)), strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return 1 + same if file in _called(photo) else 0


def _called(photo: Photo) -> list[str]:
    """Return what a photo's file may be called in a file of cameras: with its ending, or without if
    what is left does not look like a photo's name itself.
    """
    file = PurePath(composed(photo.path.name))
    bare = PurePath(file.stem).suffix.lower() not in PHOTO_EXTENSIONS
    return [file.name, file.stem] if bare else [file.name]


def _parts(name: str) -> list[str]:
    """Return the parts of a camera's name, folders and file; "" for a name without any."""
    return [composed(part) for part in PureWindowsPath(name).parts] or [""]


def _ambiguous(path: str, name: str, others: Sequence[str]) -> InputError:
    return InputError(
        f"{path}: which camera is that of {name} cannot be told ({', '.join(others[:3])}): "
        "keep the photos' folders in its names"
    )


def _check_lens(camera: ListedCamera, photo: Photo) -> None:
    """Raise ``InputError`` unless a lens like this can have taken a photo of this size."""
    assert camera.intrinsics is not None
    (fx, skew, cx), (_, fy, cy) = camera.intrinsics[:2].tolist()
    long_side = max(photo.width, photo.height)
    # How far along the rays, and the farthest ray that the photo shows, as the lens bends them.
    farthest = np.hypot(max(cx, photo.width - cx) / fx, max(cy, photo.height - cy) / fy)
    low, high = FOCALS
    if not all(low <= focal / long_side <= high for focal in (fx, fy)):
        problem = f"a focal length beyond {low:g} to {high:g} times the photo's long side"
    elif max(abs(cx - photo.width / 2), abs(cy - photo.height / 2)) > _OFF_CENTRE * long_side:
        problem = f"a principal point {_OFF_CENTRE:g} times the photo's long side off its centre"
    elif abs(skew) > fx:
        problem = "axes that lie nearer to each other than 45 degrees"
    elif _bent(camera.lens, farthest) > _MOST_BENT:
        problem = "a distortion that leaves nothing of the picture in its corners"
    else:
        return
    raise InputError(
        f"{camera.place}: K and distortion describe {problem}: give the photo's own camera"
    )


def _bent(lens: Lens, farthest: float) -> float:
    """Return how much a polynomial lens stretches or shrinks what it shows that far out."""
    if not (lens.is_radial or lens.is_fisheye):
        return 0.0
    return sum(abs(k) * farthest ** (2 * n) for n, k in enumerate(lens.k1_k2, 1))


def _lens(camera: ListedCamera | None, photo: Photo) -> KnownLens | None:
    if camera is None or camera.intrinsics is None:
        return None
    focal = float(np.sqrt(camera.intrinsics[0, 0] * camera.intrinsics[1, 1]))
    return KnownLens(camera.intrinsics, camera.lens, photo.pinhole(focal))


def _read(path: Path) -> tuple[dict[str, ListedCamera], str, World]:
    """Return {photo name: camera}, the unit of the poses, "scene" where it is none known, and their
    frame.
    """
    from recon.export.colmap_cameras import read_colmap_cameras
    from recon.export.nerfstudio_cameras import read_transforms

    path = _place_of(path)
    if os.path.isdir(path):
        model = {
            name: ListedCamera(
                f"{path}: {name}",
                camera.intrinsics,
                camera.lens,
                camera.cam_to_world,
                (camera.width, camera.height),
            )
            for name, camera in read_colmap_cameras(path).items()
        }
        return model, "scene", World("given")
    whole = _read_object(path)
    if "frames" in whole and "images" not in whole:
        cameras = read_transforms(path, whole)
    else:
        cameras = listed_cameras(path, whole)
    rigid = {
        name: camera
        if camera.cam_to_world is None
        else replace(camera, cam_to_world=_rigid(camera.cam_to_world, camera.place))
        for name, camera in cameras.items()
    }
    return rigid, units_of(whole), world_of(whole)


def _place_of(path: Path) -> Path:
    """Return the file, or the folder of the COLMAP model, that is meant by ``path``: by a file of
    the model, or by a folder around, of a scene of ours, nerfstudio's data or COLMAP's project.

    ``InputError`` where it holds several models.
    """
    if _is_model(path.parent) and path.stem in ("cameras", "images", "points3D"):
        return path.parent
    if _is_model(path) or not os.path.isdir(path):
        return path
    for name in ("cameras.json", "transforms.json"):
        if os.path.isfile(path / name):
            return path / name
    models = sorted(
        {each for where in _MODEL_FOLDERS for each in path.glob(where) if _is_model(each)}
    )
    if len(models) > 1:
        found = ", ".join(str(each.relative_to(path)) for each in models[:3])
        raise InputError(f"{path} holds {len(models)} COLMAP models ({found}): name one of them")
    return models[0] if models else path


def _is_model(folder: Path) -> bool:
    return any(
        all(os.path.isfile(folder / f"{name}{ending}") for name in ("cameras", "images"))
        for ending in (".bin", ".txt")
    )


def _read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``; ``InputError`` says what may be given in its place."""
    try:
        return read_json(path)
    except InputError as error:
        there = os.path.exists(path)
        if there and path.suffix.lower() == ".json" and not _is_list(path):
            raise
        raise InputError(
            f"{path} {'is no file of cameras' if there else 'does not exist'}: give a "
            "cameras.json, a transforms.json or the folder of a COLMAP model, such as "
            "colmap/sparse/0"
        ) from error


def _is_list(path: Path) -> bool:
    """Return whether a file of JSON holds a list, as cameras of other programs do."""
    try:
        return read_regular(path).lstrip()[:1] == b"["
    except OSError:
        return False


def _rigid(pose: Array, place: str) -> Array:
    """Return a pose (4, 4) with the rotation that its rounded numbers stand for; ``InputError``
    unless it is a rotation and a translation.
    """
    R = pose[:3, :3]
    off = np.abs(R @ R.T - np.eye(3)).max() if np.isfinite(pose).all() else np.inf
    if not np.array_equal(pose[3], [0, 0, 0, 1]):
        problem = "must be 4x4 with last row 0 0 0 1"
    elif off >= _ROUNDED_ROTATION:
        problem = "must hold a rotation"
    elif np.linalg.det(R) < 0:
        problem = "mirrors, which no camera does"
    elif off < _ROTATION_TOLERANCE:
        return pose
    else:
        left, _, right = np.linalg.svd(R)
        rotated = pose.copy()
        rotated[:3, :3] = left @ right
        return rotated
    raise InputError(f"{place}: cam_to_world {problem}")
