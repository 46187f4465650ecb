"""The pose between two photos from matches alone, for many pairs at once. Needs torch alone.

Robust and deterministic, on batches. Starts are the rotation that turns the rays of one photo best
onto the other's (Wahba's problem) and some around it, with the translation that fits each best in
closed form. Some are refined on all matches, with a robust width that shrinks; others, which bear
more wrong matches, on five (the number that decides, as in RANSAC; Fischler and Bolles 1981), the
same draws in every call. Gauss-Newton on the Sampson error throughout; what most agree with wins.

The focal length is not known. Poses are sought for a few, as if the pixels of both photos were so
much closer together; the best are refined for a row of focal lengths around each, and what most
agree with wins again.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from pointmap.network.constants import constant

# Turns around a start, degrees: a camera that moves sideways or up looks much like one that turns.
_YAWS, _PITCHES = (-24.0, -12.0, 0.0, 12.0, 24.0), (-8.0, 0.0, 8.0)
# Draws of so many matches, and steps on them; then the best of all starts and their steps.
_DRAWS, _DRAWN, _DRAWN_STEPS = 360, 5, 6
_STEPS, _KEPT, _LAST_STEPS = 5, 8, 6
# Damping of a step, in mean curvatures: on all matches, what they hardly decide stays as it was.
_DAMPING, _DRAWN_DAMPING = 1e-2, 1e-3
# Robust widths, as shares of the focal length, where all matches count.
_WIDEST, _MIDDLE, _NARROWEST = 0.06, 0.02, 0.005
_FOCAL_STEP = 1.1
FOCALS = tuple(_FOCAL_STEP**k for k in range(-6, 11))
"""Focal lengths that are tried, as multiples of that of the rays."""
_APART = 4
_STARTS = FOCALS[2::_APART]
"""Those for which poses are sought from scratch: what fits at another may be out of reach."""
_NEAREST_START = tuple(float(max(k - 1, 0) // _APART) for k in range(len(FOCALS)))
"""Of each of ``FOCALS`` the number of the start whose poses it begins with."""
_SEARCHED = 2
"""One of so many matches, evenly over the photo, is asked in that search."""
# Support that a focal length must gain, times its squared logarithm, as a share of what no focal
# length explains: where many matches are wrong, chance decides between them.
_FOCAL_PRIOR = 0.6
# Poses that are refined for each, and steps for the one between two of them.
_FOCAL_POSES, _FOCAL_STEPS = 4, 2


class SolvedPose(NamedTuple):
    """Camera 2 in camera 1's frame, a point being R X + t; t of unit length, B pairs."""

    R: Tensor
    """(B, 3, 3)"""
    t: Tensor
    """(B, 3)"""
    focal: Tensor
    """(B,) multiple of the focal length of the rays."""
    support: Tensor
    """(B, F) share of the weight of all matches that agrees, 0 to 1, at each of ``FOCALS``."""

    def inverse(self) -> SolvedPose:
        """The same with the photos' roles exchanged."""
        back = self.R.mT
        return self._replace(R=back, t=-(back @ self.t[..., None])[..., 0])

    def likely(self) -> Tensor:
        """Return the support (B, F) less what is asked of unusual focal lengths."""
        return _likely(self.support)


def relative_pose(rays1: Tensor, rays2: Tensor, weights: Tensor) -> SolvedPose:
    """Return the pose, and the focal length of both photos, that explain matches best.

    ``rays1``, ``rays2`` (B, N, 3) have z = 1 and belong to a usual focal length, around which
    others are tried; ``weights`` (B, N) are 0 or more.
    """
    if rays1.device.type == "mps":
        # There torch has no eigenvectors; a few hundred matches are quick anywhere.
        found = relative_pose(rays1.cpu(), rays2.cpu(), weights.cpu())
        return SolvedPose(*(x.to(rays1.device) for x in found))
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-9)
    # From either side, with matches in an order that both share: draws name them by their place.
    # So a pair has one pose, whichever photo comes first.
    both = (rays1 + rays2)[..., :2] @ constant((1.0, 0.618), rays1)
    order = both.argsort(dim=1)
    weights = weights.gather(1, order)
    rays1, rays2 = (x.gather(1, order[..., None].expand_as(x)) for x in (rays1, rays2))
    found = _from_first(
        torch.cat([rays1, rays2]), torch.cat([rays2, rays1]), torch.cat([weights, weights])
    )
    forth, back = (SolvedPose(*half) for half in zip(*(x.chunk(2) for x in found), strict=True))
    better = forth.likely().amax(dim=1) >= back.likely().amax(dim=1)
    return SolvedPose(
        *(
            torch.where(better.view(-1, *[1] * (one.ndim - 1)), one, other)
            for one, other in zip(forth, back.inverse(), strict=True)
        )
    )


def _from_first(rays1: Tensor, rays2: Tensor, weights: Tensor) -> SolvedPose:
    """Return the pose, its starts being turns of camera 1."""
    R, t = _all_candidates(rays1, rays2, weights)
    pose = _over_focals(_Matches(rays1, rays2, weights), R, t)
    near1, near2 = at_focal(rays1, pose.focal), at_focal(rays2, pose.focal)
    kept = weights * agreement(pose.R, pose.t, pose.focal, rays1, rays2)
    sign = _sign(pose.R, pose.t, near1, near2, kept)
    return pose._replace(t=pose.t * sign[:, None])


def _all_candidates(rays1: Tensor, rays2: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return R (B, len(_STARTS), S, 3, 3) and t: the poses that are best for each."""
    count = len(_STARTS)
    if rays1.device.type == "cpu":
        # One after the other stays in the cache.
        found = [
            _candidates(rays1, rays2, weights, weights.new_full((len(weights),), focal))
            for focal in _STARTS
        ]
        R, t = (torch.stack(x, dim=1) for x in zip(*found, strict=True))
        return R, t
    # A GPU is kept waiting by small operations: a quarter of them, each on all focal lengths.
    lens = constant(_STARTS, weights).repeat(len(weights))
    repeated = (x.repeat_interleave(count, dim=0) for x in (rays1, rays2, weights))
    R, t = (x.unflatten(0, (-1, count)) for x in _candidates(*repeated, lens))
    return R, t


def _candidates(
    rays1: Tensor, rays2: Tensor, weights: Tensor, lens: Tensor
) -> tuple[Tensor, Tensor]:
    """Return R (B, S, 3, 3), t (B, S, 3): the poses that are best for focal lengths (B,)."""
    rays1, rays2, weights = (x[:, ::_SEARCHED] for x in (rays1, rays2, weights))
    rays1, rays2 = at_focal(rays1, lens), at_focal(rays2, lens)
    matches = _Matches(rays1, rays2, weights)
    starts = _start_rotations(rays1, rays2, weights)
    drawn_R, drawn_t = _from_draws(starts, rays1, rays2, weights)
    R, t = starts, _translations(starts, rays1, rays2, weights)
    for width in _widths(_WIDEST, _MIDDLE, _STEPS):
        R, t = _refined(matches, R, t, width)
    R, t = torch.cat([R, drawn_R], dim=1), torch.cat([t, drawn_t], dim=1)
    R, t = _best(matches, R, t, _KEPT)
    for width in _widths(_MIDDLE, _NARROWEST, _LAST_STEPS):
        R, t = _refined(matches, R, t, width)
    return _best(matches, R, t, _FOCAL_POSES)


def at_focal(rays: Tensor, focal: Tensor) -> Tensor:
    """Return rays (B, N, 3) of the same pixels for focal lengths that are multiples (B,)."""
    return torch.cat([rays[..., :2] / focal[:, None, None], rays[..., 2:]], dim=-1)


def _over_focals(matches: _Matches, R: Tensor, t: Tensor) -> SolvedPose:
    """Return the best of poses R (B, len(_STARTS), S, 3, 3) and t, the sign of its t open.

    Each is refined for the focal lengths around its own.
    """
    poses, focals = R.shape[2], constant(FOCALS, R)
    lens = focals.repeat_interleave(poses)
    around = constant(_NEAREST_START, R).long()
    R, t = (x.index_select(1, around).flatten(1, 2) for x in (R, t))
    for width in _widths(_MIDDLE, _NARROWEST, _LAST_STEPS):
        R, t = _refined(matches, R, t, width, lens=lens)
    support = (_fit(matches, R, t, lens) * matches.weights).sum(-1).unflatten(1, (-1, poses))
    support, best = support.max(dim=2)
    likely = _likely(support)
    # Between two focal lengths: the vertex of the parabola through the best three.
    middle = likely[:, 1:-1].argmax(dim=1, keepdim=True) + 1
    low, high = (likely.gather(1, middle + step) for step in (-1, 1))
    bend = (2 * likely.gather(1, middle) - low - high).clamp(min=1e-6)
    beside = (0.5 * (high - low) / bend).clamp(-1, 1)
    focal = (focals[middle].log() + beside * math.log(_FOCAL_STEP)).exp()
    index = middle * poses + best.gather(1, middle)
    pairs = torch.arange(len(R), device=R.device)[:, None]
    R, t = R[pairs, index], t[pairs, index]
    for _ in range(_FOCAL_STEPS):
        R, t = _refined(matches, R, t, _NARROWEST, lens=focal)
    return SolvedPose(R[:, 0], t[:, 0], focal[:, 0], support)


def _likely(support: Tensor) -> Tensor:
    unexplained = 1 - support.amax(dim=1, keepdim=True)
    unusual = constant(FOCALS, support).log().square()
    return support - _FOCAL_PRIOR * unexplained * unusual


def _widths(first: float, last: float, count: int) -> list[float]:
    return [first * (last / first) ** (k / (count - 1)) for k in range(count)]


def _from_draws(
    starts: Tensor, rays1: Tensor, rays2: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Return R (B, D, 3, 3), t (B, D, 3) that fit draws of five matches, likely ones more often."""
    # The largest of log weight + Gumbel noise: draws without replacement.
    noise = _gumbel_noise(weights.shape[1], weights.device, weights.dtype)
    keys = weights.clamp(min=1e-12).log()[:, None] - noise
    index = keys.topk(min(_DRAWN, keys.shape[2]), dim=2).indices
    pairs = torch.arange(len(weights), device=weights.device)[:, None, None]
    some1, some2 = (rays[pairs, index].flatten(0, 1) for rays in (rays1, rays2))
    even = torch.ones_like(some1[..., 0])
    few = _Matches(some1, some2, even)
    R = starts.repeat(1, _DRAWS // starts.shape[1], 1, 1).flatten(0, 1)[:, None]
    t = _translations(R, some1, some2, even)
    for _ in range(_DRAWN_STEPS):
        R, t = _refined(few, R, t, math.inf, _DRAWN_DAMPING)
    return R[:, 0].unflatten(0, (-1, _DRAWS)), t[:, 0].unflatten(0, (-1, _DRAWS))


@functools.lru_cache(maxsize=8)
def _gumbel_noise(matches: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return minus Gumbel noise (_DRAWS, matches), the same in every call."""
    with torch.inference_mode(False), torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        uniform = torch.rand(_DRAWS, matches, generator=generator).to(device, dtype)
        return (-uniform.clamp(1e-9, 1 - 1e-6).log()).log()


def agreement(R: Tensor, t: Tensor, focal: Tensor, rays1: Tensor, rays2: Tensor) -> Tensor:
    """Return (B, N), 0 to 1: how well matches (B, N, 3) fit R (B, 3, 3), t (B, 3), focal (B,)."""
    matches = _Matches(rays1, rays2, torch.ones_like(rays1[..., 0]))
    return _fit(matches, R[:, None], t[:, None], focal[:, None])[:, 0]


class _Matches:
    """Matches of B pairs, laid out so that all that is asked of them is a matrix product."""

    def __init__(self, rays1: Tensor, rays2: Tensor, weights: Tensor) -> None:
        self.rays1, self.rays2 = rays1.transpose(1, 2), rays2.transpose(1, 2)
        self.products = (self.rays1[:, :, None] * self.rays2[:, None]).flatten(1, 2)
        self.weights = weights[:, None]

    def values(self, matrices: Tensor) -> Tensor:
        """Return x1' M x2 (B, ..., N) of matrices (B, ..., 3, 3)."""
        flat = matrices.flatten(-2)
        return (flat.flatten(1, -2) @ self.products).unflatten(1, flat.shape[1:-1])

    def squared_slopes(self, E: Tensor) -> Tensor:
        """Return the squares (B, S, N) of how fast x1' E x2 changes as pixels move.

        ``E`` is (B, S, 3, 3).
        """
        first = E[..., :2, :].flatten(1, 2) @ self.rays2
        second = E.transpose(-1, -2)[..., :2, :].flatten(1, 2) @ self.rays1
        squares = first.square() + second.square()
        return squares.unflatten(1, (-1, 2)).sum(2).clamp(min=1e-12)


def _seen_through(E: Tensor, lens: Tensor | None) -> Tensor:
    """Essential matrices (..., S, 3, 3) for rays of focal lengths (S,) in terms of the given rays.

    With x' = D x for the rays x' of another focal length, x1' E x2' is x1 D E D x2.
    """
    if lens is None:
        return E
    d = torch.stack([1 / lens, 1 / lens, torch.ones_like(lens)], dim=-1)
    return d[..., :, None] * E * d[..., None, :]


def _fit(matches: _Matches, R: Tensor, t: Tensor, lens: Tensor | None = None) -> Tensor:
    """Return (B, S, N): 1 for a Sampson error of 0, one half for one of the narrowest width.

    The Sampson error is the first-order distance of a match to the epipolar geometry (Hartley and
    Zisserman, eq. 11.9), here in focal lengths of the given rays.
    """
    E = _seen_through(_cross_matrix(t) @ R, lens)
    errors = matches.values(E).square() / matches.squared_slopes(E)
    return 1 / (1 + errors / _NARROWEST**2)


def _best(matches: _Matches, R: Tensor, t: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` best of the poses (B, S, ...), best first."""
    order = (_fit(matches, R, t) * matches.weights).sum(-1).topk(count, dim=1).indices
    pairs = torch.arange(len(R), device=R.device)[:, None]
    return R[pairs, order], t[pairs, order]


def triangulate(R: Tensor, t: Tensor, rays1: Tensor, rays2: Tensor) -> tuple[Tensor, Tensor]:
    """Return z-depths (B, N) in camera 1 and camera 2 where the rays of matches come closest.

    In units of |t|. Rays that hardly differ give what they give, negative depths included.
    """
    turned = rays2 @ R.transpose(1, 2)
    # Normal equations of z1 a - z2 b = t for two unknowns.
    aa, bb = rays1.square().sum(-1), turned.square().sum(-1)
    ab = (rays1 * turned).sum(-1)
    at, bt = (rays1 * t[:, None]).sum(-1), (turned * t[:, None]).sum(-1)
    determinant = (aa * bb - ab * ab).clamp(min=1e-9)
    return (bb * at - ab * bt) / determinant, (ab * at - aa * bt) / determinant


def _start_rotations(rays1: Tensor, rays2: Tensor, weights: Tensor) -> Tensor:
    """Return (B, S, 3, 3): the rotation that turns rays 2 onto rays 1 best, and turns of it."""
    unit1, unit2 = (x / x.norm(dim=-1, keepdim=True) for x in (rays1, rays2))
    robust = weights
    for _ in range(4):
        u, _, vt = torch.linalg.svd((robust[..., None] * unit1).transpose(1, 2) @ unit2)
        sign = torch.ones_like(u[:, 0])
        sign[:, 2] = torch.linalg.det(u @ vt).sign()
        R = (u * sign[:, None]) @ vt
        error = (unit2 @ R.transpose(1, 2) - unit1).square().sum(-1)
        robust = weights / (1 + error / 0.1**2).square()
    turns = _turns(_YAWS, 1, R)[:, None] @ _turns(_PITCHES, 0, R)
    return turns.flatten(0, 1) @ R[:, None]


def _turns(angles_deg: tuple[float, ...], axis: int, like: Tensor) -> Tensor:
    vectors = like.new_zeros(len(angles_deg), 3)
    vectors[:, axis] = torch.deg2rad(constant(angles_deg, like))
    return _rotation(vectors)


def _rotation(vectors: Tensor) -> Tensor:
    """Rotation vectors (..., 3), radians, to matrices (..., 3, 3): Rodrigues' formula."""
    cross = _cross_matrix(vectors)
    angle = vectors.norm(dim=-1)[..., None, None]
    # sin(a) / a, and (1 - cos(a)) / a^2: finite at 0.
    first, second = torch.sinc(angle / math.pi), 0.5 * torch.sinc(angle / math.tau).square()
    eye = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return eye + first * cross + second * (cross @ cross)


def _cross_matrix(v: Tensor) -> Tensor:
    """(..., 3) to (..., 3, 3) with M x = v x x."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def _translations(R: Tensor, rays1: Tensor, rays2: Tensor, weights: Tensor) -> Tensor:
    """Return the unit t (B, S, 3) most orthogonal to all x1 x R x2, sign open."""
    turned = rays2[:, None] @ R.transpose(-1, -2)
    normal = torch.linalg.cross(rays1[:, None].expand_as(turned), turned)
    robust = weights[:, None]
    for _ in range(3):
        scatter = (robust[..., None] * normal).transpose(-1, -2) @ normal
        t = torch.linalg.eigh(scatter).eigenvectors[..., 0]
        error = (normal @ t[..., None])[..., 0]
        robust = weights[:, None] / (1 + (error / _WIDEST).square()).square()
    return t


def _refined(
    matches: _Matches,
    R: Tensor,
    t: Tensor,
    width: float,
    relative: float = _DAMPING,
    lens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return R, t after one robust Gauss-Newton step (Geman-McClure weights).

    ``lens``, (S,) or (B, S), are focal lengths for which poses (B, S, ...) hold, as multiples of
    the rays'.
    """
    # E = [t]x R becomes [t + d]x R exp(w), d in the plane across t: five directions.
    axes = _across(t)
    E = _cross_matrix(t) @ R
    spin = _cross_matrix(torch.eye(3, dtype=R.dtype, device=R.device))
    turns = E[..., None, :, :] @ spin
    shifts = _cross_matrix(axes.transpose(-1, -2)) @ R[..., None, :, :]
    changes = torch.cat([E[..., None, :, :], turns, shifts], dim=-3)
    seen = _seen_through(changes, None if lens is None else lens[..., None])
    # Errors are values by slopes: in products of two of them the weights bear both slopes.
    values, J = matches.values(seen).tensor_split([1], dim=2)
    squares = matches.squared_slopes(seen[:, :, 0])[:, :, None]
    robust = (1 + values.square() / (squares * width**2)).square()
    weighted = matches.weights[:, :, None] / (robust * squares) * J
    normal = weighted @ J.transpose(-1, -2)
    damping = relative * normal.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=1e-9)
    eye = torch.eye(5, dtype=J.dtype, device=J.device)
    gradient = weighted @ values.transpose(-1, -2)
    # Damped, so never singular; to look whether it was, the host would wait for a GPU.
    solved, _ = torch.linalg.solve_ex(normal + damping[..., None, None] * eye, gradient)
    step = -solved[..., 0]
    # A step beyond half a radian leaves what the linearisation knows.
    step = step * (0.5 / step.norm(dim=-1, keepdim=True).clamp(min=0.5))
    R = R @ _rotation(step[..., :3])
    t = t + (axes @ step[..., 3:, None])[..., 0]
    return R, t / t.norm(dim=-1, keepdim=True)


def _across(t: Tensor) -> Tensor:
    """Return (..., 3, 2): two unit vectors across unit vectors (..., 3) and each other."""
    smallest = torch.nn.functional.one_hot(t.abs().argmin(dim=-1), 3).to(t.dtype)
    first = torch.linalg.cross(t, smallest)
    first = first / first.norm(dim=-1, keepdim=True)
    return torch.stack([first, torch.linalg.cross(t, first)], dim=-1)


def _sign(R: Tensor, t: Tensor, rays1: Tensor, rays2: Tensor, weights: Tensor) -> Tensor:
    """Return (B,) 1 or -1: the side of t that puts more of the matches before both cameras."""
    z1, z2 = triangulate(R, t, rays1, rays2)
    before = ((z1 > 0) & (z2 > 0)).to(weights.dtype) - ((z1 < 0) & (z2 < 0)).to(weights.dtype)
    return torch.where((weights * before).sum(1) < 0, -1.0, 1.0).to(t.dtype)
