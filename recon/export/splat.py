"""``splat.ply``: one flat Gaussian per surface element, as viewers and editors of 3DGS read it.

Format: the PLY of Kerbl et al., "3D Gaussian Splatting", SIGGRAPH 2023, without view-dependent
colour: position, normal, colour as the constant spherical harmonic, logit of the opacity, logarithm
of the three standard deviations, and a quaternion w x y z whose third axis is the normal.
``splat.spz`` holds the same in a tenth of the bytes (https://github.com/nianticlabs/spz).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.scene import PointCloud

# The constant spherical harmonic: 1 / (2 sqrt(pi)).
_SH0 = 0.5 / np.sqrt(np.pi)
# Standard deviation along the surface, in distances between neighbours, at which Gaussians close up
# without blurring; and across it, in those along it.
_ALONG, _ACROSS = 0.6, 0.1
_NEIGHBOURS = 4
# An isolated point is no larger than so many usual ones.
_LARGEST = 4.0
_OPACITY = (0.6, 0.99)
_COLUMNS = (
    "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity",
    "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
)  # fmt: skip


def write_splat(path: Path, cloud: PointCloud) -> None:
    """Write a Gaussian for each point of ``cloud``, in the scene's world.

    A cloud's point stands for a voxel of surface: its Gaussian is as wide as its neighbours are
    apart, flat along its normal, and as opaque as it is sure.
    """
    table = _gaussians(cloud)
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}"]
    head += [f"property float {name}" for name in _COLUMNS]
    path.write_bytes(("\n".join([*head, "end_header"]) + "\n").encode("ascii") + table.tobytes())


def write_spz(path: Path, cloud: PointCloud) -> None:
    """Write the Gaussians of :func:`write_splat` as SPZ, with the package gsply.

    Places are rounded to 2^-24 of the farthest one's distance, sizes to 6 %, colours to a level or
    two. Axes stay the scene's, whatever a viewer takes for up.
    """
    import gsply

    table = np.ascontiguousarray(_gaussians(cloud), np.float32)
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


def _gaussians(cloud: PointCloud) -> NDArray[np.float32]:
    """Return a row of :data:`_COLUMNS` per finite point."""
    keep = np.isfinite(cloud.points).all(axis=1)
    points, normals = cloud.points[keep], cloud.normals[keep]
    table = np.zeros((len(points), len(_COLUMNS)), "<f4")
    if len(points):
        low, high = _OPACITY
        opacity = low + (high - low) * np.clip(cloud.confidence[keep], 0, 1)
        along = np.log(_ALONG * _spacing(points))
        table[:, 0:3], table[:, 3:6] = points, normals
        table[:, 6:9] = (cloud.colours[keep] / 255 - 0.5) / _SH0
        table[:, 9] = np.log(opacity / (1 - opacity))
        table[:, 10], table[:, 11], table[:, 12] = along, along, along + np.log(_ACROSS)
        table[:, 13:17] = _towards(normals)
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
