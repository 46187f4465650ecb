"""Analytic ray tracing of the procedural scenes in plain torch, on any device.

Every part is a convex solid that becomes a unit solid under one affine map, so a ray meets it in
one interval of the ray parameter. Rays carry directions whose camera z is 1; their parameter
therefore IS the z-depth, exactly, at pixel centres. The loop runs over parts, each touching only
the rectangle of pixels it can cover, which keeps the working set in the cache of one core. Colours
are anti-aliased by tracing 2x2 or 3x3 more rays only where surfaces or shadows change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointmap.training.scenes import BOX, CONE, CYLINDER, ELLIPSOID, Scene
from pointmap.training.textures import TEXTURE_SIZE, TextureBank

_NEAR = 0.01


@dataclass(frozen=True)
class Camera:
    """One pinhole camera: pixel centres at +0.5, OpenCV axes."""

    intrinsics: NDArray[np.float64]
    """K (3, 3) in pixels of this view."""
    cam_to_world: NDArray[np.float64]
    """(4, 4)."""
    height: int
    width: int


def part_interval(kind: int, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Return where rays enter and leave a unit solid, in units of ``direction``.

    origin, direction: (3, ...) in the solid's canonical coordinates: the box [-1, 1]^3, the unit
    sphere, the cylinder or cone of radius 1 along z in [-1, 1] (the cone's tip at z = 1). A ray
    misses where the entry is not less than the exit (or either is NaN).
    """
    if kind == ELLIPSOID:
        a = (direction * direction).sum(0)
        b = (origin * direction).sum(0)
        root = (b * b - a * ((origin * origin).sum(0) - 1)).sqrt()  # NaN: no meeting
        return (-b - root) / a, (root - b) / a
    inverse = 1 / (direction + 1e-12)
    middle, reach = -origin * inverse, inverse.abs()
    low, high = middle - reach, middle + reach
    if kind == BOX:
        enter = torch.maximum(torch.maximum(low[0], low[1]), low[2])
        return enter, torch.minimum(torch.minimum(high[0], high[1]), high[2])
    dx, dy, dz = direction
    x, y, z = origin
    if kind == CYLINDER:
        a = dx * dx + dy * dy + 1e-12
        b = x * dx + y * dy
        root = (b * b - a * (x * x + y * y - 1)).sqrt()
        return torch.maximum((-b - root) / a, low[2]), torch.minimum((root - b) / a, high[2])
    if kind == CONE:
        return _cone_interval((x, y, z), (dx, dy, dz), low[2], high[2])
    raise ValueError(f"unknown part kind {kind}")


def _cone_interval(
    origin: tuple[Tensor, Tensor, Tensor],
    direction: tuple[Tensor, Tensor, Tensor],
    low: Tensor,
    high: Tensor,
) -> tuple[Tensor, Tensor]:
    """Meet x^2 + y^2 = ((1 - z) / 2)^2 within the slab -1 <= z <= 1 (only the lower nappe is there)."""
    x, y, z = origin
    dx, dy, dz = direction
    radius, slope = (1 - z) / 2, -dz / 2
    a = dx * dx + dy * dy - slope * slope
    a = torch.where(a.abs() < 1e-9, torch.full_like(a, 1e-9), a)
    b = x * dx + y * dy - radius * slope
    root = (b * b - a * (x * x + y * y - radius * radius)).sqrt()
    first, second = (-b - root) / a, (root - b) / a
    near, far = torch.minimum(first, second), torch.maximum(first, second)
    # Steep rays (a < 0) cross both nappes: inside the lower one before `near` or after `far`.
    rising, steep = dz > 0, a < 0
    infinite = torch.full_like(near, float("inf"))
    enter = torch.where(steep, torch.where(rising, -infinite, far), near)
    leave = torch.where(steep, torch.where(rising, near, infinite), far)
    return torch.maximum(enter, low), torch.minimum(leave, high)


class SceneTracer:
    """Traces and shades one scene on one device.

    casters: which parts a light's shadow rays may meet is decided per light by the scene.
    """

    def __init__(self, scene: Scene, bank: TextureBank) -> None:
        self.scene, self.bank = scene, bank
        self.device = bank.texels.device
        self.kinds: list[int] = [int(k) for k in scene.kind]
        world_to_part = scene.rotation.transpose(0, 2, 1) / scene.half[:, :, None]
        self.world_to_part = self.tensor(world_to_part)
        self.centre = self.tensor(scene.centre)
        self.half = self.tensor(scene.half)
        self._world_to_part_np, self._corners = world_to_part, _corners(scene)
        self._table = torch.cat([self.world_to_part.flatten(1), self.centre, self.half], dim=1)
        self._kind = torch.tensor(self.kinds, device=self.device)
        m = scene.materials
        self._looks = self.tensor(
            np.column_stack([m.tint, m.scale, m.offset, m.saturation, m.contrast, m.dirt,
                             m.gloss, m.shininess, m.turn])
        )  # fmt: skip
        self._textures = torch.from_numpy(m.texture).to(self.device)
        self._dirt_textures = torch.from_numpy(m.dirt_texture).to(self.device)

    def tensor(self, array: NDArray[np.float64]) -> Tensor:
        """Return an array as float32 on the scene's device."""
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)

    def trace_view(self, camera: Camera) -> tuple[Tensor, Tensor]:
        """Return z-depth (H, W), inf where nothing is hit, and part numbers (H, W), -1 there."""
        H, W = camera.height, camera.width
        K, R = camera.intrinsics, camera.cam_to_world[:3, :3]
        rays_x = self.tensor((np.arange(W) + 0.5 - K[0, 2]) / K[0, 0])
        rays_y = self.tensor((np.arange(H) + 0.5 - K[1, 2]) / K[1, 1])
        to_part = self._world_to_part_np @ R
        M = self.tensor(to_part)
        along_x = M[:, :, 0, None] * rays_x
        along_y = M[:, :, 1, None] * rays_y + M[:, :, 2, None]
        eye = camera.cam_to_world[:3, 3] - self.scene.centre
        origin = self.tensor((self._world_to_part_np @ eye[:, :, None])[..., 0])
        depth = torch.full((H, W), float("inf"), device=self.device)
        parts = torch.full((H, W), -1, dtype=torch.int64, device=self.device)
        for n, (x0, x1, y0, y1) in enumerate(_pixel_rectangles(self._corners, camera)):
            if x0 >= x1 or y0 >= y1:
                continue
            direction = along_x[n, :, None, x0:x1] + along_y[n, :, y0:y1, None]
            enter, leave = part_interval(self.kinds[n], origin[n, :, None, None], direction)
            nearest = depth[y0:y1, x0:x1]
            closer = (enter < leave) & (enter > _NEAR) & (enter < nearest)
            nearest.copy_(torch.where(closer, enter, nearest))
            parts[y0:y1, x0:x1].masked_fill_(closer, n)
        return depth, parts

    def trace_rays(self, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Return ray parameters (R,), inf for a miss, and parts (R,); origin (3, 1) or (3, R)."""
        depth = torch.full(direction.shape[1:], float("inf"), device=self.device)
        parts = torch.full(direction.shape[1:], -1, dtype=torch.int64, device=self.device)
        for n, kind in enumerate(self.kinds):
            A = self.world_to_part[n]
            enter, leave = part_interval(
                kind, A @ (origin - self.centre[n, :, None]), A @ direction
            )
            closer = (enter < leave) & (enter > _NEAR) & (enter < depth)
            depth = torch.where(closer, enter, depth)
            parts.masked_fill_(closer, n)
        return depth, parts

    def blocked(
        self, points: Tensor, target: Tensor, casters: Sequence[int], *, directional: bool
    ) -> Tensor:
        """Return (R,) bool: something lies between points (3, R) and the target.

        target: (3,) or (3, R); a place, or with ``directional`` a direction to infinity. Points
        must be lifted off their own surface by the caller.
        """
        hidden = torch.zeros(points.shape[1:], dtype=torch.bool, device=self.device)
        target = target.reshape(3, -1)
        farthest = float("inf") if directional else 1.0
        for n in casters:
            A = self.world_to_part[n]
            origin = A @ (points - self.centre[n, :, None])
            aim = A @ target if directional else A @ (target - self.centre[n, :, None]) - origin
            enter, leave = part_interval(self.kinds[n], origin, aim)
            hidden |= (enter < leave) & (leave > 1e-5) & (enter < farthest)
        return hidden

    def surface(self, points: Tensor, parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return world normals (3, R), canonical face code (R,) and part coordinates (3, R).

        Part coordinates are in world units along the part's own axes.
        """
        table = self._table[parts].T
        A, centre, half = table[:9].reshape(3, 3, -1), table[9:12], table[12:]
        offset = points - centre
        local = (A * offset).sum(1)
        normal, face = _canonical_normal(self._kind[parts], local)
        world = (A * normal[:, None]).sum(0)
        return world / world.norm(dim=0).clamp_min(1e-12), face, local * half

    def shade(
        self, points: Tensor, parts: Tensor, eye: Tensor, footprint: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return linear colours (3, R) of surface points and a code (R,) of surface and shadows.

        eye: (3, 1) camera centre; footprint: (R,) width of a pixel at the point in world units.
        """
        normal, face, local = self.surface(points, parts)
        view = eye - points
        distance = view.norm(dim=0)
        view = view / distance
        facing = (normal * view).sum(0)
        flip = torch.where(facing < 0, -1.0, 1.0)
        normal, facing = normal * flip, facing.abs().clamp_min(0.05)
        looks = self._looks[parts].T
        albedo = self._albedo(parts, local, face, looks, footprint / facing.sqrt())
        lights = self.scene.lights
        ground, sky = self.tensor(lights.ambient_low), self.tensor(lights.ambient_high)
        light = torch.lerp(ground[:, None], sky[:, None], (normal[2] * 0.5 + 0.5)[None])
        gloss = torch.zeros_like(light)
        code = parts * 8 + face
        lifted = points + normal * (2e-3 * distance)
        for n in range(len(lights.position)):
            place = self.tensor(lights.position[n])[:, None]
            directional = bool(lights.directional[n])
            to_light = place.expand_as(points) if directional else place - points
            reach = to_light.norm(dim=0)
            to_light = to_light / reach
            cosine = (normal * to_light).sum(0).clamp_min(0)
            lit = (cosine > 0) & ~self.blocked(
                lifted, place, lights.casters[n], directional=directional
            )
            code = code * 2 + lit
            fall = 1.0 if directional else 1 / (0.3 + reach * reach)
            strength = lit * fall
            colour = self.tensor(lights.colour[n])[:, None]
            light = light + colour * (cosine * strength)
            halfway = to_light + view
            halfway = halfway / halfway.norm(dim=0).clamp_min(1e-6)
            shine = (normal * halfway).sum(0).clamp_min(0) ** looks[10]
            gloss = gloss + colour * (shine * strength * looks[9])
        return albedo * light + gloss, code

    def _albedo(
        self, parts: Tensor, local: Tensor, face: Tensor, looks: Tensor, footprint: Tensor
    ) -> Tensor:
        """Box-projected texture, toned per part: tint * (1 + contrast * (texture / mean - 1))."""
        tint, scale, shift = looks[:3], looks[3], looks[4:6]
        axis = face // 2
        a = torch.where(axis == 0, local[1], local[0]) * scale
        b = torch.where(axis == 2, local[1], local[2]) * scale
        cos, sin = looks[11].cos(), looks[11].sin()
        u, v = cos * a - sin * b + shift[0], sin * a + cos * b + shift[1] + 0.37 * axis
        level = (footprint * scale * TEXTURE_SIZE).clamp_min(1e-6).log2()
        textures = self._textures[parts]
        colour = self.bank.sample(textures, u, v, level).square()
        grey = colour.mean(0, keepdim=True)
        colour = torch.lerp(grey, colour, looks[6])
        mean = self.bank.mean[textures].mean(1)
        colour = 1 + looks[7] * (colour / mean.clamp_min(0.01) - 1)
        dirt = self.bank.sample(self._dirt_textures[parts], u * 0.23, v * 0.23, level - 2)
        colour = colour * (1 + looks[8] * (dirt[0] * 2 - 1))
        return (tint * colour).clamp(0.01, 0.95)

    def sky(self, direction: Tensor) -> Tensor:
        """Return linear sky colours (3, R) for world directions (3, R)."""
        sky = self.scene.sky
        d = direction / direction.norm(dim=0)
        up = d[2].clamp(0, 1)
        low, high = self.tensor(sky.horizon)[:, None], self.tensor(sky.zenith)[:, None]
        colour = torch.lerp(low.expand_as(d), high.expand_as(d), up.sqrt()[None])
        plane = 1 / (d[2].abs() + 0.12)
        texture = torch.full(d.shape[1:], sky.cloud_texture, device=self.device)
        u, v = d[0] * plane * 0.12 + sky.offset[0], d[1] * plane * 0.12 + sky.offset[1]
        cloud = self.bank.sample(texture, u, v, torch.zeros_like(u)).mean(0)
        cover = ((cloud - sky.cover) * 4).clamp(0, 1) * (d[2] * 6).clamp(0, 1)
        return torch.lerp(colour, self.tensor(sky.cloud)[:, None].expand_as(d), cover[None])


def _canonical_normal(kind: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Return outward canonical normals (3, R) and a face code 0..5 (2 axis + sign)."""
    size = p.abs()
    x, y, z = p
    radius = (x * x + y * y).sqrt()
    box_axis = size.argmax(0)
    is_sphere, is_cylinder, is_cone = kind == ELLIPSOID, kind == CYLINDER, kind == CONE
    cap = (is_cylinder & (size[2] > radius)) | (
        is_cone & ((z + 1).abs() < (radius - (1 - z) / 2).abs())
    )
    side_axis = (size[1] > size[0]).long()
    axis = torch.where(is_cylinder | is_cone, torch.where(cap, 2, side_axis), box_axis)
    sign = torch.gather(p, 0, axis[None])[0] >= 0
    flat = torch.zeros_like(p).scatter_(0, axis[None], torch.where(sign, 1.0, -1.0)[None])
    side = torch.stack([x, y, torch.where(is_cone, (1 - z) / 4, torch.zeros_like(z))])
    normal = torch.where((is_cylinder | is_cone) & ~cap, side, flat)
    return torch.where(is_sphere, p, normal), axis * 2 + sign


def _corners(scene: Scene) -> NDArray[np.float64]:
    """Return the (N, 8, 3) world corners of the parts' bounding boxes."""
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
    offsets = (scene.half[:, None] * signs) @ scene.rotation.transpose(0, 2, 1)
    return scene.centre[:, None] + offsets


def _pixel_rectangles(corners: NDArray[np.float64], camera: Camera) -> list[tuple[int, ...]]:
    """Return x0, x1, y0, y1 of the pixels each part may cover; everything if it reaches behind."""
    R, t = camera.cam_to_world[:3, :3], camera.cam_to_world[:3, 3]
    p = (corners - t) @ R
    z = p[..., 2]
    K, W, H = camera.intrinsics, camera.width, camera.height
    safe = np.maximum(z, _NEAR)
    x = K[0, 0] * p[..., 0] / safe + K[0, 2]
    y = K[1, 1] * p[..., 1] / safe + K[1, 2]
    whole = z.min(1) <= _NEAR
    x0 = np.where(whole, 0, np.clip(np.floor(x.min(1) - 0.5), 0, W)).astype(int)
    x1 = np.where(whole, W, np.clip(np.ceil(x.max(1) + 0.5), 0, W)).astype(int)
    y0 = np.where(whole, 0, np.clip(np.floor(y.min(1) - 0.5), 0, H)).astype(int)
    y1 = np.where(whole, H, np.clip(np.ceil(y.max(1) + 0.5), 0, H)).astype(int)
    x1 = np.where(z.max(1) <= _NEAR, x0, x1)  # wholly behind the camera
    return list(zip(x0.tolist(), x1.tolist(), y0.tolist(), y1.tolist(), strict=True))


def render_view(tracer: SceneTracer, camera: Camera, *, samples: int = 2) -> tuple[Tensor, Tensor]:
    """Return a linear-light image (3, H, W) and exact z-depth (H, W), 0 where there is only sky.

    samples: where surfaces or shadows change within a pixel's neighbourhood, ``samples`` squared
    rays replace the centre's colour.
    """
    depth, parts = tracer.trace_view(camera)
    H, W = depth.shape
    y, x = torch.meshgrid(
        torch.arange(H, device=tracer.device), torch.arange(W, device=tracer.device), indexing="ij"
    )
    colour, code = _shade_pixels(
        tracer, camera, x.flatten() + 0.5, y.flatten() + 0.5, depth.flatten(), parts.flatten()
    )
    image, code = colour.reshape(3, H, W), code.reshape(H, W)
    edge = torch.zeros_like(code, dtype=torch.bool)
    across, down = code[:, 1:] != code[:, :-1], code[1:] != code[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    rows, columns = edge.nonzero(as_tuple=True)
    steps = (torch.arange(samples, device=tracer.device) + 0.5) / samples
    px = (columns[:, None, None] + steps[None, None, :]).expand(-1, samples, -1).flatten()
    py = (rows[:, None, None] + steps[None, :, None]).expand(-1, -1, samples).flatten()
    eye, direction = world_rays(tracer, camera, px, py)
    t, hit = tracer.trace_rays(eye, direction)
    fine, _ = _shade_pixels(tracer, camera, px, py, t, hit)
    image[:, rows, columns] = fine.clamp_max(1.5).reshape(3, -1, samples * samples).mean(-1)
    return image, torch.where(depth.isfinite(), depth, torch.zeros_like(depth))


def world_rays(tracer: SceneTracer, camera: Camera, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eye (3, 1) and directions (3, R) whose parameter is z-depth."""
    K = camera.intrinsics
    rays = torch.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], torch.ones_like(x)])
    rotation = tracer.tensor(camera.cam_to_world[:3, :3])
    return tracer.tensor(camera.cam_to_world[:3, 3:]), rotation @ rays


def _shade_pixels(
    tracer: SceneTracer, camera: Camera, x: Tensor, y: Tensor, depth: Tensor, parts: Tensor
) -> tuple[Tensor, Tensor]:
    """Colour pixel samples with known depth: surface or sky. Returns (3, R) and codes (R,)."""
    eye, direction = world_rays(tracer, camera, x, y)
    seen = parts >= 0
    if bool(seen.all()):
        return tracer.shade(eye + direction * depth, parts, eye, depth / camera.intrinsics[0, 0])
    colour = tracer.sky(direction)
    code = torch.full_like(parts, -1)
    index = seen.nonzero()[:, 0]
    d = depth[index]
    surface, codes = tracer.shade(
        eye + direction[:, index] * d, parts[index], eye, d / camera.intrinsics[0, 0]
    )
    colour[:, index] = surface
    code[index] = codes
    return colour, code
