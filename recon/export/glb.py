"""``scene.glb``: the mesh (or the cloud) with the cameras, for browsers and 3D programs.

glTF's world is y-up with cameras looking along -z: the scene's world and its cameras' axes are
turned to that here, once.
"""

from __future__ import annotations

import colorsys
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, pixel_rays, rigid, transform_points
from recon.scene import Camera, Mesh, Scene, TexturedMesh, View, World

# A camera's axes in OpenCV to glTF's and back: its own inverse.
_CAMERA_AXES = np.diag([1.0, -1.0, -1.0, 1.0])
UP_OF_A_CAMERA = (0.0, -1.0, 0.0)
"""Up in a world of which nothing is known: it is taken for a camera's."""
# trimesh passes vertex attributes of its caller with a leading underscore.
_COLOUR_ATTRIBUTE = "_COLOUR"


def write_glb(path: Path, scene: Scene) -> None:
    """Write the surface, under its texture where it has one, or the cloud when there is no
    triangle, and one frustum and one glTF camera per placed photo.

    Colours are stored linear, as glTF defines COLOR_0 (programs that honour it would otherwise
    show washed-out photos), with an unlit material: the light is in the photos already.
    """
    from trimesh.exchange.gltf import export_glb

    views = [view for view in scene.views if view.registered]
    size = frustum_size(scene)
    drawn = _geometry(scene, views, size)
    if drawn.is_empty:
        path.write_bytes(_empty_glb())
        return

    def finish(tree: dict[str, Any]) -> None:
        _use_linear_unlit_colours(tree)
        _add_cameras(tree, views, y_up_from(scene.world), near=size * 0.01)

    path.write_bytes(export_glb(drawn, include_normals=False, tree_postprocessor=finish))


def mesh_glb(mesh: Mesh) -> bytes:
    """Return ``mesh`` alone as GLB, unlit like the whole scene's, but in the axes it has."""
    import trimesh
    from trimesh.exchange.gltf import export_glb

    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    surface.vertex_attributes[_COLOUR_ATTRIBUTE] = _linear(mesh.colours)
    return bytes(
        export_glb(
            trimesh.Scene(surface),
            include_normals=False,
            tree_postprocessor=_use_linear_unlit_colours,
        )
    )


def frustum_size(scene: Scene) -> float:
    """Return a depth for camera symbols, in scene units, that neither hides nor is lost in the
    scene: a third of the median distance to the next camera, or a tenth of the median depth.
    """
    placed = [view for view in scene.views if view.registered]
    poses = [view.camera.cam_to_world for view in placed]
    centres = np.array([pose[:3, 3] for pose in poses if pose is not None]).reshape(-1, 3)
    # Of many photos some of the pixels tell as well.
    stride = max(1, len(placed) // 10)
    depths = (view.depth.ravel()[::stride] for view in placed)
    known = np.concatenate(
        [np.zeros(0, np.float32), *(d[np.isfinite(d) & (d > 0)] for d in depths)]
    )
    sizes = [0.1 * float(np.median(known))] if len(known) else []
    if len(centres) > 1:
        sizes.append(float(np.median(neighbour_distances(centres))) / 3)
    return min((s for s in sizes if math.isfinite(s) and s > 0), default=1.0)


def neighbour_distances(centres: Array) -> Array:
    """Return how far from each of N > 1 points (N, 3) the nearest other one is."""
    from scipy.spatial import cKDTree

    return cKDTree(centres).query(centres, k=2)[0][:, 1]


def _geometry(scene: Scene, views: list[View], size: float) -> Any:
    import trimesh

    drawn, y_up = trimesh.Scene(), y_up_from(scene.world)
    mesh, cloud = scene.surface, scene.cloud
    if scene.textured is not None:
        surface = to_trimesh(scene.textured)
        surface.apply_transform(y_up)
        drawn.add_geometry(surface, geom_name="mesh", node_name="mesh")
    elif len(mesh.faces):
        surface = trimesh.Trimesh(transform_points(y_up, mesh.vertices), mesh.faces, process=False)
        surface.vertex_attributes[_COLOUR_ATTRIBUTE] = _linear(mesh.colours)
        drawn.add_geometry(surface, geom_name="mesh", node_name="mesh")
    elif len(cloud.points):
        colours = np.round(_linear(cloud.colours) * 255).astype(np.uint8)
        points = trimesh.PointCloud(transform_points(y_up, cloud.points), colors=colours)
        drawn.add_geometry(points, geom_name="points", node_name="points")
    for index, view in enumerate(views):
        name = f"frustum {view.name}"
        hue = colorsys.hsv_to_rgb(index / len(views), 0.9, 1.0)
        drawn.add_geometry(_frustum(view.camera, size, hue, y_up), geom_name=name, node_name=name)
    return drawn


def to_trimesh(mesh: TexturedMesh) -> Any:
    """Return the mesh as trimesh has it: texture coordinates from the lower left corner."""
    import trimesh
    from PIL import Image

    material = trimesh.visual.material.PBRMaterial(
        name="photos", baseColorTexture=Image.fromarray(mesh.texture)
    )
    uv = np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], axis=-1)
    visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    return trimesh.Trimesh(
        mesh.vertices, mesh.faces, vertex_normals=mesh.normals, visual=visual, process=False
    )


def _frustum(camera: Camera, size: float, colour: tuple[float, float, float], y_up: Array) -> Any:
    """Return the photo's viewing pyramid (5 vertices, 4 triangles) of depth ``size``, y-up."""
    import trimesh

    assert camera.cam_to_world is not None
    w, h = camera.width, camera.height
    corners = size * pixel_rays([(0, 0), (w, 0), (w, h), (0, h)], camera.intrinsics, camera.lens)
    points = transform_points(camera.cam_to_world, np.vstack([np.zeros((1, 3)), corners]))
    sides = [(0, 2, 1), (0, 3, 2), (0, 4, 3), (0, 1, 4)]
    mesh = trimesh.Trimesh(transform_points(y_up, points), sides, process=False)
    rgb = np.round(np.array(colour) * 255).astype(np.uint8)
    mesh.vertex_attributes[_COLOUR_ATTRIBUTE] = _linear(np.tile(rgb, (5, 1)))
    return mesh


def y_up_from(world: World) -> Array:
    """Return the rotation (4, 4) that turns a scene's world to y up, as glTF has it.

    By quarter turns alone, so that it is exact: the axis nearest to up becomes y. A world of which
    nothing is known is taken for a camera's, y down.
    """
    up = np.array(world.up or UP_OF_A_CAMERA)
    axis = int(np.argmax(np.abs(up)))
    turns = {
        (0, True): [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
        (0, False): [[0, 1, 0], [-1, 0, 0], [0, 0, 1]],
        (1, True): [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        (1, False): [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
        (2, True): [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
        (2, False): [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
    }
    return rigid(np.array(turns[axis, bool(up[axis] > 0)], float), np.zeros(3))


def _linear(colours: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return sRGB bytes as linear fractions (IEC 61966-2-1)."""
    value = np.arange(256) / 255
    table = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return table.astype(np.float32)[colours]


def _use_linear_unlit_colours(tree: dict[str, Any]) -> None:
    # For programs without the extension: as matt as can be.
    matt: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    surfaces = {"photo colours": matt}
    if "textures" in tree:
        surfaces["photos"] = {**matt, "baseColorTexture": {"index": 0}}
    tree["materials"] = [
        {
            "name": name,
            "pbrMetallicRoughness": surface,
            "doubleSided": True,
            "extensions": {"KHR_materials_unlit": {}},
        }
        for name, surface in surfaces.items()
    ]
    tree["extensionsUsed"] = ["KHR_materials_unlit"]
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            attributes = primitive["attributes"]
            primitive["material"] = int("TEXCOORD_0" in attributes)
            if _COLOUR_ATTRIBUTE in attributes:
                attributes["COLOR_0"] = attributes.pop(_COLOUR_ATTRIBUTE)


def _add_cameras(tree: dict[str, Any], views: list[View], y_up: Array, *, near: float) -> None:
    """Add a perspective camera per photo, as children of the scene (glTF 2.0, 3.10)."""
    for view in views:
        pose = view.camera.cam_to_world
        assert pose is not None
        K = view.camera.intrinsics
        tan_x, tan_y = view.camera.width / (2 * K[0, 0]), view.camera.height / (2 * K[1, 1])
        lens = {
            "yfov": 2 * math.atan(tan_y),
            "aspectRatio": float(tan_x / tan_y),
            "znear": near,
        }
        tree.setdefault("cameras", []).append({"type": "perspective", "perspective": lens})
        tree["scenes"][0]["nodes"].append(len(tree["nodes"]))
        tree["nodes"].append(
            {
                "name": f"camera {view.name}",
                "camera": len(tree["cameras"]) - 1,
                # Column by column, as glTF wants matrices.
                "matrix": (y_up @ pose @ _CAMERA_AXES).T.ravel().tolist(),
            }
        )


def _empty_glb() -> bytes:
    """Return a valid GLB without content (header and JSON chunk): trimesh refuses to write one."""
    text = json.dumps({"asset": {"version": "2.0"}, "scene": 0, "scenes": [{}]}).encode("ascii")
    text += b" " * (-len(text) % 4)
    return (
        struct.pack("<4sII", b"glTF", 2, 20 + len(text))
        + struct.pack("<I4s", len(text), b"JSON")
        + text
    )
