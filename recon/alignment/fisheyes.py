"""Photos of a fisheye, which no pair of pinholes explains: the pairs are related anew through one.

An equidistant fisheye has one unknown, its focal length, which says both how large things appear
and how they are bent. A few are tried on the pairs that tell most; with the best one, matches are
verified as a pinhole in its place would show them, and aligned as what they are.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pointmap.camera import Array, cross_matrix, pixel_rays
from pointmap.lens import Lens
from recon.alignment.align import align
from recon.alignment.lens_choice import misses
from recon.alignment.refinement import AlignOptions, LensModel
from recon.alignment.solved_lenses import solved_lenses
from recon.inputs.known_cameras import KnownLens
from recon.stage_results import (
    Alignment,
    PairEdge,
    PairEvidence,
    PairMatches,
    unit_px,
)
from recon.two_view.epipolar import find_pose, refine_pose
from recon.two_view.focal_lengths import FocalOptions, telling_pairs
from recon.two_view.gather_evidence import Matched, gather_evidence
from recon.verdict.evidence import SceneEvidence, TellEvidence, scene_evidence
from recon.verdict.probability import probability_wrong
from recon.work.on_demand import Mapped
from recon.work.threads import in_threads

if TYPE_CHECKING:
    from pointmap.images import Photo

logger = logging.getLogger(__name__)

# Focal lengths over long side that are tried: 220 to 57 degrees along the long side.
_FOCALS = np.geomspace(0.26, 1.0, 10)
# How well the best of them is known (logarithm): half a step of those that were tried.
_LOG_SIGMA = 0.1
# Pairs that are asked, and matches of each.
_PAIRS, _MATCHES = 8, 300
# Scenes of which a richer camera would leave less than this share of the squared errors are looked
# at, and those more likely wrong than not; pairs then have to fit fisheyes this much better.
_LEFT, _DOUBTFUL, _PAIRS_BETTER = 0.8, 0.5, 1.02
# A ray fits its epipolar plane within so many pixels of the fisheye, at 640 px.
_FITS_PX = 2.0
# A fisheye has to leave this share of what matches miss pinholes by.
_BETTER = 0.85
# A principal point that is solved for has to leave this share of what they miss a centred one by.
_FREED = 0.97
_FISHEYE = Lens("OPENCV_FISHEYE", (0.0, 0.0, 0.0, 0.0))


def as_fisheyes(
    matched: Matched,
    before: tuple[PairEvidence, Alignment],
    focal: FocalOptions,
    options: AlignOptions,
    *,
    seed: int = 0,
    always: bool = False,
    tell: TellEvidence = scene_evidence,
) -> tuple[PairEvidence, Alignment] | None:
    """Return evidence and cameras of photos that fisheyes took; None where they explain the matches
    no better than the pinholes ``before``, or nothing speaks against these, unless they are to be
    taken so ``always``. ``tell`` gives the evidence of matches.

    Focal lengths that are given say what the lenses are. Those of EXIF don't: action cameras state
    that of a lens that would not bend.
    """
    photos, (pinholes, alignment) = matched.inputs.photos, before
    if "given" in pinholes.focals.sources and not always:
        return None
    if not always and not _doubtful(tell(photos, alignment)):
        return None
    lenses = _fisheyes(photos, matched.matches, alignment, always=always)
    if lenses is None:
        return None
    evidence = _related(matched, lenses, focal)
    solve = partial(align, photos, evidence, options, seed=seed, features=matched.features)
    trial = solve(lens=LensModel(fisheye=True))
    freed = solve(start=trial, lens=LensModel(fisheye=True, centre=True))
    every = [PairEdge.unverified(pair) for pair in matched.matches]
    bent, centred, straight = (misses(photos, one, every) for one in (freed, trial, alignment))
    if _share_left(bent, centred) < _FREED:
        trial = freed
    else:
        bent = centred
    left = _share_left(bent, straight)
    logger.debug("fisheyes leave %.3f of what matches miss pinholes by", left)
    if not always:
        if left >= _BETTER:
            return None
        # Photos that were cut out of larger ones show what is bent around another place.
        richer = solved_lenses(
            photos,
            pinholes,
            alignment,
            options,
            cut_out=False,
            features=matched.features,
            seed=seed,
        )
        if _share_left(bent, misses(photos, richer, every)) >= 1:
            return None
    logger.warning(
        "the photos show a fisheye lens, as their matches tell: its focal length is %.2f times the "
        "long side, and lines are bent; --lens radial keeps to ordinary lenses",
        float(np.median(trial.intrinsics[:, 0, 0] / [max(p.width, p.height) for p in photos])),
    )
    return evidence, trial


def _fisheyes(
    photos: Sequence[Photo],
    matches: Sequence[PairMatches],
    alignment: Alignment,
    *,
    always: bool,
) -> list[KnownLens] | None:
    """Return the fisheye of each photo that the pairs fit best; None where they fit the lenses of
    the ``alignment`` as well, unless they are taken so ``always``, or where no pair tells.
    """
    pairs = telling_pairs(matches, photos)[:_PAIRS]
    share, support = _focal(photos, pairs)
    solved = [
        KnownLens(K, alignment.lenses[k], _centred(K, photos[k]))
        for k, K in enumerate(alignment.intrinsics)
    ]
    straight = sum(_support(pair, photos, solved) for pair in pairs)
    logger.debug("%.0f matches fit fisheyes pair by pair, %.0f pinholes", support, straight)
    if share is None or (not always and support < _PAIRS_BETTER * straight):
        return None
    return [_lens(photo, share) for photo in photos]


def _share_left(after: Array, before: Array) -> float:
    """Return which share of what matches (M,) missed some cameras by they miss others by; wrong
    ones fit neither, and would hide what right ones tell.
    """
    right = np.minimum(before, after) < 1
    return float(after[right].mean() / max(before[right].mean(), 1e-12)) if right.any() else 1.0


def _doubtful(evidence: SceneEvidence) -> bool:
    """Return whether the cameras are not sound, or richer ones would fit far better."""
    if not np.isfinite(evidence.shift_deg):
        return False
    return evidence.left < _LEFT or probability_wrong(evidence) >= _DOUBTFUL


def _focal(photos: Sequence[Photo], pairs: Sequence[PairMatches]) -> tuple[float | None, float]:
    """Return the focal length over the long side at which most matches fit an equidistant fisheye,
    and how many; None without pairs that tell.
    """
    tried = [[_lens(photo, share) for photo in photos] for share in _FOCALS.tolist()]
    support = list(
        in_threads(lambda pair: [_support(pair, photos, lenses) for lenses in tried], pairs)
    )
    if not support:
        return None, 0.0
    total = np.sum(support, axis=0)
    logger.debug("fitting matches by focal length of a fisheye: %s", total.round(1).tolist())
    return float(_FOCALS[int(np.argmax(total))]), float(total.max())


def _support(pair: PairMatches, photos: Sequence[Photo], known: Sequence[KnownLens]) -> float:
    """Return how many matches of a pair fit lenses, weighed by how well."""
    if len(pair) > _MATCHES:
        kept = np.zeros(len(pair), bool)
        kept[np.linspace(0, len(pair) - 1, _MATCHES).astype(int)] = True
        pair = pair.select(kept)
    ends = (pair.i, pair.xy_i), (pair.j, pair.xy_j)
    lenses = [known[k] for k, _ in ends]
    xy_i, xy_j = (lens.to_ideal(xy) for lens, (_, xy) in zip(lenses, ends, strict=True))
    unit = unit_px(photos[pair.i])
    K_i, K_j = (lens.ideal for lens in lenses)
    pose = find_pose(xy_i, xy_j, K_i, K_j, threshold_px=2 * unit)
    if pose is None:
        return 0.0
    pose, _ = refine_pose(pose, xy_i, xy_j, K_i, K_j, scale_px=2 * unit)
    rays = _unit(pixel_rays(xy_i, K_i)), _unit(pixel_rays(xy_j, K_j))
    E = cross_matrix(pose[:3, 3]) @ pose[:3, :3]
    planes = rays[1] @ E.T, rays[0] @ E
    # Sine of the angle between a ray and the epipolar plane of the other one.
    off = [
        np.abs((ray * plane).sum(axis=1)) / np.maximum(np.linalg.norm(plane, axis=1), 1e-12)
        for ray, plane in zip(rays, planes, strict=True)
    ]
    miss = np.maximum(*off) * lenses[0].focal_px / (_FITS_PX * unit)
    return float(np.maximum(1 - miss**2, 0.0).sum())


def _unit(rays: Array) -> Array:
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def _centred(K: Array, photo: Photo) -> Array:
    return photo.pinhole(float(K[0, 0]))


def _lens(photo: Photo, share: float) -> KnownLens:
    """Return an equidistant fisheye of a photo and the pinhole of its centre's scale."""
    K = photo.pinhole(share * max(photo.width, photo.height))
    return KnownLens(K, _FISHEYE, K)


def _related(matched: Matched, lenses: Sequence[KnownLens], focal: FocalOptions) -> PairEvidence:
    """Return the evidence of pairs that were verified through ``lenses``, in original pixels."""

    def straight(pair: PairMatches) -> PairMatches:
        xy_i, xy_j = lenses[pair.i].to_ideal(pair.xy_i), lenses[pair.j].to_ideal(pair.xy_j)
        return replace(pair, xy_i=xy_i, xy_j=xy_j)

    given = {(pair.i, pair.j): pair for pair in matched.matches}

    def bent(edge: PairEdge) -> PairEdge:
        pair = edge.matches
        same = given[pair.i, pair.j]
        if np.array_equal(pair.index_i, same.index_i) and np.array_equal(
            pair.index_j, same.index_j
        ):
            return replace(edge, matches=same)
        xy_i, xy_j = lenses[pair.i].to_original(pair.xy_i), lenses[pair.j].to_original(pair.xy_j)
        return replace(edge, matches=replace(pair, xy_i=xy_i, xy_j=xy_j))

    inputs, features = matched.inputs, matched.features
    known = replace(inputs.known, lenses=tuple(lenses))
    ideal = Matched(
        replace(inputs, known=known),
        Mapped(lambda k: known.ideal(k, features[k]), range(len(features))),
        [straight(pair) for pair in matched.matches],
        matched.seen,
    )
    # What the network says of these photos is said of pinholes.
    found = gather_evidence(ideal, focal, pose_from="matches")
    focals = replace(
        found.focals,
        log_sigma=np.full(len(lenses), _LOG_SIGMA),
        sources=("epipolar",) * len(lenses),
    )
    edges = [bent(edge) for edge in found.edges]
    return replace(found, matches=list(matched.matches), edges=edges, focals=focals)
