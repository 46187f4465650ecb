"""``mesh.obj``: the mesh for programs that read nothing newer, textured where it can be."""

from __future__ import annotations

from pathlib import Path

from recon.export.glb import to_trimesh
from recon.scene import Scene


def write_obj(folder: Path, reconstruction: Scene) -> None:
    """Write ``mesh.obj`` with vertex colours, or with ``mesh.mtl`` and ``mesh.png`` when textured.

    The world is the scene's, as in ``mesh.ply``. A mesh without a triangle gives a
    file without one.
    """
    import trimesh
    from PIL import Image
    from trimesh.exchange.obj import export_obj

    if reconstruction.textured is not None:
        mesh = to_trimesh(reconstruction.textured)
        mesh.visual.material = trimesh.visual.material.SimpleMaterial(
            name="photos", image=Image.fromarray(reconstruction.textured.texture)
        )
        text, _ = export_obj(mesh, header=_HEADER, return_texture=True, mtl_name="mesh.mtl")
        Image.fromarray(reconstruction.textured.texture).save(folder / "mesh.png")
        # trimesh's own picture and material are named by the material, not by the mesh.
        (folder / "mesh.mtl").write_text(_MATERIAL, encoding="ascii")
    elif len(reconstruction.surface.faces):
        surface = reconstruction.surface
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


_HEADER = "pointmap, world frame of cameras.json"
# illum 0: colours as they are, the light is in the photos.
_MATERIAL = "newmtl photos\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nillum 0\nmap_Kd mesh.png\n"
