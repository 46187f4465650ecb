"""Train the pointmap network: python -m pointmap.training --run RUN --data SHARDS.

Run the same command again to go on after a stop. At the end, or at --seconds, the averaged weights
are written to RUN/checkpoint.safetensors and, with --held-out, what they show on unseen scenes to
their card and a picture sheet to RUN/sheet.png. Under torchrun every process takes --batch
pairs a step.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from pointmap.checkpoint import load_network, save_checkpoint
from pointmap.commands import run_command
from pointmap.freed_memory import keep_freed_memory
from pointmap.network import DUSt3RConfig, MatchedConfig, NetworkConfig
from pointmap.saved_scene import refuse_saved_scene
from pointmap.training.batches.prefetch import Prefetched
from pointmap.training.batches.shards import ShardPairs
from pointmap.training.batches.source import BatchSource
from pointmap.training.loop.distributed import join_world
from pointmap.training.loop.trainer import Trainer, TrainOptions
from pointmap.training.loop.validate import validate, write_sheet
from pointmap.version import VERSION_LINE

_BASE = MatchedConfig(
    img_size=(384, 384),
    patch_size=32,
    enc_embed_dim=256,
    enc_depth=8,
    enc_num_heads=4,
    dec_embed_dim=192,
    dec_depth=6,
    dec_num_heads=3,
    match_dim=64,
)
NETWORKS: dict[str, NetworkConfig] = {
    "tiny": DUSt3RConfig(
        img_size=(64, 64),
        enc_embed_dim=48,
        enc_depth=2,
        enc_num_heads=2,
        dec_embed_dim=48,
        dec_depth=2,
        dec_num_heads=2,
        head_type="linear",
    ),
    "base": _BASE,
    "large": replace(_BASE, enc_depth=12, dec_depth=8),
}
"""Network sizes: "tiny" to try the command, "base" is the bundled one (13 M parameters), "large" is
deeper, with weights below 40 MB (17 M)."""


@dataclass(frozen=True)
class Preset:
    """What suits a machine; each value can be overridden on the command line."""

    network: str
    batch: int
    learning_rate: float
    warmup_steps: int
    steps: int | None = None
    budget_seconds: float | None = None


PRESETS = {
    "cpu": Preset("base", batch=8, learning_rate=6e-4, warmup_steps=300, steps=5000),
    "gpu": Preset("large", batch=128, learning_rate=1e-3, warmup_steps=1000, budget_seconds=1500),
}
""""cpu" for two cores and hours, "gpu" for one data-centre GPU and 25 minutes."""


def _parse(arguments: Sequence[str] | None, prog: str) -> argparse.Namespace:
    # argparse, not tyro: a borrowed GPU machine may have nothing but torch and numpy.
    parser = argparse.ArgumentParser(
        prog=prog,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--version", action="version", version=VERSION_LINE)
    add("--run", type=Path, required=True, help="folder of state, log.csv, checkpoint, sheet")
    add("--data", type=Path, nargs="+", required=True, help="folders of training shards")
    add("--shares", type=float, nargs="+", help="how often each --data folder is drawn from")
    add("--held-out", type=Path, help="folder of shards with other seeds, scored at the end")
    add("--preset", choices=PRESETS, default="cpu", help="settings that suit a machine (cpu)")
    add("--network", choices=NETWORKS, help="size of the network")
    add("--batch", type=int, help="photo pairs in a step, each in both directions")
    add("--learning-rate", type=float, help="peak learning rate")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="optimiser steps of the whole run")
    length.add_argument("--budget", type=float, metavar="SECONDS", help="length of the whole run")
    add("--seconds", type=float, help="stop this call after so long and save; the next goes on")
    add(
        "--overlap",
        type=float,
        nargs=2,
        default=(0.1, 0.95),
        metavar=("LOW", "HIGH"),
        help="pairs are drawn with this share of common pixels (0.1 0.95)",
    )
    add(
        "--easy-batches",
        type=int,
        default=2000,
        help="batches over which pairs grow from easy (large overlap, clean photos) to all (2000)",
    )
    add("--init", help="weights to fine-tune: anything that --weights of run_recon.py takes")
    add("--threads", type=int, default=1, help="CPU threads (1)")
    add("--device", help="cpu, cuda or mps; the best at hand by default")
    add("--seed", type=int, default=0, help="of weights, pairs and augmentation (0)")
    return parser.parse_args(arguments)


def _preset(arguments: argparse.Namespace) -> Preset:
    """Return the chosen preset with what the command line overrides."""
    preset = PRESETS[arguments.preset]
    if arguments.steps is not None or arguments.budget is not None:
        preset = replace(preset, steps=arguments.steps, budget_seconds=arguments.budget)
    given = {
        name: getattr(arguments, name)
        for name in ("network", "batch", "learning_rate")
        if getattr(arguments, name) is not None
    }
    return replace(preset, **given)


def main(arguments: Sequence[str] | None = None, prog: str = "python -m pointmap.training") -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    options = _parse(arguments, prog)
    return run_command(
        lambda: _run(options),
        left=lambda: f"the same command goes on from what is in {options.run}",
    )


def _run(options: argparse.Namespace) -> int:
    refuse_saved_scene(options.run)
    world = join_world()
    logging.basicConfig(
        level=logging.INFO if world.leads else logging.WARNING, format="%(asctime)s %(message)s"
    )
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    preset = _preset(options)
    config = NETWORKS[preset.network]
    trainer = Trainer(
        options.run,
        config,
        TrainOptions(
            steps=preset.steps,
            budget_seconds=preset.budget_seconds,
            learning_rate=preset.learning_rate,
            warmup_steps=preset.warmup_steps,
            device=options.device,
            seed=options.seed,
        ),
        world=world,
    )
    source: BatchSource = ShardPairs(
        options.data,
        shares=options.shares,
        batch_size=preset.batch,
        overlap=tuple(options.overlap),
        easy_batches=options.easy_batches,
        # Each process draws its own pairs.
        seed=options.seed + 1000 * world.rank,
        device=trainer.device,
    )
    if trainer.device.type != "cpu":
        source = Prefetched(source)
    if options.init is not None:
        trainer.start_from(load_network(options.init))
    if trainer.resume(source):
        logging.info("resumed at step %d", trainer.step)
    trainer.run(source, seconds=options.seconds)
    if world.leads:
        _finish(trainer, options)
    return 0


def _finish(trainer: Trainer, options: argparse.Namespace) -> None:
    """Write the averaged weights with their card, and what they show on held-out pairs."""
    network = trainer.averaged_network
    card: dict[str, object] = {
        "steps": trainer.step,
        "directed_pairs": trainer.pairs_seen,
        "seconds": round(trainer.seconds),
        "options": asdict(trainer.options),
        "data": [folder.name for folder in options.data],
    }
    if options.held_out is not None:
        source = ShardPairs(
            [options.held_out],
            batch_size=16,
            overlap=tuple(options.overlap),
            seed=1,
            device=trainer.device,
        )
        batches = [batch for batch, _ in zip(source, range(12), strict=False)]
        card["held_out"] = asdict(validate(network, batches))
        write_sheet(network, batches[0], options.run / "sheet.png")
        logging.info("held out: %s", card["held_out"])
    save_checkpoint(network, options.run / "checkpoint.safetensors", card=card)
