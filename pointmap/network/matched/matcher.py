"""The part of a network that matches two photos and tells the decoder what follows from it.

Which places of two photos correspond is what a pointmap transformer learns last. A convolution
brings what matching needs from the first step (it answers the same wherever in a patch a corner
falls) and learns it from a few thousand pairs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointmap.network.matched.cell_matches import (
    CELL,
    FINE_CELL,
    Comparison,
    Window,
    best_matches,
    cell_positions,
    pinhole_rays,
    search_window,
)
from pointmap.network.matched.pose_solver import (
    FOCALS,
    SolvedPose,
    agreement,
    at_focal,
    relative_pose,
    triangulate,
)
from pointmap.network.matched.stem import COARSE_WIDTH, Features, MatchStem
from pointmap.network.matched.verifier import Verifier
from pointmap.network.tokens import Size

USUAL_FOCAL = 0.85
"""Focal length around which that of two photos is sought, in long sides: a lens of 31 mm on 35 mm
film. Phones have 26 to 28, cameras' standard zooms 35 in the middle."""
_SUREST = 0.5
"""Share of the matches of both photos that decides on the pose."""
_FINE_CHANNELS = 32
# Numbers told of a cell, and of a pair.
_OF_CELL, _OF_PAIR = 12, 14 + len(FOCALS)
_OF_SUPPORT = 10.0
"""Differences of support are small numbers; times this they are as large as the others told."""
DETAIL = _FINE_CHANNELS + _OF_CELL
"""Channels of what is known of a fine cell."""
_TELLING = 0.1
"""Sine of the angle of two rays from which on their meeting is trusted."""
_NEAREST, _FARTHEST = 0.2, 100.0
"""Depths of matches are kept between these, in lengths of the baseline."""


class Side(NamedTuple):
    """What the matches of B pairs say of one of the photos; lengths in baselines."""

    numbers: Tensor
    """(B, N, C) by patch, for the decoder."""
    cells: Tensor
    """(B, H/8, W/8, 12) the same without what is told of the pair, for what comes after it."""
    trust: Tensor
    """(B, H/8, W/8) how far the depth of a cell's match is to be trusted, 0 to 1."""
    depth: Tensor
    """(B, N, cells) z-depth at which the rays of a cell's match meet."""
    weight: Tensor
    """(B, N, cells) how much that says, 0 to 1."""

    @property
    def log_depth(self) -> Tensor:
        """Logarithms of those depths as a map (B, H/8, W/8)."""
        return self.cells[..., -1]


class Told(NamedTuple):
    """What the matches of B pairs say of both photos."""

    side1: Side
    side2: Side
    R: Tensor
    """(B, 3, 3) of camera 2 in camera 1's frame: a point is R X + t."""
    t: Tensor
    """(B, 3), of length 1."""
    focal: Tensor
    """(B,) focal length of both photos, as a multiple of the usual one."""


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
        self.verifier = Verifier()
        self.log_sharpness = nn.Parameter(torch.tensor([math.log(10.0), math.log(10.0)]))
        self.embed = nn.Sequential(
            nn.Linear(cells * _OF_CELL + _OF_PAIR, decoder_width),
            nn.GELU(),
            nn.Linear(decoder_width, decoder_width),
        )
        self.baseline = nn.Linear(decoder_width, 2)
        # Without matches that tell: the weight of a guess, and the guess, a third of the depth.
        self.log_guess = nn.Parameter(torch.tensor([0.0, -1.0]))

    def features(self, images: Tensor) -> Features:
        """Return what photos (B, 3, H, W) show by patch: (B, N, cells, C), (B, N, fine cells, C').

        The fine ones are unit vectors in float32.
        """
        coarse, fine = (x.permute(0, 2, 3, 1) for x in self.stem(images))
        unit = F.normalize(fine.float(), dim=-1)
        fine_side = self.side * CELL // FINE_CELL
        return Features(_by_patch(coarse, self.side), _by_patch(unit, fine_side))

    def descriptors(self, features: Features, tokens: Tensor) -> Tensor:
        """Return the unit descriptors of a patch's cells and fine cells in a row, (B, N, ...).

        The coarse ones know what lies around from the encoder's ``tokens`` (B, N, C), too.
        """
        around = self.context(tokens).unflatten(-1, (-1, self.channels))
        unit = F.normalize((self.describe(features.coarse) + around).float(), dim=-1)
        return torch.cat([unit.flatten(2), features.fine.flatten(2)], dim=-1)

    def compare(
        self, descriptors1: Tensor, descriptors2: Tensor, size1: Size, size2: Size
    ) -> Comparison:
        """Return how two photos' ``descriptors`` compare; the photos are of (H, W) pixels."""
        with torch.autocast(descriptors1.device.type, enabled=False):
            (coarse1, fine1), (coarse2, fine2) = (
                self._maps(x.float(), size)
                for x, size in ((descriptors1, size1), (descriptors2, size2))
            )
            sharp, fine_sharp = self.log_sharpness.exp()
            cells1, cells2 = coarse1.flatten(1, 2) * sharp, coarse2.flatten(1, 2)
            found1, found2 = best_matches(cells1, cells2, size1, size2)
            window1 = search_window(fine1, fine2, found1, fine_sharp)
            window2 = search_window(fine2, fine1, found2, fine_sharp)
            return Comparison(
                cells1,
                cells2,
                window1,
                window2,
                self.verifier(window1, window2, size1, size2),
                self.verifier(window2, window1, size2, size1),
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
    def tell(self, compared: Comparison, size1: Size, size2: Size) -> Told:
        """Return what the decoder is told of pairs of photos of (H, W) pixels.

        Descriptors learn from true matches alone: nothing flows back from here.
        """
        with torch.autocast(compared.cells1.device.type, enabled=False):
            inlier1, inlier2 = compared.inlier1.sigmoid(), compared.inlier2.sigmoid()
            (own1, there1), (own2, there2) = (
                _ray_pairs(compared.window1, size1, size2),
                _ray_pairs(compared.window2, size2, size1),
            )
            # Both photos' cells are matches of the pair; the surer ones decide.
            inlier = torch.cat([inlier1, inlier2], dim=1)
            weights, surest = inlier.topk(math.ceil(_SUREST * inlier.shape[1]), dim=1)
            surest = surest[..., None].expand(-1, -1, 3)
            rays1 = torch.cat([own1, there2], dim=1).gather(1, surest)
            rays2 = torch.cat([there1, own2], dim=1).gather(1, surest)
            pose = relative_pose(rays1, rays2, weights)
            return Told(
                self._side(own1, there1, inlier1, compared.window1, pose, size1),
                self._side(own2, there2, inlier2, compared.window2, pose.inverse(), size2),
                pose.R,
                pose.t,
                pose.focal,
            )

    def _side(
        self,
        own: Tensor,
        there: Tensor,
        inlier: Tensor,
        window: Window,
        pose: SolvedPose,
        size: Size,
    ) -> Side:
        """Return what is told of a photo of ``size``; ``pose`` is the other camera's in its frame.

        ``own`` and ``there`` are the rays of its cells and of their matches for the usual focal
        length, (B, N, 3) row-major; ``inlier`` (B, N) are the chances of their being right.
        """
        fits = agreement(pose.R, pose.t, pose.focal, own, there)
        own, there = at_focal(own, pose.focal), at_focal(there, pose.focal)
        depth, _ = triangulate(pose.R, pose.t, own, there)
        depth = depth.clamp(_NEAREST, _FARTHEST)
        # Of the angle at which rays meet: an error of a ray moves the depth by one over it.
        sine = _sines(own, there, pose.R)
        mass, spread = window.coarse.mass, window.refined().spread / CELL
        told = torch.stack([inlier, mass, sine, fits, spread, depth.log()], dim=-1)
        numbers = torch.cat([own[..., :2], there[..., :2], (there - own)[..., :2], told], dim=-1)
        # How much worse every focal length explains the matches: the decoder knows what it sees.
        worse = pose.support - pose.support.amax(dim=1, keepdim=True)
        ours = torch.stack([fits.mean(dim=1), pose.focal.log()], dim=-1)
        pair = torch.cat([pose.R.flatten(1), pose.t, ours, worse * _OF_SUPPORT], dim=-1)
        cells, depths, weights = (
            x.unflatten(1, (size[0] // CELL, size[1] // CELL))
            for x in (numbers, depth[..., None], (inlier * fits * sine.square())[..., None])
        )
        patches = _by_patch(cells, self.side).flatten(2)
        trust = inlier * fits * (sine / _TELLING).clamp(max=1).square()
        return Side(
            torch.cat([patches, pair[:, None].expand(-1, patches.shape[1], -1)], dim=-1),
            cells,
            trust.unflatten(1, cells.shape[1:3]),
            _by_patch(depths, self.side).flatten(2),
            _by_patch(weights, self.side).flatten(2),
        )

    def detail(self, descriptors: Tensor, side: Side, size: Size) -> Tensor:
        """Return what is known of the fine cells of photos: maps (B, DETAIL, H/4, W/4).

        Their ``descriptors``, and what is told of the cells that they are in.
        """
        _, fine = self._maps(descriptors.detach().float(), size)
        cells = side.cells.permute(0, 3, 1, 2)
        return torch.cat(
            [fine.permute(0, 3, 1, 2), F.interpolate(cells, scale_factor=CELL / FINE_CELL)], dim=1
        )

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
            # Of whole cells: single pixels would be bent to carry the baseline.
            z = F.avg_pool2d(own[..., 2].clamp(min=1e-3), CELL)[..., None]
            log_z = _by_patch(z, self.side).flatten(2).log()
            weigh, add = self.baseline(last.float()).split(1, dim=-1)
            weight = side.weight * weigh.exp()
            votes = (weight * (log_z - side.depth.log() + add)).flatten(1).sum(dim=1)
            votes = votes + guess_weight.exp() * (log_z.flatten(1).mean(dim=1) + guess)
            baselines.append((votes / (weight.flatten(1).sum(dim=1) + guess_weight.exp())).exp())
        return Placement(told.R, told.t, *baselines)


def _by_patch(cells: Tensor, side: int) -> Tensor:
    """Cells (B, h, w, C) to (B, N, side * side cells of a patch, C), both row-major."""
    split = cells.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return split.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _from_patches(patches: Tensor, side: int, columns: int) -> Tensor:
    """Cells by patch (B, N, side * side * C) to (B, h, w, C); ``columns`` of patches."""
    split = patches.unflatten(2, (side, side, -1)).unflatten(1, (-1, columns))
    return split.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _ray_pairs(window: Window, own: Size, other: Size) -> tuple[Tensor, Tensor]:
    """Return the rays (B, N, 3) of a photo's cells, and of their matches in the other photo."""
    there = window.refined().positions
    here = cell_positions(own, there.device).expand(len(there), -1, -1)
    return pinhole_rays(here, own, usual_focal(own)), pinhole_rays(there, other, usual_focal(other))


def usual_focal(size: Size) -> float:
    """Return the usual focal length of a photo of (H, W) pixels, in pixels."""
    return USUAL_FOCAL * max(size)


def _sines(rays1: Tensor, rays2: Tensor, R: Tensor) -> Tensor:
    """Return (B, N): the sine of the angle between two rays to one point."""
    turned = rays2 @ R.transpose(1, 2)
    across = torch.linalg.cross(rays1, turned).norm(dim=-1)
    return across / (rays1.norm(dim=-1) * turned.norm(dim=-1))
