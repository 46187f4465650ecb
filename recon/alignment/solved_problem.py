"""The bundle adjustment whose minimum a solved scene is near, to ask it for more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pointmap.images import Photo
from recon.alignment.camera_model import BundleProblem, RichLenses
from recon.stage_results import REFERENCE_LONG_SIDE, Alignment, Focals

# Of key points: what lenses and matching leave, in pixels of a photo of the reference size.
_SIGMA_PX = 0.7


def problem_of(
    photos: Sequence[Photo], alignment: Alignment, focals: Focals
) -> tuple[BundleProblem, list[int]]:
    """Return the problem of the placed photos (C of N) and all tracks, and which photos these are.

    Lenses stay as they are but for their focal length, which ``focals`` tell at first, and in
    groups; no pose is held.
    """
    tracks = alignment.tracks
    numbers = np.flatnonzero(alignment.placed).tolist()
    K = alignment.intrinsics[numbers]
    unit_px = np.array([max(photos[k].width, photos[k].height) for k in numbers])
    groups, first, index = np.unique(focals.groups[numbers], return_index=True, return_inverse=True)
    camera = np.searchsorted(numbers, tracks.view_index)
    sigma = focals.log_sigma[numbers][first]
    none = np.zeros(len(groups))
    lenses = [alignment.lenses[numbers[k]] for k in first]
    k1, k2 = np.array([lens.k1_k2 for lens in lenses]).T
    fisheye = np.array([lens.is_fisheye for lens in lenses])
    problem = BundleProblem(
        cam_to_world=np.array([alignment.cam_to_world[k] for k in numbers]),
        principal=K[:, :2, 2],
        focals_px=K[first, 0, 0],
        focal_index=index,
        points=tracks.points,
        camera_index=camera,
        point_index=tracks.point_index,
        xy=tracks.xy,
        sigma_px=_SIGMA_PX * unit_px[camera] / REFERENCE_LONG_SIDE,
        fixed_pose=np.zeros(len(numbers), bool),
        fixed_focal=sigma == 0,
        focal_prior_px=focals.focals_px[numbers][first],
        focal_log_sigma=sigma,
        k1=k1,
        k1_sigma=none,
        more=RichLenses(fisheye, k2, none, none),
    )
    return problem, numbers
