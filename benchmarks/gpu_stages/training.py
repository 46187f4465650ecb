"""Training from the bundled weights, in parts: each goes on where the one before it stopped."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.gpu_stages.row import Row, StageOptions
from benchmarks.training import views_per_second

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "pointmap" / "weights" / "pointmap-base.safetensors"
SHARD_BYTES = 15 * 10**6
"""What returns from such a machine are files of at most 16 MiB."""
RATE_GOAL = "1500"
_SCENES, _HELD_OUT = 200_000, 84
_SHARD_SCENES = 6
"""Few, so that the first are there in seconds."""


def rows(options: StageOptions) -> Iterator[Row]:
    """Yield the rates of rendering and training, what the weights score, and their files."""
    data, held_out, run = (options.work / name for name in ("shards", "held_out", "run"))
    cores = 1 if options.tiny else max(1, (os.cpu_count() or 2) - 2)
    size = ["--size", "64x64", "--views", "3"] if options.tiny else []
    textures = [] if options.textures is None else ["--textures", str(options.textures)]
    shared = [*size, *textures]
    scenes = 2 if options.tiny else _SCENES
    shared += ["--shard-scenes", "2" if options.tiny else str(_SHARD_SCENES)]
    _generate(held_out, 2 if options.tiny else _HELD_OUT, cores, [*shared, "--held-out"])
    start, before = time.monotonic(), _scenes(data)
    renderer = _command("pointmap.training.generate", "--out", data, "--scenes", scenes,
                        "--seed", 2, "--workers", cores, *shared)  # fmt: skip
    rendering = subprocess.Popen(renderer, cwd=ROOT)
    try:
        while _scenes(data) == before and rendering.poll() is None:
            time.sleep(0.2)
        yield Row(f"first shard of {cores} cores", time.monotonic() - start, "s")
        trained = _train(data, held_out, run, options)
        seconds = time.monotonic() - start
    finally:
        rendering.kill()
        rendering.wait()
    views = (_scenes(data) - before) * (3 if options.tiny else 4)
    yield Row(f"rendered beside training by {cores} cores", views / seconds, "views/s")
    yield Row("training command", "done" if trained == 0 else f"exit code {trained}")
    yield from _logged(run / "log.csv")
    if not options.tiny:
        rate = views_per_second(4, str(options.device))
        yield Row("rendered on the device itself", rate, "views/s")
    checkpoint = run / "checkpoint.safetensors"
    if checkpoint.is_file():
        for part in split_file(checkpoint, options.out, SHARD_BYTES):
            yield Row(part.name, part.stat().st_size / 1e6, "MB")


def _command(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def _generate(out: Path, scenes: int, workers: int, more: Sequence[str]) -> None:
    command = _command("pointmap.training.generate", "--out", out, "--scenes", scenes,
                       "--seed", 2, "--workers", workers, *more)  # fmt: skip
    subprocess.run(command, check=True, cwd=ROOT)


def _train(data: Path, held_out: Path, run: Path, options: StageOptions) -> int:
    """Train until the part's time is over and return the exit code of the command."""
    if options.tiny:
        more: list[object] = ["--network", "tiny", "--batch", 2, "--steps", 20, "--overlap", 0, 1]
    else:
        more = ["--network", "base", "--init", BUNDLED, "--batch", 128, "--learning-rate", 3e-4]
        more += ["--budget", options.budget, "--seconds", options.seconds, "--easy-batches", 0]
    command = _command("pointmap.training", "--run", run, "--data", data, "--held-out", held_out,
                       "--device", options.device, "--threads", 2, *more)  # fmt: skip
    return subprocess.run(command, check=False, cwd=ROOT).returncode


def _scenes(folder: Path) -> int:
    """Return how many scenes the shards of a folder hold; the last may hold fewer."""
    shards = sorted(folder.glob("shard-*.pt"))
    return sum(len(torch.load(s, mmap=True, weights_only=True)["seeds"]) for s in shards)


def _logged(log: Path) -> Iterator[Row]:
    """Yield the rate since the log's second line, as the first ones hold the compilation."""
    lines = []
    if log.is_file():
        with log.open(newline="") as file:
            lines = list(csv.DictReader(file))
    if len(lines) > 2:
        first, last = lines[1], lines[-1]
        pairs = int(last["pairs"]) - int(first["pairs"])
        rate = pairs / max(float(last["seconds"]) - float(first["seconds"]), 1e-9)
        yield Row("training", rate, "directed pairs/s", RATE_GOAL)
    if lines:
        yield Row("steps so far", float(lines[-1]["step"]))
        yield Row("loss at the end", float(lines[-1]["loss"]))


def split_file(path: Path, folder: Path, most_bytes: int) -> list[Path]:
    """Write ``path`` in parts NAME.00, NAME.01, ...; ``cat NAME.?? > NAME`` joins them."""
    content = path.read_bytes()
    parts = []
    for number, start in enumerate(range(0, len(content), most_bytes)):
        part = folder / f"{path.name}.{number:02d}"
        part.write_bytes(content[start : start + most_bytes])
        parts.append(part)
    return parts
