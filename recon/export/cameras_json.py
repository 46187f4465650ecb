"""``cameras.json``: every photo's camera, in pixels of the original photo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pointmap.camera import Array
from pointmap.errors import InputError
from recon.export.file_names import depth_stems
from recon.export.json_file import read_json, write_json
from recon.scene import Camera, Scene


def write_cameras(path: Path, reconstruction: Scene) -> None:
    """Write ``cameras.json``, photos in their order.

    ``distortion`` is always there, in COLMAP's model of that name: with ``(x, y, 1)`` along a ray,
    its pixel is ``K (d x, d y, 1)``, ``d = 1 + k1 (x^2 + y^2)``; k1 = 0 is a pinhole.

    It holds nothing that depends on where photos or output lie: the same cameras give the same
    bytes.
    """
    stems = depth_stems([view.name for view in reconstruction.views])
    images = {
        view.name: camera_entry(view.camera, view.reason) | {"depth": f"depth/{stem}.npz"}
        for view, stem in zip(reconstruction.views, stems, strict=True)
    }
    write_camera_entries(path, images, units=reconstruction.units)


def camera_entry(camera: Camera, reason: str | None) -> dict[str, Any]:
    """Return what the file says of one photo; ``reason``: why it has no pose, None if it has."""
    pose = camera.cam_to_world
    return {
        "K": np.asarray(camera.intrinsics, np.float64).tolist(),
        "distortion": {"model": "SIMPLE_RADIAL", "k1": float(camera.k1)},
        "cam_to_world": None if pose is None else np.asarray(pose, np.float64).tolist(),
        "width": int(camera.width),
        "height": int(camera.height),
        "registered": pose is not None,
        "reason": reason,
    }


def write_camera_entries(path: Path, images: Mapping[str, Any], *, units: str) -> None:
    """Write a file of this form with ``images``, {photo name: :func:`camera_entry`}."""
    write_json(
        path,
        {
            "units": units,
            "camera_axes": "OpenCV: x right, y down, z forward",
            "pixel_centre": 0.5,
            "images": dict(images),
        },
    )


@dataclass(frozen=True)
class ListedCamera:
    """What a file says of one photo's camera.

    ``intrinsics`` (3, 3) in pixels of the original photo, the centre of the top-left pixel at
    (0.5, 0.5), with the radial distortion ``k1``; ``cam_to_world`` (4, 4); ``size`` (width,
    height). Each of them is None where the file leaves it open. ``entry`` is all it says, ``place``
    file and photo for messages.
    """

    place: str
    intrinsics: Array | None
    k1: float
    cam_to_world: Array | None
    size: tuple[int, int] | None
    entry: Mapping[str, Any] = field(default_factory=dict)

    def camera(self) -> Camera:
        """Return the camera; raise ``InputError`` where intrinsics or size are left open."""
        if self.intrinsics is None or self.size is None:
            raise InputError(f"{self.place} has no K, width or height: all of them are needed")
        return Camera(self.intrinsics, *self.size, self.cam_to_world, self.k1)


def read_cameras(path: Path) -> tuple[dict[str, ListedCamera], dict[str, Any]]:
    """Return {photo name: camera} of a ``cameras.json``, ours or another's, and the whole file.

    Ours say ``"pixel_centre": 0.5``. Without it K counts from the centre of the top-left pixel, as
    OpenCV's calibration does, and is moved by half a pixel here. Raises ``InputError`` when the
    file is missing or of another form.
    """
    data = read_json(path)
    try:
        shift = 0.5 - float(data.get("pixel_centre", 0.0))
        cameras = {
            name: _listed(f"{path}: {name}", entry, shift) for name, entry in data["images"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not a cameras.json ({error!r}): it needs images with K and cam_to_world"
        ) from error
    return cameras, data


def _listed(place: str, entry: Mapping[str, Any], shift: float) -> ListedCamera:
    K, pose = entry["K"], entry["cam_to_world"]
    if K is not None:
        K = np.array(K, np.float64)
        if not (K.shape == (3, 3) and np.isfinite(K).all() and K[0, 0] > 0 < K[1, 1]):
            raise ValueError("K must be 3x3 with positive focal lengths")
        K[:2, 2] += shift
    if pose is not None:
        pose = np.array(pose, np.float64).reshape(4, 4)
    # Scenes written before lenses were estimated are of pinholes.
    distortion = entry.get("distortion") or {"k1": 0.0}
    size = (int(entry["width"]), int(entry["height"])) if "width" in entry else None
    return ListedCamera(place, K, float(distortion["k1"]), pose, size, entry)
