"""Cameras of a ``transforms.json`` of nerfstudio or instant-ngp, ours or another's.

Format: https://docs.nerf.studio/quickstart/data_conventions.html
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pointmap.camera import Array
from pointmap.errors import InputError
from pointmap.lens import MODELS, PINHOLE, Lens
from pointmap.outside.values import (
    FOCAL_RANGE_PX,
    MAX_K1,
    MAX_LENGTH,
    MAX_SIDE_PX,
    checked_lens,
    matrix,
    number,
    whole,
)
from recon.export.cameras_json import ListedCamera
from recon.export.nerfstudio import OPENGL_TO_OPENCV

# Coefficients that nerfstudio knows; which of them a lens has, its camera_model tells. They may be
# one list in this order.
_COEFFICIENTS = ("k1", "k2", "k3", "k4", "p1", "p2")
_LIST = "distortion_params"
# Some programs write null for what has its usual value.
_MAY_BE_NULL = (*_COEFFICIENTS, _LIST, "cx", "cy", "camera_model")
_PANORAMA = "EQUIRECTANGULAR"


def read_transforms(path: Path, data: Mapping[str, Any]) -> dict[str, ListedCamera]:
    """Return {photo name: camera} of ``data``, the content of a ``transforms.json`` at ``path``.

    Intrinsics stand at the top or with a frame, whose own count; pixel centres are at 0.5. A frame
    without a focal length (``fl_x`` or an angle of view) leaves them open; where the size of its
    photo is needed and not told, they follow when that is known. Camera axes become OpenCV's, the
    world stays. Raises ``InputError`` when the file is of another form, or a lens of
    none of COLMAP's models.
    """
    frames = data.get("frames")
    cameras: dict[str, ListedCamera] = {}
    told: dict[str, dict[str, Any]] = {}
    try:
        if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
            raise ValueError("no frames")
        for frame in frames:
            name = frame.get("file_path")
            if not isinstance(name, str):
                raise ValueError("a frame without file_path")
            said = {**data, **frame}
            for unsaid in [key for key in _MAY_BE_NULL if said.get(key, 0) is None]:
                del said[unsaid]
            if name in cameras and said != told[name]:
                raise InputError(f"{path} describes {name} twice, in two ways: leave one of them")
            cameras[name], told[name] = _listed(path, name, said), said
    except ValueError as error:
        raise InputError(
            f"{path} is not a transforms.json ({error}): it needs frames with file_path and "
            "transform_matrix"
        ) from error
    return cameras


def _listed(path: Path, name: str, said: Mapping[str, Any]) -> ListedCamera:
    """Return what is ``said`` of a photo; ``ValueError`` says why it is no camera's."""
    try:
        pose = _pose(said.get("transform_matrix"))
        size = None
        if "w" in said:
            size = (
                whole(said["w"], "w", 1, MAX_SIDE_PX),
                whole(said.get("h"), "h", 1, MAX_SIDE_PX),
            )
        open_size = size is None and _needs_size(said)
        intrinsics = None if open_size else _intrinsics(said, size)
        lens = None if intrinsics is None else _lens(said)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if _model(said) == _PANORAMA:
        raise InputError(
            f"{path}: {name} is a panorama, which no lens takes: cut it into perspective views"
            " first (colmap's panorama_sfm.py does)"
        )
    if intrinsics is not None and lens is None:
        raise InputError(
            f"{path}: {name} has a lens that no model of COLMAP's stands for: undistort the photos"
            " first (colmap image_undistorter)"
        )

    def of_size(width: int, height: int) -> ListedCamera:
        return _listed(path, name, {**said, "w": width, "h": height})

    mask = said.get("mask_path")
    named = isinstance(mask, str) and mask and "\0" not in mask
    return ListedCamera(
        f"{path}: {name}",
        intrinsics,
        lens or PINHOLE,
        pose @ OPENGL_TO_OPENCV,
        size,
        mask=path.parent / str(mask) if named else None,
        of_size=of_size if open_size else None,
    )


def _pose(value: Any) -> Array:
    """Return a transform_matrix (4, 4), whose last row may be missing."""
    if isinstance(value, list) and len(value) == 3:
        value = [*value, [0, 0, 0, 1]]
    return matrix(value, "transform_matrix", 4, 4, MAX_LENGTH)


def _needs_size(said: Mapping[str, Any]) -> bool:
    """Return whether what is ``said`` of a lens tells it only together with the photo's size, as in
    the scenes of NeRF (Mildenhall et al., ECCV 2020).
    """
    if "fl_x" in said:
        return not {"cx", "cy"} <= said.keys()
    return not said.keys().isdisjoint(("camera_angle_x", "camera_angle_y"))


def _lens(said: Mapping[str, Any]) -> Lens | None:
    """Return the lens; None for one of another model than COLMAP's, or beyond its own model.

    An OPENCV with a third coefficient is a FULL_OPENCV; of nerfstudio's fourth COLMAP knows none.
    """
    model = _model(said)
    if model not in MODELS:
        return None
    if _LIST in said:
        listed = said[_LIST]
        if not isinstance(listed, list) or len(listed) != len(_COEFFICIENTS):
            raise ValueError(f"{_LIST} must be the six numbers {', '.join(_COEFFICIENTS)}")
        said = {**said, **dict(zip(_COEFFICIENTS, listed, strict=True))}
    if model in ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        model = "OPENCV"
    values = {
        n: number(said.get(n, 0), n, -MAX_K1, MAX_K1) for n in {*_COEFFICIENTS, *MODELS[model]}
    }
    if model == "OPENCV" and values["k3"]:
        model = "FULL_OPENCV"
        if values["k4"]:
            return None
        values |= {"k5": 0.0, "k6": 0.0}
    elif any(values[n] for n in _COEFFICIENTS if n not in MODELS[model]):
        return None
    return checked_lens(model, [values[n] for n in MODELS[model]])


def _model(said: Mapping[str, Any]) -> str:
    """Return the name of a frame's model of lenses, in capitals."""
    if "camera_model" in said:
        return str(said["camera_model"]).upper()
    # instant-ngp has flags instead, and coefficients of a model that nobody else has.
    flags = {"is_fisheye": "OPENCV_FISHEYE", "latlong": _PANORAMA, "equirectangular": _PANORAMA}
    flags |= {"orthographic": "ORTHOGRAPHIC", "ftheta_p0": "FTHETA"}
    return next((model for flag, model in flags.items() if said.get(flag)), "OPENCV")


def _intrinsics(said: Mapping[str, Any], size: tuple[int, int] | None) -> Array | None:
    if "fl_x" in said:
        fx = number(said["fl_x"], "fl_x", *FOCAL_RANGE_PX)
    elif size is not None and "camera_angle_x" in said:
        fx = _focal_of(said, "camera_angle_x", size[0])
    elif size is not None and "camera_angle_y" in said:
        fx = _focal_of(said, "camera_angle_y", size[1])
    else:
        return None
    fy = number(said.get("fl_y", fx), "fl_y", *FOCAL_RANGE_PX)
    centre = (said.get(name, size and size[k] / 2) for k, name in enumerate(("cx", "cy")))
    most = FOCAL_RANGE_PX[1]
    cx, cy = (number(c, name, -most, most) for c, name in zip(centre, ("cx", "cy"), strict=True))
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def _focal_of(said: Mapping[str, Any], name: str, side: int) -> float:
    """Return the focal length of a lens with the angle of view ``name`` over a ``side`` of so many
    pixels.
    """
    angle = number(said[name], name, 1e-3, math.pi - 1e-3)
    return side / 2 / math.tan(angle / 2)
