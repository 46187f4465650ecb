"""A solved scene's photos and cameras as the known part of a larger one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pointmap.errors import InputError
from pointmap.images import Photo, as_frame
from pointmap.photo_names import unique_name
from recon.inputs.known_cameras import KnownCameras
from recon.inputs.read_cameras import load_known_cameras
from recon.localise.solved_scene import SolvedScene, read_solved_scene

logger = logging.getLogger(__name__)


def extended(folder: str | Path, photos: Sequence[Photo]) -> tuple[list[Photo], KnownCameras]:
    """Return all photos of the scene in ``folder`` with the new ``photos`` after them, and what is
    known of their cameras.

    The scene's photos keep their names and their order. Of those that were placed, lens and pose
    are known, and so is the scene's unit of length; of the others and of the new ones nothing. New
    photos that the scene has already are left out, copies with a warning; of a name that it has,
    another one is made.

    Raises ``InputError`` as :func:`recon.localise.solved_scene.read_solved_scene` does, when a
    photo of the scene has gone or changed, and when no new one is left.
    """
    scene = read_solved_scene(folder)
    old = [_own_photo(scene, name) for name in scene.cameras]
    new = []
    for photo in photos:
        same = scene.same_photo(photo.path)
        if same is None:
            new.append(photo)
        elif not photo.path.samefile(scene.photo_files[same]):
            logger.warning("%s is in the scene already, as %s: it is left out", photo.path, same)
    if not new:
        raise InputError(f"{folder} has all of these photos already: give new ones")
    everyone = [*old, *_renamed(new, scene)]
    known = load_known_cameras(str(scene.folder / "cameras.json"), everyone)
    lenses = [
        None if pose is None else lens
        for lens, pose in zip(known.lenses, known.cam_to_world, strict=True)
    ]
    return everyone, replace(known, lenses=tuple(lenses))


def _own_photo(scene: SolvedScene, name: str) -> Photo:
    photo = scene.photo(name)
    if photo is None:
        raise InputError(
            f"{scene.photo_files.get(name, name)} of the scene {scene.folder} has gone or changed: "
            "put it back, or reconstruct all photos together"
        )
    video = scene.videos.get(name)
    return photo if video is None else as_frame(photo, video)


def _renamed(photos: Sequence[Photo], scene: SolvedScene) -> list[Photo]:
    """Return the photos under names that no photo of the scene has."""
    taken = {name.casefold() for name in scene.cameras}
    result = []
    for photo in photos:
        if photo.name.casefold() in taken:
            photo = replace(photo, name=unique_name(photo.path, taken))
        taken.add(photo.name.casefold())
        result.append(photo)
    return result
