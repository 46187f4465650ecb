"""PLY files of other programs in the place of ours, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from pointmap.errors import InputError
from recon.export.foreign_ply import parse_ply
from recon.export.ply import read_cloud_ply, read_mesh_ply

POINTS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0.5], [0, 1, 2.25], [3, 3, 3]], np.float32)
COLOURS = np.array([[k, 2 * k, 255 - k] for k in range(5)], np.uint8)
FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("program", ["open3d", "open3d tensor", "trimesh"])
def test_what_other_programs_save_is_read(tmp_path: Path, program: str, text: bool) -> None:
    path = tmp_path / "mesh.ply"
    if program == "trimesh":
        alpha = np.full((5, 1), 255, np.uint8)
        mesh = trimesh.Trimesh(
            POINTS, FACES, vertex_colors=np.hstack([COLOURS, alpha]), process=False
        )
        mesh.export(path, encoding="ascii" if text else "binary")
    elif program == "open3d":
        import open3d as o3d

        legacy = o3d.geometry.TriangleMesh(
            o3d.utility.Vector3dVector(POINTS), o3d.utility.Vector3iVector(FACES)
        )
        legacy.vertex_colors = o3d.utility.Vector3dVector(COLOURS / 255)
        o3d.io.write_triangle_mesh(str(path), legacy, write_ascii=text)
    else:
        import open3d as o3d

        cloud = o3d.t.geometry.PointCloud(o3d.core.Tensor(POINTS))
        cloud.point["colors"] = o3d.core.Tensor(COLOURS)
        cloud.point["confidence"] = o3d.core.Tensor(POINTS[:, 2:])
        o3d.t.io.write_point_cloud(str(path), cloud, write_ascii=text)
    read = read_cloud_ply(path)
    assert np.allclose(read.points, POINTS) and np.array_equal(read.colours, COLOURS)
    if program == "open3d tensor":
        assert np.allclose(read.confidence, POINTS[:, 2])
    else:
        mesh = read_mesh_ply(path)
        assert np.array_equal(mesh.faces, FACES) and np.array_equal(mesh.colours, COLOURS)


HEADER = """ply
format ascii 1.0
comment Created by hand
element vertex 4
property double x
property double y
property double z
property float red
property float green
property float blue
element face 2
property list uchar int vertex_indices
property uchar flags
end_header
"""
VERTICES = "0 0 0 1 0 0\n1 0 0 0 1 0\n1 1 0 0 0 1\n0 1 0 .5 .5 .5\n"


def test_polygons_become_triangles_and_fractions_colours(tmp_path: Path) -> None:
    path = tmp_path / "mesh.ply"
    for faces, expected in (
        ("4 0 1 2 3 7\n4 3 2 1 0 7\n", [[0, 1, 2], [3, 2, 1], [0, 2, 3], [3, 1, 0]]),
        ("3 0 1 2 7\n4 3 2 1 0 7\n", [[0, 1, 2], [3, 2, 1], [3, 1, 0]]),
        ("0 7\n0 7\n", []),
    ):
        path.write_text(HEADER + VERTICES + faces)
        mesh = read_mesh_ply(path)
        assert mesh.faces.tolist() == expected
        assert mesh.colours.tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128]]


@pytest.mark.parametrize(
    "content",
    [
        b"ply\n",
        b"ply\nformat ascii 1.0\nend_header\n",
        HEADER.encode(),
        HEADER.replace("vertex 4", "vertex 9999999999999999999").encode(),
        HEADER.replace("vertex 4", "vertex " + "9" * 5000).encode(),
        HEADER.replace("double x", "float " + "x" * 5000).encode() + VERTICES.encode(),
        HEADER.replace("double x", "half x").encode(),
        HEADER.replace("double y", "double x").encode(),
        HEADER.replace("ascii", "binary_little_endian").encode() + bytes(40),
        (HEADER + VERTICES + "3 0 1 9 7\n3 0 1 2 7\n").encode(),
        (HEADER + VERTICES + "3 0 1 -1 7\n3 0 1 2 7\n").encode(),
        (HEADER + VERTICES + "3 0 1 2.5e9 7\n3 0 1 2 7\n").encode(),
        (HEADER + VERTICES + "999999 0 1 2 7\n").encode(),
        (HEADER + VERTICES.replace("1 1 0", "1 nan 0") + "0 7\n0 7\n").encode(),
        (HEADER + VERTICES.replace("1 1 0", "1 1e300 0") + "0 7\n0 7\n").encode(),
        (HEADER + "x" * 100).encode(),
    ],
)
def test_what_is_damaged_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "points.ply"
    path.write_bytes(content)
    for read in (read_cloud_ply, read_mesh_ply):
        with pytest.raises(InputError, match="is damaged") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_bytes_may_come_in_either_order() -> None:
    vertex = np.array([(1.5, 2, 3)], [("x", "f4"), ("y", "i2"), ("z", "f8")])
    for order, name in (("<", "little"), (">", "big")):
        head = (
            f"ply\r\nformat binary_{name}_endian 1.0\r\nelement vertex 1\r\nproperty float32 x\r\n"
            "property int16 y\r\nproperty float64 z\r\nend_header\r\n"
        )
        found = parse_ply(head.encode() + vertex.astype(vertex.dtype.newbyteorder(order)).tobytes())
        assert found.stacked("x", "y", "z").tolist() == [[1.5, 2, 3]]
