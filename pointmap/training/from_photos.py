"""Learn from photos or a video without labels: ``python -m pointmap.training.from_photos``."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from pointmap.checkpoint import load_network, save_checkpoint
from pointmap.command_line import read_arguments
from pointmap.commands import run_command
from pointmap.errors import InputError
from pointmap.inference import choose_device, network_photos
from pointmap.network import PointmapNetwork
from pointmap.output_place import check_place
from pointmap.training.loop.self_supervised import (
    SelfSupervision,
    learn_without_labels,
    predict,
    self_supervised_loss,
)
from pointmap.version import answer_version

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FromPhotosCommand:
    """Fine-tune a checkpoint on photos of one scene, or a video, that nobody labelled or posed.

    The camera has to move, and neighbouring photos have to overlap well.
    """

    photos: tyro.conf.Positional[tuple[str, ...]]
    """Photo files or folders in the order they were taken, or videos."""
    out: Path
    """Checkpoint to write (.safetensors)."""
    weights: str | None = None
    """Checkpoint to start from; the bundled one by default."""
    steps: int = 200
    """Optimiser steps, four pairs each."""
    reach: int = 2
    """Each photo is compared with so many before and after it."""
    frames: int = 24
    """Frames taken from a video, spread by its motion."""
    learning_rate: float = 2e-4
    """Peak learning rate."""
    device: str | None = None
    """cpu, cuda or mps; the best at hand by default."""
    seed: int = 0
    """Seed of the updates and of the order of pairs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    answer_version(arguments)
    command = read_arguments(
        FromPhotosCommand, arguments, "python -m pointmap.training.from_photos"
    )

    def run() -> int:
        _learn(command)
        return 0

    return run_command(run)


def _learn(command: FromPhotosCommand) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if command.steps < 1 or command.reach < 1:
        raise InputError("--steps and --reach must be at least 1")
    if command.out.suffix != ".safetensors":
        raise InputError(f"--out {command.out} is no checkpoint: end its name in .safetensors")
    check_place(command.out)
    device = choose_device(command.device)
    network = load_network(command.weights).to(device)
    images = read_images(command.photos, network, frames=command.frames).to(device)
    count = len(images)
    pairs = [
        (i, j) for i in range(count) for j in range(i + 1, min(i + command.reach, count - 1) + 1)
    ]
    learnt = learn_without_labels(
        network,
        images,
        pairs,
        steps=command.steps,
        learning_rate=command.learning_rate,
        seed=command.seed,
    )
    before, after = (explained(n, images, pairs) for n in (network, learnt))
    logger.info("photometric error of the photos: %.4f before, %.4f after", before, after)
    card = {
        "data": f"{count} photos without labels, from {command.weights or 'the bundled weights'}",
        "steps": command.steps,
        "photometric_error": [before, after],
    }
    save_checkpoint(learnt, command.out, card=card)


def read_images(inputs: Sequence[str], network: PointmapNetwork, *, frames: int) -> Tensor:
    """Return photos (T, 3, H, W) in [0, 1] as the network sees them, all of one size.

    Raises ``InputError`` for fewer than two usable photos and for photos of different shapes.
    """
    from pointmap.images import open_photos
    from pointmap.photo_files import find_photos, find_videos
    from pointmap.video.frames import choose_frames

    with tempfile.TemporaryDirectory() as folder:
        taken = choose_frames(find_videos(inputs), Path(folder), target=frames)
        opened, _ = open_photos(find_photos(inputs, frames=taken))
        if len(opened) < 2:
            raise InputError(f"{len(opened)} usable photos; learning from motion takes at least 2")
        seen = network_photos(network, opened)
    shapes = {photo.pixels.shape for photo in seen}
    if len(shapes) > 1:
        raise InputError("photos of different shapes; give those of one camera, held one way")
    pixels = torch.from_numpy(np.stack([photo.pixels for photo in seen]))
    return pixels.permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def explained(network: PointmapNetwork, images: Tensor, pairs: Sequence[tuple[int, int]]) -> float:
    """Return the mean photometric error of each photo in the best of the photos paired with it."""
    predicted = predict(network, images, pairs)
    options = SelfSupervision(levels=1, auto_mask=False)
    return float(self_supervised_loss(predicted, images, options=options).reprojection)


if __name__ == "__main__":
    sys.exit(main())
