"""Posed photos with depth as training data.

    python -m recon.evaluation.training_shards SCENE... --out DIR

Turns folders of images/, cameras.json and depth/ (see :mod:`recon.evaluation.scene`) into the
shards that ``python -m pointmap.training --data`` takes, alone or mixed with rendered ones.
"""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from pointmap.camera import Array, invert_rigid, project, sample_at, transform_points, unproject
from pointmap.command_line import read_arguments
from pointmap.commands import run_command
from pointmap.errors import InputError
from pointmap.network import NetworkConfig
from pointmap.saved_scene import refuse_saved_scene
from pointmap.training.batches.shards import save_shard
from pointmap.training.command import NETWORKS
from pointmap.version import answer_version
from recon.evaluation.two_view_data import PosedPhotos, read_posed_photos

logger = logging.getLogger(__name__)

_PATCH = NETWORKS["base"].patch_size
_AGREES = 0.05
"""A pixel is seen by another photo whose depth there differs by less than this share."""


def scene_shards(scene: PosedPhotos) -> Iterator[dict[str, Tensor]]:
    """Yield one shard for each size that two or more photos of ``scene`` have.

    Raises ``InputError`` when no two photos of one size have a depth map.
    """
    groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for n, photo in enumerate(scene.photos):
        if scene.depths[n] is not None:
            groups[photo.pixels.shape[:2]].append(n)
    usable = {size: group for size, group in groups.items() if len(group) > 1}
    if not usable:
        raise InputError(
            f"{scene.name} has no two photos of one size with a depth map in depth/: add the maps"
        )
    for (height, width), group in usable.items():
        intrinsics = [scene.cameras[n].intrinsics_at(width, height) for n in group]
        poses = [pose for n in group if (pose := scene.cameras[n].cam_to_world) is not None]
        maps = (scene.depths[n] for n in group)
        depths = [sample_at(depth, height, width) for depth in maps if depth is not None]
        images = np.stack([scene.photos[n].pixels for n in group]).transpose(0, 3, 1, 2)
        yield {
            "images": torch.from_numpy(images.copy())[None],
            "depth": torch.from_numpy(np.stack(depths)).half()[None],
            "intrinsics": torch.from_numpy(np.stack(intrinsics)).float()[None],
            "cam_to_world": torch.from_numpy(np.stack(poses)).float()[None],
            "overlap": torch.from_numpy(_overlaps(depths, intrinsics, poses)).float()[None],
        }


def _overlaps(depths: list[Array], intrinsics: list[Array], poses: list[Array]) -> Array:
    """Return (V, V): the share of view i's known pixels whose point view j sees at its depth."""
    overlap = np.eye(len(depths))
    for i, depth in enumerate(depths):
        points = transform_points(poses[i], unproject(depth, intrinsics[i])[depth > 0])
        for j in range(len(depths)):
            if i == j or not len(points):
                continue
            local = transform_points(invert_rigid(poses[j]), points)
            local = local[local[:, 2] > 0]
            column, row = np.floor(project(local, intrinsics[j])).astype(int).T
            height, width = depths[j].shape
            inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
            seen, z = depths[j][row[inside], column[inside]], local[inside, 2]
            overlap[i, j] = np.count_nonzero(np.abs(z - seen) < _AGREES * z) / len(points)
    return overlap


def write(
    scenes: tyro.conf.Positional[tuple[Path, ...]], /, *, out: Path, long_side: int = 384
) -> None:
    """Write posed photos with depth as training shards.

    Args:
        scenes: Folders with images/, cameras.json and depth/.
        out: Folder of the shards.
        long_side: Size of the photos in training, in pixels; sides become multiples of the bundled
            network's patches.
    """
    config = NetworkConfig(img_size=(long_side, long_side), patch_size=_PATCH)
    refuse_saved_scene(out)
    out.mkdir(parents=True, exist_ok=True)
    for folder in scenes:
        scene = read_posed_photos(folder, config, max_angle_deg=180.0)
        for number, shard in enumerate(scene_shards(scene)):
            path = out / f"shard-{scene.name}-{number:05d}.pt"
            save_shard(path, shard)
            views, height, width = shard["depth"].shape[1:]
            logger.info("%s: %d photos of %dx%d", path.name, views, width, height)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    answer_version(arguments)

    def run() -> int:
        read_arguments(write, arguments, "python -m recon.evaluation.training_shards")
        return 0

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
