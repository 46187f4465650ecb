"""What the network says of how two photos stand to each other, beside what their cameras say.

Matches of two photos fit many cameras: another focal length with another pose, either pose of a
plane, what repeats. No third photo contradicts these. The network looks at the pictures, not at the
matches, and so is the one witness there is. What it says of two photos it knows well lies within 2
to 5 degrees; which it knows it tells itself, by its confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pointmap.camera import invert_rigid
from pointmap.images import Photo
from recon.alignment.explained import one_place_length
from recon.stage_results import Alignment, NetworkResult
from recon.two_view.epipolar import angles_between_deg
from recon.two_view.pointmap_similarity import pair_similarities

# Degrees that a pose may be off by, of a network of confidence c: the first, and the second over
# (c - 1 + the third). Measured: 2.5 (median) from 1.3 on, 4.5 from 1.1 on, 8 and often 40 at 1,
# which is the least that there is, and tells nothing.
_SURE_DEG, _UNSURE_DEG, _LEAST = 1.0, 1.2, 0.007
# Degrees from which on another pose speaks against the cameras.
_ELSEWHERE_DEG = 10.0


@dataclass(frozen=True)
class NetworkWitness:
    """What the network says against the cameras of two photos.

    ``against``: logarithm of how much likelier they are elsewhere than where they are, by its
    relative poses; ``apart_deg``: how far these are from the cameras', the mean of both orders of
    the pair; ``focal_apart``: logarithm of how many times as long or as short as its focal lengths
    those of the cameras are, 0 where a file tells these.
    """

    against: float
    apart_deg: float
    focal_apart: float


def network_witness(
    photos: Sequence[Photo], alignment: Alignment, seen: NetworkResult
) -> NetworkWitness | None:
    """Return what the network has ``seen`` of two placed photos, None of more, of two from one
    place, through a fisheye, or of which it can use nothing in either order.

    The ratio of likelihoods is one of Cauchy's kind, log((s^2 + d^2) / (s^2 + 10^2)) for poses that
    are d degrees from the cameras', the larger of rotation and direction, where the network may be
    off by s.
    """
    placed = [k for k, pose in enumerate(alignment.cam_to_world) if pose is not None]
    if len(placed) != 2 or any(alignment.lenses[k].is_fisheye for k in placed):
        return None
    asked = [s for s in seen.sketches if s.i != s.j and {s.i, s.j} == set(placed)]
    poses = [np.asarray(alignment.cam_to_world[k]) for k in placed]
    motion = invert_rigid(poses[0]) @ poses[1]
    if len(asked) != 2 or np.linalg.norm(motion[:3, 3]) <= one_place_length(alignment):
        return None
    focals_px = alignment.intrinsics[:, 0, 0]
    said = pair_similarities(asked, seen.priors, photos, focals_px)
    if said.support.min() <= 0:
        return None
    apart = [
        max(angles_between_deg(pose, motion if s.i == placed[0] else invert_rigid(motion)))
        for s, pose in zip(asked, said.cam2_to_cam1, strict=True)
    ]
    stretch = [
        0.0 if photos[s.i].exif_focal_px else abs(float(np.log(s.focal_px / focals_px[s.i])))
        for s in asked
    ]
    off, may_be = float(np.mean(apart)), _may_be_off_deg(float(said.confidence.min()))
    return NetworkWitness(
        float(np.log((may_be**2 + off**2) / (may_be**2 + _ELSEWHERE_DEG**2))),
        off,
        float(np.mean(stretch)),
    )


def _may_be_off_deg(confidence: float) -> float:
    return _SURE_DEG + _UNSURE_DEG / (max(confidence - 1, 0.0) + _LEAST)
