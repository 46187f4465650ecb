"""``transforms.json`` as nerfstudio and instant-ngp read it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pointmap.lens import MODELS
from recon.export.file_names import relative_photo_path
from recon.export.json_file import write_json
from recon.export.upright import copy_name
from recon.scene import Camera, Scene

logger = logging.getLogger(__name__)
# The models of nerfstudio's that are COLMAP's, too.
_READ = frozenset({"OPENCV", "OPENCV_FISHEYE"})
# Camera axes of OpenGL (x right, y up, z backward) to OpenCV's, and back: its own inverse.
OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def write_transforms(
    path: Path, scene: Scene, *, scene_folder: Path, photos: str | None = None
) -> None:
    """Write the placed photos; ``scene_folder`` is where the file will finally lie.

    ``photos``: the folder inside it that holds upright copies to use
    (:func:`recon.export.upright.write_upright_photos`).

    The world stays ours, so that ``points.ply`` fits; only the camera axes turn to OpenGL's. Pixel
    centres are at +0.5 in both. Intrinsics stand once at the top when all photos share them, and
    with each photo otherwise: nerfstudio ignores a photo's distortion when the top has one.
    Format: https://docs.nerf.studio/quickstart/data_conventions.html
    What no file of nerfstudio tells, photos through lenses of several models or of another one, is
    warned of; the file is read by us all the same.
    """
    views = [view for view in scene.views if view.registered]
    intrinsics = [_intrinsics(view.camera) for view in views]
    models = sorted({lens["camera_model"] for lens in intrinsics})
    if len(models) > 1 or not _READ.issuperset(models):
        logger.warning(
            "transforms.json: nerfstudio takes all photos for one of OPENCV and OPENCV_FISHEYE, "
            "and these are %s: give it colmap/, undistorted by COLMAP",
            ", ".join(models),
        )
    # nerfstudio wants masks of all photos, or none.
    masked = bool(views) and all(view.mask is not None for view in views)
    shared = bool(views) and all(item == intrinsics[0] for item in intrinsics)
    frames = []
    for view, lens in zip(views, intrinsics, strict=True):
        frames.append(
            {
                "file_path": (
                    f"{photos}/{copy_name(view)}"
                    if photos
                    else relative_photo_path(view.path, scene_folder)
                ),
                **({} if shared else lens),
                **(
                    {"mask_path": relative_photo_path(view.mask, scene_folder)}
                    if masked and view.mask is not None
                    else {}
                ),
                "transform_matrix": (view.camera.cam_to_world @ OPENGL_TO_OPENCV).tolist(),
            }
        )
    write_json(
        path,
        {
            # nerfstudio takes one model for all photos.
            "camera_model": intrinsics[0]["camera_model"] if views else "OPENCV",
            **(intrinsics[0] if shared else {}),
            # instant-ngp alone: its box of 1 cuts off what lies behind a captured object.
            "aabb_scale": 16,
            "ply_file_path": "points.ply",
            "frames": frames,
        },
    )


def _intrinsics(camera: Camera) -> dict[str, Any]:
    lens = camera.lens
    model, coefficients = lens.model, lens.coefficients
    if lens.is_radial:
        model, coefficients = "OPENCV", (*lens.k1_k2, 0.0, 0.0)
    elif model == "FULL_OPENCV" and not any(coefficients[5:]):
        # nerfstudio's polynomial goes on where COLMAP's has a fraction.
        names = MODELS[model][:5]
        return _of_lens(camera, "OPENCV", dict(zip(names, coefficients[:5], strict=True)))
    elif lens.is_fisheye:
        model, coefficients = "OPENCV_FISHEYE", (*lens.k1_k2, 0.0, 0.0)
    return _of_lens(camera, model, dict(zip(MODELS[model], coefficients, strict=True)))


def _of_lens(camera: Camera, model: str, coefficients: Mapping[str, float]) -> dict[str, Any]:
    K = np.asarray(camera.intrinsics, np.float64)
    return {
        "fl_x": float(K[0, 0]),
        "fl_y": float(K[1, 1]),
        "cx": float(K[0, 2]),
        "cy": float(K[1, 2]),
        "w": int(camera.width),
        "h": int(camera.height),
        "camera_model": model,
        **coefficients,
    }
