"""Rates of training: python -m benchmarks.training [--threads 1] [--json FILE].

Views rendered a second, and pairs trained a second, each optimisation taken away in turn. Needs no
data: the pairs are rendered first. Pairs are directed, both directions of each, as in the log.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.figures import write_figures
from pointmap.freed_memory import keep_freed_memory
from pointmap.network import DUSt3RConfig, NetworkConfig, build_network, layers
from pointmap.training.batches.shards import ShardPairs
from pointmap.training.command import NETWORKS
from pointmap.training.generate import main as generate
from pointmap.training.loop.trainer import Trainer, TrainOptions
from pointmap.training.rendering.render_views import render_synthetic_scene
from pointmap.training.scenes.textures import make_texture_bank

SIZE = (288, 384)
COLUMNS = ("training", "parameters M", "directed pairs/s", "seconds a step")


@dataclass(frozen=True)
class Rate:
    """``way`` names what is different; rates are medians over the steps measured, of processes
    means.
    """

    way: str
    parameters_million: float
    pairs_per_second: float
    step_seconds: float


def views_per_second(scenes: int, device: str = "cpu") -> float:
    """Return the rate of rendering scenes of four views, textures made beforehand."""
    bank = make_texture_bank(1, device=device)
    render_synthetic_scene(0, textures=bank, size=SIZE)
    start = time.perf_counter()
    for seed in range(1, scenes + 1):
        render_synthetic_scene(seed, textures=bank, size=SIZE)
    return 4 * scenes / (time.perf_counter() - start)


def training_rates(data: Path, *, steps: int, batch: int) -> Iterator[Rate]:
    """Yield the rate of each way to train, on the same pairs."""
    base = NETWORKS["base"]
    options = TrainOptions(steps=10_000)
    # First: there is no way back.
    yield _rate("freed memory given back", base, options, data, steps, batch)
    keep_freed_memory()
    yield _rate("as it is", base, options, data, steps, batch)
    if (threads := torch.get_num_threads()) > 1:
        yield _rate_of_processes(threads, base, data, batch)
    with _fused_attention():
        yield _rate("torch's fused attention", base, options, data, steps, batch)
    with mock.patch("pointmap.training.loop.trainer.choose_dtype", lambda _: torch.float32):
        yield _rate("float32", base, options, data, steps, batch)
    # The same sizes, which are all that both configurations have.
    plain = DUSt3RConfig(**{f.name: getattr(base, f.name) for f in fields(NetworkConfig)})
    yield _rate("DUSt3R's decoders, no matcher", plain, options, data, steps, batch)


def _rate(
    way: str, config: NetworkConfig, options: TrainOptions, data: Path, steps: int, batch: int
) -> Rate:
    source = ShardPairs([data], batch_size=batch, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(Path(folder), config, options)
        seconds = []
        for _ in range(steps + 2):
            start = time.perf_counter()
            trainer._train_step(source.next_batch())
            seconds.append(time.perf_counter() - start)
    step = sorted(seconds[2:])[steps // 2]
    count = sum(p.numel() for p in trainer.network.parameters())
    return Rate(way, count / 1e6, 2 * batch / step, step)


def _rate_of_processes(count: int, config: NetworkConfig, data: Path, batch: int) -> Rate:
    """Return the mean rate of torchrun with ``count`` processes of one thread, from its log."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node", str(count), "-m", "--", "pointmap.training"),
                *("--run", folder, "--data", str(data), "--batch", str(batch // count)),
                *("--steps", "40", "--easy-batches", "0", "--threads", "1"),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        with (Path(folder) / "log.csv").open(newline="") as file:
            first, last = csv.DictReader(file)
    pairs = int(last["pairs"]) - int(first["pairs"])
    seconds = float(last["seconds"]) - float(first["seconds"])
    parameters = sum(p.numel() for p in build_network(config).parameters())
    way = f"{count} processes of one thread (torchrun)"
    step = seconds / (int(last["step"]) - int(first["step"]))
    return Rate(way, parameters / 1e6, pairs / seconds, step)


@contextmanager
def _fused_attention() -> Iterator[None]:
    def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    target: Callable[[Tensor, Tensor, Tensor], Tensor] = fused
    with mock.patch.object(layers, "attention", target):
        yield


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--steps", type=int, default=7, help="steps measured of each way (7)")
    parser.add_argument("--scenes", type=int, default=12, help="scenes rendered (12)")
    parser.add_argument("--batch", type=int, default=8, help="photo pairs in a step (8)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    views = views_per_second(options.scenes)
    print(f"{views:.1f} views/s rendered at {SIZE[1]}x{SIZE[0]}, {options.threads} thread(s)\n")
    print("| " + " | ".join(COLUMNS) + " |\n" + "| --- " * len(COLUMNS) + "|")
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        generate(["--out", folder, "--scenes", "48", "--seed", "1"])
        for rate in training_rates(Path(folder), steps=options.steps, batch=options.batch):
            rates.append(rate)
            way, *numbers = astuple(rate)
            print(f"| {way} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |")
            sys.stdout.flush()
    write_figures(options.json, views_per_second=views, training=rates)


if __name__ == "__main__":
    main()
