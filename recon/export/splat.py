"""``splat.ply``: flat Gaussians on the surface, as viewers and editors of 3DGS read them.

Format: the PLY of Kerbl et al., "3D Gaussian Splatting", SIGGRAPH 2023, without view-dependent
colour: position, normal, colour as the constant spherical harmonic, logit of the opacity, logarithm
of the three standard deviations, and a quaternion w x y z whose third axis is the normal.
``splat.spz`` holds the same in about a quarter of the bytes (https://github.com/nianticlabs/spz).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.scene import Mesh, PointCloud

# The constant spherical harmonic: 1 / (2 sqrt(pi)).
_SH0 = 0.5 / np.sqrt(np.pi)
# Standard deviation along the surface, in distances between neighbours, at which Gaussians close up
# without blurring; and across it, in those along it.
_ALONG, _ACROSS = 0.6, 0.1
_NEIGHBOURS = 4
# An isolated point is no larger than so many usual ones.
_LARGEST = 4.0
_OPACITY = (0.6, 0.99)
# Of the Gaussians of a surface: their width and how far they lie below it, in distances between
# neighbouring vertices (root mean square). Chosen by benchmarks.splats.
_LAYERS = ((0.3, 0.06), (0.6, 0.6))
# How far a vertex's colour is led away from its neighbours', in differences from their mean:
# Gaussians of a neighbourhood mix where triangles show a vertex's own colour.
_SHARPER = 0.3
_COLUMNS = (
    "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity",
    "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
)  # fmt: skip


def write_splat(path: Path, cloud: PointCloud, surface: Mesh) -> None:
    """Write the ``surface`` as Gaussians in the scene's world, the ``cloud`` if it has no faces.

    Each vertex is a small one that shows its colour, before a larger one that fills the gaps. A
    cloud's point is as wide as its neighbours are apart, and as opaque as it is sure.
    """
    table = _gaussians(cloud, surface)
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}"]
    head += [f"property float {name}" for name in _COLUMNS]
    path.write_bytes(("\n".join([*head, "end_header"]) + "\n").encode("ascii") + table.tobytes())


def write_spz(path: Path, cloud: PointCloud, surface: Mesh) -> None:
    """Write the Gaussians of :func:`write_splat` as SPZ, with the package gsply.

    Places are rounded to 2^-24 of the farthest one's distance, sizes to 6 %, colours to a level or
    two. Axes stay the scene's, whatever a viewer takes for up.
    """
    import gsply

    table = np.ascontiguousarray(_gaussians(cloud, surface), np.float32)
    farthest = float(np.abs(table[:, :3]).max(initial=1e-6))
    data = gsply.GSData(
        means=table[:, 0:3].copy(),
        scales=table[:, 10:13].copy(),
        quats=table[:, 13:17].copy(),
        opacities=table[:, 9].copy(),
        sh0=table[:, 6:9].copy(),
        shN=np.zeros((len(table), 0, 3), np.float32),
    )
    # Places are signed numbers of 24 bits with this many behind the point.
    bits = int(np.clip(np.floor(np.log2((2**23 - 1) / farthest)), 0, 23))
    gsply.write_spz(path, data, fractional_bits=bits)


def _gaussians(cloud: PointCloud, surface: Mesh) -> NDArray[np.float32]:
    """Return a row of :data:`_COLUMNS` per Gaussian."""
    if len(surface.faces):
        return _of_surface(surface)
    keep = np.isfinite(cloud.points).all(axis=1)
    points, normals = cloud.points[keep], cloud.normals[keep]
    if not len(points):
        return np.zeros((0, len(_COLUMNS)), "<f4")
    low, high = _OPACITY
    opacity = low + (high - low) * np.clip(cloud.confidence[keep].astype(np.float64), 0, 1)
    along = _ALONG * _spacing(points)
    sigmas = np.stack([along, along, _ACROSS * along], axis=1)
    return _table(points, normals, cloud.colours[keep], opacity, sigmas, _towards(normals))


def _of_surface(surface: Mesh) -> NDArray[np.float32]:
    """Return two Gaussians per vertex.

    Composited by the distance of their middles, neighbours cover each other like shingles: wide
    ones shift and blur what they show, narrow ones let the background through. So narrow ones stand
    before wide ones, which lie a little below the surface. What they mix is sharpened before
    (unsharp masking over the neighbours of each vertex).
    """
    from scipy.spatial.transform import Rotation

    used = np.unique(surface.faces)
    spread, axes, mean = _one_rings(surface)
    spread, axes, own = spread[used], axes[used], surface.colours[used].astype(np.float64)
    colours = own + _SHARPER * (own - mean[used])
    vertices, normals = surface.vertices[used], axes[:, :, 2]
    quat_wxyz = np.roll(Rotation.from_matrix(axes).as_quat(), 1, axis=1)
    layers = []
    for width, below in _LAYERS:
        sigmas = width * np.column_stack([spread, _ACROSS * spread[:, 1]])
        points = vertices - below * spread[:, 1:] * normals
        opacity = np.full(len(points), _OPACITY[1])
        layers.append(_table(points, normals, colours, opacity, sigmas, quat_wxyz))
    return np.concatenate(layers)


def _one_rings(surface: Mesh) -> tuple[Array, Array, Array]:
    """Return how far each vertex's neighbours are from it, root mean square along two axes in the
    surface (V, 2), the longer one last; these axes with the normal as columns (V, 3, 3); and the
    neighbours' mean colour (V, 3).
    """
    vertices, faces = surface.vertices.astype(np.float64), surface.faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    off = vertices[edges[:, 1]] - vertices[edges[:, 0]]
    count = np.bincount(edges[:, 0], minlength=len(vertices)).clip(1)
    moments, mean = np.zeros((len(vertices), 3, 3)), np.zeros((len(vertices), 3))
    for i in range(3):
        mean[:, i] = (
            np.bincount(edges[:, 0], surface.colours[edges[:, 1], i], len(vertices)) / count
        )
        for j in range(3):
            moments[:, i, j] = np.bincount(edges[:, 0], off[:, i] * off[:, j], len(vertices))
    normals = surface.normals.astype(np.float64)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    flat = np.eye(3) - normals[:, :, None] * normals[:, None, :]
    squares, axes = np.linalg.eigh(flat @ (moments / count[:, None, None]) @ flat)
    spread = np.sqrt(squares[:, 1:].clip(0))
    usual = float(np.median(spread[:, 1])) or 1.0
    longer = np.clip(spread[:, 1], usual / _LARGEST, usual * _LARGEST)
    spread = np.stack([np.clip(spread[:, 0], longer / 2, longer), longer], axis=1)
    first, second = axes[:, :, 1], axes[:, :, 2]
    # Right-handed, the normal last.
    turned = (np.cross(first, second) * normals).sum(axis=1, keepdims=True) < 0
    first = np.where(turned, -first, first)
    return spread, np.stack([first, second, np.cross(first, second)], axis=2), mean


def _table(
    points: NDArray[np.floating],
    normals: NDArray[np.floating],
    colours: NDArray[np.uint8] | Array,
    opacity: Array,
    sigmas: Array,
    quat_wxyz: Array,
) -> NDArray[np.float32]:
    table = np.zeros((len(points), len(_COLUMNS)), "<f4")
    table[:, 0:3], table[:, 3:6] = points, normals
    table[:, 6:9] = (colours / 255 - 0.5) / _SH0
    table[:, 9] = np.log(opacity / (1 - opacity))
    table[:, 10:13], table[:, 13:17] = np.log(sigmas), quat_wxyz
    return table


def _spacing(points: NDArray[np.float32]) -> Array:
    """Return how far from each point (N, 3) its neighbours are, in the mean."""
    from scipy.spatial import cKDTree

    if len(points) < 2:
        return np.ones(len(points))
    count = min(_NEIGHBOURS, len(points) - 1)
    apart = cKDTree(points).query(points, k=count + 1)[0][:, 1:].mean(axis=1)
    usual = float(np.median(apart)) or 1.0
    return np.clip(apart, usual / _LARGEST, usual * _LARGEST)


def _towards(normals: NDArray[np.float32]) -> Array:
    """Return quaternions w x y z (N, 4) of the shortest turns that take z to ``normals`` (N, 3)."""
    x, y, z = np.asarray(normals, np.float64).T
    # Down, the turn is half a circle about any level axis.
    down = z < -1 + 1e-9
    quat_wxyz = np.stack([1 + z, -y, x, np.zeros_like(x)], axis=-1)
    quat_wxyz[down] = [0, 1, 0, 0]
    return quat_wxyz / np.linalg.norm(quat_wxyz, axis=1, keepdims=True).clip(1e-12)
