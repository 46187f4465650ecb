"""What other programs' readers see of a saved scene: is it upright, of the right size and colours?

    python -m benchmarks.readers SCENE [--node-modules FOLDER] [--out FILE.json]

Each reader opens the files as its program does and tells the box of what it read, in its own axes,
and the mean colour. Both are compared with the scene's own. Readers that are not installed are
listed as such: bpy (Blender's importers), pymeshlab, gsply, nerfstudio from PyPI; CloudCompare from
the system's packages; gltf-validator and @playcanvas/splat-transform from npm, found in
``--node-modules``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recon.export.load import load_scene
from recon.scene import Scene

Seen = tuple[np.ndarray, np.ndarray | None]
"""Points (N, 3) in z-up axes, and colours (N, 3) from 0 to 255 or None."""


def trimesh_glb(folder: Path) -> Seen:
    """trimesh: scene.glb, y up."""
    import trimesh

    from viz.effects.placed_model import vertex_colours

    parts = trimesh.load(folder / "scene.glb").geometry.values()
    mesh = max((p for p in parts if hasattr(p, "faces")), key=lambda p: len(p.faces))
    return _from_y_up(mesh.vertices), vertex_colours(mesh)


def open3d_ply(folder: Path) -> Seen:
    """Open3D: mesh.ply."""
    import open3d as o3d

    mesh = o3d.io.read_triangle_mesh(str(folder / "mesh.ply"))
    return np.asarray(mesh.vertices), 255 * np.asarray(mesh.vertex_colors)


def open3d_glb(folder: Path) -> Seen:
    """Open3D: scene.glb, y up."""
    import open3d as o3d

    mesh = o3d.io.read_triangle_mesh(str(folder / "scene.glb"))
    # They are linear in glTF, and handed on as they are.
    colours = _srgb(np.asarray(mesh.vertex_colors)) if mesh.has_vertex_colors() else None
    return _from_y_up(np.asarray(mesh.vertices)), colours


def pymeshlab_ply(folder: Path) -> Seen:
    """MeshLab: mesh.ply."""
    import pymeshlab

    meshes = pymeshlab.MeshSet()
    meshes.load_new_mesh(str(folder / "mesh.ply"))
    mesh = meshes.current_mesh()
    return mesh.vertex_matrix(), 255 * mesh.vertex_color_matrix()[:, :3]


def cloudcompare_ply(folder: Path) -> Seen:
    """CloudCompare: mesh.ply by its command line, which writes the vertices anew."""
    import open3d as o3d

    program = shutil.which("CloudCompare") or shutil.which("cloudcompare")
    if program is None:
        raise ImportError("CloudCompare")
    with tempfile.TemporaryDirectory() as scratch:
        # It writes beside what it reads, too.
        shutil.copy(folder / "mesh.ply", scratch)
        command = [program, "-SILENT", "-AUTO_SAVE", "OFF", "-O", f"{scratch}/mesh.ply"]
        command += ["-C_EXPORT_FMT", "PLY", "-EXTRACT_VERTICES"]
        command += ["-SAVE_CLOUDS", "FILE", f"{scratch}/vertices.ply"]
        subprocess.run(
            command,
            env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
            capture_output=True,
            timeout=300,
            check=True,
        )
        cloud = o3d.io.read_point_cloud(f"{scratch}/vertices.ply")
    return np.asarray(cloud.points), 255 * np.asarray(cloud.colors)


def blender_glb(folder: Path) -> Seen:
    """Blender: scene.glb through its importer, which turns y up to z up."""
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=str(folder / "scene.glb"))
    return _blender_mesh(bpy)


def blender_ply(folder: Path) -> Seen:
    """Blender: mesh.ply through its importer."""
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.wm.ply_import(filepath=str(folder / "mesh.ply"), import_colors="SRGB")
    return _blender_mesh(bpy)


def _blender_mesh(bpy: Any) -> Seen:
    thing = max(
        (o for o in bpy.context.scene.objects if o.type == "MESH"),
        key=lambda o: len(o.data.polygons),
    )
    data = thing.data
    points = np.empty(3 * len(data.vertices), np.float32)
    data.vertices.foreach_get("co", points)
    matrix = np.array(thing.matrix_world)
    points = points.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
    if not data.color_attributes:
        return points, None
    layer = data.color_attributes[0]
    linear = np.empty(4 * len(layer.data), np.float32)
    layer.data.foreach_get("color", linear)
    linear = linear.reshape(-1, 4)[:, :3]
    return points, _srgb(linear)


def pycolmap_model(folder: Path) -> Seen:
    """COLMAP: colmap/sparse/0."""
    import pycolmap

    model = pycolmap.Reconstruction(str(folder / "colmap/sparse/0"))
    points = list(model.points3D.values())
    return np.array([p.xyz for p in points]), np.array([p.color for p in points], float)


def nerfstudio_poses(folder: Path) -> Seen:
    """nerfstudio's dataparser: the cameras of transforms.json."""
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    as_they_are = {"orientation_method": "none", "center_method": "none", "auto_scale_poses": False}
    parser = NerfstudioDataParserConfig(data=folder, eval_mode="all", **as_they_are).setup()
    read = parser.get_dataparser_outputs("train")
    poses = read.cameras.camera_to_worlds.numpy()
    if not all(path.is_file() for path in read.image_filenames):
        raise ValueError("it does not find the photos")
    # By itself it turns the mean of the cameras' own up to z, which then has to be near already.
    up = poses[:, :3, 1].mean(axis=0)
    tilt = np.degrees(np.arccos(np.clip(up[2] / np.linalg.norm(up), -1, 1)))
    if tilt > 35:
        raise ValueError(f"its cameras' up is {tilt:.0f} degrees off z")
    return poses[:, :3, 3], None


def gsply_splat(folder: Path) -> Seen:
    """gsply: splat.ply, where --formats splat wrote it."""
    import gsply

    read = gsply.plyread(str(folder / "splat.ply"))
    return np.asarray(read.means), 255 * (0.5 + 0.28209479 * np.asarray(read.sh0).reshape(-1, 3))


READERS: dict[str, tuple[str, Callable[[Path], Seen]]] = {
    "Blender (bpy)": ("scene.glb", blender_glb),
    "Blender (bpy) ": ("mesh.ply", blender_ply),
    "MeshLab (pymeshlab)": ("mesh.ply", pymeshlab_ply),
    "CloudCompare": ("mesh.ply", cloudcompare_ply),
    "trimesh": ("scene.glb", trimesh_glb),
    "Open3D": ("mesh.ply", open3d_ply),
    "Open3D ": ("scene.glb", open3d_glb),
    "COLMAP (pycolmap)": ("colmap/sparse/0", pycolmap_model),
    "nerfstudio": ("transforms.json", nerfstudio_poses),
    "gsply": ("splat.ply", gsply_splat),
}
_TOLERANCE = 0.01  # of the box's diagonal


def _srgb(linear: np.ndarray) -> np.ndarray:
    small = linear < 0.0031308
    return 255 * np.where(small, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)


def _from_y_up(points: Any) -> np.ndarray:
    x, y, z = np.asarray(points, np.float64).T
    return np.stack([x, -z, y], axis=1)


def expected(scene: Scene, file: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what a reader of ``file`` should see: points in z-up axes, and colours."""
    if file == "colmap/sparse/0":
        return scene.tracks.points, scene.tracks.colours
    if file == "transforms.json":
        poses = [v.camera.cam_to_world for v in scene.views if v.camera.cam_to_world is not None]
        return np.array(poses)[:, :3, 3], None
    return scene.surface.vertices, scene.surface.colours


def row(
    scene: Scene, folder: Path, name: str, file: str, read: Callable[[Path], Seen]
) -> dict[str, Any]:
    """Return what one reader sees, as a row of the table."""
    found: dict[str, Any] = {"reader": name.strip(), "file": file}
    if not (folder / file).exists():
        return {**found, "says": "the file was not written"}
    try:
        points, colours = read(folder)
    except ImportError:
        return {**found, "says": "not installed"}
    except Exception as error:
        return {**found, "says": f"{type(error).__name__}: {error}"}
    true, true_colours = expected(scene, file)
    box = [np.percentile(p, [1, 99], axis=0) for p in (points, true)]
    diagonal = float(np.linalg.norm(box[1][1] - box[1][0])) or 1.0
    off = float(np.abs(box[0] - box[1]).max()) / diagonal
    found |= {
        "count": len(points),
        "size": np.round(np.ptp(box[0], axis=0), 2).tolist(),
        "off": off,
    }
    if colours is not None and true_colours is not None:
        found["colour_off"] = float(np.abs(colours.mean(axis=0) - true_colours.mean(axis=0)).max())
    good = off < _TOLERANCE and found.get("colour_off", 0) < 4
    return {
        **found,
        "says": "upright, right size" + (" and colours" if "colour_off" in found else "")
        if good
        else "differs",
    }


def gltf_validator(folder: Path, modules: Path) -> dict[str, Any]:
    """Return what the Khronos validator says of scene.glb."""
    code = (
        "const v=require('gltf-validator');const fs=require('fs');"
        "v.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))"
        ".then(r=>console.log(JSON.stringify(r.issues)))"
    )
    issues = json.loads(_node(["-e", code, str(folder / "scene.glb")], modules))
    says = f"{issues['numErrors']} errors, {issues['numWarnings']} warnings"
    return {"reader": "Khronos glTF validator", "file": "scene.glb", "says": says}


def splat_transform(folder: Path, modules: Path) -> dict[str, Any]:
    """Return what splat-transform makes of splat.ply: it reads it and writes it anew."""
    found = {"reader": "splat-transform", "file": "splat.ply"}
    if not (folder / "splat.ply").exists():
        return {**found, "says": "the file was not written"}
    script = modules / "@playcanvas/splat-transform/bin/cli.mjs"
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "again.ply"
        _node([str(script), str(folder / "splat.ply"), str(out)], modules)
        count = int(out.read_bytes()[:400].split(b"element vertex ")[1].split()[0])
    return {**found, "count": count, "says": "read and written anew"}


def _node(arguments: list[str], modules: Path) -> str:
    done = subprocess.run(
        ["node", *arguments],
        env={"NODE_PATH": str(modules), "PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scene", type=Path)
    parser.add_argument("--node-modules", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    scene = load_scene(given.scene)
    rows = [row(scene, given.scene, name, *reader) for name, reader in READERS.items()]
    for check in (gltf_validator, splat_transform):
        try:
            if given.node_modules is None or shutil.which("node") is None:
                raise FileNotFoundError
            rows.append(check(given.scene, given.node_modules.absolute()))
        except FileNotFoundError:
            rows.append({"reader": check.__name__, "file": "", "says": "not installed"})
        except subprocess.CalledProcessError as error:
            rows.append({"reader": check.__name__, "file": "", "says": error.stderr[-200:]})
    print("| reader | file | what it sees | box, x y z | off | colour off |")
    print("|---|---|---|---|---|---|")
    for one in rows:
        size = " x ".join(f"{side:.2f}" for side in one.get("size", [])) or "-"
        off = f"{100 * one['off']:.2f} %" if "off" in one else "-"
        colour = f"{one['colour_off']:.1f}" if "colour_off" in one else "-"
        print(f"| {one['reader']} | {one['file']} | {one['says']} | {size} | {off} | {colour} |")
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
