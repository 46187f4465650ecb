"""``run.json``: how a scene came about, and which files belong to it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pointmap
from pointmap.errors import InputError
from pointmap.outside.typed import as_type
from recon.export.file_names import relative_photo_path
from recon.export.json_file import plain, read_json, write_json
from recon.export.ownership import file_digests
from recon.export.staging import real_path
from recon.scene import ModelRecord, PairRecord, Scene, StageRecord, Verdict

# Each with the package names it may be installed under.
_PACKAGES = {
    "torch": ("torch",),
    "open3d": ("open3d-cpu", "open3d"),
    "numpy": ("numpy",),
    "trimesh": ("trimesh",),
    "pycolmap": ("pycolmap", "pycolmap-cuda12"),
    "transformers": ("transformers",),
    "diffusers": ("diffusers",),
    "kornia": ("kornia",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
}


def write_run(path: Path, scene: Scene, *, scene_folder: Path) -> None:
    """Write ``run.json``, the last file of a scene, into the folder that holds all the others.

    It lists them: overwriting later deletes a folder only when it holds no other.
    ``scene_folder``: where the scene will finally lie.
    """
    photos = [
        {
            "name": view.name,
            "path": relative_photo_path(view.path, scene_folder),
            "width": int(view.camera.width),
            "height": int(view.camera.height),
            "turned": view.turned,
            "video": view.video,
            "mask": None if view.mask is None else relative_photo_path(view.mask, scene_folder),
            "registered": view.registered,
            "reason": view.reason,
        }
        for view in scene.views
    ]
    counts = {
        "photos": len(photos),
        "registered": sum(view.registered for view in scene.views),
        "tracks": len(scene.tracks.points),
        "points": len(scene.cloud.points),
        "triangles": len(scene.surface.faces),
    }
    data = {
        "program": "pointmap",
        "versions": _versions(),
        "platform": platform.platform(),
        "options": plain(scene.options),
        "scale_spread": plain(scene.scale_spread),
        "models": plain(scene.models),
        "counts": counts,
        "verdict": plain(scene.verdict),
        "surface": plain(scene.statistics),
        "warnings": list(scene.warnings),
        "seconds": plain(sum(stage.seconds for stage in scene.stages)),
        "stages": plain(scene.stages),
        "photos": photos,
        "pairs": plain(scene.pairs),
        "other_places": [list(names) for names in scene.other_places],
        "files": file_digests(path.parent),
    }
    write_json(path, data)


@dataclass(frozen=True)
class RunPhoto:
    """One photo of a ``run.json``: ``path`` from the scene's folder, and so its ``mask``'s."""

    name: str
    path: str
    video: str | None = None
    turned: bool = False
    mask: str | None = None


@dataclass(frozen=True)
class Run:
    """What a scene takes from its ``run.json``; entries that older ones lack have a default."""

    photos: tuple[RunPhoto, ...]
    pairs: tuple[PairRecord, ...]
    stages: tuple[StageRecord, ...]
    warnings: tuple[str, ...]
    options: dict[str, object]
    models: tuple[ModelRecord, ...] = ()
    scale_spread: float | None = None
    surface: dict[str, Any] = field(default_factory=dict)
    other_places: tuple[tuple[str, ...], ...] = ()
    verdict: Verdict | None = None


def read_run(folder: Path) -> Run:
    """Return what a scene's ``run.json`` says; ``InputError`` when it is of another form."""
    data = read_json(folder / "run.json")
    try:
        run: Run = as_type(data, Run, "run.json")
        count = len(run.photos)
        if not all(0 <= k < count for pair in run.pairs for k in (pair.i, pair.j)):
            raise ValueError("a pair of photos that are not there")
        if any("\0" in photo.path + (photo.mask or "") for photo in run.photos):
            raise ValueError("a path that is none")
    except ValueError as error:
        raise InputError(
            f"{folder} holds a scene of another form ({error}): reconstruct it again"
        ) from error
    return run


def photo_paths(run: Run, folder: Path) -> dict[str, Path]:
    """Return {photo name: where it lies} of what a ``run.json`` in ``folder`` says."""
    # Photo paths go up from where the folder really lies, whatever link led here.
    real = real_path(folder)
    return {photo.name: Path(os.path.normpath(real / photo.path)) for photo in run.photos}


def mask_paths(run: Run, folder: Path) -> dict[str, Path]:
    """Return {photo name: where its mask lies}, of the photos that have one."""
    real = real_path(folder)
    return {
        photo.name: Path(os.path.normpath(real / photo.mask))
        for photo in run.photos
        if photo.mask is not None
    }


def _versions() -> dict[str, Any]:
    return {
        "pointmap": pointmap.__version__,
        "python": platform.python_version(),
        **{name: _installed(packages) for name, packages in _PACKAGES.items()},
    }


def _installed(packages: tuple[str, ...]) -> str | None:
    """Version from the package's metadata: importing torch only to ask would take a second."""
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None
