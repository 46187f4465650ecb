"""Depth maps of other models, scaled and shifted to the solved scene points."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import (
    Array,
    invert_rigid,
    pixel_centres,
    pixel_rays,
    project,
    transform_points,
)
from pointmap.errors import some_of
from recon.depth.agreeing_fits import PlacedMap, agreeing_fits
from recon.depth.anchored_prior import Anchors, photo_anchors, shape_error, upsample_prior
from recon.prediction.affine_fit import KINDS, AffineFit, Kind, fit_affine
from recon.stage_results import Alignment, PhotoPrior

if TYPE_CHECKING:
    from pointmap.images import Photo, ResizedPhoto
    from recon.prediction.given_maps import PriorMap

logger = logging.getLogger(__name__)

# Scene points, some of them wrong, that two numbers are fitted to at least.
_FEWEST_POINTS = 8
# Points of a neighbour's map along its longer side, and neighbours asked: a few hundred points of
# what both see.
_GRID, _NEIGHBOURS = 32, 5
# A map goes that fits the scene points worse than the network's depth does, by more than chance.
_WORSE = 1.1


def priors_from_scene(
    maps: Sequence[PriorMap],
    frames: Sequence[ResizedPhoto],
    alignment: Alignment,
    before: Sequence[PhotoPrior],
    network: Sequence[PhotoPrior],
) -> tuple[list[PhotoPrior], Alignment]:
    """Return a prior per photo whose map is scaled and shifted to the solved scene points.

    Maps of unknown kind all get the one that fits the points better, and all are brought to agree
    (:func:`recon.depth.agreeing_fits.agreeing_fits`). A photo without enough points is fitted to
    what its neighbours' maps show of the same place. ``before``: the priors of photos that are
    left; ``network``: the network's, which come back where they fit the points better than the map.
    With them the alignment, which knows which priors are in scene units by now.
    """
    anchors = {
        k: photo_anchors(alignment, k, frame)
        for k, frame in enumerate(frames)
        if alignment.cam_to_world[k] is not None
    }
    fits = _agreeing(maps, frames, alignment, anchors, _fits(maps, frames, anchors))
    priors = list(before)
    left_out = []
    for k, fit in fits.items():
        photo, focal_px = frames[k].photo, float(alignment.intrinsics[k][0, 0])
        priors[k] = maps[k].prior(fit, focal_px, photo)
        if _error(priors[k], anchors[k], frames[k]) > _WORSE * _error(
            network[k], anchors[k], frames[k]
        ):
            left_out.append(photo.name)
            priors[k] = network[k]
    if left_out:
        logger.warning(
            "%d depth maps fit the scene worse than the network's depth and are left out: %s",
            len(left_out),
            some_of(left_out),
        )
    kinds = {fit.kind for fit in fits.values()}
    depth_scale = alignment.depth_scale.copy()
    photos = [frame.photo for frame in frames]
    for k in anchors.keys() - fits.keys() if len(kinds) == 1 else ():
        xy, z = _seen_by_neighbours(k, photos, alignment, priors, list(fits))
        found = _fit(maps[k], xy, z, photos[k], *kinds)
        if found is not None:
            priors[k] = maps[k].prior(found, float(alignment.intrinsics[k][0, 0]), photos[k])
            depth_scale[k] = 1.0
    return priors, replace(alignment, depth_scale=depth_scale)


def _fits(
    maps: Sequence[PriorMap], frames: Sequence[ResizedPhoto], anchors: Mapping[int, Anchors]
) -> dict[int, AffineFit]:
    """Return what takes each photo's map to the depths of its ``anchors``, where they tell."""
    fits: dict[Kind, dict[int, AffineFit]] = {kind: {} for kind in KINDS}
    for k, points in anchors.items():
        xy = points.xy / [frames[k].scale_x, frames[k].scale_y]
        for kind in maps[k].kinds:
            fit = _fit(maps[k], xy, points.z, frames[k].photo, kind)
            if fit is not None:
                fits[kind][k] = fit
    # A kind that fits more photos wins before one that fits them better.
    return fits[max(KINDS, key=lambda kind: (len(fits[kind]), -_typical_error(fits[kind])))]


def _agreeing(
    maps: Sequence[PriorMap],
    frames: Sequence[ResizedPhoto],
    alignment: Alignment,
    anchors: Mapping[int, Anchors],
    fits: Mapping[int, AffineFit],
) -> dict[int, AffineFit]:
    """Return the fits such that the maps meet each other, too."""
    placed = []
    for k, fit in fits.items():
        cam_to_world = alignment.cam_to_world[k]
        assert cam_to_world is not None
        xy = anchors[k].xy / [frames[k].scale_x, frames[k].scale_y]
        camera = cam_to_world, alignment.intrinsics[k], alignment.lenses[k]
        placed.append(PlacedMap(maps[k], frames[k].photo, fit, *camera, xy, anchors[k].z))
    return dict(zip(fits, agreeing_fits(placed), strict=True))


def _fit(map_: PriorMap, xy: Array, z: Array, photo: Photo, kind: Kind) -> AffineFit | None:
    """Return what takes a map to depths z (P,) at original pixels xy (P, 2)."""
    values = map_.at(xy, photo)
    use = values != 0
    if map_.kind == "metres" and 0 < use.sum() < _FEWEST_POINTS:
        # Right but for the scene's unit: that much any point tells.
        return AffineFit("depth", float(np.median(z[use] / values[use])), 0.0, np.nan)
    if use.sum() < _FEWEST_POINTS:
        return None
    return fit_affine(values[use], z[use], kind=kind)


def _error(prior: PhotoPrior, anchors: Anchors, frame: ResizedPhoto) -> float:
    return shape_error(upsample_prior(prior, *frame.pixels.shape[:2]), anchors)


def _seen_by_neighbours(
    k: int,
    photos: Sequence[Photo],
    alignment: Alignment,
    priors: Sequence[PhotoPrior],
    known: Sequence[int],
) -> tuple[Array, Array]:
    """Return where (P, 2), in original pixels, and how far (P,) photo k sees what priors of the
    ``known`` photos in scene units show, those of the photos that show it most of it.
    """
    here = alignment.cam_to_world[k]
    assert here is not None
    parts: list[tuple[Array, Array]] = []
    for n in known:
        there = alignment.cam_to_world[n]
        assert there is not None
        world = transform_points(there, _thinned(priors[n], alignment, n, photos[n]))
        points = transform_points(invert_rigid(here), world)
        xy, z = project(points, alignment.intrinsics[k], alignment.lenses[k]), points[:, 2]
        seen = (z > 0) & ((xy >= 0) & (xy < [photos[k].width, photos[k].height])).all(axis=1)
        parts.append((xy[seen], z[seen]))
    best = sorted(parts, key=lambda part: len(part[1]), reverse=True)[:_NEIGHBOURS]
    return (
        np.concatenate([np.zeros((0, 2)), *(xy for xy, _ in best)]),
        np.concatenate([np.zeros(0), *(z for _, z in best)]),
    )


def _thinned(
    prior: PhotoPrior, alignment: Alignment, number: int, photo: Photo
) -> NDArray[np.float64]:
    """Return points (P, 3) of a prior in its camera's frame, on a coarse grid."""
    height, width = prior.confidence.shape
    step = max(1, max(height, width) // _GRID)
    grid = np.s_[step // 2 :: step, step // 2 :: step]
    z = prior.points[grid][..., 2].astype(np.float64)
    xy = pixel_centres(width, height)[grid] * [photo.width / width, photo.height / height]
    known = (prior.confidence[grid] > 0) & (z > 0)
    rays = pixel_rays(xy[known], alignment.intrinsics[number], alignment.lenses[number])
    return np.asarray(rays * z[known][:, None], np.float64)


def _typical_error(fits: dict[int, AffineFit]) -> float:
    return float(np.median([fit.error for fit in fits.values()])) if fits else np.inf
