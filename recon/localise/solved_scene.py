"""A saved scene as new photos need it: cameras, tracks and depth, and its photos one at a time."""

from __future__ import annotations

import filecmp
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pointmap.errors import InputError
from pointmap.images import Photo, ResizedPhoto, load_photo, open_photos
from recon.export.cameras_json import read_cameras, units_of, world_of
from recon.export.colmap import read_colmap
from recon.export.depth_npz import StoredDepth, read_depth_npz
from recon.export.run_json import mask_paths, photo_paths, read_run
from recon.scene import Camera, Tracks, World

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SolvedScene:
    """What :func:`read_solved_scene` returns.

    ``cameras`` of all photos by name, in the scene's order, with ``depth_files`` and, where
    ``run.json`` tells, ``photo_files``, the ``videos`` that photos are frames of and their
    ``masks``; ``tracks`` with ``view_index`` into that order; ``units`` and ``world`` as in
    :class:`recon.scene.Scene`.
    """

    folder: Path
    cameras: Mapping[str, Camera]
    photo_files: Mapping[str, Path]
    videos: Mapping[str, str]
    masks: Mapping[str, Path]
    depth_files: Mapping[str, Path]
    tracks: Tracks
    units: str
    world: World
    _opened: dict[str, Photo | None] = field(default_factory=dict, repr=False, compare=False)
    _missed: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def placed(self) -> list[str]:
        """Names of the photos that have a pose."""
        return [name for name, camera in self.cameras.items() if camera.cam_to_world is not None]

    def depth(self, name: str) -> StoredDepth:
        """Return one photo's depth; ``InputError`` when its file is missing or broken."""
        return read_depth_npz(self.depth_files[name])

    def photo(self, name: str) -> Photo | None:
        """Return one of the scene's photos, None where its file has gone or is another picture."""
        if name not in self._opened:
            path, camera = self.photo_files.get(name), self.cameras[name]
            opened, _ = open_photos([] if path is None else [path])
            size = camera.width, camera.height
            same = [p for p in opened if (p.width, p.height) == size]
            mask = self.masks.get(name)
            self._opened[name] = replace(same[0], name=name, mask=mask) if same else None
        return self._opened[name]

    def picture(self, name: str, *, long_side: int) -> ResizedPhoto:
        """Return one photo's picture, of at most ``long_side`` pixels.

        Where the photo has gone, the small copy in the scene takes its place, with a warning.
        """
        photo = self.photo(name)
        if photo is not None:
            return load_photo(photo, long_side=long_side)
        if name not in self._missed:
            self._missed.add(name)
            path = self.photo_files.get(name, name)
            logger.warning("%s has gone or changed: its small copy in the scene is used", path)
        return self.small_copy(name)

    def small_copy(self, name: str) -> ResizedPhoto:
        """Return one photo as the scene itself holds it, at the resolution of its depth."""
        camera, path = self.cameras[name], self.depth_files[name]
        photo = Photo(path, name, camera.width, camera.height, None, camera_key=f"of {name}")
        stored = self.depth(name)
        return ResizedPhoto(photo, stored.image, stored.usable)

    def same_photo(self, path: Path) -> str | None:
        """Return the name of the scene's photo whose file holds the same bytes as ``path``."""
        for name, file in self.photo_files.items():
            try:
                if filecmp.cmp(path, file, shallow=False):
                    return name
            except OSError:
                continue  # it has gone, so that nobody can tell
        return None


def read_solved_scene(folder: str | Path) -> SolvedScene:
    """Read a scene that run_recon.py wrote; its photos and depth are read when they are asked for.

    Raises ``InputError`` when ``folder`` is no scene, its cameras cannot be read, or none of its
    photos was placed. Tracks that cannot be read are warned about.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise InputError(f"{folder} is not a folder: give one that run_recon.py wrote")
    listed, whole = read_cameras(folder / "cameras.json")
    run = read_run(folder)
    scene = SolvedScene(
        folder=folder,
        cameras={name: camera.camera() for name, camera in listed.items()},
        photo_files=photo_paths(run, folder),
        videos={photo.name: photo.video for photo in run.photos if photo.video},
        masks=mask_paths(run, folder),
        depth_files={name: camera.depth_file(folder) for name, camera in listed.items()},
        tracks=read_colmap(folder / "colmap/sparse/0", len(listed)),
        units=units_of(whole),
        world=world_of(whole),
    )
    if not scene.placed:
        raise InputError(f"no photo of {folder} was placed: there is nothing to place others in")
    return scene
