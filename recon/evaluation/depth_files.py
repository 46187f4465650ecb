"""Depth maps as the field stores them: 16-bit PNG, .npy, .npz."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pointmap.camera import Array
from pointmap.decoding import open_picture
from pointmap.errors import InputError, UnusablePicture
from pointmap.outside.arrays import as_map, read_npy, read_npz

DEPTH_SUFFIXES = (".npz", ".npy", ".png")


def read_depth_file(path: Path, *, unit: float) -> Array:
    """Return the depth (h, w) float64 in ``path``, 0 = unknown.

    A PNG counts in steps of ``unit``: 0.001 for millimetres, 1 / 256 for KITTI, 1 / 5000 for TUM.
    Arrays (.npy, or ``depth`` in .npz) are in the result's unit already. Raises ``InputError`` for
    a file that cannot be read, is no single-channel map, or holds negative or not finite values.
    """
    try:
        if path.suffix == ".png":
            with open_picture(path, ("PNG",)) as image:
                depth = as_map(np.asarray(image)) * unit
        elif path.suffix == ".npy":
            depth = as_map(read_npy(path))
        else:
            arrays = read_npz(path, ["depth"])
            if not arrays:
                raise InputError(f"{path} has no array called depth")
            depth = as_map(arrays["depth"])
    except (OSError, ValueError, UnusablePicture) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} cannot be read as a depth map ({reason})") from error
    if depth.ndim != 2 or not depth.size:
        raise InputError(
            f"{path} has shape {depth.shape}: a depth map has one channel (a colour-mapped picture "
            "is no depth; give the 16-bit PNG, .npy or .npz)"
        )
    bad = int((~np.isfinite(depth) | (depth < 0)).sum())
    if bad:
        raise InputError(
            f"{path} holds {bad} depths that are NaN, infinite or negative; 0 marks unknown"
        )
    return depth
