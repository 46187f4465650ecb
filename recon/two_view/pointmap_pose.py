"""Cameras from pointmaps alone: what carries photos without texture when the network is strong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pointmap.camera import Array, Index, Mask, rotation_angle_deg
from recon.stage_results import PairSketch, PhotoPrior
from recon.two_view.pointmap_similarity import PairSimilarities, pair_similarities

if TYPE_CHECKING:
    from pointmap.images import Photo

MIN_CONFIDENCE = 3.0
"""Median confidence from which pointmaps may relate photos. Trained with DUSt3R's loss (alpha 0.2)
a network of this confidence expects an error of 0.2 / 3, 7 % of the scene's size."""
MAX_DISAGREEMENT_DEG = 5.0
"""Rotation by which a pair's two predictions may differ; directions by three times as much."""
# Shares of the second photo's pixels that one camera explains, and that the first photo sees too.
_LEAST_SUPPORT = 0.5
_LEAST_OVERLAP = 0.1
# Rotation, and parallax, up to which both photos may be one and the same: as good as the poses are.
_SAME_PLACE_DEG = 1.0


@dataclass(frozen=True)
class PointmapPoses:
    """What trustworthy pairs say: the predictions' ``similarities`` and how much each deserves
    trust, ``weights`` (E,), 0 for none.
    """

    similarities: PairSimilarities
    weights: Array

    @property
    def claims(self) -> Mask:
        """Which predictions (E,) are sure of themselves, right or wrong."""
        return np.asarray(self.similarities.confidence >= MIN_CONFIDENCE)

    @property
    def trusted_pairs(self) -> Index:
        """The pairs (T, 2), i < j, that are trusted."""
        pairs = np.sort(self.similarities.pairs[self.weights > 0], axis=1)
        return np.unique(pairs, axis=0).reshape(-1, 2)

    def hints(self) -> dict[tuple[int, int], Array]:
        """Return cam2_to_cam1 (4, 4) of the trusted pairs (i, j), i < j."""
        pairs, poses = self.similarities.pairs, self.similarities.cam2_to_cam1
        chosen = np.flatnonzero((self.weights > 0) & (pairs[:, 0] < pairs[:, 1]))
        return {(int(pairs[e, 0]), int(pairs[e, 1])): poses[e] for e in chosen}


def pointmap_poses(
    sketches: Sequence[PairSketch],
    priors: Sequence[PhotoPrior],
    photos: Sequence[Photo],
    focals_px: Array,
) -> PointmapPoses | None:
    """Return the relative poses that the predictions give by themselves; None without predictions.

    A prediction is trusted only if everything below is so, which a weak network, or a good one
    looking at photos of different places, fails somewhere:

    - the pixels' median confidence is at least :data:`MIN_CONFIDENCE`;
    - one camera explains most of the second photo's pixels;
    - the photos overlap, a tenth of the second photo at least;
    - the prediction of the pair in the other order gives nearly the same pose; a network with a
      habit ("the other photo is from the left") says so of both and contradicts itself;
    - it says more than that both were taken from one place in one direction, another habit.
    """
    if not sketches:
        return None
    found = pair_similarities(sketches, priors, photos, focals_px)
    trusted = (found.confidence >= MIN_CONFIDENCE) & (found.support >= _LEAST_SUPPORT)
    trusted &= (found.overlap >= _LEAST_OVERLAP) & _returns(found) & _moves(found)
    return PointmapPoses(found, np.where(trusted, found.support, 0.0))


def _returns(found: PairSimilarities) -> Mask:
    """Return which predictions (E,) have another of the same pair that says nearly the same."""
    number = {(int(i), int(j)): e for e, (i, j) in enumerate(found.pairs)}
    back = np.array([number.get((int(j), int(i)), -1) for i, j in found.pairs])
    there, here = found.cam2_to_cam1, found.cam2_to_cam1[back]
    round_trip = there[:, :3, :3] @ here[:, :3, :3]
    # Camera j's centre as seen from camera i, by either prediction.
    first = there[:, :3, 3]
    second = -(here[:, :3, :3].transpose(0, 2, 1) @ here[:, :3, 3, None])[..., 0]
    angle = np.arctan2(
        np.linalg.norm(np.cross(first, second), axis=1), (first * second).sum(axis=1)
    )
    agrees = rotation_angle_deg(round_trip) < MAX_DISAGREEMENT_DEG
    agrees &= (np.degrees(angle) < 3 * MAX_DISAGREEMENT_DEG) | (found.parallax_deg < 3)
    return np.asarray((back >= 0) & agrees)


def _moves(found: PairSimilarities) -> Mask:
    turn = rotation_angle_deg(found.cam2_to_cam1[:, :3, :3])
    return np.asarray((turn > _SAME_PLACE_DEG) | (found.parallax_deg > _SAME_PLACE_DEG))
