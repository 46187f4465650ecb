"""Train the pointmap network: ``python -m pointmap.training --run RUN --data SHARDS``."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from pointmap.checkpoint import load_network, save_checkpoint
from pointmap.network import NetworkConfig
from pointmap.training.pairs import ShardPairs
from pointmap.training.trainer import Trainer, TrainOptions
from pointmap.training.validate import validate, write_sheet

NETWORKS = {
    "tiny": NetworkConfig(
        img_size=(64, 64),
        enc_embed_dim=48,
        enc_depth=2,
        enc_num_heads=2,
        dec_embed_dim=48,
        dec_depth=2,
        dec_num_heads=2,
        head_type="linear",
    ),
    "base": NetworkConfig(
        img_size=(192, 192),
        enc_embed_dim=256,
        enc_depth=8,
        enc_num_heads=4,
        dec_embed_dim=192,
        dec_depth=6,
        dec_num_heads=3,
        head_type="linear",
    ),
}
"""Network sizes: "tiny" to try the command, "base" is the bundled one (14 M parameters)."""


@dataclass(frozen=True)
class TrainCommand:
    """Train on folders of rendered pairs (make them with ``python -m pointmap.training.pairs``).

    Run the same command again to go on after a stop. At the end, or at --seconds, the averaged
    weights are written to RUN/checkpoint.safetensors, a picture sheet to RUN/sheet.png.
    """

    run: Path
    """Folder of this run: state, log.csv, checkpoint, picture sheet."""
    data: Path
    """Folder of training shards. New shards are picked up as they appear."""
    held_out: Path | None = None
    """Folder of shards with other seeds, scored at the end."""
    network: Literal["tiny", "base"] = "base"
    """Size of the network."""
    steps: int = 4000
    """Optimiser steps of the whole run."""
    batch: int = 16
    """Photo pairs in a step; each counts in both directions."""
    overlap: tuple[float, float] = (0.25, 1.0)
    """Pairs are drawn with this share of common pixels."""
    learning_rate: float = 5e-4
    """Peak learning rate."""
    easy: float = 0.3
    """Share of the steps over which pairs grow from easy (large overlap, clean photos) to all."""
    init: str | None = None
    """Weights to start from (fine-tuning): anything that --weights of run_recon.py takes."""
    seconds: float | None = None
    """Stop this call after so many seconds and save; the next call goes on."""
    threads: int = 1
    """CPU threads."""
    device: str | None = None
    """cpu, cuda or mps; the best at hand by default."""
    seed: int = 0
    """Seed of weights, pairs and augmentation."""


def main() -> None:
    """Run the command line."""
    command = tyro.cli(TrainCommand)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(command.threads)
    options = TrainOptions(
        steps=command.steps,
        learning_rate=command.learning_rate,
        easy_steps=round(command.easy * command.steps),
        device=command.device,
        seed=command.seed,
    )
    trainer = Trainer(command.run, NETWORKS[command.network], options)
    source = ShardPairs(
        command.data,
        batch_size=command.batch,
        overlap=command.overlap,
        seed=command.seed,
        device=trainer.device,
    )
    if command.init is not None:
        trainer.start_from(load_network(command.init))
    if trainer.resume(source):
        logging.info("resumed at step %d", trainer.step)
    trainer.run(source, seconds=command.seconds)
    _finish(trainer, command)


def _finish(trainer: Trainer, command: TrainCommand) -> None:
    """Write the averaged weights with their card, and what they show on held-out pairs."""
    network = trainer.averaged_network
    card: dict[str, object] = {
        "steps": trainer.step,
        "directed_pairs": trainer.pairs_seen,
        "seconds": round(trainer.seconds),
        "options": asdict(trainer.options),
        "data": "procedural scenes of pointmap.training",
    }
    if command.held_out is not None:
        source = ShardPairs(
            command.held_out,
            batch_size=16,
            overlap=command.overlap,
            seed=1,
            device=trainer.device,
        )
        batches = [batch for batch, _ in zip(source, range(12), strict=False)]
        card["held_out"] = asdict(validate(network, batches))
        write_sheet(network, batches[0], command.run / "sheet.png")
        logging.info("held out: %s", card["held_out"])
    save_checkpoint(network, command.run / "checkpoint.safetensors", card=card)


if __name__ == "__main__":
    main()
