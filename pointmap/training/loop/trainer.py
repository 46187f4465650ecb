"""The training loop: batches of posed pairs in, a checkpoint out. Needs torch and numpy.

Everything that decides the next step (weights, optimiser, EMA, random states, position in the data)
is in ``RUN/state.pt``, written every few minutes by rename: a killed run goes on where it was.
"""

from __future__ import annotations

import csv
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from pointmap.errors import InputError
from pointmap.inference import choose_device, choose_dtype
from pointmap.network import DUSt3R, NetworkConfig, PointmapNetwork, build_network
from pointmap.network.heads import LinearHead
from pointmap.network.layers import DecoderBlock
from pointmap.training.batches.pairs import PairBatch
from pointmap.training.loop.distributed import World
from pointmap.training.loop.pair_loss import pair_loss
from pointmap.training.losses import PointmapLoss
from pointmap.training.losses.correspondence import AttentionProbe

if TYPE_CHECKING:
    from pointmap.training.batches.source import BatchSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes:
        steps: optimiser steps of the whole run; the learning rate falls to zero at the last one.
        budget_seconds: length of the whole run instead of ``steps``, over all its calls.
        learning_rate: peak of the warm-up and cosine schedule (AdamW).
        warmup_steps: steps of linear warm-up.
        weight_decay: AdamW's, on matrices only.
        gradient_clip: largest gradient norm.
        confidence_alpha: weight of the loss's confidence regulariser.
        attention_weight: weight of the cross-attention supervision, 0 for none; networks with a
            matcher are told the matches and have none.
        match_weight: weight of the matcher's loss, in networks that have one.
        ema: decay of the averaged weights, which are what is kept.
        save_seconds: time between two saved states.
        log_steps: steps between two lines of the log.
        device: "cpu", "cuda", "mps", or None for the best at hand.
        seed: of the initial weights.
    """

    steps: int | None = None
    budget_seconds: float | None = None
    learning_rate: float = 5e-4
    warmup_steps: int = 300
    weight_decay: float = 0.05
    gradient_clip: float = 1.0
    confidence_alpha: float = 0.2
    attention_weight: float = 0.1
    match_weight: float = 0.3
    ema: float = 0.999
    save_seconds: float = 180.0
    log_steps: int = 20
    device: str | None = None
    seed: int = 0


class Trainer:
    """One training run in ``folder``; resumes by itself when the folder holds a state."""

    def __init__(
        self,
        folder: Path,
        config: NetworkConfig,
        options: TrainOptions,
        *,
        world: World | None = None,
    ) -> None:
        """Make the network; ``world`` is this process's place under torchrun."""
        if (options.steps is None) == (options.budget_seconds is None):
            raise InputError("say how long to train: either steps or seconds of the whole run")
        self.folder, self.options, self.world = folder, options, world or World()
        self.device = choose_device(options.device)
        self.dtype = choose_dtype(self.device)
        torch.manual_seed(options.seed)
        self.network = build_network(config)
        _start_flat(self.network)
        self.network.to(self.device)
        if self.device.type == "cuda":
            _compile_blocks(self.network)
        self.average = torch.optim.swa_utils.AveragedModel(
            self.network, avg_fn=_moving_average(options.ema)
        )
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(self.network, options.weight_decay),
            lr=options.learning_rate,
            betas=(0.9, 0.95),
        )
        self._probe = None
        if options.attention_weight and isinstance(self.network, DUSt3R):
            self._probe = AttentionProbe(self.network)
        self.step = 0
        self.pairs_seen = 0
        self.seconds = 0.0

    @property
    def averaged_network(self) -> PointmapNetwork:
        """The network with the averaged weights: what a run is for."""
        return cast(PointmapNetwork, self.average.module)

    def start_from(self, network: PointmapNetwork) -> None:
        """Begin with the weights of ``network``, which must be of the same shape.

        Raises:
            InputError: the network's configuration is another one.
        """
        if network.config != self.network.config:
            raise InputError(
                f"the weights to start from are a network of {network.config}, this run trains "
                f"{self.network.config}: choose the matching --network"
            )
        self.network.load_state_dict(network.state_dict())
        self.averaged_network.load_state_dict(network.state_dict())

    @property
    def state_path(self) -> Path:
        """Where the resumable state lies."""
        return self.folder / "state.pt"

    def resume(self, source: BatchSource) -> bool:
        """Load the folder's state, if there is one, into the run and the data source."""
        if not self.state_path.exists():
            return False
        state = torch.load(self.state_path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_rng"])
        if len(state["sources"]) != self.world.size:
            raise InputError(
                f"{self.state_path} was written by {len(state['sources'])} processes, not by "
                f"{self.world.size}: go on with as many"
            )
        source.load_state(state["sources"][self.world.rank])
        self.step, self.pairs_seen = state["step"], state["pairs_seen"]
        self.seconds = state["seconds"]
        return True

    def save(self, source: BatchSource) -> None:
        """Write the state under a temporary name and move it into place."""
        sources = self.world.gather(source.state())
        if self.world.leads:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.state_path.with_suffix(".tmp")
            torch.save(
                {
                    "network": self.network.state_dict(),
                    "average": self.average.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "torch_rng": torch.get_rng_state(),
                    "sources": sources,
                    "step": self.step,
                    "pairs_seen": self.pairs_seen,
                    "seconds": self.seconds,
                    "options": asdict(self.options),
                    "config": self.network.config.to_dict(),
                },
                temporary,
            )
            os.replace(temporary, self.state_path)
        # The others wait until the file is there.
        self.world.gather(None)

    def run(self, source: BatchSource, *, seconds: float | None = None) -> None:
        """Train until ``options.steps``, or for ``seconds`` of this call, and save."""
        start = saved = time.monotonic()
        base_seconds = self.seconds
        log = _Log(self.folder) if self.world.leads else None
        batches = iter(source)
        while self._progress() < 1:
            step = self._train_step(next(batches))
            now = time.monotonic()
            self.seconds = base_seconds + now - start
            if log and self.step % self.options.log_steps == 0:
                log.write(self.step, self.pairs_seen, self.seconds, step)
            out_of_time = self.world.any(seconds is not None and now - start > seconds, self.device)
            due = self.world.any(now - saved > self.options.save_seconds, self.device)
            if due or out_of_time:
                self.save(source)
                saved = time.monotonic()
            if out_of_time:
                return
        self.save(source)

    def _progress(self) -> float:
        """Return the share of the run that is done, the same in all processes."""
        if self.options.steps is not None:
            return self.step / self.options.steps
        assert self.options.budget_seconds is not None
        return max(self.world.gather(self.seconds)) / self.options.budget_seconds

    def _rate(self) -> float:
        """Return the learning rate; all processes have to ask, or the one that does waits."""
        options = self.options
        warm = min(1.0, (self.step + 1) / max(1, options.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self._progress())))
        return options.learning_rate * warm * cosine

    def _train_step(self, batch: PairBatch) -> _Step:
        options, rate = self.options, self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            loss = pair_loss(
                self.network,
                batch,
                alpha=options.confidence_alpha,
                probe=self._probe,
                attention_weight=options.attention_weight,
                match_weight=options.match_weight,
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        self.world.average_gradients(self.network.parameters())
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), options.gradient_clip))
        if math.isfinite(norm):
            self.optimizer.step()
            self.average.update_parameters(self.network)
        else:
            logger.warning("step %d: gradient is not finite, step skipped", self.step)
        self.step += 1
        self.pairs_seen += 2 * batch.image1.shape[0] * self.world.size
        return _Step(loss, norm, rate)


class _Step(NamedTuple):
    """What the log says of an optimiser step."""

    loss: PointmapLoss
    gradient_norm: float
    learning_rate: float


def _start_flat(network: PointmapNetwork) -> None:
    """Make linear heads begin with a wall in front of the camera, the same for every pixel.

    Random rows would differ from pixel to pixel, and nothing in the loss smooths that out: it stays
    as a grain of the size of a patch on every pointmap.
    """
    for head in network.modules():
        if isinstance(head, LinearHead):
            nn.init.zeros_(head.proj.weight)
            nn.init.zeros_(head.proj.bias)
            # Channels are x, y, z, confidence; at the origin itself points have no gradient.
            head.proj.bias.data.unflatten(0, (4, -1))[2] = 1.0


def _compile_blocks(network: PointmapNetwork) -> None:
    """Fuse the many small operations around the matrix products; on a CPU that gained nothing.

    In the decoder, not across the cross-attention: the probe's hooks must stay outside.
    """
    for block in network.enc_blocks:
        block.compile()
    for block in network.modules():
        if isinstance(block, DecoderBlock):
            block.attn.compile()
            block.mlp.compile()


def _moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return an exponential moving average whose decay rises with the steps n, (1 + n) / (10 + n).

    With a fixed decay the random weights of the start would weigh for thousands of steps.
    """

    def update(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        keep = min(decay, (1 + int(count)) / (10 + int(count)))
        return average.lerp(current, 1 - keep)

    return update


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    parameters = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


class _Log:
    """Appends one CSV line per call, and says the same through logging."""

    COLUMNS = (
        *("step", "pairs", "seconds", "loss", "error1", "error2"),
        *("attention", "matching", "grad_norm", "rate"),
    )

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.csv"
        folder.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            with self.path.open("w", newline="") as file:
                csv.writer(file).writerow(self.COLUMNS)

    def write(self, number: int, pairs: int, seconds: float, step: _Step) -> None:
        loss = step.loss
        values = [
            x.item() for x in (loss.total, loss.error1, loss.error2, loss.attention, loss.matching)
        ]
        with self.path.open("a", newline="") as file:
            row = [f"{seconds:.1f}", *(f"{v:.4f}" for v in (*values, step.gradient_norm))]
            csv.writer(file).writerow([number, pairs, *row, f"{step.learning_rate:.2e}"])
        logger.info(
            "step %d, %d pairs, loss %.3f, e1 %.3f, e2 %.3f, attention %.2f, matching %.2f",
            *(number, pairs, *values),
        )
