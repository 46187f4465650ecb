"""Pre-rendered views on disk, and endless random batches of pairs from them.

A shard is one file of scenes with equally many views of one size: ``images`` (S, V, 3, H, W) uint8,
``depth`` (S, V, H, W) float16 (relative error at most 0.05 %, far below what a network resolves; 0
on sky), ``intrinsics`` (S, V, 3, 3), ``cam_to_world`` (S, V, 4, 4), ``overlap`` (S, V, V). Shards
come from :mod:`pointmap.training.generate` and ``python -m recon.evaluation.training_shards``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pointmap.errors import InputError
from pointmap.training.batches.pairs import PairBatch, Views, make_batch

_EASIEST_OVERLAP = 0.5


def save_shard(path: Path, shard: dict[str, Tensor]) -> None:
    """Write a shard under a temporary name and put it in place in one step."""
    partial = path.with_suffix(f".part{os.getpid()}")
    torch.save(shard, partial)
    partial.replace(path)


class ShardPairs:
    """Endless random batches from folders of shards; all views of a batch have one size.

    Shards are mapped, not read: the system's page cache decides what stays in memory. Pairs are
    ordered, (i, j) and (j, i) both occur, and half are mirrored; the range applies to the overlap
    in both directions.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        batch_size: int,
        shares: Sequence[float] | None = None,
        seed: int = 0,
        overlap: tuple[float, float] = (0.1, 0.95),
        sensor: float = 1.0,
        easy_batches: int = 0,
        refresh: int = 50,
        device: torch.device | str = "cpu",
    ) -> None:
        """Open folders.

        shares: how often each folder is drawn from, in proportion; by its number of pairs if not
        given. sensor: strength of the sensor effects, 0 for none. easy_batches: batches over which
        pairs grow from easy (overlap above one half, no sensor effects) to all, in ten steps.
        refresh: batches between looks for new shards.

        Raises:
            InputError: a folder without shards.
        """
        self._folders = [Path(folder) for folder in folders]
        self._shares = None if shares is None else [float(share) for share in shares]
        self._batch_size, self._overlap, self._sensor = batch_size, overlap, sensor
        self._easy_batches, self._refresh = easy_batches, refresh
        self._device = torch.device(device)
        self._generator = torch.Generator().manual_seed(seed)
        self._batches = 0
        self._names: list[str] = []
        self._shards: dict[str, dict[str, Tensor]] = {}
        self._pairs: dict[str, Tensor] = {}
        self._indexed_ease = self._ease()
        self._find_shards()
        for number, folder in enumerate(self._folders):
            if not any(self._folder_of(name) == number for name in self._names):
                raise InputError(
                    f"no shards in {folder}: write some with python -m pointmap.training.generate"
                )

    @property
    def scenes(self) -> int:
        """Number of scenes known now."""
        return sum(len(self._shards[name]["images"]) for name in self._names)

    def state(self) -> dict[str, Any]:
        """Return what :meth:`load_state` needs to go on with the very next batch."""
        return {
            "generator": self._generator.get_state(),
            "batches": self._batches,
            "shards": list(self._names),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state` was taken; the shards known then must still exist."""
        self._generator.set_state(state["generator"])
        self._batches = state["batches"]
        missing = [name for name in state["shards"] if not self._path(name).exists()]
        if missing:
            raise InputError(f"{self._path(missing[0])} is gone: cannot resume exactly")
        self._names = list(state["shards"])
        self._indexed_ease = self._ease()
        for name in self._names:
            self._open(name)
            self._index_pairs(name)

    def __iter__(self) -> Iterator[PairBatch]:
        while True:
            yield self.next_batch()

    def next_batch(self) -> PairBatch:
        """Return the next batch on the device."""
        if self._batches and self._batches % self._refresh == 0:
            self._find_shards()
        if self._ease() != self._indexed_ease:
            self._indexed_ease = self._ease()
            for name in self._names:
                self._index_pairs(name)
        self._batches += 1
        usable = [name for name in self._names if len(self._pairs[name])]
        if not usable:
            folders = ", ".join(map(str, self._folders))
            raise InputError(f"no pair in {folders} has an overlap in {self._overlap}")
        weights = self._weights(usable)
        anchor = self._shards[usable[int(self._draw(weights, 1))]]
        size = anchor["images"].shape[-2:]
        sizes = [self._shards[name]["images"].shape[-2:] for name in usable]
        same = [k for k, one in enumerate(sizes) if one == size]
        chosen = []
        for owner in sorted(self._draw(weights[same], self._batch_size).tolist()):
            name = usable[same[owner]]
            row = int(torch.randint(len(self._pairs[name]), (1,), generator=self._generator))
            chosen.append((name, *self._pairs[name][row].tolist()))
        first = self._gather([(name, scene, i) for name, scene, i, _ in chosen])
        second = self._gather([(name, scene, j) for name, scene, _, j in chosen])
        overlap = torch.stack([self._shards[n]["overlap"][s, i, j] for n, s, i, j in chosen])
        strength = self._sensor * (1 - self._ease())
        # Mirrored scenes are as likely as they are: twice the data for nothing.
        mirror = (torch.rand(len(chosen), generator=self._generator) < 0.5).to(self._device)
        first, second = first.mirrored(mirror), second.mirrored(mirror)
        return make_batch(first, second, overlap.to(self._device), self._generator, strength)

    def _ease(self) -> float:
        """1 at the start, 0 from ``easy_batches`` on, in tenths."""
        left = self._easy_batches - self._batches
        return -(-10 * left // self._easy_batches) / 10 if left > 0 else 0.0

    def _weights(self, names: Sequence[str]) -> Tensor:
        """Return each shard's chance (S,), in proportion to its pairs within its folder."""
        weights = torch.tensor([len(self._pairs[name]) for name in names], dtype=torch.float64)
        if self._shares is not None:
            owner = torch.tensor([self._folder_of(name) for name in names])
            for number, share in enumerate(self._shares):
                mine = owner == number
                weights[mine] *= share / weights[mine].sum().clamp(min=1)
        return weights

    def _draw(self, weights: Tensor, count: int) -> Tensor:
        return torch.multinomial(weights, count, replacement=True, generator=self._generator)

    def _gather(self, keys: Sequence[tuple[str, int, int]]) -> Views:
        def stack(field: str) -> Tensor:
            rows = torch.stack([self._shards[name][field][s, v] for name, s, v in keys])
            return rows.to(self._device)

        return Views(stack("images"), stack("depth"), stack("intrinsics"), stack("cam_to_world"))

    def _folder_of(self, name: str) -> int:
        return int(name.split("/")[0])

    def _path(self, name: str) -> Path:
        number, file = name.split("/")
        return self._folders[int(number)] / file

    def _find_shards(self) -> None:
        self._names = [
            f"{number}/{path.name}"
            for number, folder in enumerate(self._folders)
            for path in sorted(folder.glob("shard-*.pt"))
        ]
        for name in self._names:
            if name not in self._shards:
                self._open(name)
                self._index_pairs(name)

    def _open(self, name: str) -> None:
        if name not in self._shards:
            self._shards[name] = torch.load(self._path(name), mmap=True, weights_only=True)

    def _index_pairs(self, name: str) -> None:
        overlap = self._shards[name]["overlap"]
        low, high = self._overlap
        low += self._indexed_ease * max(0.0, _EASIEST_OVERLAP - low)
        mutual = torch.minimum(overlap, overlap.transpose(1, 2))
        good = (mutual >= low) & (overlap <= high)
        good &= ~torch.eye(overlap.shape[1], dtype=torch.bool)
        self._pairs[name] = good.nonzero()
