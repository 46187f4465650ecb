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
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from pointmap.errors import InputError
from pointmap.inference import choose_device, choose_dtype
from pointmap.network import (
    DUSt3R,
    MatchedNetwork,
    NetworkConfig,
    PointmapNetwork,
    Prediction,
    build_network,
)
from pointmap.network.heads import DirectedPrediction, LinearHead
from pointmap.network.layers import DecoderBlock
from pointmap.network.matched.cell_matches import Comparison
from pointmap.network.tokens import PhotoTokens, Size
from pointmap.training.batches.pairs import PairBatch
from pointmap.training.loop.distributed import World
from pointmap.training.losses import PointmapLoss, log_depth_loss, pointmap_loss
from pointmap.training.losses.correspondence import (
    AttentionProbe,
    cell_targets,
    correspondence_loss,
    matching_loss,
    patch_targets,
    verification_loss,
    window_loss,
    window_targets,
)

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


def pair_loss(
    network: PointmapNetwork,
    batch: PairBatch,
    *,
    alpha: float,
    probe: AttentionProbe | None = None,
    attention_weight: float = 0.0,
    match_weight: float = 0.0,
) -> PointmapLoss:
    """Return the loss over both directions of every pair; each photo is encoded once.

    Direction (2, 1) has its truth in camera 2's frame. With a ``probe``, the cross-attention loss
    joins the total; in networks with a matcher, its loss and that of depth by itself do.
    """
    photos = network.encode(torch.cat([batch.image1, batch.image2])).halves()
    size = (batch.image1.shape[-2], batch.image1.shape[-1])
    with probe.recording() if probe else nullcontext():
        predicted, compared = _both_directions(network, *photos)
    cam1_to_cam2 = torch.linalg.inv(batch.cam2_to_cam1)
    own2 = _transform(cam1_to_cam2, batch.points2)
    points1_in_2 = _transform(cam1_to_cam2, batch.points1)

    some = _some_pixels(size).to(batch.image1.device)

    def both(one: Tensor, other: Tensor) -> Tensor:
        return torch.cat([one.flatten(1, 2)[:, some], other.flatten(1, 2)[:, some]])

    own_points, own_valid = both(batch.points1, own2), both(batch.valid1, batch.valid2)
    points1, points2 = (view.pts3d.flatten(1, 2)[:, some] for view in predicted)
    loss = pointmap_loss(
        (points1, points2),
        (predicted.view1.conf.flatten(1, 2)[:, some], predicted.view2.conf.flatten(1, 2)[:, some]),
        (own_points, both(batch.points2, points1_in_2)),
        (own_valid, both(batch.valid2, batch.valid1)),
        alpha=alpha,
    )
    to2 = (points1_in_2, batch.valid1, batch.intrinsics2, batch.depth2)
    to1 = (batch.points2, batch.valid2, batch.intrinsics1, batch.depth1)
    if probe is not None:
        attention = _attention_loss(probe, to2, to1, network.config.patch_size)
        loss = replace(
            loss, total=loss.total + attention_weight * attention, attention=attention.detach()
        )
    if compared is not None:
        matching = _comparison_loss(compared, to2, to1)
        # Depth for its own sake: in the loss of points, a wrong pose drowns it.
        depth = log_depth_loss(points1[..., 2], own_points[..., 2], own_valid)
        total = loss.total + match_weight * matching + depth
        loss = replace(loss, total=total, matching=matching.detach())
    return loss


_Truth = tuple[Tensor, Tensor, Tensor, Tensor]
"""What tells where a photo's pixels lie in the other photo: their points (B, H, W, 3) in the other
camera's frame, which of them are valid (B, H, W), the other's K (B, 3, 3) and depth (B, H, W)."""


def _attention_loss(probe: AttentionProbe, to2: _Truth, to1: _Truth, patch: int) -> Tensor:
    """Return the mean cross-attention loss of what the ``probe`` recorded, a scalar."""
    there, back = patch_targets(*to2, patch=patch), patch_targets(*to1, patch=patch)
    # The first decoder's rows are photo 1 looking at 2, then 2 at 1; the second's vice versa.
    targets = (torch.cat([there, back]), torch.cat([back, there]))
    terms = [
        correspondence_loss(logits, target)
        for side, target in zip(probe.logits, targets, strict=True)
        for logits in side
    ]
    return torch.stack(terms).mean()


def _comparison_loss(compared: Comparison, to2: _Truth, to1: _Truth) -> Tensor:
    """Return the loss of a matcher's cells, windows and inlier logits, a scalar."""
    window1, window2 = compared.window1, compared.window2
    terms = [
        matching_loss(compared.cells1, compared.cells2, cell_targets(*to2)),
        matching_loss(compared.cells2, compared.cells1, cell_targets(*to1)),
        window_loss(window1, window_targets(window1, *to2)),
        window_loss(window2, window_targets(window2, *to1)),
    ]
    checks = [
        verification_loss(compared.inlier1, window1, *to2),
        verification_loss(compared.inlier2, window2, *to1),
    ]
    return torch.stack(terms).mean() + torch.stack(checks).mean()


def _some_pixels(size: Size) -> Tensor:
    """Return indices of one pixel of every square of 2x2, drawn anew from torch's own generator.

    Not those of a grid: the loss has no scale of its own, and four grids of every other pixel,
    taken in turn, drift to scales of their own, until pointmaps are a mosaic.
    """
    rows, columns = (torch.arange(side // 2) * 2 for side in size)
    drawn = torch.randint(4, (len(rows), len(columns)))
    return ((rows[:, None] + drawn // 2) * size[1] + columns + drawn % 2).flatten()


def _both_directions(
    network: PointmapNetwork, photos1: PhotoTokens, photos2: PhotoTokens
) -> tuple[DirectedPrediction, Comparison | None]:
    """Return the predictions of B pairs (1, 2) and then of the same pairs as (2, 1).

    And how the photos of (1, 2) compare, in a network that compares them.
    """
    compared = None
    if isinstance(network, MatchedNetwork):
        compared = network.compare(photos1, photos2)
        forth, back = network.decode_compared(photos1, photos2, compared)
    else:
        forth, back = network.decode_both(photos1, photos2)
    predicted = DirectedPrediction(
        *(
            Prediction(torch.cat([one.pts3d, other.pts3d]), torch.cat([one.conf, other.conf]))
            for one, other in zip(forth, back, strict=True)
        )
    )
    return predicted, compared


def _transform(matrix: Tensor, points: Tensor) -> Tensor:
    """Apply rigid (B, 4, 4) to points (B, H, W, 3)."""
    rotated = torch.einsum("bij,bhwj->bhwi", matrix[:, :3, :3], points)
    return rotated + matrix[:, None, None, :3, 3]


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
