"""A scene for stereo: balls in two rows, with gaps of a few pixels, before a slanted wall."""

from __future__ import annotations

import numpy as np
import torch
from synthetic import Plane, Shot, Sphere

from recon.stereo.photo import Photo2D

BALLS = tuple(Sphere((x, y, -0.3), 0.35) for x in (-0.8, 0.0, 0.8) for y in (-0.4, 0.45))
SURFACES = (Plane((0.0, 1.0, 0.0), 1.0), Plane((0.2, 0.0, 1.0), 1.6), *BALLS)
"""A floor, the wall, and the balls."""


def photo(shot: Shot) -> Photo2D:
    """Return a shot as stereo takes it, in grey."""
    return Photo2D(
        torch.from_numpy(shot.pixels.mean(-1).astype(np.float32) / 255),
        torch.from_numpy(shot.intrinsics),
        torch.from_numpy(shot.cam_to_world),
    )
