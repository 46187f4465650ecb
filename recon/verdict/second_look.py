"""A second look at the cameras of a few photos, once stereo has compared these pixel by pixel.

Matches of two photos may fit wrong cameras as well as right ones: no third photo contradicts them.
Stereo then looks along the wrong lines, and finds next to nothing where the matches are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pointmap.camera import Array, invert_rigid, pixel_rays, project, transform_points
from recon.scene import Verdict
from recon.stage_results import CONFIRMED, Alignment, DenseDepths
from recon.verdict.judge import doubted

# Scenes of so few photos are looked at; of more, other signs tell.
_FEW_PHOTOS = 4
# Share of what they show both that stereo has to confirm. Measured (benchmarks/README.md): 0 to
# 0.25 with cameras that are off by more than 10 degrees, 0.45 to 0.9 with right ones.
_AGREES = 0.4
# There is texture where neighbouring pixels differ by more levels of 255; it has to fill so much of
# the picture.
_TEXTURE_LEVELS, _LEAST = 4.0, 0.01


def judge_again(
    verdict: Verdict | None, alignment: Alignment, dense: DenseDepths
) -> Verdict | None:
    """Return the verdict on a scene whose depth was refined by stereo: doubtful where it was sound
    and stereo does not agree.

    Nothing is asked of photos from one place, whose cameras no depth can confirm.
    """
    if verdict is None or verdict.word != "sound" or verdict.direction_error_deg is None:
        return verdict
    placed = np.flatnonzero(alignment.placed).tolist()
    if len(placed) > _FEW_PHOTOS:
        return verdict
    shares = [_confirmed(k, [j for j in placed if j != k], alignment, dense) for k in placed]
    told = [share for share in shares if share is not None]
    if not told or (agreeing := float(np.median(told))) >= _AGREES:
        return verdict
    return doubted(
        verdict,
        f"compared pixel by pixel, the photos agree in {agreeing:.0%} of what they share only, "
        "though their matches fit: add photos in between",
    )


def _confirmed(
    k: int, others: Sequence[int], alignment: Alignment, dense: DenseDepths
) -> float | None:
    """Return the share of photo ``k``'s depth that another photo confirms, where it has texture and
    lies in another's picture; None where there is hardly any.
    """
    frame, depth = dense.frames[k], dense.depths[k]
    if depth is None:
        return None
    grey = frame.pixels.mean(axis=2)
    steps = np.abs(np.diff(grey, axis=1))[:-1], np.abs(np.diff(grey, axis=0))[:, :-1]
    row, column = np.nonzero(np.maximum(*steps) > _TEXTURE_LEVELS)
    z = depth.depth[row, column]
    xy = (np.stack([column, row], axis=1) + 0.5) / [frame.scale_x, frame.scale_y]
    rays = pixel_rays(xy, alignment.intrinsics[k], alignment.lenses[k])
    points = transform_points(_pose(k, alignment), rays * z[:, None])
    shared = np.zeros(len(z), bool)
    for j in others:
        photo = dense.frames[j].photo
        there = transform_points(invert_rigid(_pose(j, alignment)), points)
        at = project(there, alignment.intrinsics[j], alignment.lenses[j])
        shared |= (there[:, 2] > 0) & ((at > 0) & (at < [photo.width, photo.height])).all(axis=1)
    shared &= z > 0
    if shared.sum() < _LEAST * grey.size:
        return None
    return float((depth.confidence[row, column][shared] > CONFIRMED).mean())


def _pose(k: int, alignment: Alignment) -> Array:
    pose = alignment.cam_to_world[k]
    assert pose is not None
    return pose
