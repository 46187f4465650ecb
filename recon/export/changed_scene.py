"""A scene cut, simplified or turned: what is asked of one that is there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, rigid, transform_points
from recon.export.glb import UP_OF_A_CAMERA, y_up_from
from recon.fusion.simplify import simplified
from recon.scene import Mesh, PointCloud, Scene, World
from recon.world.frame import moved


def cropped(scene: Scene, box: Sequence[float]) -> Scene:
    """Return the scene with what lies in ``box`` alone: x y z of the low corner, then of the high.

    Points and tracks inside stay, and triangles with all three corners inside. Photos stay, with
    their depth maps.
    """
    low, high = np.array(box[:3]), np.array(box[3:])

    def inside(points: NDArray[np.floating]) -> NDArray[np.bool_]:
        return np.asarray(((points >= low) & (points <= high)).all(axis=1))

    cloud, mesh, tracks = scene.cloud, scene.surface, scene.tracks
    keep = inside(cloud.points)
    faces = mesh.faces[inside(mesh.vertices)[mesh.faces].all(axis=1)]
    held = inside(tracks.points)
    rows = held[tracks.point_index]
    return replace(
        scene,
        cloud=PointCloud(
            cloud.points[keep], cloud.colours[keep], cloud.normals[keep], cloud.confidence[keep]
        ),
        surface=_used(replace(mesh, faces=faces)),
        textured=None,
        tracks=replace(
            tracks,
            points=tracks.points[held],
            colours=tracks.colours[held],
            point_index=(np.cumsum(held) - 1)[tracks.point_index[rows]],
            view_index=tracks.view_index[rows],
            xy=tracks.xy[rows],
        ),
    )


def _used(mesh: Mesh) -> Mesh:
    """Return the mesh without vertices of no triangle."""
    used, faces = np.unique(mesh.faces, return_inverse=True)
    return Mesh(
        mesh.vertices[used],
        faces.reshape(-1, 3).astype(np.int32),
        mesh.colours[used],
        mesh.normals[used],
    )


def decimated(scene: Scene, triangles: int) -> Scene:
    """Return the scene with a mesh of about ``triangles`` triangles (quadric error, Open3D)."""
    surface = simplified(scene.surface, triangles)
    return scene if surface is scene.surface else replace(scene, surface=surface, textured=None)


def turned(scene: Scene, up: Literal["y", "z"]) -> Scene:
    """Return the scene with that axis up, by quarter turns: the axis nearest to up becomes it."""
    turn = y_up_from(scene.world)
    if up == "z":
        turn = rigid(np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.zeros(3)) @ turn
    if np.array_equal(turn, np.eye(4)):
        return scene
    rotation = turn[:3, :3]

    def directions(normals: NDArray[np.float32]) -> NDArray[np.float32]:
        return (normals @ rotation.T).astype(np.float32)

    def places(points: NDArray[np.float32]) -> NDArray[np.float32]:
        return transform_points(turn, points).astype(np.float32)

    cloud, mesh, textured = scene.cloud, scene.surface, scene.textured
    if textured is not None:
        textured = replace(
            textured, vertices=places(textured.vertices), normals=directions(textured.normals)
        )
    return replace(
        scene,
        views=tuple(moved(view, turn) for view in scene.views),
        tracks=replace(scene.tracks, points=transform_points(turn, scene.tracks.points)),
        cloud=replace(cloud, points=places(cloud.points), normals=directions(cloud.normals)),
        surface=replace(mesh, vertices=places(mesh.vertices), normals=directions(mesh.normals)),
        textured=textured,
        world=_turned_world(scene.world, rotation),
    )


def _turned_world(world: World, rotation: Array) -> World:
    x, y, z = (rotation @ np.array(world.up or UP_OF_A_CAMERA)).tolist()
    return World("upright" if world.kind == "upright" else "given", (x, y, z), world.up_sigma_deg)
