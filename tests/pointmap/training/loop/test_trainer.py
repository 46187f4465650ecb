"""The training loop on two tiny wall scenes: it learns, resumes exactly, and averages honestly."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_network import tiny_config, tiny_matched_config

from pointmap.errors import InputError
from pointmap.network import DUSt3R, NetworkConfig, PhotoTokens, Prediction
from pointmap.network.matched.matcher import USUAL_FOCAL
from pointmap.training.batches.pairs import PairBatch, unproject_torch
from pointmap.training.batches.prefetch import Prefetched
from pointmap.training.loop.distributed import join_world
from pointmap.training.loop.pair_loss import pair_loss
from pointmap.training.loop.trainer import Trainer, TrainOptions
from pointmap.training.loop.validate import validate, write_sheet

SIZE = 32
CONFIG = tiny_config(SIZE)
MATCHED = tiny_matched_config(SIZE)
OPTIONS = TrainOptions(steps=8, warmup_steps=1, learning_rate=3e-3, device="cpu", log_steps=2)


class Walls:
    """Batches of slanted walls, whose slant shows in the photo's brightness."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(3)

    def __iter__(self) -> Iterator[PairBatch]:
        while True:
            yield self.batch()

    def state(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])

    def batch(self, count: int = 4) -> PairBatch:
        slant = torch.rand(count, generator=self.generator)[:, None, None]
        ramp = torch.linspace(0, 1, SIZE)[None, None].expand(count, SIZE, SIZE)
        depth = 2 + slant * ramp
        image = (slant * ramp * 2 - 1)[:, None].expand(count, 3, SIZE, SIZE)
        # As long a lens as a network with a matcher takes for granted where matches tell nothing.
        focal = USUAL_FOCAL * SIZE
        K = torch.tensor([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]])
        K = K.expand(count, 3, 3)
        points, valid = unproject_torch(depth, K), torch.ones(count, SIZE, SIZE, dtype=torch.bool)
        step = torch.eye(4).repeat(count, 1, 1)
        step[:, 0, 3] = 0.5
        moved = points + torch.tensor([0.5, 0.0, 0.0])
        overlap = torch.ones(count)
        return PairBatch(
            image1=image,
            # Only this tells the network on which side of the other each photo was taken.
            image2=image * torch.tensor([1.0, 1.0, -1.0])[:, None, None],
            points1=points,
            points2=moved,
            valid1=valid,
            valid2=valid,
            depth1=depth,
            depth2=depth,
            intrinsics1=K,
            intrinsics2=K,
            cam2_to_cam1=step,
            overlap=overlap,
        )


class Halves(Walls):
    """One process's half of the batches of Walls."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def batch(self, count: int = 4) -> PairBatch:
        whole = super().batch(count)
        half = slice(self.rank * count // 2, (self.rank + 1) * count // 2)
        return PairBatch(**{f.name: getattr(whole, f.name)[half] for f in fields(whole)})


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.network.parameters()])


@pytest.mark.parametrize("config", [CONFIG, MATCHED], ids=["plain", "matched"])
def test_a_stopped_run_goes_on_exactly(tmp_path: Path, config: NetworkConfig) -> None:
    straight, source = Trainer(tmp_path / "a", config, OPTIONS), Walls()
    straight.run(source)

    # The same schedule, cut after three steps.
    first, source = Trainer(tmp_path / "b", config, OPTIONS), Walls()
    batches = iter(source)
    for _ in range(3):
        first._train_step(next(batches))
    first.save(source)
    second, source = Trainer(tmp_path / "b", config, replace(OPTIONS, seed=9)), Walls()
    assert second.resume(source) and second.step == 3
    second.run(source)

    assert second.step == straight.step == OPTIONS.steps
    assert torch.equal(weights(straight), weights(second))
    assert second.pairs_seen == OPTIONS.steps * 8


# A matched network searches a pose in each step, which takes fifteen times as long.
@pytest.mark.parametrize(
    ("config", "steps"), [(CONFIG, 500), (MATCHED, 60)], ids=["plain", "matched"]
)
def test_it_learns_and_the_average_forgets_the_start(
    tmp_path: Path, config: NetworkConfig, steps: int
) -> None:
    torch.manual_seed(0)
    trainer, source = Trainer(tmp_path, config, replace(OPTIONS, steps=steps)), Walls()
    held_out = [Walls().batch(8)]
    before = validate(trainer.averaged_network, held_out)
    trainer.run(source)
    after = validate(trainer.averaged_network, held_out)
    assert after.error1 < 0.5 * before.error1
    assert after.error2 < 0.5 * before.error2
    assert after.abs_rel < before.abs_rel
    # All walls have one pose: percentages of pairs are all or nothing, and never beyond.
    assert all(0 <= value <= 100 for value in (after.rra15, after.rta15, after.auc30))
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + steps // 2
    write_sheet(trainer.averaged_network, held_out[0], tmp_path / "sheet.png", rows=2)
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_prefetching_changes_nothing_and_resumes_exactly(tmp_path: Path) -> None:
    plain = Trainer(tmp_path / "plain", CONFIG, OPTIONS)
    plain.run(Walls())
    first = Trainer(tmp_path / "ahead", CONFIG, OPTIONS)
    first.run(Prefetched(Walls()), seconds=0.0)
    assert first.step == 1
    second, source = Trainer(tmp_path / "ahead", CONFIG, OPTIONS), Prefetched(Walls())
    assert second.resume(source)
    second.run(source)
    assert torch.equal(weights(plain), weights(second))


def test_an_error_in_the_source_reaches_the_trainer(tmp_path: Path) -> None:
    class Broken(Walls):
        def batch(self, count: int = 4) -> PairBatch:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        Trainer(tmp_path, CONFIG, OPTIONS).run(Prefetched(Broken()))


def test_a_run_can_be_as_long_as_a_time(tmp_path: Path) -> None:
    options = replace(OPTIONS, steps=None, budget_seconds=0.5)
    trainer = Trainer(tmp_path, CONFIG, options)
    trainer.run(Walls())
    assert trainer.seconds >= 0.5
    again = Trainer(tmp_path, CONFIG, options)
    again.resume(source := Walls())
    again.run(source)
    assert again.step == trainer.step
    with pytest.raises(InputError, match="steps or seconds"):
        Trainer(tmp_path, CONFIG, replace(OPTIONS, steps=None))


def test_weights_to_start_from_must_fit(tmp_path: Path) -> None:
    torch.manual_seed(5)
    given = DUSt3R(CONFIG)
    trainer = Trainer(tmp_path, CONFIG, OPTIONS)
    trainer.start_from(given)
    for network in (trainer.network, trainer.averaged_network):
        assert torch.equal(
            network.enc_norm.weight + network.patch_embed.proj.bias,
            given.enc_norm.weight + given.patch_embed.proj.bias,
        )
        assert torch.equal(network.decoder_embed.weight, given.decoder_embed.weight)
    with pytest.raises(InputError, match="choose the matching --network"):
        trainer.start_from(DUSt3R(replace(CONFIG, enc_depth=2)))


# Halves of a batch have other numbers of visible patches, so their attention terms differ.
JOINT = replace(OPTIONS, steps=4, attention_weight=0.0)


def _train_as_one_of_two(rank: int, folder: str, port: int, options: TrainOptions) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        MASTER_ADDR="localhost",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(1)
    world = join_world()
    trainer = Trainer(Path(folder), CONFIG, options, world=world)
    source = Halves(rank)
    trainer.run(source)
    assert trainer.resume(source)  # each process finds its own place in the data again
    torch.save(weights(trainer), Path(folder) / f"weights-{rank}.pt")
    torch.distributed.destroy_process_group()


def _train_as_two(folder: Path, options: TrainOptions) -> list[torch.Tensor]:
    """Return both processes' weights; the test fails if they wait for each other for ever."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    pair = torch.multiprocessing.spawn(
        _train_as_one_of_two, (str(folder), port, options), nprocs=2, join=False
    )
    deadline = time.monotonic() + 120
    while not pair.join(timeout=1):
        if time.monotonic() > deadline:
            for process in pair.processes:
                process.kill()
            pytest.fail("the two processes wait for each other")
    return [torch.load(folder / f"weights-{rank}.pt") for rank in (0, 1)]


def test_two_processes_that_train_for_a_time_end_together(tmp_path: Path) -> None:
    options = replace(JOINT, steps=None, budget_seconds=1.0, log_steps=1)
    first, second = _train_as_two(tmp_path, options)
    assert torch.equal(first, second)
    assert len((tmp_path / "log.csv").read_text().splitlines()) > 2


def test_two_processes_train_as_one_on_their_joint_batches(tmp_path: Path) -> None:
    first, second = _train_as_two(tmp_path, JOINT)
    assert torch.equal(first, second)
    single = Trainer(tmp_path / "single", CONFIG, JOINT)
    start = weights(single)
    single.run(Walls())
    # The same pairs in one process. Adam makes steps of equal size from gradients that are nothing
    # but rounding, so that only the direction of the whole change agrees.
    change, expected = first - start, weights(single) - start
    assert torch.cosine_similarity(change, expected, dim=0) > 0.95
    assert single.pairs_seen == 4 * 8
    assert (tmp_path / "log.csv").read_text().splitlines()[-1].split(",")[1] == "32"


def test_the_first_prediction_is_one_flat_wall(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, CONFIG, OPTIONS)
    batch = Walls().batch()
    first, _ = trainer.network(batch.image1, batch.image2)
    assert float(first.pts3d[..., 2].std()) < 1e-6
    assert float(first.pts3d[..., 2].min()) > 1


def test_exact_predictions_cost_nothing_in_either_direction() -> None:
    """Both directions' truths are consistent: a network that knows them has no error."""
    batch = Walls().batch()

    class Oracle(torch.nn.Module):
        def encode(self, images: torch.Tensor) -> PhotoTokens:
            return PhotoTokens(images, (images.shape[2], images.shape[3]))

        def decode_both(self, photos1: object, photos2: object) -> Any:
            back = torch.tensor([0.5, 0.0, 0.0])
            # Direction (2, 1): view 2 in its own frame, view 1 half a unit to the left of it.
            own2, moved1 = batch.points2 - back, batch.points1 - back
            conf = torch.full(own2.shape[:3], 2.0)
            return (
                (Prediction(batch.points1, conf), Prediction(batch.points2, conf)),
                (Prediction(own2, conf), Prediction(moved1, conf)),
            )

    loss = pair_loss(Oracle(), batch, alpha=0.2)  # type: ignore[arg-type]
    assert loss.error1.item() < 1e-6 and loss.error2.item() < 1e-6
