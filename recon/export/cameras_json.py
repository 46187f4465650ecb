"""``cameras.json``: every photo's camera, in pixels of the original photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pointmap.errors import InputError
from recon.export.json_file import read_json, write_json
from recon.export.names import depth_stems
from recon.scene import Camera, Reconstruction


def write_cameras(path: Path, reconstruction: Reconstruction) -> None:
    """Write ``cameras.json``, photos in their order.

    ``distortion`` is always there, in COLMAP's model of that name: with ``(x, y, 1)`` along a ray,
    its pixel is ``K (d x, d y, 1)``, ``d = 1 + k1 (x^2 + y^2)``; k1 = 0 is a pinhole.

    It holds nothing that depends on where photos or output lie: the same cameras give the same
    bytes.
    """
    stems = depth_stems([view.name for view in reconstruction.views])
    images = {}
    for view, stem in zip(reconstruction.views, stems, strict=True):
        pose = view.camera.cam_to_world
        images[view.name] = {
            "K": np.asarray(view.camera.intrinsics, np.float64).tolist(),
            "distortion": {"model": "SIMPLE_RADIAL", "k1": float(view.camera.k1)},
            "cam_to_world": None if pose is None else np.asarray(pose, np.float64).tolist(),
            "width": int(view.camera.width),
            "height": int(view.camera.height),
            "registered": view.registered,
            "reason": view.reason,
            "depth": f"depth/{stem}.npz",
        }
    write_json(
        path,
        {
            "units": reconstruction.units,
            "camera_axes": "OpenCV: x right, y down, z forward",
            "pixel_centre": 0.5,
            "images": images,
        },
    )


def read_cameras(path: Path) -> tuple[dict[str, tuple[Camera, dict[str, Any]]], str]:
    """Return ({photo name: (camera, its whole entry)}, units) of a ``cameras.json``.

    Raises ``InputError`` when the file is missing or not of this form.
    """
    data = read_json(path)
    try:
        cameras = {}
        for name, entry in data["images"].items():
            pose = entry["cam_to_world"]
            camera = Camera(
                intrinsics=np.array(entry["K"], np.float64).reshape(3, 3),
                width=int(entry["width"]),
                height=int(entry["height"]),
                cam_to_world=None if pose is None else np.array(pose, np.float64).reshape(4, 4),
                # Scenes written before lenses were estimated are of pinholes.
                k1=float(entry.get("distortion", {"k1": 0.0})["k1"]),
            )
            cameras[name] = (camera, entry)
        return cameras, str(data["units"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not a cameras.json of pointmap ({error!r}): reconstruct the scene again"
        ) from error
