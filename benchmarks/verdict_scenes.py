"""Scenes made from one scene, solved from its matches; right ones, and wrong ones on purpose."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pointmap.camera import Array, Index, rotation_exp
from pointmap.errors import InputError
from pointmap.images import Photo
from recon.alignment.align import align
from recon.alignment.refinement import AlignOptions
from recon.alignment.solved_lenses import solved_lenses
from recon.alignment.zooms import cameras_by_zoom, with_zooms
from recon.evaluation.scene import read_truth
from recon.inputs import read_inputs
from recon.options import Options
from recon.stage_results import Alignment, Focals, PairEvidence, PairMatches
from recon.two_view.find_features import find_features
from recon.two_view.focal_lengths import FocalOptions, solve_focals
from recon.two_view.match_photos import match_photos
from recon.two_view.relative_pose import verify_pair
from recon.verdict.better_start import from_better_start

Change = tuple[Callable[[Array], Array], tuple[int, int]]


@dataclass(frozen=True)
class Matched:
    """A scene as it was matched: ``photos``, ``matches`` of pairs, and the true ``poses``."""

    name: str
    photos: tuple[Photo, ...]
    matches: tuple[PairMatches, ...]
    poses: tuple[Array, ...]


def matched(folder: Path, cache: Path) -> Matched:
    """Return a scene's photos and matches, from the cache where it has them."""
    stored = cache / f"{folder.resolve().name}.pickle"
    if stored.exists():
        # Written by this benchmark into a folder of the user's own.
        with stored.open("rb") as file:
            found: Matched = pickle.load(file)
            return found
    truth = read_truth(folder / "cameras.json")
    inputs = read_inputs([folder / "images"], Options(device="cpu", matcher="sift"))
    known = [k for k, photo in enumerate(inputs.photos) if photo.name in truth.cameras]
    if len(known) < len(inputs.photos):
        raise InputError(f"{folder} has photos without a true camera")
    poses = []
    for photo in inputs.photos:
        pose = truth.cameras[photo.name].cam_to_world
        if pose is None:
            raise InputError(f"{folder} has photos without a true camera")
        poses.append(pose)
    features = find_features(inputs)
    matches = match_photos(inputs, features, Options().graph)
    result = Matched(folder.resolve().name, inputs.photos, tuple(matches), tuple(poses))
    cache.mkdir(parents=True, exist_ok=True)
    with stored.open("wb") as file:
        pickle.dump(result, file)
    return result


def part(scene: Matched, numbers: Sequence[int]) -> Matched:
    """Return the scene of some photos."""
    place = {int(n): k for k, n in enumerate(numbers)}
    matches = tuple(
        replace(m, i=place[m.i], j=place[m.j])
        for m in scene.matches
        if m.i in place and m.j in place
    )
    return Matched(
        scene.name,
        tuple(scene.photos[n] for n in numbers),
        matches,
        tuple(scene.poses[n] for n in numbers),
    )


def some_photos(scene: Matched, count: int, rng: np.random.Generator) -> list[int]:
    """Return photos that hang together: one, and those that share the most matches with it."""

    def best(tied: Array) -> Index:
        most = np.argsort(-tied)[: max(2, count // 2)]
        return most[tied[most] >= 0]

    return drawn_photos(scene, count, rng, best)


def drawn_photos(
    scene: Matched,
    count: int,
    rng: np.random.Generator,
    candidates: Callable[[Array], Index],
) -> list[int]:
    """Return a photo and others, each drawn from the ``candidates`` by how many matches (N,) photos
    share with one of those before, -1 for these.
    """
    total = np.zeros((len(scene.photos),) * 2)
    for m in scene.matches:
        total[m.i, m.j] = total[m.j, m.i] = len(m)
    chosen = [int(rng.integers(len(scene.photos)))]
    while len(chosen) < min(count, len(scene.photos)):
        tied = total[chosen].max(axis=0)
        tied[chosen] = -1
        chosen.append(int(rng.choice(candidates(tied))))
    return sorted(chosen)


def remapped(scene: Matched, change: Sequence[Change]) -> Matched:
    """Return the scene with each photo's pixels moved by its ``change``: (M, 2) -> (M, 2), NaN for
    what is no longer seen, and the photo's size after it.
    """
    photos = tuple(
        replace(photo, width=width, height=height)
        for photo, (_, (width, height)) in zip(scene.photos, change, strict=True)
    )
    matches = []
    for m in scene.matches:
        xy_i, xy_j = change[m.i][0](m.xy_i), change[m.j][0](m.xy_j)
        seen = np.isfinite(xy_i).all(axis=1) & np.isfinite(xy_j).all(axis=1)
        matches.append(replace(m, xy_i=xy_i, xy_j=xy_j).select(np.asarray(seen)))
    return replace(scene, photos=photos, matches=tuple(matches))


def _window(photo: Photo, zoom: float, corner: tuple[float, float], share: float) -> Change:
    """Return the change of a window, of a share of the photo's sides at ``corner`` (shares of what
    is left of them), magnified by ``zoom``.
    """
    size = np.array([photo.width, photo.height], np.float64)
    kept = np.floor(size * share)
    start = (size - kept) * corner

    def change(xy: Array) -> Array:
        inside = np.asarray(((xy >= start) & (xy < start + kept)).all(axis=1))
        return np.where(inside[:, None], (xy - start) * zoom, np.nan)

    width, height = (kept * zoom).astype(int).tolist()
    return change, (width, height)


def zoomed(scene: Matched, rng: np.random.Generator) -> Matched:
    """Return the scene with a part of the photos zoomed, all of them of one size."""
    zoom, chosen = rng.uniform(1.15, 1.8), rng.random(len(scene.photos)) < 0.5
    chosen[:2] = False, True
    return remapped(
        scene,
        [
            _window(photo, zoom, (0.5, 0.5), 1 / zoom)
            if far
            else (lambda xy: xy, (photo.width, photo.height))
            for photo, far in zip(scene.photos, chosen, strict=True)
        ],
    )


def cropped(scene: Matched, rng: np.random.Generator) -> Matched:
    """Return the scene with one and the same window cut out of each photo, off its centre."""
    share = rng.uniform(0.5, 0.85)
    corner = tuple(rng.choice([0.0, 1.0], 2).tolist())
    return remapped(scene, [_window(photo, 1.0, corner, share) for photo in scene.photos])


def bent(scene: Matched, rng: np.random.Generator) -> Matched:
    """Return the scene seen through a lens of strong radial distortion of two coefficients."""
    k1, k2 = rng.uniform(-0.35, 0.35), rng.uniform(-0.3, 0.3)

    def change(photo: Photo) -> Change:
        centre, reach = np.array([photo.width, photo.height]) / 2, photo.width / 1.4

        def move(xy: Array) -> Array:
            flat = (xy - centre) / reach
            square = (flat**2).sum(axis=1, keepdims=True)
            return centre + reach * flat * (1 + k1 * square + k2 * square**2)

        return move, (photo.width, photo.height)

    return remapped(scene, [change(photo) for photo in scene.photos])


def noisy(scene: Matched, rng: np.random.Generator) -> Matched:
    """Return the scene with less accurate matches."""
    sigma = rng.uniform(0.5, 2.5)
    matches = [
        replace(
            m,
            xy_i=m.xy_i + rng.normal(0, sigma, m.xy_i.shape),
            xy_j=m.xy_j + rng.normal(0, sigma, m.xy_j.shape),
        )
        for m in scene.matches
    ]
    return replace(scene, matches=tuple(matches))


def thinned(scene: Matched, rng: np.random.Generator) -> Matched:
    """Return the scene with few of its key points."""
    share = 10 ** rng.uniform(-1.7, -0.5)
    kept = [rng.random(200_000) < share**0.5 for _ in scene.photos]
    matches = [m.select(kept[m.i][m.index_i] & kept[m.j][m.index_j]) for m in scene.matches]
    return replace(scene, matches=tuple(matches))


def same(scene: Matched, rng: np.random.Generator) -> Matched:
    """Return the scene as it is."""
    return scene


def solved(scene: Matched, rng: np.random.Generator, *, force: bool = False) -> Alignment:
    """Return the cameras that the matches give, with zooms and lenses found as the pipeline finds
    them; ``force``: with a wrong focal length held.
    """
    photos, matches = scene.photos, scene.matches
    focals = solve_focals(photos, matches, None, FocalOptions())
    if force:
        factor = np.exp(rng.choice([-1, 1]) * rng.uniform(0.3, 0.8))
        focals = replace(
            focals, focals_px=focals.focals_px * factor, log_sigma=np.zeros(len(photos))
        )
    evidence, alignment = aligned(photos, matches, focals)
    if force:
        return alignment
    zooms = cameras_by_zoom(photos, evidence, alignment, AlignOptions())
    if zooms is not None:
        photos = with_zooms(photos, zooms)
        evidence, alignment = aligned(photos, matches, zooms.focals, zooms.alignment)
    chosen = solved_lenses(photos, evidence, alignment, AlignOptions())
    better = from_better_start(photos, evidence, chosen, AlignOptions())
    return better[1] if better else chosen


def aligned(
    photos: Sequence[Photo],
    matches: Sequence[PairMatches],
    focals: Focals,
    start: Alignment | None = None,
) -> tuple[PairEvidence, Alignment]:
    """Return what the matches say pair by pair, and the cameras that they give."""
    found = (verify_pair(photos, m, None, focals.focals_px) for m in matches)
    edges = [edge for edge in found if edge is not None]
    evidence = PairEvidence(list(matches), edges, focals, [], [])
    return evidence, align(photos, evidence, start=start)


def disturbed(alignment: Alignment, kind: str, rng: np.random.Generator) -> Alignment:
    """Return a solved scene with a part of its cameras made wrong."""
    poses = [None if pose is None else pose.copy() for pose in alignment.cam_to_world]
    placed = [k for k, pose in enumerate(poses) if pose is not None]
    group = rng.permutation(placed)[: max(1, len(placed) // 2)].tolist()
    centres = np.stack([pose[:3, 3] for pose in poses if pose is not None])
    size = float(np.ptp(centres, axis=0).max()) or 1.0
    turn = rotation_exp(np.radians(rng.uniform(8, 40)) * _unit(rng)[None])[0]
    shift = size * rng.uniform(0.3, 1.0) * _unit(rng)
    if kind == "swapped" and len(placed) > 1:
        order = np.roll(placed, 1)
        poses = [
            poses[int(order[placed.index(k)])] if k in placed else None for k in range(len(poses))
        ]
    for k in group if kind != "swapped" else ():
        pose = poses[k]
        assert pose is not None
        if kind == "moved":
            pose[:3, 3] += shift
        elif kind == "turned":
            pose[:3, :3] = pose[:3, :3] @ turn
        else:
            flip = np.diag([-1.0, 1.0, 1.0])
            pose[:3, :3], pose[:3, 3] = flip @ pose[:3, :3] @ flip, flip @ pose[:3, 3]
    return replace(alignment, cam_to_world=tuple(poses))


def _unit(rng: np.random.Generator) -> Array:
    direction = rng.normal(size=3)
    return np.asarray(direction / np.linalg.norm(direction))


CHANGES = {
    "as it is": same,
    "noise": noisy,
    "few matches": thinned,
    "zooms": zoomed,
    "crops": cropped,
    "bent lens": bent,
}
DISTURBED = ("moved", "turned", "mirrored", "swapped")
