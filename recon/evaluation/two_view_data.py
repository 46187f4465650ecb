"""Pairs of photos whose cameras are known: folders of real scenes, and held-out rendered ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pointmap.camera import Array, invert_rigid, rotation_angle_deg
from pointmap.errors import InputError
from pointmap.images import Photo, ResizedPhoto, load_photo, open_photos, resized_size
from recon.evaluation.scene import read_depth_truth, read_truth
from recon.scene import Camera

if TYPE_CHECKING:
    from pointmap.network import NetworkConfig

HELD_OUT_SCENES = 48
"""Rendered scenes of the fixed held-out set: about 270 pairs of four views each."""
_HELD_OUT_OFFSET = 900_000_000
"""Beyond the seeds of ``pointmap.training.generate --held-out`` with ``--seed`` below 900."""
# Aspects of rendered photos, in turn: those of cameras and phones, and upright ones.
_SIZES = ((4, 3), (3, 2), (1, 1), (3, 4))


@dataclass(frozen=True)
class TwoViewPair:
    """Photos i < j; ``overlap`` in [0, 1] where known, the smaller of both directions."""

    i: int
    j: int
    overlap: float | None = None


@dataclass(frozen=True)
class PosedPhotos:
    """Photos at the network's size with true ``cameras`` (one per photo, all with a pose), true
    z-``depths`` (None where unknown) over the whole photo at any size, and the pairs to score.
    """

    name: str
    photos: tuple[ResizedPhoto, ...]
    cameras: tuple[Camera, ...]
    depths: tuple[Array | None, ...]
    pairs: tuple[TwoViewPair, ...]


def read_posed_photos(folder: Path, config: NetworkConfig, *, max_angle_deg: float) -> PosedPhotos:
    """Read ``folder``/images, cameras.json and depth/ (see :mod:`recon.evaluation.scene`).

    All pairs whose cameras are turned by less than ``max_angle_deg`` against each other are scored.
    Raises ``InputError`` when fewer than two photos have a known camera.
    """
    truth = read_truth(folder / "cameras.json")
    paths = [folder / "images" / name for name in truth.cameras]
    opened, rejected = open_photos(paths)
    if rejected:
        raise InputError(f"{rejected[0].path}: {rejected[0].reason}; mend or remove the scene")
    if len(opened) < 2:
        raise InputError(f"{folder} has {len(opened)} photos of known camera; two are needed")
    names = [path.name for path in paths]
    cameras = tuple(truth.cameras[name] for name in names)
    return PosedPhotos(
        folder.resolve().name,
        tuple(
            load_photo(photo, long_side=max(config.img_size), multiple=config.patch_size)
            for photo in opened
        ),
        cameras,
        tuple(read_depth_truth(truth, name) for name in names),
        tuple(_pairs(cameras, max_angle_deg)),
    )


def _pairs(cameras: tuple[Camera, ...], max_angle_deg: float) -> Iterator[TwoViewPair]:
    for i, j in combinations(range(len(cameras)), 2):
        if _angle_deg(cameras[i], cameras[j]) < max_angle_deg:
            yield TwoViewPair(i, j)


def _angle_deg(first: Camera, second: Camera) -> float:
    assert first.cam_to_world is not None and second.cam_to_world is not None
    motion = invert_rigid(first.cam_to_world) @ second.cam_to_world
    return float(rotation_angle_deg(motion[:3, :3]))


def held_out_scenes(config: NetworkConfig, *, scenes: int) -> Iterator[PosedPhotos]:
    """Render the first ``scenes`` scenes of the fixed held-out set, at the network's size.

    Procedural textures only, full sensor effects, difficulties drawn as for training; pairs that
    share at least 10 % of their surface both ways. The same size gives the same set anywhere.
    """
    import torch

    from pointmap.training.batches.sensor import photograph
    from pointmap.training.rendering.render_views import HELD_OUT_SEED, render_synthetic_scene
    from pointmap.training.scenes.textures import make_texture_bank

    start = HELD_OUT_SEED + _HELD_OUT_OFFSET
    textures = make_texture_bank(start)
    for number in range(scenes):
        seed = start + number
        aspect = _SIZES[number % len(_SIZES)]
        width, height = resized_size(*aspect, max(config.img_size), config.patch_size)
        rng = np.random.default_rng([seed, 3])
        scene = render_synthetic_scene(
            seed, textures=textures, size=(height, width), difficulty=rng.uniform(0.1, 1.0)
        )
        generator = torch.Generator().manual_seed(seed)
        images = (photograph(scene.images, generator) + 1) * 127.5
        pixels = images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        cameras = tuple(
            Camera(K.double().cpu().numpy(), width, height, pose.double().cpu().numpy())
            for K, pose in zip(scene.intrinsics, scene.cam_to_world, strict=True)
        )
        overlap = np.minimum(scene.overlap.cpu().numpy(), scene.overlap.cpu().numpy().T)
        yield PosedPhotos(
            f"held-out {number}",
            tuple(_rendered_photo(image) for image in pixels),
            cameras,
            tuple(scene.depth.double().cpu().numpy()),
            tuple(
                TwoViewPair(i, j, float(overlap[i, j]))
                for i, j in combinations(range(len(cameras)), 2)
                if overlap[i, j] >= 0.1
            ),
        )


def _rendered_photo(pixels: np.ndarray) -> ResizedPhoto:
    height, width = pixels.shape[:2]
    return ResizedPhoto(Photo(Path("rendered"), "rendered", width, height, None, ""), pixels)
