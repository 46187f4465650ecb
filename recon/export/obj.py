"""``mesh.obj``: the mesh for programs that read nothing newer, textured where it can be."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from pointmap.decoding import open_picture
from pointmap.errors import UnusablePicture
from pointmap.outside.regular_file import read_regular
from recon.export.glb import to_trimesh
from recon.scene import Scene, TexturedMesh

logger = logging.getLogger(__name__)


def write_obj(folder: Path, scene: Scene) -> None:
    """Write ``mesh.obj`` with vertex colours, or with ``mesh.mtl`` and ``mesh.png`` when textured.

    The world is the scene's, as in ``mesh.ply``. A mesh without a triangle gives a
    file without one.
    """
    import trimesh
    from PIL import Image
    from trimesh.exchange.obj import export_obj

    if scene.textured is not None:
        mesh = to_trimesh(scene.textured)
        mesh.visual.material = trimesh.visual.material.SimpleMaterial(
            name="photos", image=Image.fromarray(scene.textured.texture)
        )
        text, _ = export_obj(mesh, header=_HEADER, return_texture=True, mtl_name="mesh.mtl")
        Image.fromarray(scene.textured.texture).save(folder / "mesh.png")
        # trimesh's own picture and material are named by the material, not by the mesh.
        (folder / "mesh.mtl").write_text(_MATERIAL, encoding="ascii")
    elif len(scene.surface.faces):
        surface = scene.surface
        mesh = trimesh.Trimesh(
            surface.vertices,
            surface.faces,
            vertex_normals=surface.normals,
            vertex_colors=surface.colours,
            process=False,
        )
        text = export_obj(mesh, header=_HEADER)
    else:
        text = f"# {_HEADER}\n"
    (folder / "mesh.obj").write_text(text, encoding="ascii")


def read_textured(folder: Path) -> TexturedMesh | None:
    """Return the mesh and the texture that :func:`write_obj` wrote, None where there are none.

    Damaged files are warned of and count as none: the mesh itself has its colours.
    """
    if not (folder / "mesh.mtl").is_file():
        return None
    try:
        with open_picture(folder / "mesh.png", ("PNG",)) as picture:
            texture = np.asarray(picture.convert("RGB"))
        lines: dict[str, list[str]] = {"v": [], "vn": [], "vt": [], "f": []}
        for line in read_regular(folder / "mesh.obj").decode("ascii").splitlines():
            kind, _, rest = line.partition(" ")
            if kind in lines:
                lines[kind].append(rest)
        vertices, normals, uv = (
            np.array(" ".join(lines[kind]).split(), np.float32).reshape(len(lines[kind]), width)
            for kind, width in (("v", 3), ("vn", 3), ("vt", 2))
        )
        corners = " ".join(lines["f"]).replace("/", " ").split()
        numbers = np.array(corners, np.int64).reshape(len(lines["f"]), 3, 3) - 1
        # Place, texture and normal of a corner have one number each.
        one = (numbers == numbers[..., :1]).all() and len(vertices) == len(normals) == len(uv)
        if not one or not ((numbers >= 0) & (numbers < len(vertices))).all():
            raise ValueError("its corners are not numbered as ours are")
        if not all(np.isfinite(values).all() for values in (vertices, normals, uv)):
            raise ValueError("its numbers are not finite")
    except (OSError, ValueError, UnusablePicture) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        logger.warning("%s: the scene is read without its texture (%s)", folder, reason)
        return None
    uv[:, 1] = 1 - uv[:, 1]
    return TexturedMesh(vertices, numbers[..., 0].astype(np.int32), normals, uv, texture)


_HEADER = "pointmap, world frame of cameras.json"
# illum 0: colours as they are, the light is in the photos.
_MATERIAL = "newmtl photos\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nillum 0\nmap_Kd mesh.png\n"
