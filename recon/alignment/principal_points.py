"""Principal points a little off the photos' middle, as those of most cameras are.

Lenses are centred on sensors to within some tenths of a per cent of the picture's size. Cameras
that are taken to look through the middle of their photos come out turned by as much, each about its
own axes, and relative poses wrong by a quarter of a degree, however exact the matches are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pointmap.camera import Array, Index, Mask
from pointmap.images import Photo
from recon.alignment.bundle_adjustment import bundle_adjust
from recon.alignment.camera_model import BundleOptions
from recon.alignment.solved_problem import problem_of
from recon.stage_results import Alignment, Focals

# Two photos say next to nothing of it.
_FEWEST_PHOTOS = 3
CENTRE_SIGMA = 0.006
"""How far principal points are off, in shares of the photo's long side (a prior). Those of three
real cameras, of four scenes, are off by 0.002 to 0.008 along x and along y."""
_OPTIONS = BundleOptions(max_iterations=30, tolerance=1e-6, least_motion=1e-5)
_UPRIGHT_FROM_STORED = {
    1: np.eye(2),
    3: -np.eye(2),
    6: np.array([[0.0, -1.0], [1.0, 0.0]]),
    8: np.array([[0.0, 1.0], [-1.0, 0.0]]),
}
"""What EXIF's orientations do to x, y from the middle; those that mirror are left out."""


def with_principal_points(
    photos: Sequence[Photo], alignment: Alignment, focals: Focals
) -> Alignment:
    """Return the alignment, once more adjusted, with a principal point of each lens: of each group
    of ``focals``.

    The less matches tell, the nearer it stays to the middle. It is there exactly in scenes of one
    or two photos and of fisheyes, where the focal length is given, and where photos of one lens
    were turned in ways of which EXIF does not tell: its principal point is turned with them.
    """
    if alignment.placed.sum() < _FEWEST_PHOTOS or not len(alignment.tracks.points):
        return alignment
    if any(lens.is_fisheye for lens in alignment.lenses):
        return alignment
    problem, numbers = problem_of(photos, alignment, focals)
    lens, first = problem.focal_index, np.unique(problem.focal_index, return_index=True)[1]
    chosen = [photos[k] for k in numbers]
    free = ~problem.fixed_focal & _lie_alike(chosen, lens)
    if problem.more is None or not free.any():
        return alignment
    # Of photos as the sensor has them, so that one shift is right for all of a lens.
    turn = np.array([_UPRIGHT_FROM_STORED.get(photo.orientation, np.eye(2)) for photo in chosen])
    middle, camera = problem.principal, problem.camera_index
    stored_xy = np.einsum("mi,mij->mj", problem.xy - middle[camera], turn[camera])
    turned = np.tile(np.eye(4), (len(chosen), 1, 1))
    turned[:, :2, :2] = turn
    long_side = np.array([max(chosen[n].width, chosen[n].height) for n in first])
    stored = replace(
        problem,
        cam_to_world=problem.cam_to_world @ turned,
        principal=np.zeros_like(middle),
        xy=stored_xy,
        more=replace(problem.more, centre_sigma_px=CENTRE_SIGMA * long_side * free),
    )
    found = bundle_adjust(stored, _OPTIONS)
    poses: list[Array | None] = list(alignment.cam_to_world)
    intrinsics = alignment.intrinsics.copy()
    for n, k in enumerate(numbers):
        poses[k] = found.cam_to_world[n] @ turned[n].T
        intrinsics[k, [0, 1], [0, 1]] = found.focals_px[lens[n]]
        intrinsics[k, :2, 2] += turn[n] @ found.shift_px[lens[n]]
    tracks = replace(alignment.tracks, points=found.points)
    return replace(alignment, cam_to_world=tuple(poses), intrinsics=intrinsics, tracks=tracks)


def _lie_alike(photos: Sequence[Photo], lens: Index) -> Mask:
    """Return of which lenses (G,), ``lens`` (C,) of the photos, all photos are alike as they are
    stored.
    """
    ways = [_stored(photo) for photo in photos]
    seen = [{way for way, its in zip(ways, lens, strict=True) if its == g} for g in np.unique(lens)]
    return np.array([len(its) == 1 for its in seen])


def _stored(photo: Photo) -> tuple[object, ...]:
    """Return what photos of one sensor have in common; of those that were turned, but not by what
    EXIF's orientation says here, also how they lie now.
    """
    size = photo.width, photo.height
    if photo.orientation == 1 or photo.orientation not in _UPRIGHT_FROM_STORED:
        return *size, photo.orientation, photo.turned
    return *(size if photo.orientation == 3 else size[::-1]), 1, False
