"""Whether the cameras of few photos come out again where they are solved for from elsewhere.

Matches of few photos may fit wrong cameras nearly as well as right ones: adjustment ends in a
minimum near its start, nothing contradicts it, and linearised there the observations seem to hold
it firmly. From another start it ends elsewhere. Right cameras, if the matches hold them, are found
again whatever the start.

The start that matters is the focal length: with another one each pair of photos is verified anew
and comes to another relative pose, and the scene to other first cameras. Photos start from shorter
and longer ones than were found, and from one of each photo's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from pointmap.camera import Array, Index, invert_rigid, pixel_rays, project
from pointmap.images import Photo
from pointmap.lens import PINHOLE
from recon.alignment.align import align
from recon.alignment.explained import one_place_length
from recon.alignment.missed_share import MissedShare
from recon.alignment.zooms import verified_anew
from recon.stage_results import Alignment, Focals, PairEdge, PairEvidence
from recon.two_view.epipolar import angles_between_deg

# Two photos have no third one to hold them, and tell nothing so; of many, others tell, and each
# start costs as much as the alignment did.
_FEWEST, _FEW_PHOTOS = 3, 10
# Starts: times the focal lengths that were found, and how free they are then (logarithm).
_TIMES, _FREE = (1 / 1.4, 1.4), 0.3
# How free focal lengths of photos' own are, how many times as far as they went from what was found
# the next start is, and how far at most (logarithm).
_OWN, _BEYOND, _FARTHEST = 0.2, 2.0, 1.0
# What cameras may miss matches by, as a share of what those asked about do, to be as good.
_WORSE = 1.3


@dataclass(frozen=True)
class SolvedAgain:
    """Cameras that the matches of a scene lead to from another start: as pinholes, whatever lenses
    the scene's are; ``apart_deg``, how far the median pair's pose differs from the scene's, the
    larger of rotation and direction; and which share of what matches miss the scene's cameras by is
    ``left``.
    """

    alignment: Alignment
    apart_deg: float
    left: float


SolveAgain = Callable[[Sequence[Photo], Alignment], list[SolvedAgain]]
"""As :func:`solved_again`, or one that keeps what it found."""


def solved_again_deg(found: Sequence[SolvedAgain]) -> float | None:
    """Return how far from the cameras of an alignment those stand that were ``found`` from other
    starts, in degrees: of the starts the median.

    Starts that end where matches fit clearly worse say nothing. None where no other is left.
    """
    apart = [a.apart_deg for a in found if a.left < _WORSE and np.isfinite(a.apart_deg)]
    return float(np.median(apart)) if apart else None


def solved_again(photos: Sequence[Photo], alignment: Alignment) -> list[SolvedAgain]:
    """Return what the same matches lead to from other focal lengths, nothing where that says
    nothing (:func:`tells_by_starts`); lenses are held as they were found. Deterministic.
    """
    if not tells_by_starts(photos, alignment):
        return []
    start = _as_pinholes(photos, alignment)
    focals_px = start.intrinsics[:, 0, 0]
    groups = np.unique(focals_px, return_inverse=True)[1].ravel().astype(np.int64)
    one = _focals(focals_px, groups, _FREE)
    own = _focals(focals_px, np.arange(len(photos)), _OWN)
    evidence = PairEvidence([e.matches for e in start.edges], list(start.edges), one, [], [])

    missed = MissedShare(photos, start.edges, start)

    def from_focals(focals: Focals, focals_px: Array) -> SolvedAgain:
        told = verified_anew(photos, evidence, replace(focals, focals_px=focals_px))
        found = align(photos, told)
        return SolvedAgain(found, _apart_deg(found, start), missed.left(found))

    freed = align(photos, replace(evidence, focals=own), start=start)
    went = np.log(freed.intrinsics[:, 0, 0] / focals_px)
    beyond = np.exp(np.clip(_BEYOND * went, -_FARTHEST, _FARTHEST))
    found = [from_focals(one, times * focals_px) for times in _TIMES]
    found.append(from_focals(own, beyond * focals_px))
    return found


def tells_by_starts(photos: Sequence[Photo], alignment: Alignment) -> bool:
    """Return whether other starts may tell something of a scene: not of two photos, of more than
    ten, of a fisheye, nor where EXIF tells focal lengths or pointmaps place photos.
    """
    placed = np.flatnonzero(alignment.placed).tolist()
    if not _FEWEST <= len(placed) <= _FEW_PHOTOS or len(alignment.pointmap_pairs):
        return False
    return not any(alignment.lenses[k].is_fisheye or photos[k].exif_focal_px for k in placed)


def _focals(focals_px: Array, groups: Index, log_sigma: float) -> Focals:
    count = len(focals_px)
    return Focals(focals_px, np.full(count, log_sigma), ("epipolar",) * count, groups)


def _as_pinholes(photos: Sequence[Photo], alignment: Alignment) -> Alignment:
    """Return the alignment, of edges of placed photos, as pinholes of the same focal lengths show
    it that have their principal points in the photos' middle.
    """
    intrinsics = alignment.intrinsics.copy()
    intrinsics[:, :2, 2] = [photo.middle for photo in photos]

    def moved(k: int, xy: Array) -> Array:
        return project(pixel_rays(xy, alignment.intrinsics[k], alignment.lenses[k]), intrinsics[k])

    def seen(edge: PairEdge) -> PairEdge:
        m = edge.matches
        return replace(edge, matches=replace(m, xy_i=moved(m.i, m.xy_i), xy_j=moved(m.j, m.xy_j)))

    poses = alignment.cam_to_world
    edges = tuple(
        seen(edge)
        for edge in alignment.edges
        if poses[edge.matches.i] is not None and poses[edge.matches.j] is not None
    )
    lenses = (PINHOLE,) * len(photos)
    return replace(alignment, intrinsics=intrinsics, lenses=lenses, edges=edges)


def _apart_deg(found: Alignment, alignment: Alignment) -> float:
    """Return how far the median pair of photos that both place differs; NaN where there is none."""
    poses = zip(found.cam_to_world, alignment.cam_to_world, strict=True)
    both = [(a, b) for a, b in poses if a is not None and b is not None]
    one_place, apart = one_place_length(alignment), []
    for (a_i, b_i), (a_j, b_j) in combinations(both, 2):
        motion = invert_rigid(b_i) @ b_j
        rotation, direction = angles_between_deg(invert_rigid(a_i) @ a_j, motion)
        moves = np.linalg.norm(motion[:3, 3]) > one_place
        apart.append(max(rotation, direction) if moves else rotation)
    return float(np.median(apart)) if apart else np.nan
