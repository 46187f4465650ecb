"""Focal lengths of all photos: given, from EXIF, epipolar geometry, or the network.

One focal length per photo in ORIGINAL pixels, square pixels, no distortion, principal point at the
photo's centre. Every estimate carries ``log_sigma``, the standard deviation of the logarithm of the
focal length, so that bundle adjustment can weigh it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pointmap.camera import Array
from recon.prediction.pointmap_focal import DEFAULT_FOCAL, DEFAULT_LOG_SIGMA
from recon.stage_results import (
    REFERENCE_LONG_SIDE,
    FocalEstimate,
    Focals,
    PairMatches,
    PhotoPrior,
)
from recon.two_view.epipolar import find_pose, fundamental_from_pose, refine_pose, sampson_px
from recon.work.threads import in_threads

if TYPE_CHECKING:
    from pointmap.images import Photo

EXIF_LOG_SIGMA = 0.05
"""EXIF gives whole millimetres for a nominal sensor."""
PINHOLE_LOG_SIGMA = 0.02
"""What lens distortion and an off-centre principal point do to a focal length that ignores them."""
FOCAL_RANGE = (0.4, 3.5)
"""Focal lengths over long side that are searched: 103 to 16 degrees along the long side."""

_GRID = np.exp(np.linspace(np.log(FOCAL_RANGE[0]), np.log(FOCAL_RANGE[1]), 25))
# Focal lengths over long side at which a pair's pose is sought anew: wide, usual and long lenses.
_STARTS = (0.6, 1.0, 1.7)
# Most telling pairs of a camera that are asked, and matches of each: bounds the time of large
# scenes. Of many cameras that took one photo each, so many pairs in all, and of one no fewer.
_PAIRS, _PAIRS_OF_ALL, _FEWEST_PAIRS = 20, 120, 4
_MATCHES_PER_PAIR = 300
# Cost of a wrong match, in squared sigmas: from two sigmas on, about, a match counts as wrong.
_WRONG_MATCH = 4.0
# Mean cost of a right one, whose error is normal with sigma 1.
_RIGHT_MATCH = _WRONG_MATCH * (1 - (1 + 2 / _WRONG_MATCH) ** -0.5)
# Blur of a pair's log-likelihood, and the chance that a pair is wrong altogether.
_PAIR_LOG_SIGMA = 0.02
_WRONG_PAIRS = 1e-4
# Pairs that leave the prior's spread nearly as it is have only noise to move its middle by.
_UNTOLD = 0.7
# Error of the logarithm that one pair leaves, by the lens and the scene; pairs average it out.
_FEW_PAIRS_LOG_SIGMA = 0.15


@dataclass(frozen=True)
class FocalOptions:
    """How focal lengths are found."""

    focal_px: float | None = None
    """Known focal length of all photos, in original pixels."""
    share_focal: bool = True
    """Photos of one camera, as far as EXIF and size tell, have one focal length."""
    use_exif: bool = True
    """Believe the focal length that EXIF states."""


def focal_from_epipolar(
    pairs: Sequence[PairMatches],
    photos: Sequence[Photo],
    *,
    prior: FocalEstimate,
    known: Mapping[int, float] | None = None,
    most: int = _PAIRS,
) -> FocalEstimate:
    """Return the one focal length of photos that explains their feature matches best.

    Minimises over f the sum over pairs of min over poses of the robust Sampson cost, plus the
    log-normal ``prior``. In contrast to criteria on the singular values of K^T F K (Mendonca &
    Cipolla 1999), a pair without information on f (pure rotation, a plane, equal viewing distances)
    has a flat profile and so no say. ``known``: focal lengths (pixels) of photos of other cameras;
    all other photos in ``pairs`` are taken to share f. ``most``: how many pairs are asked.

    The mode of the posterior, with ``log_sigma`` from its spread and :data:`PINHOLE_LOG_SIGMA`.
    Without a pair that any focal length explains, or that tells one from another, the prior comes
    back.
    """
    known = known or {}
    long_side = max(max(photos[k].width, photos[k].height) for k in (pairs[0].i, pairs[0].j))
    grid = _GRID * long_side
    profiles = in_threads(
        lambda pair: _pair_profile(pair, photos, known, grid), telling_pairs(pairs, photos)[:most]
    )
    costs = [profile for profile in profiles if profile is not None]
    if not costs:
        return prior
    fine = np.linspace(np.log(grid[0]), np.log(grid[-1]), 1000)
    log_posterior = -0.5 * ((fine - np.log(prior.focal_px)) / prior.log_sigma) ** 2
    for cost in costs:
        log_posterior += np.log(_pair_likelihood(np.log(grid), cost, fine))
    weight = np.exp(log_posterior - log_posterior.max())
    best = fine[log_posterior.argmax()]
    spread = float(weight @ (fine - best) ** 2 / weight.sum())
    if spread > (_UNTOLD * prior.log_sigma) ** 2:
        return prior
    variance = spread + PINHOLE_LOG_SIGMA**2 + _FEW_PAIRS_LOG_SIGMA**2 / len(costs)
    log_sigma = min(float(np.sqrt(variance)), DEFAULT_LOG_SIGMA)
    return FocalEstimate(float(np.exp(best)), log_sigma, "epipolar")


def _pair_likelihood(log_grid: Array, cost: Array, fine: Array) -> Array:
    """Return one pair's likelihood of the log focal lengths ``fine``, as a density over them.

    Each pair has an error of its own (the lens, a nearly planar scene) that its residuals don't
    show, so its likelihood is blurred; and it may be wrong altogether, as a repeating wallpaper
    matches with itself in hundreds of places, so it never falls to zero.
    """
    from scipy.interpolate import CubicSpline
    from scipy.ndimage import gaussian_filter1d

    density = np.exp(-np.maximum(CubicSpline(log_grid, cost)(fine) - cost.min(), 0))
    step = fine[1] - fine[0]
    density = gaussian_filter1d(density, _PAIR_LOG_SIGMA / step, mode="nearest")
    density /= density.sum() * step
    return (1 - _WRONG_PAIRS) * density + _WRONG_PAIRS / (fine[-1] - fine[0])


def telling_pairs(pairs: Sequence[PairMatches], photos: Sequence[Photo]) -> list[PairMatches]:
    """Return the pairs most likely to tell the focal length.

    Many matches and much displacement between the photos; beyond 15 % of the picture, more
    displacement is no more telling.
    """

    def telling(pair: PairMatches) -> float:
        shift = np.median(np.linalg.norm(pair.xy_i - pair.xy_j, axis=1)) / _long_side(pair, photos)
        return min(len(pair), 200) * min(float(shift), 0.15)

    return sorted((pair for pair in pairs if len(pair) >= 25), key=telling, reverse=True)[:_PAIRS]


def _long_side(pair: PairMatches, photos: Sequence[Photo]) -> float:
    """Return the mean long side in pixels of the two photos of a pair."""
    return float(np.mean([max(photos[k].width, photos[k].height) for k in (pair.i, pair.j)]))


def _pair_profile(
    pair: PairMatches, photos: Sequence[Photo], known: Mapping[int, float], grid: Array
) -> Array | None:
    """Return for each focal length of ``grid`` (G,) the misfit of the pair's best pose.

    Misfit: sum of 4 (1 - exp(-(r / s)^2 / 4)) over the Sampson errors r, bounded so that wrong
    matches cost the same everywhere. The pose is tracked along the grid from several starts, as
    each start finds its own local minimum. None for matches that no focal length explains.
    """
    keep = np.linspace(0, len(pair) - 1, min(len(pair), _MATCHES_PER_PAIR)).astype(int)
    xy_i, xy_j = pair.xy_i[keep], pair.xy_j[keep]
    scale_px = 0.5 * max(_long_side(pair, photos) / REFERENCE_LONG_SIDE, pair.sigma_px)

    def intrinsics(focal: float) -> tuple[Array, Array]:
        i, j = pair.i, pair.j
        return (
            photos[i].pinhole(known.get(i, focal)),
            photos[j].pinhole(known.get(j, focal)),
        )

    costs = np.full(len(grid), np.inf)
    for start in _STARTS:
        first = int(np.abs(_GRID - start).argmin())
        pose = find_pose(xy_i, xy_j, *intrinsics(grid[first]), threshold_px=2 * scale_px)
        if pose is None:
            continue
        for direction in (range(first, len(grid)), range(first - 1, -1, -1)):
            tracked = pose
            for k in direction:
                K = intrinsics(grid[k])
                tracked, _ = refine_pose(tracked, xy_i, xy_j, *K, scale_px=scale_px, rounds=6)
                error = sampson_px(fundamental_from_pose(tracked, *K), xy_i, xy_j)
                cost = _WRONG_MATCH * float(
                    (1 - np.exp(-((error / scale_px) ** 2) / _WRONG_MATCH)).sum()
                )
                if cost < costs[k] * (1 - 1e-6):
                    costs[k] = cost
                elif k != direction[0]:
                    break  # joined a branch that another start has followed
    # Where all matches cost more than 0.6 of a wrong one, no focal length explains the pair. One at
    # an end of the range doesn't either: optical axes that meet leave it open (Newsam et al. 1996),
    # and errors then push it as far as it goes.
    best = int(costs.argmin())
    explained = costs[best] < 0.6 * _WRONG_MATCH * len(keep) and 0 < best < len(grid) - 1
    if not explained or not np.isfinite(costs).all():
        return None
    # Matches that are worse than they claim tell less (overdispersion, McCullagh & Nelder 1989).
    return costs / max(1.0, float(costs[best]) / (_RIGHT_MATCH * len(keep)))


def solve_focals(
    photos: Sequence[Photo],
    matches: Sequence[PairMatches],
    priors: Sequence[PhotoPrior] | None = None,
    options: FocalOptions | None = None,
    *,
    known_px: Sequence[float | None] | None = None,
) -> Focals:
    """Return the focal length of every photo.

    In order of precedence: ``known_px``, one per photo or None where not known, from which other
    photos of the same camera start; ``options.focal_px``; EXIF; epipolar geometry of the feature
    matches of photos of one camera, with the network's focal lengths (``priors``) or 1.2 x the long
    side as prior. Without ``share_focal`` photos of one camera start from their common estimate
    with a ``log_sigma`` that lets bundle adjustment pull them apart.
    """
    options = options or FocalOptions()
    given = list(known_px or [None] * len(photos))
    members: dict[str, list[int]] = defaultdict(list)
    for number, photo in enumerate(photos):
        members[photo.camera_key].append(number)
    solved: dict[int, FocalEstimate] = {}
    alone = sum(
        given[its[0]] is None and photos[its[0]].exif_focal_px is None
        for its in members.values()
        if len(its) == 1
    )
    most = min(max(_PAIRS_OF_ALL // max(alone, 1), _FEWEST_PAIRS), _PAIRS)
    # Cameras with most photos first: they help those of which there is one photo only.
    for numbers in sorted(members.values(), key=len, reverse=True):
        sisters = [focal for n in numbers if (focal := given[n]) is not None]
        if sisters:
            estimate = FocalEstimate(float(np.median(sisters)), EXIF_LOG_SIGMA, "given")
        else:
            estimate = _camera_focal(numbers, photos, matches, priors, options, solved, most)
        solved.update(dict.fromkeys(numbers, estimate))
    solved.update(
        {
            n: FocalEstimate(focal, 0.0, "given")
            for n, focal in enumerate(given)
            if focal is not None
        }
    )
    estimates = [solved[number] for number in range(len(photos))]
    sigma = np.array([estimate.log_sigma for estimate in estimates])
    keys = list(members)
    groups = np.array([keys.index(photo.camera_key) for photo in photos], np.int64)
    if not options.share_focal:
        groups = np.arange(len(photos))
        # Enough to let cameras differ that EXIF and size don't tell apart.
        sigma = np.where(sigma > 0, np.maximum(sigma, 0.15), 0.0)
    return Focals(
        np.array([estimate.focal_px for estimate in estimates]),
        sigma,
        tuple(estimate.source for estimate in estimates),
        groups,
    )


def _camera_focal(
    numbers: Sequence[int],
    photos: Sequence[Photo],
    matches: Sequence[PairMatches],
    priors: Sequence[PhotoPrior] | None,
    options: FocalOptions,
    solved: Mapping[int, FocalEstimate],
    most: int,
) -> FocalEstimate:
    """Return the focal length of the camera that took the photos ``numbers``, from up to ``most``
    pairs if it took but one.
    """
    if options.focal_px is not None:
        return FocalEstimate(options.focal_px, 0.0, "given")
    exif = [photos[n].exif_focal_px for n in numbers]
    stated = [focal for focal in exif if focal is not None]
    if options.use_exif and stated:
        return FocalEstimate(float(np.median(stated)), EXIF_LOG_SIGMA, "exif")
    prior = _prior_focal(numbers, photos, priors)
    # Photos of another camera help only if their own focal length is known well.
    known = {n: e.focal_px for n, e in solved.items() if e.log_sigma < 0.1}
    usable = set(numbers) | set(known)
    own = set(numbers)
    pairs = [m for m in matches if {m.i, m.j} <= usable and own & {m.i, m.j}]
    inside = [m for m in pairs if {m.i, m.j} <= own]
    pairs = inside or pairs
    if not pairs:
        return prior
    most = _PAIRS if len(numbers) > 1 else most
    return focal_from_epipolar(pairs, photos, prior=prior, known=known, most=most)


def _prior_focal(
    numbers: Sequence[int], photos: Sequence[Photo], priors: Sequence[PhotoPrior] | None
) -> FocalEstimate:
    """Return what the network, or else the default, says of a camera.

    The network's certainty is taken from its confidence c: trained with loss c e - alpha log c it
    expects an error e of alpha / c, here 0.4 / c for the focal length's logarithm. It isn't reduced
    by averaging photos, as one network errs alike on all photos of a scene.
    """
    long_side = float(np.median([max(photos[n].width, photos[n].height) for n in numbers]))
    default = DEFAULT_FOCAL * long_side
    # A prior with exactly the default is one whose points told nothing.
    told = []
    for n in () if priors is None else numbers:
        assert priors is not None
        prior = priors[n]  # one at a time: it may be read from a file
        if prior.focal_px != default:
            told.append((prior.focal_px, float(np.median(prior.confidence))))
    confidence = float(np.median([sure for _, sure in told])) if told else 0.0
    if confidence <= 0:
        return FocalEstimate(default, DEFAULT_LOG_SIGMA, "default")
    focal = float(np.exp(np.median([np.log(focal_px) for focal_px, _ in told])))
    focal = float(np.clip(focal, FOCAL_RANGE[0] * long_side, FOCAL_RANGE[1] * long_side))
    log_sigma = float(np.clip(0.4 / confidence, 0.05, DEFAULT_LOG_SIGMA))
    return FocalEstimate(focal, log_sigma, "network")
