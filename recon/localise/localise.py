"""Where photos were taken, in the frame of a solved scene."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pointmap.camera import Array
from pointmap.images import Photo, load_photo
from recon.localise.candidates import PARTNERS, likely_partners
from recon.localise.lenses import stated_lens
from recon.localise.resection import (
    LEAST_POINTS,
    Resection,
    Sightings,
    resect,
    resect_unknown,
)
from recon.localise.scene_points import scene_points
from recon.localise.solved_scene import SolvedScene
from recon.prediction.pointmap_focal import DEFAULT_FOCAL
from recon.scene import Camera
from recon.stage_results import PhotoFeatures
from recon.two_view.features import FEATURE_LONG_SIDE, extract_features, match_features

# An unknown lens is believed over the one that files tell if so many times as many points agree.
_BETTER = 1.25
# Photos of the scene whose features and points are kept, about 3 MB each.
_KEPT = 2 * PARTNERS


class NotPlaced(Exception):
    """A photo has no place in the scene; the message says why."""


@dataclass(frozen=True)
class Localised:
    """Where one photo was taken.

    ``camera`` in the scene's frame, with ``cam_to_world`` None and a ``reason`` in words where it
    was not placed (its lens is a guess then). ``found`` says how well it was placed; None where it
    was not, and where the photo is ``same_as`` one of the scene's.
    """

    photo: Photo
    camera: Camera
    reason: str | None = None
    found: Resection | None = None
    same_as: str | None = None

    @property
    def placed(self) -> bool:
        """Whether the photo has a pose."""
        return self.camera.cam_to_world is not None


def localise_photos(
    scene: SolvedScene, photos: Sequence[Photo], *, seed: int = 0
) -> Iterator[Localised]:
    """Yield for each photo where it was taken, in the frame and units of ``scene``.

    SIFT features are matched with those of the scene's photos that look most like it, whose key
    points show scene points: tracks and confirmed depth. The pose is that with which most of them
    agree (P3P in RANSAC, then robust least squares), and never a guess: a photo that fewer than
    :data:`recon.localise.resection.LEAST_POINTS` points hold, or whose points lie too close
    together to hold it, is not placed. Its lens is that of the scene's photos of the same camera,
    or estimated with the pose. A photo that is one of the scene's placed ones, byte for byte, has
    the pose that it has there. Raises ``InputError`` when a photo or a file of the scene cannot be
    read.
    """
    own = [scene.same_photo(photo.path) for photo in photos]
    asked = [
        photo
        for photo, name in zip(photos, own, strict=True)
        if name is None or scene.cameras[name].cam_to_world is None
    ]
    partners = iter(likely_partners(scene, asked))
    recognise = _Recogniser(scene)
    for photo, name in zip(photos, own, strict=True):
        camera = None if name is None else scene.cameras[name]
        if camera is not None and camera.cam_to_world is not None:
            yield Localised(photo, camera, same_as=name)
        else:
            yield _localised(recognise, photo, next(partners), seed=seed)


def _localised(
    recognise: _Recogniser, photo: Photo, names: Sequence[str], *, seed: int
) -> Localised:
    scene = recognise.scene
    others = [(other, scene.cameras[name]) for name in names if (other := scene.photo(name))]
    told = stated_lens(photo, others)
    try:
        seen = recognise(photo, names)
        found = told and resect(seen, told[0], seed=seed)
        if told is None or not told[1]:
            free = resect_unknown(seen, photo.width, photo.height, seed=seed)
            if found is None or (free is not None and free.inliers > _BETTER * found.inliers):
                found = free
        if found is None:
            raise NotPlaced(
                f"no place in the scene agrees with {LEAST_POINTS} of its points or more: "
                f"{len(np.unique(seen.keypoint))} were matched"
            )
        if not found.certain:
            raise NotPlaced(
                "the scene points that it shows lie too close together to tell its place"
            )
    except NotPlaced as error:
        focal = DEFAULT_FOCAL * max(photo.width, photo.height)
        K = photo.pinhole(focal)
        guess = told[0].camera if told else Camera(K, photo.width, photo.height, None)
        return Localised(photo, guess, reason=str(error))
    return Localised(photo, found.camera, found=found)


class _Recogniser:
    """Finds scene points in photos; the features of a few of the scene's photos are kept."""

    def __init__(self, scene: SolvedScene) -> None:
        self.scene = scene
        self._numbers = {name: number for number, name in enumerate(scene.cameras)}
        self._known = lru_cache(_KEPT)(self._features_and_points)

    def __call__(self, photo: Photo, names: Sequence[str]) -> Sightings:
        """Return the scene points that a photo may show, by its matches with the scene's photos.

        Raises ``NotPlaced`` where they are too few to place it.
        """
        features = extract_features(load_photo(photo, long_side=FEATURE_LONG_SIDE))
        rows, points = [np.zeros(0, np.int64)], [np.zeros((0, 3))]
        matched = 0
        for name in names:
            theirs, shown = self._known(name)
            matches = match_features(features, theirs, 0, 1)
            known = np.isfinite(shown[matches.index_j]).all(axis=1)
            matched = max(matched, len(matches))
            rows.append(matches.index_i[known])
            points.append(shown[matches.index_j[known]])
        # The same key point with the same track of several photos is one sighting.
        table = np.unique(np.column_stack([np.concatenate(rows), np.concatenate(points)]), axis=0)
        keypoint = table[:, 0].astype(np.int64)
        if matched < LEAST_POINTS:
            raise NotPlaced("nothing in it was recognised in any photo of the scene")
        if len(np.unique(keypoint)) < LEAST_POINTS:
            raise NotPlaced("what was recognised in it has no known depth in the scene")
        return Sightings(keypoint, features.xy[keypoint], table[:, 1:])

    def _features_and_points(self, name: str) -> tuple[PhotoFeatures, Array]:
        """Return one photo's features and the points (K, 3) that they show, NaN if unknown."""
        scene = self.scene
        features = extract_features(scene.picture(name, long_side=FEATURE_LONG_SIDE))
        rows = scene.tracks.seen_by(self._numbers[name])
        camera, depth = scene.cameras[name], scene.depth(name)
        shown = scene_points(camera, scene.tracks, rows, depth, features.xy)
        return features, shown
