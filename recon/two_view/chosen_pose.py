"""A pair's pose by the way that was asked for: of its matches, or of its pointmaps alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from pointmap.camera import Array, project
from recon.prediction.pair_sketch import sample_pixels
from recon.stage_results import (
    POINTMAP_SIGMA,
    PairEdge,
    PairMatches,
    PairSketch,
    PhotoPrior,
    RelativePose,
)
from recon.two_view.pose_from_pointmaps import pnp, procrustes
from recon.two_view.relative_pose import FEW_MATCHES

if TYPE_CHECKING:
    from pointmap.images import Photo

PoseFrom = Literal["auto", "matches", "procrustes", "pnp"]


def pointmap_edge(
    way: Literal["procrustes", "pnp"],
    there: PairSketch,
    back: PairSketch,
    photos: Sequence[Photo],
    priors: Sequence[PhotoPrior],
    focals_px: Array,
) -> PairEdge | None:
    """Return the edge of photos i < j that their two predictions make, or None.

    ``there`` is the prediction (i, j), ``back`` (j, i). Procrustes registers the pixels that both
    predictions place; PnP takes those of photo j in camera i's frame. ``priors`` are the network's
    and tell the size of its maps. The matches are the maps' own: a pixel of one photo, and where
    its point projects in the other. None unless the pose explains :data:`FEW_MATCHES` pixels.
    """
    i, j = there.i, there.j
    K = {k: photos[k].pinhole(float(focals_px[k])) for k in (i, j)}
    pixels = {k: sample_pixels(priors[k].confidence.shape, photos[k]) + K[k][:2, 2] for k in (i, j)}
    if way == "procrustes":
        pose = procrustes(
            np.concatenate([there.points_i, there.points_j]).astype(np.float64),
            np.concatenate([back.points_j, back.points_i]).astype(np.float64),
            np.sqrt(
                np.concatenate(
                    [
                        there.confidence_i * back.confidence_j,
                        there.confidence_j * back.confidence_i,
                    ]
                )
            ),
        )
    else:
        sure = there.confidence_j > 0
        pose = pnp(there.points_j[sure].astype(np.float64), pixels[j][sure], K[j])
    if pose is None or "few_matches" in pose.flags:
        return None
    matches = _pixel_matches(there, back, photos, priors, K, pixels)
    return _agreeing(pose, matches) if len(matches) >= FEW_MATCHES else None


def with_feature_matches(edge: PairEdge | None, verified: PairEdge | None) -> PairEdge | None:
    """Return a pointmaps' ``edge`` with the matches of a ``verified`` one of features, if any.

    They are far more accurate, so that cameras are refined on them; the pose stays the pointmaps'.
    """
    if edge is None or verified is None:
        return edge
    return PairEdge(verified.matches, replace(edge.pose, inliers=verified.pose.inliers))


def _pixel_matches(
    there: PairSketch,
    back: PairSketch,
    photos: Sequence[Photo],
    priors: Sequence[PhotoPrior],
    K: dict[int, Array],
    pixels: dict[int, Array],
) -> PairMatches:
    i, j = there.i, there.j
    in_j = project(back.points_j.astype(np.float64), K[j])  # photo i's pixels as photo j has them
    in_i = project(there.points_j.astype(np.float64), K[i])
    xy_i, xy_j = np.concatenate([pixels[i], in_i]), np.concatenate([in_j, pixels[j]])
    sure = np.concatenate([back.confidence_j, there.confidence_j]) > 0
    for k, xy in ((i, xy_i), (j, xy_j)):
        with np.errstate(invalid="ignore"):
            sure &= ((xy >= 0) & (xy <= [photos[k].width, photos[k].height])).all(axis=1)
    none = np.full(int(sure.sum()), -1, np.int64)
    scale = np.mean([photos[k].width / priors[k].confidence.shape[1] for k in (i, j)])
    sigma_px = POINTMAP_SIGMA * float(scale)
    return PairMatches(i, j, xy_i[sure], xy_j[sure], none, none.copy(), sigma_px)


def _agreeing(pose: RelativePose, matches: PairMatches) -> PairEdge:
    """Return the edge whose inliers are all the matches: they are what the pose was made of."""
    return PairEdge(matches, replace(pose, inliers=np.ones(len(matches), bool)))
