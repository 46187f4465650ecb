"""A saved scene, read back."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pointmap.errors import InputError
from recon.export.cameras_json import read_cameras
from recon.export.colmap import read_colmap
from recon.export.depth_npz import read_depth_npz
from recon.export.json_file import read_json
from recon.export.ply import read_cloud_ply, read_mesh_ply
from recon.export.run_json import photo_paths
from recon.scene import (
    LoadedMaps,
    Mesh,
    ModelRecord,
    PairRecord,
    PointCloud,
    Scene,
    StageRecord,
    View,
)

logger = logging.getLogger(__name__)
Record = TypeVar("Record", StageRecord, PairRecord, ModelRecord)


def load_scene(folder: str | Path) -> Scene:
    """Read the scene that :func:`recon.save.save_scene` wrote to ``folder``.

    Cameras, depth, pixels at the depth's resolution, cloud, mesh and tracks come back as they were
    (depth as :func:`recon.export.depth_npz.write_depth_npz` rounds it, tracks without what
    ``write_colmap`` leaves out); the photos themselves are not needed. A
    missing or damaged ``cameras.json``, depth file or ``run.json`` raises ``InputError``; a missing
    ``points.ply``, ``mesh.ply`` or ``colmap`` is warned about and comes back empty.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give one that run_recon.py wrote")
    cameras, listed = read_cameras(folder / "cameras.json")
    run = read_json(folder / "run.json")
    try:
        paths = photo_paths(run, folder)
        videos = {photo["name"]: photo.get("video") for photo in run["photos"]}
        views = []
        for name, camera in cameras.items():
            depth = read_depth_npz(folder / camera.entry["depth"])
            views.append(
                View(
                    name=name,
                    path=paths.get(name, folder / name),
                    camera=camera.camera(),
                    maps=LoadedMaps(depth.image, depth.depth, depth.confidence),
                    reason=camera.entry["reason"],
                    video=videos.get(name),
                )
            )
        return Scene(
            views=tuple(views),
            tracks=read_colmap(folder / "colmap/sparse/0"),
            cloud=_cloud(folder / "points.ply"),
            surface=_mesh(folder / "mesh.ply"),
            units=str(listed["units"]),
            pairs=_records(PairRecord, run["pairs"]),
            stages=_records(StageRecord, run["stages"]),
            warnings=tuple(run["warnings"]),
            options=dict(run["options"]),
            scale_spread=run.get("scale_spread"),
            models=_records(ModelRecord, run.get("models", ())),
            statistics=dict(run.get("surface", {})),
            other_places=tuple(tuple(names) for names in run.get("other_places", ())),
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{folder} holds a scene of another form ({error!r}): reconstruct it again"
        ) from error


def _records(kind: type[Record], entries: Sequence[Mapping[str, Any]]) -> tuple[Record, ...]:
    names = [field.name for field in dataclasses.fields(kind)]
    # What an older scene does not tell has a default; what it must tell, the type asks for.
    return tuple(kind(**{n: entry[n] for n in names if n in entry}) for entry in entries)


def _cloud(path: Path) -> PointCloud:
    if path.exists():
        return read_cloud_ply(path)
    logger.warning("%s is missing: the scene is shown without its points", path)
    none = np.zeros((0, 3), np.float32)
    return PointCloud(none, none.astype(np.uint8), none, np.zeros(0, np.float32))


def _mesh(path: Path) -> Mesh:
    if path.exists():
        return read_mesh_ply(path)
    logger.warning("%s is missing: the scene is shown without its mesh", path)
    none = np.zeros((0, 3), np.float32)
    return Mesh(none, np.zeros((0, 3), np.int32), none.astype(np.uint8), none)
