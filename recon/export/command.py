"""``pointmap export SCENE``: files of a saved scene, in any format, cut, simplified or turned."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pointmap.command_line import read_arguments
from pointmap.commands import run_command
from pointmap.errors import InputError
from pointmap.version import answer_version
from recon.export.options import ExportOptions
from recon.export.seed_points import MOST, seed_tracks

if TYPE_CHECKING:
    from recon.scene import Scene

Format = Literal[
    "ply", "glb", "obj", "splat", "spz", "cameras", "colmap", "nerfstudio", "tum",
    "depth-npz", "depth-png", "depth-exr",
]  # fmt: skip
_CHECKED: tuple[Literal["spz", "depth-npz", "depth-png", "depth-exr"], ...] = (
    "spz", "depth-npz", "depth-png", "depth-exr",
)  # fmt: skip
_CLOUD, _MESH = "points.ply", "mesh.ply"
# What a scene can be looked at without, but formats are made of.
_MADE_OF = {
    "ply": (_CLOUD, _MESH),
    "glb": (_MESH,),
    "obj": (_MESH,),
    "splat": (_CLOUD, _MESH),
    "spz": (_CLOUD, _MESH),
    "nerfstudio": (_CLOUD,),
}


@dataclass(frozen=True)
class Command:
    """Write files of a scene that was reconstructed before, and leave the scene as it is.

    Example: pointmap export my_scene --format glb --crop -1 -1 0 1 1 2 --up y --out for_games

    The order is fixed: crop, decimate, scale, up. So the box is in the coordinates of the scene,
    as its own files and the viewers have them.

    Exit code: 0, or 2 if the input cannot be used.
    """

    scene: tyro.conf.Positional[Path]
    """Folder of the scene."""

    format: tuple[Format, ...]
    """ply (points.ply and mesh.ply), glb (scene.glb), obj (mesh.obj), splat (splat.ply), spz
    (splat.spz), cameras (cameras.json), colmap (colmap/sparse/0), nerfstudio (transforms.json and
    points.ply), tum (cameras.tum), or depth maps in the folders depth_npz, depth_png (16 bit),
    depth_exr."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder to write to. It must not exist yet."""

    crop: tuple[float, float, float, float, float, float] | None = None
    """Keep the inside of this box only: x y z of its low corner, then of its high corner."""

    decimate: int | None = None
    """Simplify the mesh to about this number of triangles."""

    scale: float = 1.0
    """Multiply every length by this, such as 1000 for millimetres of a scene in metres."""

    colmap_points: int | None = None
    """In place of the points that bundle adjustment used, write about this many to colmap, spread
    evenly over the surface, each with the photos that see it: to train Gaussian splats from."""

    up: Literal["z", "y"] | None = None
    """Turn the scene so that this axis is up. By default the scene keeps its frame (z up, unless it
    says otherwise); scene.glb has y up in any case, as glTF asks."""


def main(arguments: Sequence[str] | None = None, prog: str = "pointmap export") -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    answer_version(arguments)
    return run_command(lambda: _run(arguments, prog))


def _run(arguments: Sequence[str] | None, prog: str) -> int:
    command = read_arguments(Command, arguments, prog)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    sys.stdout.write("".join(f"{path}\n" for path in export(command)))
    return 0


def export(command: Command) -> list[Path]:
    """Do what ``command`` says; return what was written. Raises ``InputError``."""
    from recon.export.load import load_scene
    from recon.export.staging import reserved_folder

    options = ExportOptions(formats=tuple(f for f in _CHECKED if f in command.format))
    options.check()
    _check(command)
    if os.path.lexists(command.out):
        raise InputError(f"{command.out} exists already: choose another folder")
    with reserved_folder(command.out, overwrite=False) as output:
        scene = _changed(load_scene(command.scene), command)
        _check_there(command)
        with output.staged() as staging:
            _write(scene, command, staging, output.target, options)
        out = output.as_given(command.out)
    return sorted(path for path in out.rglob("*") if path.is_file())


def _check(command: Command) -> None:
    """Raise ``InputError`` for what makes no scene; written so that NaN fails."""
    if not command.format:
        raise InputError("--format names what to write: one or several of those in --help")
    if not 1e-9 <= command.scale <= 1e9:
        raise InputError(f"--scale must be between 1e-09 and 1e+09; got {command.scale:g}")
    if command.decimate is not None and command.decimate < 1:
        raise InputError(f"--decimate must be at least 1; got {command.decimate}")
    points = command.colmap_points
    if points is not None and not 8 <= points <= MOST:
        raise InputError(f"--colmap-points must be between 8 and {MOST}; got {points}")
    if points is not None and "colmap" not in command.format:
        raise InputError("--colmap-points says what --format colmap writes: add it")
    box = command.crop
    if box is not None and not all(a < b for a, b in zip(box[:3], box[3:], strict=True)):
        raise InputError("--crop takes x y z of the low corner, then of the high corner")


def _check_there(command: Command) -> None:
    """Raise ``InputError`` where a file of the scene is missing that is to be written anew."""
    needed = [name for wanted in command.format for name in _MADE_OF.get(wanted, ())]
    if "colmap" in command.format and command.colmap_points is None:
        needed.append("colmap/sparse/0/points3D.bin")
    for name in needed:
        if not os.path.exists(command.scene / name):
            raise InputError(f"{command.scene / name} is missing: reconstruct the scene again")


def _changed(scene: Scene, command: Command) -> Scene:
    from recon.export.changed_scene import cropped, decimated, turned
    from recon.world.metric_scale import rescale

    if command.crop is not None:
        scene = cropped(scene, command.crop)
        if not len(scene.cloud.points) and not len(scene.surface.faces):
            raise InputError("--crop: nothing of the scene is inside this box")
    if command.decimate is not None:
        scene = decimated(scene, command.decimate)
    if command.scale != 1:
        # Whatever the unit was, it is another one now.
        scene = replace(rescale(scene, command.scale), units="scene")
    return scene if command.up is None else turned(scene, command.up)


def _write(
    scene: Scene, command: Command, folder: Path, target: Path, options: ExportOptions
) -> None:
    """Write the ``command``'s formats of its changed ``scene`` to ``folder``, which will lie at
    ``target``.
    """
    from recon.export.cameras_json import write_cameras
    from recon.export.colmap import write_colmap
    from recon.export.depth_formats import write_depth_files
    from recon.export.glb import write_glb
    from recon.export.nerfstudio import write_transforms
    from recon.export.obj import write_obj
    from recon.export.ply import write_cloud_ply, write_mesh_ply
    from recon.export.splat import write_splat, write_spz
    from recon.export.staging import real_path
    from recon.export.tum import write_tum
    from recon.export.upright import copy_name

    formats = command.format
    # Photos that others can't use as they are have copies in the scene.
    copies = command.scene / "colmap/images"
    if {"ply", "nerfstudio"} & set(formats):
        write_cloud_ply(folder / _CLOUD, scene.cloud)
    if "ply" in formats:
        write_mesh_ply(folder / _MESH, scene.surface)
    if "glb" in formats:
        write_glb(folder / "scene.glb", scene)
    if "obj" in formats:
        write_obj(folder, scene)
    if "splat" in formats:
        write_splat(folder / "splat.ply", scene.cloud, scene.surface)
    if "spz" in formats:
        write_spz(folder / "splat.spz", scene.cloud, scene.surface)
    if "cameras" in formats:
        write_cameras(folder / "cameras.json", scene)
    if "colmap" in formats:
        (folder / "colmap/sparse/0").mkdir(parents=True)
        names = [copy_name(view) if copies.is_dir() else view.name for view in scene.views]
        seeds = command.colmap_points
        seeded = scene if seeds is None else replace(scene, tracks=seed_tracks(scene, seeds))
        write_colmap(folder / "colmap/sparse/0", seeded, names)
    if "nerfstudio" in formats:
        photos = Path(os.path.relpath(real_path(copies), target)).as_posix()
        write_transforms(
            folder / "transforms.json",
            scene,
            scene_folder=target,
            photos=photos if copies.is_dir() else None,
        )
    if "tum" in formats:
        write_tum(folder / "cameras.tum", scene)
    write_depth_files(folder, scene, options)
