"""A pair's relative pose from its matches, and whether to believe it.

:func:`essential` is the most accurate way where there is texture. Two other ways give the
same kind of result from pointmaps: :mod:`recon.two_view.pose_from_pointmaps`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointmap.camera import Array, pixel_rays
from recon.stage_results import PairEdge, PairMatches, RelativePose
from recon.two_view.epipolar import (
    angles_between_deg,
    epipolar_inliers,
    find_pose,
    homography_poses,
    inlier_threshold_px,
    opposite,
    plane_share,
    refine_pose,
    rotation_share,
    triangulation_angles_deg,
)

if TYPE_CHECKING:
    from pointmap.images import Photo

logger = logging.getLogger(__name__)

FEW_MATCHES = 15
"""Fewer inliers are reported as few. SIFT gave at most 9 on 223 pairs of unrelated photos."""
MIN_PARALLAX_DEG = 1.0
"""Median triangulation angle under which the direction of the translation is a guess."""
_SAME_MODEL = 0.8
"""A simpler model that explains this part of the inliers explains the pair (COLMAP's ratio)."""
_RIVAL = 0.9
"""A different pose with this part of the best one's support may as well be the true one."""
_LEAST_SHARE = 0.25
"""Inliers that an edge needs, as a share of the matches."""
_PROMISING = 0.5
"""Before it is refined, a rival has this part of the best pose's support, or won't come near."""


def essential(
    matches: PairMatches, intrinsics_i: ArrayLike, intrinsics_j: ArrayLike
) -> RelativePose | None:
    """Return the pose from the essential matrix of pixel matches, or None without one.

    MAGSAC for the essential matrix and for the dominant plane, refinement of the robust Sampson
    error of each over all matches, then the pose with the most support. Inliers have a Sampson
    error within :func:`recon.two_view.epipolar.inlier_threshold_px` and meet in front of both
    cameras or too far away to tell.
    """
    threshold_px = inlier_threshold_px(matches, intrinsics_i, intrinsics_j)
    K_i, K_j = np.asarray(intrinsics_i, np.float64), np.asarray(intrinsics_j, np.float64)
    candidates = _candidates(matches, K_i, K_j, threshold_px)
    if not candidates:
        return None
    best, *others = candidates
    for rival in others:
        rotation, direction = angles_between_deg(best.pose, rival.pose)
        if rival.support > _RIVAL * best.support and (rotation > 5 or direction > 20):
            return _assessed(best, matches, K_i, K_j, threshold_px, rival.pose)
    return _assessed(best, matches, K_i, K_j, threshold_px, None)


@dataclass(frozen=True)
class _Candidate:
    """A pose that matches may have, which of them it explains, and how well in all."""

    pose: Array
    inliers: NDArray[np.bool_]
    support: float


def _candidates(
    matches: PairMatches, K_i: Array, K_j: Array, threshold_px: float
) -> list[_Candidate]:
    """Return refined poses from an essential matrix and from the dominant plane, best first."""
    xy_i, xy_j = matches.xy_i, matches.xy_j
    least = max(FEW_MATCHES / max(len(matches), 1), _LEAST_SHARE)
    first = find_pose(xy_i, xy_j, K_i, K_j, threshold_px=threshold_px, least_share=least)
    starts = [] if first is None else [first]
    for pose in homography_poses(xy_i, xy_j, K_i, K_j, threshold_px=2 * threshold_px):
        # The Sampson error doesn't see the sign of t, so one of the two starts will do.
        if all(np.abs(pose[:3, :3] - start[:3, :3]).max() > 1e-9 for start in starts):
            starts.append(pose)

    def both_ways(pose: Array) -> list[_Candidate]:
        *inliers, error = epipolar_inliers(pose, matches, K_i, K_j, threshold_px)
        support = 1 - (error / threshold_px) ** 2
        return [
            _Candidate(way, kept, float(support[kept].sum()))
            for way, kept in zip((pose, opposite(pose)), inliers, strict=True)
        ]

    found: list[_Candidate] = []
    for start in starts:
        best = max((candidate.support for candidate in found), default=0.0)
        if max(candidate.support for candidate in both_ways(start)) < _PROMISING * best:
            continue
        pose, _ = refine_pose(start, xy_i, xy_j, K_i, K_j, scale_px=threshold_px / 2)
        found += both_ways(pose)
    return sorted(found, key=lambda candidate: -candidate.support)


def _assessed(
    candidate: _Candidate,
    matches: PairMatches,
    K_i: Array,
    K_j: Array,
    threshold_px: float,
    alternative: Array | None,
) -> RelativePose:
    """Return the candidate with score and flags from the matches that it explains."""
    pose, inliers = candidate.pose, candidate.inliers
    kept = matches.select(inliers)
    if len(kept) < 5:
        return RelativePose(pose, "essential", inliers, 0.0, frozenset({"few_matches"}))
    rays_i, rays_j = pixel_rays(kept.xy_i, K_i), pixel_rays(kept.xy_j, K_j)
    parallax = float(np.median(triangulation_angles_deg(pose, rays_i, rays_j)))
    flags = set(pose_flags(len(kept), parallax))
    if rotation_share(rays_i, rays_j, threshold_px / K_i[0, 0]) > _SAME_MODEL:
        flags |= {"pure_rotation", "no_parallax"}
    if plane_share(kept.xy_i, kept.xy_j, threshold_px) > _SAME_MODEL:
        flags.add("planar")
    score = pose_score(len(kept) / len(matches), len(kept), parallax)
    if alternative is not None:
        score /= 2
    return RelativePose(pose, "essential", inliers, score, frozenset(flags), False, alternative)


def pose_flags(count: int, parallax_deg: float) -> frozenset[str]:
    """Return the flags of a pose with so many inliers, seen under this median angle."""
    few = {"few_matches"} if count < FEW_MATCHES else set()
    return frozenset(few | ({"no_parallax"} if parallax_deg < MIN_PARALLAX_DEG else set()))


def pose_score(share: float, count: int, parallax_deg: float) -> float:
    """Return a score in [0, 1]: inlier ratio, 63 % of it at 50 inliers, in full from 2 degrees."""
    saturation = 1 - np.exp(-count / 50)
    return float(share * saturation * min(1.0, parallax_deg / (2 * MIN_PARALLAX_DEG)))


def verify_pair(
    photos: Sequence[Photo],
    matches: PairMatches,
    hint: Array | None,
    focals_px: ArrayLike,
) -> PairEdge | None:
    """Return the pair's edge, or None where features don't relate the two photos for sure.

    That takes :data:`FEW_MATCHES` inliers of an essential matrix, a quarter of all matches. Of two
    poses that explain the matches alike the one nearer to ``hint`` is taken, by the larger of the
    angles of rotation and direction: cam2_to_cam1 (4, 4) of the pair's pointmaps, None where they
    are not to be trusted.
    """
    K_i, K_j = _pair_intrinsics(photos, matches, focals_px)
    pose = essential(matches, K_i, K_j) if len(matches) >= FEW_MATCHES else None
    if pose is None or "few_matches" in pose.flags or pose.inliers.mean() < _LEAST_SHARE:
        logger.debug(
            "photos %d and %d: %d feature matches, no edge", matches.i, matches.j, len(matches)
        )
        return None
    return PairEdge(matches, _choose(pose, hint))


def surer(first: PairEdge | None, second: PairEdge | None) -> PairEdge | None:
    """Return of two edges of a pair the one that more matches agree with; the first of equals."""
    edges = [edge for edge in (first, second) if edge is not None]
    return max(edges, key=lambda edge: int(edge.pose.inliers.sum()), default=None)


def features_contradict(
    photos: Sequence[Photo], matches: PairMatches, hint: Array, focals_px: ArrayLike
) -> bool:
    """Return whether there are feature matches and next to none agrees with a pose (4, 4)."""
    K_i, K_j = _pair_intrinsics(photos, matches, focals_px)
    threshold_px = 4 * inlier_threshold_px(matches, K_i, K_j)
    agree, _, _ = epipolar_inliers(hint, matches, K_i, K_j, threshold_px)
    # By chance about 3 % of wrong matches lie this close to their epipolar line.
    return len(matches) >= 12 and bool(agree.mean() < 0.15)


def _pair_intrinsics(
    photos: Sequence[Photo], matches: PairMatches, focals_px: ArrayLike
) -> tuple[Array, Array]:
    focals = np.asarray(focals_px, np.float64)
    i, j = matches.i, matches.j
    return photos[i].pinhole(focals[i]), photos[j].pinhole(focals[j])


def _choose(pose: RelativePose, hint: Array | None) -> RelativePose:
    """Return the pose with its alternative in its place if the pointmaps speak for that one."""
    if pose.alternative is None or hint is None:
        return pose
    apart = [max(angles_between_deg(p, hint)) for p in (pose.cam2_to_cam1, pose.alternative)]
    if apart[1] < apart[0]:
        return replace(pose, cam2_to_cam1=pose.alternative, alternative=pose.cam2_to_cam1)
    return pose
