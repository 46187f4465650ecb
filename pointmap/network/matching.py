"""Where each photo sees the other one: matches, the pose they tell, and how points follow it.

Which places of two photos correspond is what a pointmap transformer learns last. A convolution
brings what matching needs from the first step (it answers the same wherever in a patch a corner
falls) and learns it from a few thousand pairs. As in LoFTR (arXiv
2104.00680), matches of cells of 8x8 pixels come from a mutual softmax (its eq. 1 and 2), and finer
features in a window around them tell the place inside (its section 3.4): a mean over 5x5 cells of
4x4 pixels.

A coarse descriptor stands for the centre of the pixel in row 4 and column 4 of its cell, 4.5 pixels
from the cell's corner, a fine one for the centre of its cell's first pixel: the strides of the
convolutions put their middles there, and every coarse place is also a fine one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointmap.network.epipolar import agreement, relative_pose, triangulate
from pointmap.network.match_stem import COARSE_WIDTH, MatchStem

CELL = 8
"""Side of a cell in pixels."""
CENTRE = 4
"""Row and column, in its cell, of the pixel that a descriptor stands for."""
USUAL_FOCAL = 0.85
"""Focal length that matches are told with, in long sides: a lens of 31 mm on 35 mm film. Phones
have 26 to 28, cameras' standard zooms 35 in the middle; the pose of two photos minds little."""
FINE_CELL = 4
"""Side of a fine cell in pixels."""
WINDOW = 5
"""Side, in fine cells, of the window that is searched around a coarse match."""
_FINE_CHANNELS = 32
# Numbers told of a cell, and of a pair.
_OF_CELL, _OF_PAIR = 12, 13
_NEAREST, _FARTHEST = 0.2, 100.0
"""Depths of matches are kept between these, in lengths of the baseline."""

Size = tuple[int, int]


class CellMatches(NamedTuple):
    """Where the cells of one photo lie in the other one, cells row-major."""

    positions: Tensor
    """(B, N, 2) x and y in the other photo, pixels."""
    mutual: Tensor
    """(B, N) chance, 0 to 1, that the cell and its match choose each other."""
    mass: Tensor
    """(B, N) chance, 0 to 1, that the match is among the 3x3 cells that made the position."""


class Window(NamedTuple):
    """The search around the coarse matches of one photo's cells, (B, N)."""

    coarse: CellMatches
    scores: Tensor
    """(B, N, 25) of the fine cells of the other photo, row-major."""
    corner: Tensor
    """(B, N, 2) column and row of the first of them in the other photo's fine grid."""

    def refined(self) -> tuple[Tensor, Tensor]:
        """Return positions (B, N, 2) in pixels, and their standard deviation (B, N)."""
        chances = self.scores.softmax(dim=-1)
        steps = torch.arange(WINDOW, device=chances.device, dtype=chances.dtype)
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).flatten(0, 1)
        mean = chances @ grid
        variance = (chances @ grid.square().sum(-1)) - mean.square().sum(-1)
        positions = (self.corner + mean) * FINE_CELL + 0.5
        return positions, variance.clamp(min=0).sqrt() * FINE_CELL


class Comparison(NamedTuple):
    """How the cells of two photos compare."""

    scores: Tensor
    """(B, N, M) for the cells of photo 1 and photo 2, row-major. A softmax along the last axis
    gives the chances of photo 1's matches, along the other axis those of photo 2's."""
    window1: Window
    """For the cells of photo 1, in photo 2."""
    window2: Window
    """For the cells of photo 2, in photo 1."""


class Side(NamedTuple):
    """What the matches of B pairs say of one of the photos; lengths in baselines."""

    numbers: Tensor
    """(B, N, C) by patch, for the decoder."""
    depth: Tensor
    """(B, N, cells) z-depth at which the rays of a cell's match meet."""
    weight: Tensor
    """(B, N, cells) how much that says, 0 to 1."""


class Told(NamedTuple):
    """What the matches of B pairs say of both photos."""

    side1: Side
    side2: Side
    R: Tensor
    """(B, 3, 3) of camera 2 in camera 1's frame: a point is R X + t."""
    t: Tensor
    """(B, 3), of length 1."""


class Placement(NamedTuple):
    """How two photos' points, each in its own camera's frame and scale, come together."""

    R: Tensor
    """(B, 3, 3) of camera 2 in camera 1's frame."""
    t: Tensor
    """(B, 3), of length 1."""
    baseline1: Tensor
    """(B,) distance of the cameras in the units of photo 1's points."""
    baseline2: Tensor
    """(B,) the same in the units of photo 2's points."""

    def second_in_first(self, points: Tensor) -> Tensor:
        """Take photo 2's points (B, H, W, 3) to camera 1's frame and scale."""
        turned = torch.einsum("bij,bhwj->bhwi", self.R, points)
        scale = (self.baseline1 / self.baseline2)[:, None, None, None]
        return scale * turned + (self.baseline1[:, None] * self.t)[:, None, None]

    def inverse(self) -> Placement:
        """The same with the photos' roles exchanged."""
        back = self.R.mT
        t = -(back @ self.t[..., None])[..., 0]
        return Placement(back, t, self.baseline2, self.baseline1)


def cell_positions(size: Size, device: torch.device) -> Tensor:
    """Return what the cells of a photo of (H, W) pixels stand for: (N, 2) x and y, row-major."""
    y = torch.arange(size[0] // CELL, device=device) * CELL + CENTRE + 0.5
    x = torch.arange(size[1] // CELL, device=device) * CELL + CENTRE + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)


def best_matches(scores: Tensor, size: Size) -> CellMatches:
    """Return the match of every row of scores (B, N, M); M are the cells of a photo of ``size``."""
    rows, columns = size[0] // CELL, size[1] // CELL
    chances = scores.softmax(dim=-1)
    mutual, best = (chances * scores.softmax(dim=-2)).max(dim=-1)
    step = torch.arange(-1, 2, device=scores.device)
    row = (best // columns)[..., None, None] + step[:, None]
    column = (best % columns)[..., None, None] + step
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    near = (row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1)).flatten(-2)
    weights = chances.gather(-1, near) * inside.flatten(-2)
    mass = weights.sum(dim=-1)
    positions = cell_positions(size, scores.device)[near]
    mean = (weights[..., None] * positions).sum(dim=-2) / mass.clamp(min=1e-9)[..., None]
    return CellMatches(mean, mutual, mass)


class Matcher(nn.Module):
    """Descriptors of cells, how they compare, and what the decoder is told of it."""

    def __init__(self, encoder_width: int, decoder_width: int, channels: int, patch: int) -> None:
        super().__init__()
        self.channels, self.side = channels, patch // CELL
        cells = self.side**2
        self.stem = MatchStem(_FINE_CHANNELS)
        self.to_tokens = nn.Linear(cells * COARSE_WIDTH, encoder_width)
        self.describe = nn.Linear(COARSE_WIDTH, channels)
        self.context = nn.Linear(encoder_width, cells * channels)
        self.log_sharpness = nn.Parameter(torch.tensor([math.log(10.0), math.log(10.0)]))
        self.embed = nn.Sequential(
            nn.Linear(cells * _OF_CELL + _OF_PAIR, decoder_width),
            nn.GELU(),
            nn.Linear(decoder_width, decoder_width),
        )
        self.baseline = nn.Linear(decoder_width, 2)
        # Without matches that tell: the weight of a guess, and the guess, a third of the depth.
        self.log_guess = nn.Parameter(torch.tensor([0.0, -1.0]))

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what photos (B, 3, H, W) show by patch: (B, N, cells, C), (B, N, fine cells, C').

        The fine ones are unit vectors in float32.
        """
        coarse, fine = (x.permute(0, 2, 3, 1) for x in self.stem(images))
        unit = F.normalize(fine.float(), dim=-1)
        return _by_patch(coarse, self.side), _by_patch(unit, self.side * CELL // FINE_CELL)

    def descriptors(self, features: tuple[Tensor, Tensor], tokens: Tensor) -> Tensor:
        """Return the unit descriptors of a patch's cells and fine cells in a row, (B, N, ...).

        The coarse ones know what lies around from the encoder's ``tokens`` (B, N, C), too.
        """
        coarse, fine = features
        around = self.context(tokens).unflatten(-1, (-1, self.channels))
        unit = F.normalize((self.describe(coarse) + around).float(), dim=-1)
        return torch.cat([unit.flatten(2), fine.flatten(2)], dim=-1)

    def compare(
        self, descriptors1: Tensor, descriptors2: Tensor, size1: Size, size2: Size
    ) -> Comparison:
        """Return the scores of two photos' ``descriptors``; the photos are of (H, W) pixels."""
        with torch.autocast(descriptors1.device.type, enabled=False):
            (coarse1, fine1), (coarse2, fine2) = (
                self._maps(x.float(), size)
                for x, size in ((descriptors1, size1), (descriptors2, size2))
            )
            sharp, fine_sharp = self.log_sharpness.exp()
            scores = coarse1.flatten(1, 2) @ coarse2.flatten(1, 2).mT * sharp
            found1 = best_matches(scores.detach(), size2)
            found2 = best_matches(scores.detach().mT, size1)
            return Comparison(
                scores,
                _window(fine1, fine2, found1, fine_sharp),
                _window(fine2, fine1, found2, fine_sharp),
            )

    def _maps(self, descriptors: Tensor, size: Size) -> tuple[Tensor, Tensor]:
        """Descriptors by patch to maps (B, h, w, D), coarse and fine."""
        coarse, fine = descriptors.tensor_split([self.side**2 * self.channels], dim=-1)
        columns = size[1] // (CELL * self.side)
        return (
            _from_patches(coarse, self.side, columns),
            _from_patches(fine, self.side * CELL // FINE_CELL, columns),
        )

    @torch.no_grad()
    def tell(self, descriptors1: Tensor, descriptors2: Tensor, size1: Size, size2: Size) -> Told:
        """Return what the decoder is told of pairs.

        Descriptors learn from true matches alone: nothing flows back from here.
        """
        with torch.autocast(descriptors1.device.type, enabled=False):
            compared = self.compare(descriptors1, descriptors2, size1, size2)
            found1, found2 = compared.window1.coarse, compared.window2.coarse
            place1, place2 = compared.window1.refined()[0], compared.window2.refined()[0]
            own1, own2 = (
                _rays(cell_positions(size, place1.device), size).expand(len(place1), -1, -1)
                for size in (size1, size2)
            )
            there1, there2 = _rays(place1, size2), _rays(place2, size1)
            # Both photos' cells are matches of the pair; the surer half decides.
            mutual = torch.cat([found1.mutual, found2.mutual], dim=1)
            R, t, _ = relative_pose(
                torch.cat([own1, there2], dim=1),
                torch.cat([there1, own2], dim=1),
                (mutual >= mutual.median(dim=1, keepdim=True).values).to(mutual.dtype),
            )
            depth1 = triangulate(R, t, own1, there1)[0]
            depth2 = triangulate(R, t, there2, own2)[1]
            fits1, fits2 = agreement(R, t, own1, there1), agreement(R, t, there2, own2)
            # The sine of the angle at which rays meet: how much their depth says.
            sine1, sine2 = _sines(own1, there1, R), _sines(there2, own2, R)
            inverse = (R.mT, -(R.mT @ t[..., None])[..., 0])
            return Told(
                self._side(own1, there1, compared.window1, depth1, sine1, fits1, (R, t), size1),
                self._side(own2, there2, compared.window2, depth2, sine2, fits2, inverse, size2),
                R,
                t,
            )

    def _side(
        self,
        own: Tensor,
        there: Tensor,
        window: Window,
        depth: Tensor,
        sine: Tensor,
        fits: Tensor,
        pose: tuple[Tensor, Tensor],
        size: Size,
    ) -> Side:
        """Gather what is told of a photo of ``size``: (B, cells, ...) row-major to patches."""
        depth = depth.clamp(_NEAREST, _FARTHEST)
        spread = window.refined()[1] / CELL
        told = (window.coarse.mutual.sqrt(), window.coarse.mass, sine, fits, spread, depth.log())
        cells = torch.cat(
            [own[..., :2], there[..., :2], (there - own)[..., :2], torch.stack(told, dim=-1)],
            dim=-1,
        )
        # A ray that is off by a pixel moves the depth by one over the sine.
        weight = fits * sine.square()

        def by_patch(values: Tensor) -> Tensor:
            rows = values.unflatten(1, (size[0] // CELL, size[1] // CELL))
            return _by_patch(rows, self.side).flatten(2)

        patches = by_patch(cells)
        R, t = pose
        pair = torch.cat([R.flatten(1), t, fits.mean(dim=1, keepdim=True)], dim=-1)
        numbers = torch.cat([patches, pair[:, None].expand(-1, patches.shape[1], -1)], dim=-1)
        return Side(numbers, by_patch(depth[..., None]), by_patch(weight[..., None]))

    def placement(
        self, points: tuple[Tensor, Tensor], tokens: tuple[Tensor, Tensor], told: Told
    ) -> Placement:
        """Return how photos' own ``points`` (B, H, W, 3) come together by what the matches told.

        The baseline in the units of a photo's points is what its depths are to those of its
        matches, as a mean of logarithms, and a guess where matches say little. How much a patch
        says, and what it adds, is also for the decoder's last ``tokens`` (B, N, C) to tell.
        """
        baselines = []
        guess_weight, guess = self.log_guess
        for own, last, side in zip(points, tokens, (told.side1, told.side2), strict=True):
            z = own[:, CENTRE::CELL, CENTRE::CELL, 2:].clamp(min=1e-3)
            log_z = _by_patch(z, self.side).flatten(2).log()
            weigh, add = self.baseline(last.float()).split(1, dim=-1)
            weight = side.weight * weigh.exp()
            votes = (weight * (log_z - side.depth.log() + add)).flatten(1).sum(dim=1)
            votes = votes + guess_weight.exp() * (log_z.flatten(1).mean(dim=1) + guess)
            baselines.append((votes / (weight.flatten(1).sum(dim=1) + guess_weight.exp())).exp())
        return Placement(told.R, told.t, baselines[0], baselines[1])


def _window(fine1: Tensor, fine2: Tensor, found: CellMatches, sharpness: Tensor) -> Window:
    """Compare photo 1's cells with what lies around their matches in photo 2, maps (B, h, w, C)."""
    start, step = CENTRE // FINE_CELL, CELL // FINE_CELL
    query = fine1[:, start::step, start::step].flatten(1, 2)
    rows, columns = fine2.shape[1:3]
    middle = ((found.positions - 0.5) / FINE_CELL).round().long()
    most = middle.new_tensor([columns - WINDOW, rows - WINDOW])
    corner = (middle - WINDOW // 2).clamp(min=0).minimum(most)
    steps = torch.arange(WINDOW, device=corner.device)
    index = (corner[..., 1, None] + steps)[..., None] * columns
    index = (index + (corner[..., 0, None] + steps)[..., None, :]).flatten(1)
    cells = fine2.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, fine2.shape[-1]))
    scores = cells.unflatten(1, (-1, WINDOW**2)) @ query[..., None]
    return Window(found, scores[..., 0] * sharpness, corner)


def _by_patch(cells: Tensor, side: int) -> Tensor:
    """Cells (B, h, w, C) to (B, N, side * side cells of a patch, C), both row-major."""
    split = cells.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return split.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _from_patches(patches: Tensor, side: int, columns: int) -> Tensor:
    """Cells by patch (B, N, side * side * C) to (B, h, w, C); ``columns`` of patches."""
    split = patches.unflatten(2, (side, side, -1)).unflatten(1, (-1, columns))
    return split.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _rays(positions: Tensor, size: Size) -> Tensor:
    """Return rays (..., 3), z = 1, of pixels (..., 2) for a usual focal length."""
    middle = positions.new_tensor([size[1] / 2, size[0] / 2])
    return F.pad((positions - middle) / (USUAL_FOCAL * max(size)), (0, 1), value=1.0)


def _sines(rays1: Tensor, rays2: Tensor, R: Tensor) -> Tensor:
    """Return (B, N): the sine of the angle between two rays to one point."""
    turned = rays2 @ R.transpose(1, 2)
    across = torch.linalg.cross(rays1, turned).norm(dim=-1)
    return across / (rays1.norm(dim=-1) * turned.norm(dim=-1))
