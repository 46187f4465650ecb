"""One call from a seed to rendered views with exact geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pointmap.training.rendering.ray_tracing import SceneTracer
from pointmap.training.rendering.shading import Shader, render_view
from pointmap.training.rendering.trajectories import overlaps, sample_cameras
from pointmap.training.scenes.random_scene import make_scene
from pointmap.training.scenes.textures import TextureBank

HELD_OUT_SEED = 1_000_000_000
"""Training uses scene seeds below this, everything that is scored or shown seeds from here on."""

_OVERLAP_STRIDE = 4


@dataclass(frozen=True)
class RenderedScene:
    """Views of one scene, on the device of the texture bank."""

    images: Tensor
    """(V, 3, H, W) uint8 RGB, gamma 2."""
    depth: Tensor
    """(V, H, W) float32 exact z-depth at pixel centres; 0 = sky."""
    intrinsics: Tensor
    """(V, 3, 3) float32, pixel centres at +0.5."""
    cam_to_world: Tensor
    """(V, 4, 4) float32."""
    overlap: Tensor
    """(V, V) float32: [i, j] is the share of view i's surface pixels that view j sees."""


def render_synthetic_scene(
    seed: int,
    *,
    textures: TextureBank,
    size: tuple[int, int],
    views: int = 4,
    difficulty: float = 0.5,
) -> RenderedScene:
    """Draw, photograph and measure one scene.

    size: (height, width); difficulty in [0, 1]: more parts, smaller overlaps. The same seed, size
    and bank give the same scene on every device, up to rounding.
    """
    for attempt in range(20):
        rng = np.random.default_rng([seed, 2, attempt])
        scene = make_scene(seed + (attempt << 40), textures.groups, difficulty=difficulty)
        tracer = SceneTracer(scene, textures.texels.device)
        try:
            cameras = sample_cameras(tracer, rng, views=views, size=size, difficulty=difficulty)
        except RuntimeError:  # no free viewpoints in this layout: draw another
            continue
        break
    else:
        raise RuntimeError(f"no usable scene for seed {seed}")
    shader = Shader(tracer, textures)
    rendered = [render_view(tracer, shader, camera) for camera in cameras]
    images = torch.stack([image for image, _, _ in rendered])
    traced = [(depth, parts) for _, depth, parts in rendered]
    return RenderedScene(
        images=_expose(images, rng),
        depth=torch.stack([depth for depth, _ in traced]),
        intrinsics=torch.stack([tracer.tensor(camera.intrinsics) for camera in cameras]),
        cam_to_world=torch.stack([tracer.tensor(camera.cam_to_world) for camera in cameras]),
        overlap=overlaps(tracer, cameras, traced, stride=_OVERLAP_STRIDE),
    )


def _expose(linear: Tensor, rng: np.random.Generator) -> Tensor:
    """One exposure for all views of a scene: brightness around a drawn mean, soft highlights."""
    brightness = linear.clamp_max(1.5).sqrt().mean().clamp_min(1e-3)
    exposed = linear * (rng.uniform(0.35, 0.58) / brightness).square()
    exposed = torch.where(exposed > 0.7, 1 - 0.3 * torch.exp((0.7 - exposed) / 0.3), exposed)
    return (exposed.clamp(0, 1).sqrt() * 255 + 0.5).to(torch.uint8)
