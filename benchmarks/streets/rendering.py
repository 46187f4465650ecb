"""Photographs a generated world: colours with sun and shadow, and exact depth."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.streets.world import World
from pointmap.camera import Array, pixel_centres
from pointmap.training.rendering.ray_tracing import PinholeCamera

_SUN = np.array([-0.48, -0.62, 0.62])
_SUN_LIGHT, _SKY_LIGHT, _GROUND_LIGHT = 0.85, 0.62, 0.34
_HORIZON, _ZENITH = np.array([0.80, 0.86, 0.92]), np.array([0.30, 0.48, 0.80])
_LIFT = 1e-3
"""Shadow rays start this far above their surface, in metres."""
_SUBRAYS = 3
"""Pixels at outlines are averages of this many rays by side."""


class Renderer:
    """Ray caster over one world; the shared pictures are held once, with all their halvings."""

    def __init__(self, world: World) -> None:
        import open3d as o3d
        import open3d.core as o3c

        self._world = world
        self._normal = np.cross(world.down, world.across)
        self._normal /= np.linalg.norm(self._normal, axis=1, keepdims=True)
        self._caster = o3d.t.geometry.RaycastingScene(nthreads=1)
        corners = np.stack(
            [
                world.corner,
                world.corner + world.across,
                world.corner + world.across + world.down,
                world.corner + world.down,
            ],
            axis=1,
        )
        first = 4 * np.arange(len(corners))[:, None, None]
        faces = first + np.array([[0, 1, 2], [0, 2, 3]])
        self._caster.add_triangles(
            o3c.Tensor.from_numpy(corners.reshape(-1, 3).astype(np.float32)),
            o3c.Tensor.from_numpy(faces.reshape(-1, 3).astype(np.uint32)),
        )
        self._pack()

    def photograph(self, camera: PinholeCamera) -> tuple[Array, NDArray[np.float32]]:
        """Return linear light (h, w, 3) and depth (h, w) along z, 0 = sky.

        Depth is that of the rectangle's plane at the pixel's centre, to rounding in float64.
        """
        pixels = pixel_centres(camera.width, camera.height)
        light, depth, hit = self._light(camera, pixels.reshape(-1, 2))
        shape = (camera.height, camera.width)
        light, hit = light.reshape(*shape, 3), hit.reshape(shape).astype(np.float32)
        # Where the surfaces of a pixel and its neighbours differ, one ray doesn't tell its colour.
        around = np.ones((3, 3), np.uint8)
        outline = cv2.dilate(hit, around) != cv2.erode(hit, around)
        offsets = (np.arange(_SUBRAYS) + 0.5) / _SUBRAYS - 0.5
        steps = np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(-1, 1, 2)
        fine, _, _ = self._light(camera, (pixels[outline] + steps).reshape(-1, 2))
        light[outline] = fine.reshape(_SUBRAYS**2, -1, 3).mean(axis=0)
        return light, depth.reshape(shape).astype(np.float32)

    def _light(
        self, camera: PinholeCamera, pixels: Array
    ) -> tuple[Array, Array, NDArray[np.int64]]:
        """Return light (R, 3), depth (R,) and rectangle (R,), -1 for the sky, at pixels (R, 2)."""
        K, pose = camera.intrinsics, camera.cam_to_world
        rays = np.ones((len(pixels), 3))
        rays[:, :2] = (pixels - K[:2, 2]) / K[[0, 1], [0, 1]]
        # Not normalised: with z = 1, the distance along a ray is the depth.
        rays = rays @ pose[:3, :3].T
        eye = pose[:3, 3]
        primitive = self._cast(np.broadcast_to(eye, rays.shape), rays)["primitive_ids"].numpy()
        found = primitive < 2 * len(self._normal)
        hit = np.where(found, primitive // 2, -1).astype(np.int64)
        light, depth = self._sky(rays), np.zeros(len(rays))
        face, rays = hit[found], rays[found]
        normal, corner = self._normal[face], self._world.corner[face]
        along = np.einsum("rk,rk->r", normal, rays)
        depth[found] = np.einsum("rk,rk->r", normal, corner - eye) / along
        points = eye + depth[found, None] * rays
        spread = depth[found] / K[0, 0] / np.sqrt(np.maximum(np.abs(along), 0.05))
        colour = self._colour(face, points - corner, spread)
        light[found] = colour * self._shade(points, np.where(along[:, None] > 0, -normal, normal))
        return light, depth, hit

    def _shade(self, points: Array, normal: Array) -> Array:
        """Return what falls on points (R, 3): sun where nothing hides it, and light of the sky."""
        sun = _SUN / np.linalg.norm(_SUN)
        facing = np.maximum(normal @ sun, 0)
        lit = np.zeros(len(points))
        asked = facing > 0
        start = points[asked] + _LIFT * normal[asked]
        far = self._cast(start, np.broadcast_to(sun, start.shape))["t_hit"].numpy()
        lit[asked] = ~np.isfinite(far)
        sky = _GROUND_LIGHT + (_SKY_LIGHT - _GROUND_LIGHT) * (1 + normal[:, 2]) / 2
        return (_SUN_LIGHT * facing * lit + sky)[:, None]

    def _sky(self, rays: Array) -> Array:
        up = np.clip(rays[:, 2] / np.linalg.norm(rays, axis=1), 0, 1)[:, None] ** 0.6
        return _HORIZON + (_ZENITH - _HORIZON) * up

    def _cast(self, origins: Array, directions: Array) -> dict:
        import open3d.core as o3c

        table = np.concatenate([origins, directions], axis=1).astype(np.float32)
        return self._caster.cast_rays(o3c.Tensor.from_numpy(table), nthreads=1)

    def _pack(self) -> None:
        """Lay all pictures and their halvings one behind the other, as linear light."""
        tables, texels, start = [], [], 0
        for picture in self._world.pictures:
            level, table = picture, []
            while True:
                table.append((start, *level.shape[:2]))
                texels.append(level.reshape(-1, 3))
                start += len(texels[-1])
                height, width = level.shape[:2]
                if min(height, width) < 4:
                    break
                size = ((width + 1) // 2, (height + 1) // 2)
                level = cv2.resize(level, size, interpolation=cv2.INTER_AREA)
            tables.append(table)
        self._levels = np.array([len(table) for table in tables])
        self._first = np.concatenate([[0], np.cumsum(self._levels)[:-1]])
        self._table = np.array([row for table in tables for row in table])
        self._texels = np.concatenate(texels)
        self._linear = (np.arange(256, dtype=np.float32) / 255) ** 2.2

    def _colour(self, face: NDArray[np.int64], offset: Array, spread: Array) -> Array:
        """Return the reflectance (R, 3) of the rectangles' pictures at offsets (R, 3) from their
        corners, averaged over about ``spread`` (R,) metres.
        """
        across, down = self._world.across[face], self._world.down[face]
        length = np.einsum("rk,rk->r", across, across)
        u = np.einsum("rk,rk->r", offset, across) / length
        v = np.einsum("rk,rk->r", offset, down) / np.einsum("rk,rk->r", down, down)
        picture = np.asarray(self._world.picture)[face]
        width = self._table[self._first[picture], 2]
        last = self._levels[picture] - 1
        level = np.clip(np.log2(np.maximum(spread * width / np.sqrt(length), 1e-6)), 0, last)
        lower = np.floor(level).astype(np.int64)
        row = self._first[picture] + lower
        fine = self._bilinear(row, u, v)
        coarse = self._bilinear(row + (lower < last), u, v)
        return fine + (level - lower)[:, None] * (coarse - fine)

    def _bilinear(self, row: NDArray[np.int64], u: Array, v: Array) -> Array:
        start, height, width = self._table[row].T
        x = np.clip(u * width - 0.5, 0, width - 1)
        y = np.clip(v * height - 0.5, 0, height - 1)
        x0, y0 = x.astype(np.int64), y.astype(np.int64)
        x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
        fx, fy = (x - x0)[:, None], (y - y0)[:, None]

        def texel(column: NDArray[np.int64], line: NDArray[np.int64]) -> NDArray[np.float32]:
            return self._linear[self._texels[start + line * width + column]]

        top = texel(x0, y0) * (1 - fx) + texel(x1, y0) * fx
        bottom = texel(x0, y1) * (1 - fx) + texel(x1, y1) * fx
        return np.asarray(top * (1 - fy) + bottom * fy)
