"""Two things in a few photos that moved against each other, each matched from photo to photo.

A board that is carried past a house is as good a scene as the house: of two or three photos the
cameras may be those that go with the one or with the other, and whatever has more matches wins.
What is left over tells: matches that contradict the cameras, and agree on another motion.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pointmap.images import Photo
from recon.alignment.explained import match_fits
from recon.stage_results import Alignment
from recon.two_view.relative_pose import essential

# Scenes of more photos are not asked: there others tell what moves.
_FEW_PHOTOS = 4
# Matches that a second motion has to explain for it to be one.
_FEWEST = 50


def second_motion(photos: Sequence[Photo], alignment: Alignment) -> float:
    """Return how many matches agree on a second motion, as a share of those that fit the cameras,
    in the median verified pair; 0 of more than four placed photos.
    """
    if not 2 <= alignment.placed.sum() <= _FEW_PHOTOS:
        return 0.0
    shares = []
    for matches, fits in match_fits(photos, alignment):
        K_i, K_j = alignment.intrinsics[[matches.i, matches.j]]
        left_over = matches.select(~fits)
        pose = essential(left_over, K_i, K_j) if len(left_over) >= _FEWEST else None
        count = 0 if pose is None else int(pose.inliers.sum())
        shares.append(count / max(int(fits.sum()), 1) if count >= _FEWEST else 0.0)
    return float(np.median(shares)) if shares else 0.0
