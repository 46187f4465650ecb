"""Colour of traced points: textures, lamps with shadows, gloss, sky; and anti-aliased pictures."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointmap.training.rendering.ray_tracing import (
    LIFT,
    PinholeCamera,
    SceneTracer,
    length,
    world_rays,
)
from pointmap.training.scenes.textures import TEXTURE_SIZE, TextureBank

_BRIGHTEST = 1.5
"""Linear colours are clipped here before supersamples are averaged, as a sensor would."""
_CHUNK = 1 << 16
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


class Shader:
    """Colours points of one scene.

    Training uses one shadow ray per lamp and an ambient light without shadows. Pictures for people
    take ``light_samples`` rays over each lamp's disc and ``sky_samples`` directions of sky light;
    ``sharpness`` levels of mip maps are skipped where they are supersampled anyway.
    """

    def __init__(
        self,
        tracer: SceneTracer,
        bank: TextureBank,
        *,
        light_samples: int = 1,
        sky_samples: int = 0,
        sharpness: float = 0.0,
    ) -> None:
        self._tracer, self._bank, self._scene = tracer, bank, tracer.scene
        self._light_samples, self._sky_samples = light_samples, sky_samples
        self._sharpness = sharpness
        m = tracer.scene.materials
        columns = [m.tint, m.scale, m.offset, m.saturation, m.contrast, m.dirt, m.gloss]
        self._looks = tracer.tensor(np.column_stack([*columns, m.shininess, m.turn]))
        self._textures = torch.from_numpy(m.texture).to(tracer.device)
        self._dirt_textures = torch.from_numpy(m.dirt_texture).to(tracer.device)

    def pixels(
        self,
        camera: PinholeCamera,
        x: Tensor,
        y: Tensor,
        depth: Tensor,
        parts: Tensor,
        share: int = 1,
    ) -> tuple[Tensor, Tensor]:
        """Return linear colours (3, R) and codes (R,) of pixel places with known depth and part.

        Equal codes in neighbouring pixels: same face, same lamps reach it. share: how many places
        share a pixel; each then needs fewer directions of sky light. Works in chunks that fit the
        cache.
        """
        sky_samples = -(-self._sky_samples // share) if self._sky_samples else 0
        done = [
            self._chunk(camera, x[s], y[s], depth[s], parts[s], sky_samples)
            for s in (slice(n, n + _CHUNK) for n in range(0, max(len(x), 1), _CHUNK))
        ]
        return torch.cat([c for c, _ in done], dim=1), torch.cat([c for _, c in done])

    def _chunk(
        self,
        camera: PinholeCamera,
        x: Tensor,
        y: Tensor,
        depth: Tensor,
        parts: Tensor,
        sky_samples: int,
    ) -> tuple[Tensor, Tensor]:
        eye, direction = world_rays(self._tracer, camera, x, y)
        colour = torch.empty_like(direction)
        code = torch.full_like(parts, -1)
        away = (parts < 0).nonzero()[:, 0]
        if len(away):
            colour[:, away] = self._sky(direction[:, away])
        index = (parts >= 0).nonzero()[:, 0]
        d = depth[index]
        points = eye + direction[:, index] * d
        found = self._surface(points, parts[index], eye, d / camera.intrinsics[0, 0], sky_samples)
        colour[:, index], code[index] = found
        return colour, code

    def _surface(
        self, points: Tensor, parts: Tensor, eye: Tensor, footprint: Tensor, sky_samples: int
    ) -> tuple[Tensor, Tensor]:
        """eye: (3, 1); footprint: (R,) width of a pixel at the point in world units."""
        normal, face, local = self._tracer.surface(points, parts)
        view = eye - points
        distance = length(view)
        view = view / distance
        facing = _dot(normal, view)
        normal = normal * torch.where(facing < 0, -1.0, 1.0)
        facing = facing.abs().clamp_min(0.05)
        looks = self._looks[parts].T.contiguous()
        albedo = self._albedo(parts, local, face, looks, footprint / facing.sqrt())
        lights = self._scene.lights
        gloss = torch.zeros_like(points)
        code = parts * 8 + face
        lifted = points + normal * (LIFT * distance)
        light = self._ambient(lifted, normal, sky_samples)
        for n in range(len(lights.position)):
            to_light, lit, fall = self._lamp(n, lifted, normal)
            strength = lit * fall
            code = code * 2 + (lit > 0.5)
            colour = self._tracer.tensor(lights.colour[n])[:, None]
            light += colour * (_dot(normal, to_light).clamp_min(0) * strength)
            halfway = to_light + view
            shine = _dot(normal, halfway).clamp_min(0) / length(halfway).clamp_min(1e-6)
            gloss += colour * (shine.pow(looks[10]) * strength * looks[9])
        return albedo * light + gloss, code

    def _lamp(self, n: int, points: Tensor, normal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return unit directions (3, R or 1) to lamp n, its unhidden share and fall-off (R,)."""
        lights = self._scene.lights
        place = self._tracer.tensor(lights.position[n])[:, None]
        directional = bool(lights.directional[n])
        to_light = place if directional else place - points
        reach = length(to_light)
        to_light = to_light / reach
        lit = torch.zeros_like(points[0])
        front = (_dot(normal, to_light) > 0).nonzero()[:, 0]
        for spot in _disc(place[:, 0], lights.size, self._light_samples, directional):
            hidden = self._tracer.blocked(
                points[:, front], spot, lights.casters[n], directional=directional
            )
            lit[front[~hidden]] += 1 / self._light_samples
        fall = torch.ones_like(reach) if directional else 1 / (0.3 + reach.square())
        return to_light, lit, fall

    def _ambient(self, points: Tensor, normal: Tensor, sky_samples: int) -> Tensor:
        """Return ambient light (3, R): by the normal's tilt, or from the open part of the sky."""
        lights = self._scene.lights
        low = self._tracer.tensor(lights.ambient_low)[:, None]
        high = self._tracer.tensor(lights.ambient_high)[:, None]
        if not sky_samples:
            return low + (high - low) * (normal[2] * 0.5 + 0.5)
        open_sky = torch.zeros_like(points[0])
        for direction in _hemisphere(sky_samples):
            toward = self._tracer.tensor(direction)
            cosine = (normal * toward[:, None]).sum(0)
            front = (cosine > 0).nonzero()[:, 0]
            hidden = self._tracer.blocked(
                points[:, front], toward, lights.casters[0], directional=True
            )
            seen = front[~hidden]
            open_sky[seen] += cosine[seen] * (2 / sky_samples)
        # What the sky does not reach is lit by its surroundings, the more the more open it is.
        return high * open_sky + low * (0.35 + 0.65 * (0.5 - 0.5 * normal[2]))

    def _albedo(
        self, parts: Tensor, local: Tensor, face: Tensor, looks: Tensor, footprint: Tensor
    ) -> Tensor:
        """Box-projected texture, toned per part: tint * (1 + contrast * (texture / mean - 1))."""
        tint, scale, shift = looks[:3], looks[3], looks[4:6]
        axis = torch.div(face, 2, rounding_mode="floor")
        a = torch.where(axis == 0, local[1], local[0]) * scale
        b = torch.where(axis == 2, local[1], local[2]) * scale
        cos, sin = looks[11].cos(), looks[11].sin()
        u, v = cos * a - sin * b + shift[0], sin * a + cos * b + shift[1] + 0.37 * axis
        level = (footprint * scale * TEXTURE_SIZE).clamp_min(1e-6).log2() - self._sharpness
        textures = self._textures[parts]
        colour = self._bank.sample(textures, u, v, level).square()
        grey = colour.mean(0, keepdim=True)
        mean = self._bank.mean[textures].mean(1)
        colour = torch.lerp(grey, colour, looks[6]) / mean.clamp_min(0.01)
        dirt = self._bank.sample(self._dirt_textures[parts], u * 0.23, v * 0.23, level - 2)
        tone = (1 + looks[8] * (dirt[0] * 2 - 1)) * tint
        return ((1 + looks[7] * (colour - 1)) * tone).clamp_(0.01, 0.95)

    def _sky(self, direction: Tensor) -> Tensor:
        """Return linear sky colours (3, R) for world directions (3, R)."""
        sky, tensor = self._scene.sky, self._tracer.tensor
        d = direction / length(direction)
        low, high = tensor(sky.horizon)[:, None], tensor(sky.zenith)[:, None]
        colour = low + (high - low) * d[2].clamp(0, 1).sqrt()
        plane = 0.12 / (d[2].abs() + 0.12)
        texture = torch.full(d.shape[1:], sky.cloud_texture, device=d.device)
        u, v = d[0] * plane + sky.offset[0], d[1] * plane + sky.offset[1]
        cloud = self._bank.sample(texture, u, v, torch.zeros_like(u)).mean(0)
        cover = ((cloud - sky.cover) * 4).clamp(0, 1) * (d[2] * 6).clamp(0, 1)
        return colour + (tensor(sky.cloud)[:, None] - colour) * cover


def _disc(place: Tensor, radius: float, count: int, directional: bool) -> list[Tensor]:
    """Return ``count`` places (3,) spread over the disc of a lamp, or directions around a sun's."""
    if count == 1:
        return [place]
    axis = place / place.norm() if directional else place.new_tensor([0.0, 0.0, 1.0])
    helper = torch.eye(3, device=place.device)[int(axis.abs().argmin())]
    side = torch.linalg.cross(axis, helper)
    side = side / side.norm()
    other = torch.linalg.cross(axis, side)
    spots = []
    for n in range(count):  # a sunflower: even area per sample
        r, turn = radius * np.sqrt((n + 0.5) / count), n * _GOLDEN_ANGLE
        spot = place + side * float(r * np.cos(turn)) + other * float(r * np.sin(turn))
        spots.append(spot / spot.norm() if directional else spot)
    return spots


def _hemisphere(count: int) -> NDArray[np.float64]:
    """Return ``count`` unit directions (count, 3) spread evenly over the upper hemisphere."""
    n = np.arange(count)
    z, turn = (n + 0.5) / count, n * _GOLDEN_ANGLE
    flat = np.sqrt(1 - z * z)
    return np.column_stack([flat * np.cos(turn), flat * np.sin(turn), z])


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def render_view(
    tracer: SceneTracer, shader: Shader, camera: PinholeCamera, *, samples: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a linear-light image (3, H, W), exact z-depth and parts (H, W), 0 and -1 on sky.

    samples: where surfaces or shadows change within a pixel's neighbourhood, ``samples`` squared
    rays replace the centre's colour; elsewhere the textures' mip levels do the smoothing.
    """
    depth, parts = tracer.trace_view(camera)
    H, W = depth.shape
    rows, columns = torch.arange(H, device=depth.device), torch.arange(W, device=depth.device)
    y, x = torch.meshgrid(rows + 0.5, columns + 0.5, indexing="ij")
    colour, code = shader.pixels(camera, x.flatten(), y.flatten(), depth.flatten(), parts.flatten())
    image = colour.reshape(3, H, W)
    rows, columns = _edges(code.reshape(H, W)).nonzero(as_tuple=True)
    steps = (torch.arange(samples, device=depth.device) + 0.5) / samples
    px = (columns[:, None, None] + steps[None, None, :]).expand(-1, samples, -1).flatten()
    py = (rows[:, None, None] + steps[None, :, None]).expand(-1, -1, samples).flatten()
    traced = tracer.trace_pixels(camera, px, py)
    fine, _ = shader.pixels(camera, px, py, *traced, share=samples)
    fine = fine.clamp_max(_BRIGHTEST).reshape(3, -1, samples * samples).mean(-1)
    image[:, rows, columns] = fine
    return image, torch.where(parts >= 0, depth, torch.zeros_like(depth)), parts


def _edges(code: Tensor) -> Tensor:
    """Return (H, W) whether a pixel's code differs from one of its four neighbours'."""
    edge = torch.zeros_like(code, dtype=torch.bool)
    across, down = code[:, 1:] != code[:, :-1], code[1:] != code[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge
