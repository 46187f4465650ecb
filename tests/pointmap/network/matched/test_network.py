"""The network's matcher: exact positions, the same on both sides, and told to the decoder."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from cell_windows import blind_window
from tiny_network import tiny_config, tiny_matched_config

from pointmap.checkpoint import load_network, save_checkpoint
from pointmap.errors import InputError
from pointmap.network import DUSt3R, MatchedConfig, MatchedNetwork, build_network
from pointmap.network.matched.cell_matches import (
    CELL,
    FINE_CELL,
    WINDOW,
    CellMatches,
    Comparison,
    Window,
    best_matches,
    cell_positions,
)
from pointmap.network.matched.matcher import DETAIL, USUAL_FOCAL, Side, Told
from pointmap.training.batches.pairs import unproject_torch
from pointmap.training.losses.correspondence import (
    Shares,
    cell_targets,
    matching_loss,
    window_loss,
    window_targets,
)

SIZE = (48, 64)
CONFIG = tiny_matched_config(64)


def matcher_network(*, seed: int = 0) -> MatchedNetwork:
    """A network whose descriptors come from the photo around the cell alone."""
    torch.manual_seed(seed)
    network = MatchedNetwork(CONFIG).eval()
    with torch.no_grad():
        network.matcher.context.weight.zero_()
        network.matcher.log_sharpness.fill_(6.0)
    return network


def test_cells_stand_for_the_centres_of_pixels() -> None:
    positions = cell_positions((16, 24), torch.device("cpu"))
    assert positions.tolist() == [[4.5, 4.5], [12.5, 4.5], [20.5, 4.5],
                                  [4.5, 12.5], [12.5, 12.5], [20.5, 12.5]]  # fmt: skip


def dense(targets: Shares, count: int) -> torch.Tensor:
    """(B, N, count): the same as a matrix."""
    zeros = targets.share.new_zeros(*targets.share.shape[:2], count)
    return zeros.scatter_add(2, targets.cells, targets.share)


def matches_of(
    scores: torch.Tensor, size1: tuple[int, int], size2: tuple[int, int]
) -> tuple[CellMatches, CellMatches]:
    """The best matches of scores (B, N, M)."""
    names = torch.eye(scores.shape[2]).expand(len(scores), -1, -1)
    return best_matches(scores, names, size1, size2)


def wall_targets(shift_x: float, shift_y: float) -> torch.Tensor:
    """A wall at depth 2, seen again by a camera that moved so that it shifts by so many pixels."""
    height, width = SIZE
    K = torch.tensor([[[50.0, 0, width / 2], [0, 50.0, height / 2], [0, 0, 1]]])
    depth = torch.full((1, height, width), 2.0)
    points = unproject_torch(depth, K) + torch.tensor([shift_x, shift_y, 0]) * 2 / 50
    return dense(cell_targets(points, depth > 0, K, depth), 48)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (8.0, 0.0), (-3.0, 5.5), (13.25, -9.5)])
def test_targets_and_matches_agree_to_a_fraction_of_a_pixel(shift: tuple[float, float]) -> None:
    targets = wall_targets(*shift)
    here = cell_positions(SIZE, torch.device("cpu"))
    there = here + torch.tensor(shift)
    inside = ((there >= 4.5) & (there <= torch.tensor([SIZE[1] - 3.5, SIZE[0] - 3.5]))).all(-1)
    assert inside.sum() >= 10
    found, _ = matches_of((targets + 1e-9).log(), SIZE, SIZE)
    assert torch.allclose(found.positions[0][inside], there[inside], atol=2e-3)
    assert (found.mass[0][inside] > 0.99).all()
    # Beyond the outermost centres there is nothing to lie between.
    outside = ~((there >= 0) & (there <= torch.tensor([SIZE[1], SIZE[0]]))).all(-1)
    assert targets[0][outside].sum() == 0
    assert torch.allclose(targets[0][inside].sum(-1), torch.ones(int(inside.sum())))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.75, -1.5), (-3.0, 5.5), (13.25, -9.5)])
def test_the_window_around_a_rough_match_holds_the_exact_place(shift: tuple[float, float]) -> None:
    """Fine maps of two photos whose cells name their places, a match that is pixels off."""
    height, width = SIZE
    K = torch.tensor([[[50.0, 0, width / 2], [0, 50.0, height / 2], [0, 0, 1]]])
    depth = torch.full((1, height, width), 2.0)
    points = unproject_torch(depth, K) + torch.tensor([*shift, 0]) * 2 / 50
    here = cell_positions(SIZE, torch.device("cpu"))
    rough = here + torch.tensor(shift) + torch.tensor([2.5, -3.0])
    found = CellMatches(rough[None], torch.ones(1, len(here)), torch.ones(1, len(here)))
    network = matcher_network()
    blank = torch.zeros(1, 12, 4 * 8 + 16 * 32)
    with torch.no_grad():
        empty = network.matcher.compare(blank, blank, SIZE, SIZE).window1
    window = empty._replace(coarse=found, corner=_corner(rough)[None])
    targets = dense(window_targets(window, points, depth > 0, K, depth), WINDOW**2)
    exact = window._replace(scores=(targets + 1e-12).log())
    positions, spread = exact.refined()
    told = targets[0].sum(-1) > 0.99
    assert told.sum() >= 10
    there = here + torch.tensor(shift)
    assert torch.allclose(positions[0][told], there[told], atol=1e-3)
    assert float(spread[0][told].max()) < 3


def _corner(positions: torch.Tensor) -> torch.Tensor:
    middle = ((positions - 0.5) / FINE_CELL).round().long()
    most = torch.tensor([SIZE[1] // FINE_CELL - WINDOW, SIZE[0] // FINE_CELL - WINDOW])
    return (middle - WINDOW // 2).clamp(min=0).minimum(most)


def test_losses_are_cross_entropies_to_the_true_place() -> None:
    """Of a quarter of the cells, any quarter: all see the same here."""
    height, width = SIZE
    K = torch.tensor([[[50.0, 0, width / 2], [0, 50.0, height / 2], [0, 0, 1]]])
    depth = torch.full((1, height, width), 2.0)
    points = unproject_torch(depth, K)
    targets = cell_targets(points, depth > 0, K, depth)
    # Every cell has 3 to the right place, 0 to the 47 others.
    cells = torch.eye(48)[None]
    expected = -math.log(math.exp(3) / (math.exp(3) + 47))
    for seed in range(3):
        torch.manual_seed(seed)
        assert float(matching_loss(3 * cells, cells, targets)) == pytest.approx(expected, rel=1e-5)
        assert float(matching_loss(0 * cells, cells, targets)) == pytest.approx(math.log(48))
    # A place a quarter of the way between two cells: three quarters and one quarter of the loss.
    aside = cell_targets(points + torch.tensor([2.0, 0, 0]) * 2 / 50, depth > 0, K, depth)
    inner = aside.share.unflatten(1, (6, 8))[:, :, :-1]
    assert torch.allclose(inner.amax(-1), torch.tensor(0.75), atol=1e-4)
    kept = torch.ones(1, 48)
    found = CellMatches(cell_positions(SIZE, points.device)[None], kept, kept)
    flat = Window(found, torch.zeros(1, 48, WINDOW**2), _corner(found.positions[0])[None])
    in_window = window_targets(flat, points, depth > 0, K, depth)
    assert float(window_loss(flat, in_window)) == pytest.approx(math.log(WINDOW**2))


def test_the_window_lies_around_the_coarse_match_and_inside_the_photo() -> None:
    torch.manual_seed(4)
    network = matcher_network()
    photos = torch.rand(2, 1, 3, *SIZE) * 2 - 1
    with torch.no_grad():
        first, second = (network.encode(photo) for photo in photos)
        compared = network.compare(first, second)
        for window in (compared.window1, compared.window2):
            assert torch.equal(window.corner[0], _corner(window.coarse.positions[0]))
        # The same photo: every fine cell is most like itself.
        same = network.compare(first, first).window1
    best = same.scores.argmax(-1)
    fine = same.corner + torch.stack([best % WINDOW, best // WINDOW], dim=-1)
    right = same.coarse.positions.isclose(cell_positions(SIZE, torch.device("cpu")), atol=3).all(-1)
    assert right.sum() >= 40
    expected = cell_positions(SIZE, torch.device("cpu")).expand_as(fine)[right]
    assert torch.equal(fine[right] * FINE_CELL + 0.5, expected)


@pytest.mark.parametrize("size", [(16, 64), (64, 16), (16, 16)])
def test_photos_narrower_than_a_window_are_decoded(size: tuple[int, int]) -> None:
    network = matcher_network()
    generator = torch.Generator().manual_seed(5)
    photos = torch.rand(1, 3, *size, generator=generator), torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        for first, second in (photos, photos[::-1]):
            for side in network(first, second):
                assert side.pts3d.isfinite().all()


@pytest.mark.parametrize("grey", [-1.0, 0.0, 1.0])
def test_photos_that_show_nothing_give_finite_points(grey: float) -> None:
    photo = torch.full((1, 3, *SIZE), grey)
    with torch.no_grad():
        for side in matcher_network()(photo, photo):
            assert side.pts3d.isfinite().all()
            assert side.conf.isfinite().all()


def test_ambiguous_cells_are_not_sure() -> None:
    scores = torch.zeros(1, 48, 48)
    for found in matches_of(scores, SIZE, SIZE):
        assert float(found.mutual.max()) < 1e-3
        assert float(found.mass.max()) < 0.2


def test_a_shifted_photo_is_matched_where_it_went() -> None:
    torch.manual_seed(1)
    wide = torch.rand(1, 3, SIZE[0], SIZE[1] + 16) * 2 - 1
    first, second = wide[..., :-16], wide[..., 16:]
    network = matcher_network()
    with torch.no_grad():
        tokens = network.encode(first), network.encode(second)
        found = network.compare(*tokens).window1.coarse
    here = cell_positions(SIZE, torch.device("cpu"))
    # Far enough from the sides that the convolutions saw nothing of them.
    middle = (here[:, 0] > 40) & (here[:, 0] < 56) & (here[:, 1] > 20) & (here[:, 1] < 28)
    assert middle.any()
    off = found.positions[0][middle] - (here[middle] - torch.tensor([16.0, 0]))
    assert off.abs().max() < 2


def test_photos_of_two_sizes_are_told_the_same_matches_from_either_side() -> None:
    torch.manual_seed(2)
    other = (64, 32)
    photos = torch.rand(1, 3, *SIZE) * 2 - 1, torch.rand(1, 3, *other) * 2 - 1
    network = matcher_network()
    with torch.no_grad():
        cells = [network.encode(photo).values[..., CONFIG.enc_embed_dim :] for photo in photos]
        compared = network.matcher.compare(cells[0], cells[1], SIZE, other)
        told = network.matcher.tell(compared, SIZE, other)
        back = network.matcher.compare(cells[1], cells[0], other, SIZE)
        swapped = network.matcher.tell(back, other, SIZE)

    def cells_at_usual(numbers: torch.Tensor, focal: torch.Tensor) -> torch.Tensor:
        # What follows depends on the pose; of noise, that is anything, and so is the focal length.
        cells = _told_of_cells(numbers)[..., :8]
        return torch.cat([cells[..., :6] * focal, cells[..., 6:]], dim=-1)

    cells1 = cells_at_usual(told.side1.numbers, told.focal)
    for ours, theirs in (
        (told.side1.numbers, swapped.side2.numbers),
        (told.side2.numbers, swapped.side1.numbers),
    ):
        theirs = cells_at_usual(theirs, swapped.focal)
        assert torch.allclose(cells_at_usual(ours, told.focal), theirs, atol=1e-4)
    # Places are told as rays; the long side is 64 pixels in both photos.
    own = cells1[0, 0, :, :2] * 64 * USUAL_FOCAL + torch.tensor([32.0, 24.0])
    assert torch.allclose(own, torch.tensor([[4.5, 4.5], [12.5, 4.5], [4.5, 12.5], [12.5, 12.5]]))
    # The cells of the second patch begin at column 2.
    found = compared.window1.refined().positions[0].unflatten(0, (SIZE[0] // CELL, -1))
    seen = cells1[0, 1, :, 2:4] * 64 * USUAL_FOCAL + torch.tensor([16.0, 32.0])
    assert torch.allclose(seen, found[:2, 2:4].flatten(0, 1), atol=1e-3)


def _told_of_cells(told: torch.Tensor) -> torch.Tensor:
    """(B, N, 4 cells, 12): what is told of each cell, without what is told of the pair."""
    return told[..., :-31].unflatten(-1, (4, 12))


def test_of_true_matches_pose_and_depths_are_told() -> None:
    network = matcher_network()
    height, width = size = (192, 256)
    focal = 256 * USUAL_FOCAL
    K = torch.tensor([[focal, 0, 128], [0, focal, 96], [0, 0, 1]])
    cam2_to_cam1 = torch.eye(4)
    cam2_to_cam1[:3, :3] = torch.linalg.matrix_exp(
        torch.tensor([[0, 0, 0.1], [0, 0, 0], [-0.1, 0, 0]])
    )
    cam2_to_cam1[:3, 3] = torch.tensor([-0.6, 0.0, 0.1])
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    depth = 3 + torch.sin(column / 30) + 0.5 * torch.cos(row / 25)
    points = unproject_torch(depth[None], K[None])
    in_second = (points - cam2_to_cam1[:3, 3]) @ cam2_to_cam1[:3, :3]
    there = (in_second, depth[None] > 0, K[None], torch.full((1, *size), 99.0))
    scores = (dense(cell_targets(*there), 24 * 32) + 1e-9).log()
    found = matches_of(scores, size, size)
    # Windows that see nothing fine: the place is their middle, so their middle is where it is.
    windows = [blind_window(match) for match in found]
    # The verifier would have to be trained: all matches are right.
    sure = torch.full((1, 24 * 32), 9.0)
    compared = Comparison(scores, torch.eye(24 * 32)[None], windows[0], windows[1], sure, sure)
    told = network.matcher.tell(compared, size, size)
    baseline = cam2_to_cam1[:3, 3].norm()
    second_in_first, first_in_second = (
        (side.numbers[0, 5, -31:-22].reshape(3, 3), side.numbers[0, 5, -22:-19])
        for side in (told.side1, told.side2)
    )
    R, t = cam2_to_cam1[:3, :3], cam2_to_cam1[:3, 3] / baseline
    for found, expected in (
        ((told.R[0], told.t[0]), (R, t)),
        (second_in_first, (R, t)),
        (first_in_second, (R.T, -R.T @ t)),
    ):
        assert torch.allclose(found[0], expected[0], atol=0.01)
        assert torch.allclose(found[1], expected[1], atol=0.05)
    assert float(told.focal[0]) == pytest.approx(1, rel=0.1)
    assert float(told.side1.numbers[0, 5, -18]) == pytest.approx(float(told.focal.log()[0]))
    cells = _told_of_cells(told.side1.numbers)[0]
    sure = cells[..., 9] > 0.5
    assert sure.float().mean() > 0.5
    true = depth[4::8, 4::8].unflatten(1, (-1, 2)).unflatten(0, (-1, 2)).transpose(1, 2)
    true = true.flatten(2, 3).flatten(0, 1)[sure] / baseline
    assert float((cells[..., 11][sure].exp() / true - 1).abs().median()) < 0.05
    assert torch.allclose(told.side1.depth[0][sure], cells[..., 11][sure].exp())
    # In the second camera's frame: its own depths.
    cells = _told_of_cells(told.side2.numbers)[0]
    sure = cells[..., 9] > 0.5
    there = (
        cells[..., 2:4][sure] * 256 * USUAL_FOCAL * told.focal + torch.tensor([128.0, 96])
    ).long()
    true = in_second[0, there[:, 1], there[:, 0], 2] / baseline
    assert float((cells[..., 11][sure].exp() / true - 1).abs().median()) < 0.05


def test_points_of_two_scales_come_together() -> None:
    """Photo 1's points in units of half a baseline, photo 2's in units of a third."""
    generator = torch.Generator().manual_seed(7)
    network = matcher_network()
    with torch.no_grad():
        network.matcher.log_guess[0] = -20
    size = (48, 64)
    R = torch.tensor([[[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]])
    t = torch.tensor([[0.0, 0.6, 0.8]])
    sides, points = [], []
    for units in (2.0, 3.0):
        cloud = torch.rand(1, *size, 3, generator=generator) + 1
        depth = torch.nn.functional.avg_pool2d(cloud[..., 2], 8) / units
        depth = depth.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3)
        depth = depth.flatten(3).flatten(1, 2)
        # Wrong depths weigh nothing.
        weight = torch.ones_like(depth)
        depth[0, 3], weight[0, 3] = 50.0, 0.0
        points.append(cloud)
        sides.append(Side(*[torch.zeros(1)] * 3, depth, weight))
    tokens = torch.randn(1, 12, 16, generator=generator)
    network.requires_grad_(False)
    found = network.matcher.placement(
        (points[0], points[1]), (tokens, tokens), Told(sides[0], sides[1], R, t, torch.ones(1))
    )
    assert float(found.baseline1) == pytest.approx(2, rel=1e-3)
    assert float(found.baseline2) == pytest.approx(3, rel=1e-3)
    placed = found.second_in_first(points[1])
    x, y, z = (points[1] * 2 / 3).unbind(-1)
    assert torch.allclose(placed, torch.stack([z, y + 1.2, 1.6 - x], dim=-1), atol=1e-3)
    # There and back is where it was, in its own units.
    again = found.inverse().second_in_first(placed)
    assert torch.allclose(again, points[1], atol=1e-4)


def test_without_matches_the_baseline_is_a_share_of_the_depth() -> None:
    network = matcher_network()
    unused = torch.zeros(1)
    nothing = Side(unused, unused, unused, torch.full((1, 12, 4), 50.0), torch.zeros(1, 12, 4))
    cloud = torch.full((1, 48, 64, 3), 6.0)
    tokens = torch.randn(1, 12, 16, generator=torch.Generator().manual_seed(9))
    t = torch.tensor([[1.0, 0, 0]])
    told = Told(nothing, nothing, torch.eye(3)[None], t, torch.ones(1))
    found = network.matcher.placement((cloud, cloud / 2), (tokens, tokens), told)
    assert float(found.baseline1) == pytest.approx(6 / 2.718, rel=1e-3)
    assert float(found.baseline2) == pytest.approx(3 / 2.718, rel=1e-3)


def test_points_lie_on_the_rays_of_a_pinhole_of_the_told_length() -> None:
    network = matcher_network()
    generator = torch.Generator().manual_seed(10)
    photos = torch.rand(2, 1, 3, *SIZE, generator=generator) * 2 - 1
    x, y = torch.meshgrid(torch.arange(64) + 0.5 - 32, torch.arange(48) + 0.5 - 24, indexing="xy")
    with torch.no_grad():
        tokens = [network.encode(photo) for photo in photos]
        compared = network.compare(*tokens)
        told = network.matcher.tell(compared, SIZE, SIZE)
        points = network.decode_own(*tokens, compared).view1.pts3d[0]
    focal, z = 64 * USUAL_FOCAL * float(told.focal), points[..., 2]
    assert float(z.min()) > 0
    assert torch.allclose(points[..., 0], z * x / focal, rtol=1e-4)
    assert torch.allclose(points[..., 1], z * y / focal, rtol=1e-4)


def test_detail_lies_where_its_cells_are() -> None:
    network = matcher_network()
    photo = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(12)) * 2 - 1
    unused, cells = torch.zeros(1), torch.arange(48.0).view(1, 6, 8, 1)
    side = Side(unused, cells.expand(-1, -1, -1, 12), unused, unused, unused)
    with torch.no_grad():
        tokens = network.encode(photo).values
        detail = network.matcher.detail(tokens[..., CONFIG.enc_embed_dim :], side, SIZE)
        fine = torch.nn.functional.normalize(network.matcher.stem(photo).fine, dim=1)
    assert torch.allclose(detail[:, :32], fine, atol=1e-5)
    expected = cells[0, ..., 0].repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(detail[0, 32], expected)
    assert torch.equal(detail[0, DETAIL - 1], expected)


def test_both_orders_of_a_pair_say_the_same() -> None:
    """One decoder for both sides: only the solver's starts know which photo came first."""
    network = matcher_network(seed=3)
    wide = torch.rand(1, 3, SIZE[0], SIZE[1] + 16, generator=torch.Generator().manual_seed(8))
    first, second = wide[..., :-16] * 2 - 1, wide[..., 16:] * 2 - 1
    with torch.no_grad():
        tokens = network.encode(first), network.encode(second)
        own1, own2, forth = network.decode_own(*tokens, network.compare(*tokens))
        placed, back = network.decode_both(*tokens)
        other_way = network.decode(tokens[1], tokens[0])
    for one, other in zip(back, other_way, strict=True):
        assert torch.allclose(one.pts3d, other.pts3d, rtol=1e-3, atol=1e-3)
        assert torch.allclose(one.conf, other.conf, rtol=1e-3)
    assert torch.equal(placed.view1.pts3d, own1.pts3d)
    assert torch.allclose(placed.view2.pts3d, forth.second_in_first(own2.pts3d))
    assert torch.equal(placed.view2.conf, own2.conf)


def test_the_decoder_hears_of_matches_and_teaches_the_descriptors_nothing() -> None:
    network = matcher_network()
    photos = torch.rand(2, 1, 3, *SIZE, generator=torch.Generator().manual_seed(3)) * 2 - 1
    tokens = [network.encode(photo) for photo in photos]
    first, _ = network.decode(tokens[0], tokens[1])
    first.pts3d.sum().backward(retain_graph=True)
    assert not network.matcher.describe.weight.grad.any()
    assert network.matcher.embed[0].weight.grad is not None
    compared = network.compare(tokens[0], tokens[1])
    (compared.cells1 @ compared.cells2.mT).logsumexp(-1).sum().backward()
    assert float(network.matcher.describe.weight.grad.abs().sum()) > 0


def test_a_matcher_survives_the_checkpoint(tmp_path: Path) -> None:
    network = matcher_network()
    save_checkpoint(network, tmp_path / "with_matcher.safetensors", card={})
    again = load_network(tmp_path / "with_matcher.safetensors")
    assert again.config == CONFIG
    photos = torch.rand(2, 1, 3, *SIZE, generator=torch.Generator().manual_seed(4)) * 2 - 1
    with torch.no_grad():
        expected, found = (net.encode(photos[0]).values.numpy() for net in (network, again))
    # Stored in half precision.
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_the_configuration_says_which_network() -> None:
    matched, plain = build_network(CONFIG), build_network(tiny_config(64))
    assert isinstance(matched, MatchedNetwork)
    assert isinstance(plain, DUSt3R)
    assert not any(name.startswith("matcher") for name in plain.state_dict())
    with pytest.raises(InputError, match="match_dim"):
        MatchedConfig(match_dim=8, patch_size=14)
