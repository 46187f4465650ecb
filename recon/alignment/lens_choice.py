"""What the lenses are: a pinhole with one radial coefficient, or more where the photos show it.

Cameras that can do more always fit better what they are fitted to. So models are compared by
matches that none of them was fitted to: a tenth of each pair's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from pointmap.camera import Array, Mask
from pointmap.images import Photo
from pointmap.lens import Lens
from recon.alignment.align import align
from recon.alignment.cameras import Cameras
from recon.alignment.refinement import AlignOptions, LensModel
from recon.alignment.tracks import build_match_table, match_midpoints
from recon.stage_results import Alignment, PairEdge, PairEvidence, PhotoFeatures
from recon.verdict.uncertainty import centre_sigma, uncertainty

logger = logging.getLogger(__name__)

LensKind = Literal["auto", "pinhole", "radial", "fisheye"]

# Of fewer photos the matches leave open what is the lens and what the place.
_FEWEST_PHOTOS = 3
# A richer camera has to leave less than this share of the squared errors before it is tried, or a
# little more if it moves cameras by more than this (degrees) and than what their own errors do.
_LEFT, _MOVING_LEFT, _SHIFT_DEG = 0.85, 0.92, 0.2
# Of many photos trials take as long as aligning them did: there it has to move them by this much.
_MANY_PHOTOS, _FAR_DEG = 60, 0.5
# What is held out: a share of each pair's matches, the same in every trial.
_HELD_OUT, _SEED = 0.1, 0
# A held-out match that misses by so many pixels, at 640 px, is as wrong as any.
_MISSES_PX = 4.0
# A richer model has to lower what held-out matches miss by to this share of what a simpler one
# leaves.
_BETTER = 0.97
# Principal points are solved for where observations hold them to this share of the long side.
_CENTRE_SIGMA = 0.1
# The richest model first.
_MODELS = LensModel(k2=True, centre=True), LensModel(k2=True), LensModel(centre=True)


def with_chosen_lenses(
    photos: Sequence[Photo],
    evidence: PairEvidence,
    alignment: Alignment,
    options: AlignOptions,
    *,
    features: Sequence[PhotoFeatures] | None = None,
    seed: int = 0,
) -> Alignment:
    """Return the alignment with the lenses that the photos show; as it is where one radial
    coefficient and its principal points say as much, or where focal lengths are known. Principal
    points stay where they are unless the photos hold them.
    ``features``, ``seed``: as in :func:`recon.alignment.align.align`.
    """
    placed = alignment.placed.sum()
    if placed < _FEWEST_PHOTOS or not len(alignment.tracks.points):
        return alignment
    if not any(sigma > 0 for sigma in evidence.focals.log_sigma) or not _asked_for(
        photos, alignment
    ):
        return alignment
    told = replace(evidence, edges=list(alignment.edges))
    learned, held_out = held_out_split(told)
    first = align(photos, learned, options, start=alignment)
    sigma = centre_sigma(photos, alignment)
    logger.debug("principal points are held to %.3f of the long side", sigma)
    model, *simpler_ones = [m for m in _MODELS if sigma < _CENTRE_SIGMA or not m.centre]
    best = align(photos, learned, options, start=alignment, lens=model)
    before, cost = (misses(photos, one, held_out) for one in (first, best))
    # Wrong matches fit nothing, and would hide what right ones tell.
    right = np.minimum(before, cost) < 1
    if not right.any() or cost[right].mean() >= _BETTER * before[right].mean():
        return alignment
    for simpler in simpler_ones:
        start = _held_to(simpler, best, alignment)
        trial = align(photos, learned, options, start=start, lens=simpler)
        found = misses(photos, trial, held_out)
        if cost[right].mean() >= _BETTER * found[right].mean():
            model, best = simpler, trial
            break
    chosen = align(photos, told, options, seed=seed, features=features, start=best, lens=model)
    return chosen if chosen.placed.sum() >= placed else alignment


def _held_to(model: LensModel, alignment: Alignment, usual: Alignment) -> Alignment:
    """Return the alignment with lenses as simple as a model, otherwise as ``usual`` ones are."""
    intrinsics, lenses = alignment.intrinsics.copy(), alignment.lenses
    if not model.centre:
        intrinsics[:, :2, 2] = usual.intrinsics[:, :2, 2]
    if not model.k2:
        lenses = tuple(Lens.solved(lens.k1_k2[0], 0.0, lens.is_fisheye) for lens in lenses)
    return replace(alignment, intrinsics=intrinsics, lenses=lenses)


def _asked_for(photos: Sequence[Photo], alignment: Alignment) -> bool:
    """Return whether a richer camera would move the photos beyond what their errors do."""
    errors = uncertainty(photos, alignment)
    shift = float(np.nanmedian(errors.shift_deg)) if np.isfinite(errors.shift_deg).any() else 0.0
    logger.debug("a richer camera moves photos by %.3f degrees, leaves %.3f", shift, errors.left)
    if len(photos) > _MANY_PHOTOS:
        return errors.left < _LEFT and shift > _FAR_DEG
    return errors.left < (_MOVING_LEFT if shift > _SHIFT_DEG else _LEFT)


def held_out_split(evidence: PairEvidence) -> tuple[PairEvidence, list[PairEdge]]:
    """Return the evidence without a tenth of each edge's matches, and edges of that tenth."""
    rng = np.random.default_rng(_SEED)
    learned, held_out = [], []
    for edge in evidence.edges:
        out = rng.random(len(edge.matches)) < _HELD_OUT
        learned.append(_part(edge, ~out))
        held_out.append(_part(edge, out))
    return replace(evidence, edges=learned), held_out


def _part(edge: PairEdge, rows: Mask) -> PairEdge:
    pose = replace(edge.pose, inliers=edge.pose.inliers[rows])
    return replace(edge, matches=edge.matches.select(rows), pose=pose)


def misses(photos: Sequence[Photo], alignment: Alignment, edges: Sequence[PairEdge]) -> Array:
    """Return how far each match (M,) of ``edges`` misses the cameras, 0 to 1: the squared
    reprojection error of the midpoint of its two rays, bounded.
    """
    table = build_match_table(edges)
    cameras = Cameras.of(photos, alignment)
    view = table.node_view
    rows = np.arange(len(table.first))
    if not len(rows):
        return np.zeros(0)
    points, _ = match_midpoints(table, cameras, rows)
    errors = [
        cameras.errors_px(view[nodes], table.node_xy[nodes], points) / cameras.unit_px[view[nodes]]
        for nodes in (table.first, table.second)
    ]
    placed = cameras.registered[view[table.first]] & cameras.registered[view[table.second]]
    worst = np.where(placed, np.maximum(*errors), np.inf)
    return np.asarray(np.square(np.minimum(worst / _MISSES_PX, 1.0)))
