"""Binary PLY: the cloud with normals, colours and confidence, the mesh with normals and colours.

Written here rather than by Open3D, which (0.20) refuses an empty cloud, writes double precision and
clamped colours for tensor meshes, and reports success on a full disk. Our own files are read here
too, so that a shortened one is noticed; what another program saved in their place, by
:mod:`recon.export.foreign_ply`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointmap.errors import InputError
from pointmap.outside.regular_file import read_regular
from pointmap.outside.values import MAX_LENGTH
from recon.export.foreign_ply import ForeignPly, parse_ply
from recon.scene import Mesh, PointCloud

_VERTEX = [
    *((axis, "<f4") for axis in ("x", "y", "z", "nx", "ny", "nz")),
    *((channel, "u1") for channel in ("red", "green", "blue")),
]
_CLOUD_VERTEX = [*_VERTEX, ("confidence", "<f4")]
_FACE = [("count", "u1"), ("corners", "<i4", (3,))]
_PLY_TYPES = {"<f4": "float", "u1": "uchar"}


def write_cloud_ply(path: Path, cloud: PointCloud) -> None:
    """Write the cloud; the property ``confidence`` is a float in [0, 1]."""
    vertices = _vertices(_CLOUD_VERTEX, cloud.points, cloud.normals, cloud.colours)
    vertices["confidence"] = cloud.confidence
    _write(path, _header(_CLOUD_VERTEX, len(vertices), None), vertices)


def write_mesh_ply(path: Path, mesh: Mesh) -> None:
    """Write the mesh with vertex normals and colours."""
    vertices = _vertices(_VERTEX, mesh.vertices, mesh.normals, mesh.colours)
    faces = np.zeros(len(mesh.faces), _FACE)
    faces["count"] = 3
    faces["corners"] = mesh.faces
    _write(path, _header(_VERTEX, len(vertices), len(faces)), vertices, faces)


def read_cloud_ply(path: Path) -> PointCloud:
    """Read a cloud. Missing normals come out as 0, colours as grey, confidence as 1.

    Raises ``InputError`` when ``path`` is missing, damaged or no PLY file.
    """
    data = _content(path)
    ours = _read_ours(path, data, _CLOUD_VERTEX)
    if ours is not None:
        points, colours, normals = _columns(ours[0])
        return PointCloud(points, colours, normals, ours[0]["confidence"].copy())
    foreign, points, colours, normals = _foreign(path, data)
    confidence = np.ones(len(points), np.float32)
    if "confidence" in foreign.columns:
        confidence = foreign.columns["confidence"].astype(np.float32)
    return PointCloud(points, colours, normals, confidence)


def read_mesh_ply(path: Path) -> Mesh:
    """Read a mesh. Missing normals come out as 0, colours as grey.

    Raises ``InputError`` when ``path`` is missing, damaged or no PLY file.
    """
    data = _content(path)
    ours = _read_ours(path, data, _VERTEX)
    if ours is not None:
        points, colours, normals = _columns(ours[0])
        faces = ours[1]["corners"].astype(np.int32)
        if len(faces) and not 0 <= faces.min() <= faces.max() < len(points):
            # Drawing such a mesh would crash the process.
            raise InputError(f"{path} is damaged: reconstruct the scene again")
        return Mesh(points, faces, colours, normals)
    foreign, points, colours, normals = _foreign(path, data)
    return Mesh(points, foreign.faces, colours, normals)


def _vertices(
    layout: list[tuple[str, str]],
    points: NDArray[np.float32],
    normals: NDArray[np.float32],
    colours: NDArray[np.uint8],
) -> NDArray[np.void]:
    table = np.zeros(len(points), layout)
    columns = (*points.T, *normals.T, *np.asarray(colours).T)
    for (name, _), column in zip(layout, columns, strict=False):
        table[name] = column
    return table


def _write(path: Path, header: bytes, *tables: NDArray[np.void]) -> None:
    """Write the parts one after the other, without a copy of millions of points between."""
    with path.open("wb") as file:
        file.write(header)
        for table in tables:
            file.write(table.data if len(table) else b"")


def _header(layout: list[tuple[str, str]], vertices: int, faces: int | None) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += ["comment pointmap, world frame of cameras.json", f"element vertex {vertices}"]
    lines += [f"property {_PLY_TYPES[kind]} {name}" for name, kind in layout]
    if faces is not None:
        lines += [f"element face {faces}", "property list uchar int vertex_indices"]
    return ("\n".join([*lines, "end_header"]) + "\n").encode("ascii")


def _content(path: Path) -> bytes:
    try:
        data = read_regular(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not data.startswith(b"ply"):
        raise InputError(f"{path} is not a PLY file: reconstruct the scene again")
    return data


def _read_ours(
    path: Path, data: bytes, layout: list[tuple[str, str]]
) -> tuple[NDArray[np.void], NDArray[np.void]] | None:
    """Return the vertex and face tables; None for a PLY file of another program."""
    head, mark, body = data.partition(b"end_header\n")
    counts = [
        int(number) for number in re.findall(rb"^element \w+ (\d{1,18})$", head, re.MULTILINE)
    ]
    vertex_count, face_count = (*counts, None, None)[:2]
    if vertex_count is None or head + mark != _header(layout, vertex_count, face_count):
        return None
    split = vertex_count * np.dtype(layout).itemsize
    if len(body) != split + (face_count or 0) * np.dtype(_FACE).itemsize:
        raise InputError(f"{path} is damaged: reconstruct the scene again")
    vertices = np.frombuffer(body[:split], layout)
    numbers = [name for name, kind in layout if kind == "<f4"]
    if not all(np.abs(vertices[name]).max(initial=0) <= MAX_LENGTH for name in numbers):
        raise InputError(f"{path} is damaged: reconstruct the scene again")
    return vertices, np.frombuffer(body[split:], _FACE)


def _columns(
    table: NDArray[np.void],
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
    """Return points, colours, normals of a vertex table."""
    points, normals, colours = (
        np.stack([table[name] for name in names], axis=-1)
        for names in (("x", "y", "z"), ("nx", "ny", "nz"), ("red", "green", "blue"))
    )
    return points, colours, normals


def _foreign(
    path: Path, data: bytes
) -> tuple[ForeignPly, NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
    """Return another program's file, and its points, colours, normals."""
    try:
        foreign = parse_ply(data)
        points = foreign.stacked("x", "y", "z")
        if points is None or not len(points):
            raise ValueError("no points")
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): reconstruct the scene again") from error
    colours = foreign.stacked("red", "green", "blue")
    if colours is None:
        colours = np.full(points.shape, 128, np.uint8)
    elif colours.dtype.kind == "f":
        colours = np.round(colours.astype(np.float64) * 255).clip(0, 255)
    normals = foreign.stacked("nx", "ny", "nz")
    if normals is None:
        normals = np.zeros(points.shape)
    return (
        foreign,
        points.astype(np.float32),
        colours.clip(0, 255).astype(np.uint8),
        normals.astype(np.float32),
    )
