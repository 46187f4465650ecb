"""Colour of traced points: textures, lamps with shadows, gloss, sky; and anti-aliased pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pointmap.training.render import LIFT, Camera, SceneTracer, length, world_rays
from pointmap.training.textures import TEXTURE_SIZE, TextureBank

_BRIGHTEST = 1.5
"""Linear colours are clipped here before supersamples are averaged, as a sensor would."""


class Shader:
    """Colours points of one scene."""

    def __init__(self, tracer: SceneTracer, bank: TextureBank) -> None:
        self._tracer, self._bank, self._scene = tracer, bank, tracer.scene
        m = tracer.scene.materials
        columns = [m.tint, m.scale, m.offset, m.saturation, m.contrast, m.dirt, m.gloss]
        self._looks = tracer.tensor(np.column_stack([*columns, m.shininess, m.turn]))
        self._textures = torch.from_numpy(m.texture).to(tracer.device)
        self._dirt_textures = torch.from_numpy(m.dirt_texture).to(tracer.device)

    def pixels(
        self, camera: Camera, x: Tensor, y: Tensor, depth: Tensor, parts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return linear colours (3, R) and codes (R,) of pixel places with known depth and part.

        Equal codes in neighbouring pixels: same face, same lamps reach it.
        """
        eye, direction = world_rays(self._tracer, camera, x, y)
        colour = torch.empty_like(direction)
        code = torch.full_like(parts, -1)
        away = (parts < 0).nonzero()[:, 0]
        if len(away):
            colour[:, away] = self._sky(direction[:, away])
        index = (parts >= 0).nonzero()[:, 0]
        d = depth[index]
        points = eye + direction[:, index] * d
        found = self._surface(points, parts[index], eye, d / camera.intrinsics[0, 0])
        colour[:, index], code[index] = found
        return colour, code

    def _surface(
        self, points: Tensor, parts: Tensor, eye: Tensor, footprint: Tensor
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
        low = self._tracer.tensor(lights.ambient_low)[:, None]
        high = self._tracer.tensor(lights.ambient_high)[:, None]
        light = low + (high - low) * (normal[2] * 0.5 + 0.5)
        gloss = torch.zeros_like(light)
        code = parts * 8 + face
        lifted = points + normal * (LIFT * distance)
        for n in range(len(lights.position)):
            to_light, strength = self._lamp(n, lifted, normal)
            code = code * 2 + (strength > 0)
            colour = self._tracer.tensor(lights.colour[n])[:, None]
            light += colour * (_dot(normal, to_light).clamp_min(0) * strength)
            halfway = to_light + view
            shine = _dot(normal, halfway).clamp_min(0) / length(halfway).clamp_min(1e-6)
            gloss += colour * (shine.pow(looks[10]) * strength * looks[9])
        return albedo * light + gloss, code

    def _lamp(self, n: int, points: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit directions (3, R or 1) to lamp n and its unshadowed strength (R,)."""
        lights = self._scene.lights
        place = self._tracer.tensor(lights.position[n])[:, None]
        directional = bool(lights.directional[n])
        to_light = place if directional else place - points
        reach = length(to_light)
        to_light = to_light / reach
        strength = torch.zeros_like(points[0])
        front = (_dot(normal, to_light) > 0).nonzero()[:, 0]
        hidden = self._tracer.blocked(
            points[:, front], place[:, 0], lights.casters[n], directional=directional
        )
        lit = front[~hidden]
        strength[lit] = 1.0 if directional else 1 / (0.3 + reach[lit].square())
        return to_light, strength

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
        level = (footprint * scale * TEXTURE_SIZE).clamp_min(1e-6).log2()
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


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def render_view(
    tracer: SceneTracer, shader: Shader, camera: Camera, *, samples: int = 2
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
    fine, _ = shader.pixels(camera, px, py, *tracer.trace_pixels(camera, px, py))
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
