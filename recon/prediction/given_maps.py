"""Depth maps of other models, in place of the network's: from files, or from a depth model.

Most such maps are known only up to scale and shift. Feature matches recover the shift and the focal
length before the cameras are solved, the solved scene points scale and shift after that. Which of
the two a map in a file holds, depth or its inverse, is found on the way; a model knows.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, sample_at, scale_intrinsics, unproject
from pointmap.decoding import open_picture
from pointmap.errors import InputError, UnusablePicture
from pointmap.outside.arrays import as_map, read_npy, read_npz
from pointmap.outside.values import MAX_LENGTH
from recon.prediction.affine_fit import (
    KINDS,
    AffineFit,
    Kind,
    MapKind,
    ShiftAndFocal,
    ValueMatches,
    fit_affine,
    recover_shift_and_focal,
)
from recon.stage_results import PairMatches, PhotoPrior

if TYPE_CHECKING:
    from pointmap.images import Photo

logger = logging.getLogger(__name__)

_SUFFIXES = (".npy", ".npz", ".png")
# Larger maps are made smaller: depth is tied to the scene, and refined, at about this size.
_LONG_SIDE = 512
# How far a map's aspect may be off the photo's: rounding of a map 50 pixels wide.
_ASPECT_TOLERANCE = 0.02
# As sure as a network is that errs by a fifth.
_CERTAINTY = 0.8
# And no map is surer than this.
_MOST_CERTAIN = 0.95
# Best matched pairs that shifts and focal length are recovered from.
_PAIRS = 12


@dataclass(frozen=True)
class PriorMap:
    """One photo's map: ``values`` (h, w) float32 over the whole photo, 0 = unknown.

    ``kind``: what they are, None where that is not known; ``certainty`` (h, w) float32 in [0, 1),
    None where it is the same everywhere; ``focal_px``: in original pixels, None where the model
    doesn't tell.
    """

    values: NDArray[np.float32]
    kind: MapKind | None = None
    certainty: NDArray[np.float32] | None = None
    focal_px: float | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What a scale and a shift could make of the map."""
        if self.kind is None:
            return KINDS
        return ("depth",) if self.kind == "metres" else (self.kind,)

    def at(self, xy: Array, photo: Photo) -> Array:
        """Return the values (P,) at original pixels ``xy`` (P, 2); 0 where unknown or outside."""
        height, width = self.values.shape
        within = (xy >= 0) & (xy < [photo.width, photo.height])
        inside: NDArray[np.bool_] = np.asarray(within.all(axis=1))
        place = np.where(inside[:, None], xy, 0) * [width / photo.width, height / photo.height]
        column, row = np.minimum(place, [width - 0.5, height - 0.5]).astype(int).T
        return np.where(inside, self.values[row, column], 0).astype(np.float64)

    def prior(self, fit: AffineFit, focal_px: float, photo: Photo) -> PhotoPrior:
        """Return the map as a pointmap of a photo of ``focal_px`` original pixels."""
        height, width = self.values.shape
        depth = np.where(self.values != 0, fit.depth(self.values), 0)
        K = scale_intrinsics(photo.pinhole(focal_px), width / photo.width, height / photo.height)
        points = unproject(depth, K).astype(np.float32)
        certainty = _CERTAINTY if self.certainty is None else self.certainty
        # What makes a PhotoPrior's confidence c as certain, 1 - 1 / c.
        sure = np.where(depth > 0, 1 / (1 - np.minimum(certainty, _MOST_CERTAIN)), 0)
        return PhotoPrior(points, sure.astype(np.float32), focal_px)

    def resized(self, height: int, width: int) -> PriorMap:
        """Return the map at another size, by nearest pixel: a mean over an edge lies nowhere."""
        certainty = self.certainty
        if certainty is not None:
            certainty = sample_at(certainty, height, width).astype(np.float32)
        values = sample_at(self.values, height, width).astype(np.float32)
        return replace(self, values=values, certainty=certainty)

    def reduced(self) -> PriorMap:
        """Return the map no larger than depth is worked with."""
        height, width = self.values.shape
        factor = min(1.0, _LONG_SIDE / max(height, width))
        return self.resized(max(1, round(height * factor)), max(1, round(width * factor)))


def read_prior_maps(folder: Path, photos: Sequence[Photo]) -> list[PriorMap]:
    """Return the map of every photo: STEM.npy, STEM.npz or STEM.png (8 or 16 bit) in ``folder``,
    in subfolders of it where photos' names have some.

    A map covers its whole photo, upright, at any size of the same shape; 0 marks unknown pixels. An
    npz holds one array. Raises ``InputError`` that names the photo or file and the remedy.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder} is no folder; give the one that holds a depth map per photo")
    maps = []
    for photo in photos:
        # Of photos of several folders that share a file name, the way is part of the name.
        stem = str(Path(photo.name).with_suffix("")) if "/" in photo.name else photo.path.stem
        paths = [p for p in (folder / f"{stem}{suffix}" for suffix in _SUFFIXES) if p.is_file()]
        if not paths:
            raise InputError(
                f"{folder} has no depth map for {photo.name}: add {stem}.npy, .npz or .png, "
                "or leave that photo out"
            )
        values = _read(paths[0])
        _check(values, paths[0], photo)
        maps.append(PriorMap(values.astype(np.float32)).reduced())
    return maps


def _read(path: Path) -> Array:
    try:
        if path.suffix == ".png":
            with open_picture(path, ("PNG",)) as image:
                return as_map(np.asarray(image))
        if path.suffix == ".npy":
            return as_map(np.squeeze(read_npy(path)))
        arrays = read_npz(path)
        if len(arrays) == 1:
            return as_map(np.squeeze(*arrays.values()))
    except (OSError, ValueError, UnusablePicture) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path.name} cannot be read ({reason}); save the map anew") from error
    raise InputError(
        f"{path.name} holds {len(arrays)} arrays ({', '.join(list(arrays)[:5])}); "
        "save the map alone"
    )


def _check(values: Array, path: Path, photo: Photo) -> None:
    if values.ndim != 2 or not values.size:
        raise InputError(
            f"{path.name} has shape {values.shape}; a depth map has height and width alone"
        )
    height, width = values.shape
    if abs(width * photo.height / (height * photo.width) - 1) > _ASPECT_TOLERANCE:
        raise InputError(
            f"{path.name} is {width}x{height}, {photo.name} is {photo.width}x{photo.height}: "
            "the map has to cover the whole photo; make it of the upright, uncropped photo"
        )
    wrong = int((~(np.abs(values) <= MAX_LENGTH)).sum())
    if wrong:
        raise InputError(
            f"{path.name} has {wrong} values that are not finite; write 0 where depth is unknown"
        )
    known = values[values != 0]
    if not known.size or np.ptp(known) == 0:
        raise InputError(
            f"{path.name} is the same everywhere and says nothing of depth; make it anew"
        )


def priors_from_matches(
    maps: Sequence[PriorMap],
    photos: Sequence[Photo],
    matches: Sequence[PairMatches],
    fallback: Sequence[PhotoPrior],
) -> list[PhotoPrior]:
    """Return a prior per photo from its map, with the shift and focal that the matches tell.

    Photos are taken to share their focal length relative to their long side, unless a map comes
    with its own. Where the matches do not tell, and for a map in metres, see :func:`prior_alone`.
    """
    solution = _solve(maps, photos, matches)
    priors = []
    for k, (map_, photo) in enumerate(zip(maps, photos, strict=True)):
        network = fallback[k]
        # The size of the network's own pointmaps: what is kept of pairs is sampled on their grid.
        small = map_.resized(*network.confidence.shape)
        told = solution is not None and k in solution.shifts
        if solution is None or not told:
            priors.append(prior_alone(small, photo, network))
            continue
        focal_px = map_.focal_px or solution.focal * max(photo.width, photo.height)
        if map_.kind == "metres":
            priors.append(prior_alone(replace(small, focal_px=focal_px), photo, network))
            continue
        fit = AffineFit(solution.kind, 1.0, solution.shifts[k], solution.error)
        priors.append(small.prior(fit, focal_px, photo))
    return priors


def prior_alone(map_: PriorMap, photo: Photo, network: PhotoPrior) -> PhotoPrior:
    """Return the prior of a photo's map with no other photo's help.

    A map in metres is one as it is. The shift of others is the one that brings them nearest to what
    the ``network`` says, whose focal length holds unless the map has its own; where they contradict
    each other, a model's map keeps its own zero, and one from a file is left out with a warning.
    """
    focal_px = map_.focal_px or network.focal_px
    if not map_.values.any():
        return network
    if map_.kind == "metres":
        return map_.prior(AffineFit("depth", 1.0, 0.0, 0.0), focal_px, photo)
    fit = _fit_to_network(map_, network)
    if fit is None and map_.kind is not None:
        fit = AffineFit(map_.kind, 1.0, 0.0, np.inf)
    if fit is None:
        logger.warning("%s: its depth map contradicts the network's and is left out", photo.name)
        return network
    return map_.prior(fit, focal_px, photo)


def _solve(
    maps: Sequence[PriorMap], photos: Sequence[Photo], matches: Sequence[PairMatches]
) -> ShiftAndFocal | None:
    """Return what the best matched pairs tell, positions as a share of the long side."""
    pairs = []
    for m in sorted(matches, key=len, reverse=True)[:_PAIRS]:
        sides = []
        for k, xy in ((m.i, m.xy_i), (m.j, m.xy_j)):
            photo = photos[k]
            centred = (xy - photo.middle) / max(photo.width, photo.height)
            sides.append((centred, maps[k].at(xy, photo)))
        (xy_i, value_i), (xy_j, value_j) = sides
        use = (value_i != 0) & (value_j != 0)
        pairs.append(ValueMatches(m.i, m.j, xy_i[use], xy_j[use], value_i[use], value_j[use]))
    kinds = maps[0].kinds if maps else ()
    found = [recover_shift_and_focal(pairs, kind=kind) for kind in kinds]
    told = [solution for solution in found if solution is not None]
    return min(told, key=lambda solution: solution.error) if told else None


def _fit_to_network(map_: PriorMap, network: PhotoPrior) -> AffineFit | None:
    """Return the scale and shift that bring a map nearest to a pointmap, of any size."""
    small = map_.resized(*network.confidence.shape)
    use = (network.confidence > 0) & (network.points[..., 2] > 0) & (small.values != 0)
    values, z = small.values[use], network.points[use][:, 2]
    told = [f for kind in map_.kinds if (f := fit_affine(values, z, kind=kind)) is not None]
    return min(told, key=lambda fit: fit.error) if told else None
