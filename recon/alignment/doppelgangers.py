"""Places that look alike but are two, told apart by what their photos do not share.

Two equal house fronts match, pair by pair, as one does; what stands around them does not. If the
photos were of one place, a point that one of them sees well would be seen by the next that looks
at it from nearly the same direction. Where such points are missing all over a part of the picture
that has enough others to show, the two photos contradict each other (missing correspondences:
Zach et al., CVPR 2008; conflicting observations of a finished model: Heinly et al., ECCV 2014).
Where key points are rare, the pictures tell (:mod:`recon.alignment.compared_pictures`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import betaln

from pointmap.camera import Array, Index, Mask, project
from pointmap.images import Photo
from recon.alignment.compared_pictures import ComparedPictures
from recon.alignment.division import best_division
from recon.alignment.moving_things import MovingThings
from recon.stage_results import Alignment

# Cells of a grid over a photo (columns, rows), and the points that must be expected in one of them,
# and its photo's own other points in it, for it to say something: where there are fewer than a
# third, the photo shows little of anything (overexposed, out of focus).
_GRID = np.array([8, 6])
_EXPECTED, _OWN, _OWN_SHARE = 4, 3, 1 / 3
# Points that so many photos agree on; a margin of the photo in which key points are rare.
_LEAST_VIEWS = 3
_MARGIN = 0.03
# The other photo's distance from a point is within a factor of 1.5: key points have scales. Its own
# points must not lie in front of those expected, which they might hide.
_SCALE_OCTAVES = 0.6
_IN_FRONT = 0.85
# Angles between the two views of a point, in degrees, up to which it should be found, in steps:
# key points of one scene look alike within them.
_ANGLES_DEG = (8.0, 15.0)
# A cell says something if a pair's usual luck would hardly leave it without any expected point.
_BY_CHANCE = 0.03
# Beta distributions of the share of such cells that are empty all the same, of pairs of one place
# (where things hide others and move) and of look-alikes.
_ONE_PLACE, _TWO_PLACES = (0.3, 15.0), (1.0, 3.0)
# The first of them for cells of pictures: 139 pairs of a room and a street miss none of 80.
_ONE_PICTURE = 1.0, 60.0
# What a verified pair counts for being one place, in units of log likelihood, and how much stronger
# the contradiction between two groups of photos has to be. Four generated and real sets of equal
# fronts reach 13 to 48, sound scenes (walks, rooms, single houses) 0.
_TIE = 1.0
_CONTRADICTION = 6.0
# The same where it is enough for doubt, of so many photos at most: of more, points that three agree
# on are many, and some group always looks through a tree that has no points. (Of South Building's
# 128 photos 20.7 with these, 0 with the others; of 40 about a bonsai 17.5 and 0.7; a dozen pairs
# add up of which each misses a tenth of the cells.)
_SUSPECTED_VIEWS, _LOOSE_TIE, _FEW_PHOTOS = 2, 0.3, 30


def contradicting_group(
    photos: Sequence[Photo], alignment: Alignment, compared: ComparedPictures
) -> Mask | None:
    """Return (N,) which photos show a place that only looks like that of the others.

    They are the smaller part of the best division in two; None where nothing contradicts.
    """
    strength, group = contradiction(photos, alignment, compared)
    return group if strength > _CONTRADICTION else None


def suspicion(
    photos: Sequence[Photo], alignment: Alignment, *compared: ComparedPictures
) -> list[float]:
    """Return how strong the :func:`contradiction` is, with each of what was ``compared`` of the
    pictures; of few photos with a place points of two count, and pairs tie little.
    """
    few = alignment.placed.sum() <= _FEW_PHOTOS
    least_views, tie = (_SUSPECTED_VIEWS, _LOOSE_TIE) if few else (_LEAST_VIEWS, _TIE)
    told = pair_likelihoods(photos, alignment, least_views=least_views)
    return [_contradiction(*told, one, tie, len(photos))[0] for one in compared]


def contradiction(
    photos: Sequence[Photo], alignment: Alignment, compared: ComparedPictures, *, tie: float = _TIE
) -> tuple[float, Mask]:
    """Return how strongly (natural logarithm, 0 and more) two groups of photos contradict that they
    show one place, and (N,) which photos the smaller group are.

    ``tie``: what a verified pair counts for being one place. ``compared``: of the pictures.
    """
    told = pair_likelihoods(photos, alignment, least_views=_LEAST_VIEWS)
    return _contradiction(*told, compared, tie, len(photos))


def _contradiction(
    pairs: Index, likelihood: Array, compared: ComparedPictures, tie: float, count: int
) -> tuple[float, Mask]:
    """Return the :func:`contradiction` of ``count`` photos, of whose points pairs tell."""
    told = _log_ratio(compared.missing, compared.there, _ONE_PICTURE)
    weights = np.append(likelihood + tie, told)
    pairs = np.concatenate([pairs, compared.pairs])
    cost, group = best_division(pairs, weights, count)
    return abs(cost), group


def pair_likelihoods(
    photos: Sequence[Photo], alignment: Alignment, *, least_views: int
) -> tuple[Index, Array]:
    """Return the pairs (E, 2) that agree with the scene, and by how much more likely (natural
    logarithm) what each finds of the other's points is for one place than for two.

    Points count that ``least_views`` photos agree on: in places of few photos hardly three do.
    """
    kept = zip(alignment.edges, alignment.used_edges, strict=True)
    pairs = [(edge.matches.i, edge.matches.j) for edge, used in kept if used]
    views = np.bincount(alignment.tracks.point_index, minlength=len(alignment.tracks.points))
    firm = views >= least_views
    stands = ~MovingThings.of(photos, alignment).observations(alignment)
    likelihood = np.zeros(len(pairs))
    for n, (i, j) in enumerate(pairs):
        there = (
            _cells(photos[j], alignment, i, j, firm, stands),
            _cells(photos[i], alignment, j, i, firm, stands),
        )
        likelihood[n] = sum(_likelihood(*np.hstack(step)) for step in zip(*there, strict=True))
    return np.array(pairs, np.int64).reshape(-1, 2), likelihood


def _likelihood(expected: Index, found: Index) -> float:
    """Return how much more likely (natural logarithm) one place is than two, given the points
    ``expected`` and ``found`` (C,) in each cell.
    """
    empty = found == 0
    # With one more of four: few points say little of a pair's luck.
    luck = (found.sum() + 1) / (expected[~empty].sum() + 4)
    says = (1 - luck) ** expected < _BY_CHANCE
    missing, there = np.array((says & empty).sum()), np.array((says & ~empty).sum())
    return float(_log_ratio(missing, there, _ONE_PLACE))


def _log_ratio(missing: Index, there: Index, one_place: tuple[float, float]) -> Array:
    """Return how much more likely (natural logarithm) so many empty cells and others (...) are for
    one place than for two.
    """

    def log_probability(beta: tuple[float, float]) -> Array:
        return np.asarray(betaln(missing + beta[0], there + beta[1]) - betaln(*beta))

    return log_probability(one_place) - log_probability(_TWO_PLACES)


def _cells(
    photo: Photo, alignment: Alignment, i: int, j: int, firm: Mask, stands: Mask
) -> list[Index]:
    """Return, for each step of angles, (2, C): how many points that photo ``i`` sees are expected
    and found in those cells of photo ``j`` that say something. ``stands``: rows of the tracks (M,)
    of what doesn't move.
    """
    tracks = alignment.tracks
    rows_i, rows_j = (rows[stands[rows]] for rows in (tracks.seen_by(i), tracks.seen_by(j)))
    seen_i, seen_j = tracks.point_index[rows_i], tracks.point_index[rows_j]
    candidates = seen_i[firm[seen_i]]
    points = tracks.points[candidates]
    pose_i, pose_j = alignment.cam_to_world[i], alignment.cam_to_world[j]
    assert pose_i is not None and pose_j is not None
    size = np.array([photo.width, photo.height])
    towards_i, towards_j = points - pose_i[:3, 3], points - pose_j[:3, 3]
    far_i, far_j = np.linalg.norm(towards_i, axis=1), np.linalg.norm(towards_j, axis=1)
    cosine = (towards_i * towards_j).sum(axis=1) / np.maximum(far_i * far_j, 1e-12)
    in_camera = towards_j @ pose_j[:3, :3]
    depth = in_camera[:, 2]
    share = project(in_camera, alignment.intrinsics[j], alignment.lenses[j]) / size
    inside = (depth > 0) & ((share > _MARGIN) & (share < 1 - _MARGIN)).all(axis=1)
    inside &= np.abs(np.log2(far_i / np.maximum(far_j, 1e-12))) < _SCALE_OCTAVES
    cell = _cell_of(np.where(inside[:, None], share, 0.0))
    # Numbers of points are small: by a table it takes a tenth of the time.
    shared = np.isin(candidates, seen_j, kind="table")
    own = ~np.isin(seen_j, seen_i, kind="table")
    own_cell = _cell_of(tracks.xy[rows_j[own]] / size)
    own_depth = (tracks.points[seen_j[own]] - pose_j[:3, 3]) @ pose_j[:3, 2]
    count = int(_GRID.prod())
    steps = []
    nearest = 0.0
    for angle in np.radians(_ANGLES_DEG):
        chosen = inside & (cosine > np.cos(angle)) & (cosine <= np.cos(nearest))
        nearest = angle
        expected = np.bincount(cell[chosen], minlength=count)
        found = np.bincount(cell[chosen & shared], minlength=count)
        empty = (expected >= _EXPECTED) & (found == 0)
        middle = np.full(count, np.inf)
        for c in np.flatnonzero(empty):
            middle[c] = np.median(depth[chosen & (cell == c)])
        visible = own_depth > _IN_FRONT * middle[own_cell]
        own_count = np.bincount(own_cell[visible], minlength=count)
        telling = own_count >= np.maximum(_OWN, _OWN_SHARE * expected)
        says = (expected >= _EXPECTED) & (~empty | telling)
        steps.append(np.stack([expected[says], found[says]]))
    return steps


def _cell_of(share: Array) -> Index:
    """Return the cells in which places (M, 2), as shares of the photo's sides, lie."""
    column, row = np.clip((share * _GRID).astype(np.int64), 0, _GRID - 1).T
    return np.asarray(row * _GRID[0] + column)
