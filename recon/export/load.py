"""A saved scene, read back."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from pointmap.errors import InputError
from recon.export.cameras_json import read_cameras, units_of, world_of
from recon.export.colmap import read_colmap
from recon.export.depth_npz import read_depth_npz
from recon.export.file_names import place_folder
from recon.export.obj import read_textured
from recon.export.ply import read_cloud_ply, read_mesh_ply
from recon.export.run_json import mask_paths, photo_paths, read_run
from recon.scene import LoadedMaps, Mesh, PointCloud, Scene, View

logger = logging.getLogger(__name__)


def load_scene(folder: str | Path) -> Scene:
    """Read the scene that :func:`recon.save.save_scene` wrote to ``folder``.

    Cameras, depth, pixels at the depth's resolution, cloud, mesh and tracks come back as they were
    (depth as :func:`recon.export.depth_npz.write_depth_npz` rounds it, tracks without what
    ``write_colmap`` leaves out); the photos themselves are not needed. A
    missing or damaged ``cameras.json``, depth file or ``run.json`` raises ``InputError``; a missing
    ``points.ply``, ``mesh.ply`` or ``colmap`` is warned about and comes back empty.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise InputError(f"{folder} is not a folder: give one that run_recon.py wrote")
    cameras, listed = read_cameras(folder / "cameras.json")
    run = read_run(folder)
    paths = photo_paths(run, folder)
    masks = mask_paths(run, folder)
    listed_photos = {photo.name: photo for photo in run.photos}
    views = []
    for name, camera in cameras.items():
        depth = read_depth_npz(camera.depth_file(folder))
        photo = listed_photos.get(name)
        views.append(
            View(
                name=name,
                path=paths.get(name, folder / name),
                camera=camera.camera(),
                maps=LoadedMaps(depth.image, depth.depth, depth.confidence, depth.usable),
                reason=camera.reason,
                turned=photo is not None and photo.turned,
                video=None if photo is None else photo.video,
                mask=masks.get(name),
            )
        )
    return Scene(
        views=tuple(views),
        tracks=read_colmap(folder / "colmap/sparse/0", len(cameras)),
        cloud=_cloud(folder / "points.ply"),
        surface=_mesh(folder / "mesh.ply"),
        units=units_of(listed),
        world=world_of(listed),
        pairs=run.pairs,
        stages=run.stages,
        warnings=run.warnings,
        options=run.options,
        models=run.models,
        scale_spread=run.scale_spread,
        statistics=run.surface,
        other_places=run.other_places,
        verdict=run.verdict,
        textured=read_textured(folder),
        further=tuple(_further(folder)),
    )


def _further(folder: Path) -> Iterator[Scene]:
    """Yield the scenes of other places that were written into ``folder``."""
    for number in itertools.count(2):
        place = folder / place_folder(number)
        if not (place / "run.json").is_file():
            return
        yield load_scene(place)


def _cloud(path: Path) -> PointCloud:
    if path.exists():
        return read_cloud_ply(path)
    logger.warning("%s is missing: the scene is shown without its points", path)
    return PointCloud.empty()


def _mesh(path: Path) -> Mesh:
    if path.exists():
        return read_mesh_ply(path)
    logger.warning("%s is missing: the scene is shown without its mesh", path)
    return Mesh.empty()
