"""Judges the verdict: python -m benchmarks.verdict SCENE_DIR... --cache FOLDER.

Of every scene folder (``images/``, ``cameras.json`` with true poses) features are matched once and
kept in the cache. From those matches many scenes are solved: parts of the photos, fewer or less
accurate matches, and what a verdict has to find: zooms that nothing tells of, crops off the centre,
lenses that bend, focal lengths forced wrong, places that look alike, cameras moved, turned,
mirrored and exchanged. The true poses say which of them came out right.

A scene is wrong when the median pair of its placed photos is off by more than 5 degrees, the larger
of rotation and direction, and right below. The verdict's figures are fitted to scenes (``--fit``),
and told of scenes that were held out: those of one place at a time.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from pointmap.camera import Array, rotation_exp
from pointmap.errors import InputError
from pointmap.images import Photo
from recon.alignment.align import align
from recon.evaluation.poses import relative_pose_errors
from recon.evaluation.scene import read_truth
from recon.evaluation.tables import markdown
from recon.inputs import read_inputs
from recon.options import Options
from recon.stage_results import Alignment, PairEvidence, PairMatches
from recon.two_view.features import find_features
from recon.two_view.focal_lengths import FocalOptions, solve_focals
from recon.two_view.match_photos import match_photos
from recon.two_view.relative_pose import verify_pair
from recon.verdict.evidence import SceneEvidence, scene_evidence
from recon.verdict.judge import expected_errors_deg, signs, verdict_of

WRONG_DEG = 5.0
# Right scenes that may be doubted, of those that the limit is chosen by; how much slopes are held.
FALSE_ALARMS = 0.03
RIDGE = 0.5
Change = tuple[Callable[[Array], Array], tuple[int, int]]
_SIZES = (3, 5, 8, 2, 4, 6)


@dataclass(frozen=True)
class Matched:
    """A scene as it was matched: ``photos``, ``matches`` of pairs, and the true ``poses``."""

    name: str
    photos: tuple[Photo, ...]
    matches: tuple[PairMatches, ...]
    poses: tuple[Array, ...]


@dataclass(frozen=True)
class Judged:
    """One solved scene: its ``source`` folder, the ``kind`` of change, what it told, the true
    median error of a pair, ``error_deg``, and of each placed photo's pairs, ``photo_deg`` (N, 2) of
    rotation and direction (NaN: not placed).
    """

    source: str
    kind: str
    evidence: SceneEvidence
    error_deg: float
    photo_deg: Array
    photos: int


def matched(folder: Path, cache: Path) -> Matched:
    """Return a scene's photos and matches, from the cache where it has them."""
    stored = cache / f"{folder.resolve().name}.pickle"
    if stored.exists():
        # Written by this benchmark into a folder of the user's own.
        with stored.open("rb") as file:
            found: Matched = pickle.load(file)
            return found
    truth = read_truth(folder / "cameras.json")
    inputs = read_inputs([folder / "images"], device="cpu")
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
    total = np.zeros((len(scene.photos),) * 2)
    for m in scene.matches:
        total[m.i, m.j] = total[m.j, m.i] = len(m)
    chosen = [int(rng.integers(len(scene.photos)))]
    while len(chosen) < min(count, len(scene.photos)):
        tied = total[chosen].max(axis=0)
        tied[chosen] = -1
        best = np.argsort(-tied)[: max(2, count // 2)]
        chosen.append(int(rng.choice(best)))
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


def look_alike(scene: Matched, rng: np.random.Generator) -> Matched:
    """Return two places that look alike: photos of the second are of the first, but share only one
    side of the picture with photos of the first, and stand elsewhere.
    """
    second = np.arange(len(scene.photos)) % 2 == 1
    turn = rotation_exp(np.array([[0.0, np.radians(rng.uniform(60, 180)), 0.0]]))[0]
    poses = []
    for pose, other in zip(scene.poses, second, strict=True):
        moved = pose.copy()
        if other:
            moved[:3] = turn @ pose[:3]
        poses.append(moved)
    right = rng.random() < 0.5
    matches = []
    for m in scene.matches:
        if second[m.i] != second[m.j]:
            photo = scene.photos[m.i]
            m = m.select((m.xy_i[:, 0] > photo.width / 2) == right)
        matches.append(m)
    return replace(scene, matches=tuple(matches), poses=tuple(poses))


def same(scene: Matched, rng: np.random.Generator) -> Matched:
    """Return the scene as it is."""
    return scene


def solved(scene: Matched, rng: np.random.Generator, *, force: bool = False) -> Alignment:
    """Return the cameras that the matches give; ``force``: with a wrong focal length held."""
    photos = scene.photos
    focals = solve_focals(photos, scene.matches, None, FocalOptions())
    if force:
        factor = np.exp(rng.choice([-1, 1]) * rng.uniform(0.3, 0.8))
        focals = replace(
            focals, focals_px=focals.focals_px * factor, log_sigma=np.zeros(len(photos))
        )
    found = (verify_pair(photos, m, None, focals.focals_px) for m in scene.matches)
    edges = [edge for edge in found if edge is not None]
    return align(photos, PairEvidence(list(scene.matches), edges, focals, [], []))


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
    "look-alikes": look_alike,
}
DISTURBED = ("moved", "turned", "mirrored", "swapped")


def judged(scene: Matched, trials: int, *, changes: Sequence[str]) -> Iterator[Judged]:
    """Yield scenes made from one, solved and compared with the truth."""
    rng = np.random.default_rng(abs(hash_of(scene.name)))
    for trial in range(trials):
        size = _SIZES[trial % len(_SIZES)]
        small = part(scene, some_photos(scene, size, rng))
        for kind in changes:
            change = CHANGES[kind]
            # Zooms need photos that were not zoomed; of few photos nothing tells look-alikes.
            if size < {"zooms": 3, "look-alikes": 5}.get(kind, 2):
                continue
            changed = change(small, rng)
            alignment = solved(changed, rng)
            yield from _one(changed, kind, alignment)
            if kind == "as it is" and trial % 2 == 0:
                how = DISTURBED[trial // 2 % len(DISTURBED)]
                yield from _one(changed, how, disturbed(alignment, how, rng))
        if trial % 2 == 0:
            yield from _one(small, "wrong focal", solved(small, rng, force=True))


def _one(scene: Matched, kind: str, alignment: Alignment) -> Iterator[Judged]:
    placed = [k for k, pose in enumerate(alignment.cam_to_world) if pose is not None]
    if len(placed) < 2:
        return
    errors = relative_pose_errors(
        [alignment.cam_to_world[k] for k in placed], [scene.poses[k] for k in placed]
    )
    photo_deg = np.full((len(scene.photos), 2), np.nan)
    for n, k in enumerate(placed):
        mine = (errors.pairs == n).any(axis=1)
        photo_deg[k] = (
            np.median(errors.rotation_deg[mine]),
            np.median(errors.translation_deg[mine]),
        )
    evidence = scene_evidence(scene.photos, alignment)
    error = float(np.median(errors.pose_deg))
    yield Judged(scene.name, kind, evidence, error, photo_deg, len(placed))


def hash_of(name: str) -> int:
    """Return a number that is the same in each run."""
    return int.from_bytes(name.encode()[-6:], "little")


def families(scenes: Sequence[Matched]) -> dict[str, int]:
    """Return a number for each scene's name, equal for scenes that have a true pose in common: they
    are of the same photos, changed.
    """
    owner: dict[bytes, int] = {}
    family = list(range(len(scenes)))
    for number, scene in enumerate(scenes):
        keys = {np.round(pose, 4).tobytes() for pose in scene.poses}
        joined = {family[owner[key]] for key in keys if key in owner}
        family[number] = number
        family = [number if f in joined else f for f in family]
        owner.update({key: number for key in keys if key not in owner})
    return {scene.name: f for scene, f in zip(scenes, family, strict=True)}


@dataclass(frozen=True)
class Model:
    """Slopes and offsets of :func:`recon.verdict.judge.probability_wrong`, and the probability from
    which on a scene is doubtful.
    """

    weights: Array
    biases: Array
    doubtful: float

    def probability(self, scenes: Sequence[Judged]) -> Array:
        """Return the probability (N,) that each scene is wrong."""
        against = np.array([signs(scene.evidence) for scene in scenes])
        rates = np.logaddexp(0, against * self.weights + self.biases).sum(axis=1)
        return np.asarray(-np.expm1(-rates))


def fitted(scenes: Sequence[Judged]) -> Model:
    """Return the likeliest model; right and wrong scenes count alike, as classes."""
    X = np.array([signs(scene.evidence) for scene in scenes])
    wrong = np.array([scene.error_deg > WRONG_DEG for scene in scenes])
    weight = np.where(wrong, 1 / max(wrong.sum(), 1), 1 / max((~wrong).sum(), 1)) * len(X) / 2
    middle, spread = X.mean(axis=0), X.std(axis=0) + 1e-6
    Z, count = (X - middle) / spread, X.shape[1]

    def cost(parameters: Array) -> tuple[float, Array]:
        slope, offset = parameters[:count], parameters[count:]
        inner = Z * slope + offset
        rate = np.logaddexp(0, inner).sum(axis=1)
        missed = np.where(wrong, -np.log(-np.expm1(-rate) + 1e-12), rate)
        pull = weight * np.where(wrong, -1 / np.expm1(rate), 1.0)
        each = pull[:, None] / (1 + np.exp(-inner))
        gradient = np.concatenate([(each * Z).sum(axis=0), each.sum(axis=0)])
        gradient[:count] += RIDGE * slope
        return float((weight * missed).sum() + 0.5 * RIDGE * slope @ slope), gradient

    start = np.concatenate([np.ones(count), np.full(count, -3.0)])
    bounds = [(0.0, None)] * count + [(None, None)] * count
    found = minimize(cost, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    slope = found[:count] / spread
    model = Model(slope, found[count:] - slope * middle, 0.5)
    right = model.probability(scenes)[~wrong]
    limit = float(np.quantile(right, 1 - FALSE_ALARMS)) if len(right) else 0.5
    return replace(model, doubtful=min(limit, 0.5))


@dataclass(frozen=True)
class Rates:
    """Of scenes of one kind: how many came out ``right`` and ``wrong``, how many of the wrong ones
    were called doubtful or worse (``hits``), and of the right ones (``alarms``).
    """

    right: int
    wrong: int
    hits: int
    alarms: int

    @staticmethod
    def of(errors: Sequence[float], doubted: Sequence[bool]) -> Rates:
        """Return the rates of scenes with these errors, in degrees, of which some were doubted."""
        wrong, doubt = np.array(errors) > WRONG_DEG, np.array(doubted, bool)
        return Rates(
            int((~wrong).sum()),
            int(wrong.sum()),
            int((wrong & doubt).sum()),
            int((~wrong & doubt).sum()),
        )

    def cells(self) -> tuple[str, ...]:
        """Return the cells of a table's row."""
        hits = f"{self.hits / self.wrong:.1%}" if self.wrong else "-"
        alarms = f"{self.alarms / self.right:.1%}" if self.right else "-"
        return (str(self.wrong), hits, str(self.right), alarms)


def held_out(scenes: Sequence[Judged], family: dict[str, int]) -> list[bool]:
    """Return whether each scene is doubted by a model fitted to the other families' scenes."""
    doubted = [False] * len(scenes)
    for number in set(family.values()):
        inside = [k for k, scene in enumerate(scenes) if family[scene.source] == number]
        others = [scene for scene in scenes if family[scene.source] != number]
        if not inside or not others:
            continue
        model = fitted(others)
        probability = model.probability([scenes[k] for k in inside])
        for k, p in zip(inside, probability, strict=True):
            doubted[k] = bool(p >= model.doubtful)
    return doubted


def rates_table(scenes: Sequence[Judged], doubted: Sequence[bool]) -> str:
    """Return a Markdown table: rates of each kind of scene, of each folder, and of all."""
    pairs = list(zip(scenes, doubted, strict=True))
    rows = []
    for kind in dict.fromkeys(scene.kind for scene in scenes):
        rows.append((kind, [(s, d) for s, d in pairs if s.kind == kind]))
    for source in dict.fromkeys(scene.source for scene in scenes):
        rows.append((f"*{source}*", [(s, d) for s, d in pairs if s.source == source]))
    rows.append(("**all**", pairs))
    cells = [
        (name, *Rates.of([s.error_deg for s, _ in those], [d for _, d in those]).cells())
        for name, those in rows
    ]
    return markdown(("scenes", "wrong", "doubted", "right", "doubted"), cells)


def error_table(scenes: Sequence[Judged]) -> str:
    """Return a Markdown table of the photos' errors beside what was expected, of scenes that are
    not called wrong: how many are below the expected error, and below three times it.
    """
    rows = []
    for column, name in enumerate(("rotation", "direction")):
        ratio = np.concatenate(
            [s.photo_deg[:, column] / expected_errors_deg(s.evidence)[column] for s in scenes]
        )
        ratio = ratio[np.isfinite(ratio)]
        shares = [f"{(ratio <= factor).mean():.1%}" for factor in (1, 3)]
        rows.append((name, str(len(ratio)), f"{np.median(ratio):.2f}", *shares))
    columns = ("error of", "photos", "median of true / expected", "below expected", "below 3 times")
    return markdown(columns, rows)


def main(arguments: Sequence[str]) -> int:
    """Make the scenes, judge them, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdict", description=__doc__)
    parser.add_argument("scenes", nargs="+", type=Path, metavar="SCENE_DIR")
    parser.add_argument("--cache", type=Path, required=True, help="folder for what was matched")
    parser.add_argument("--trials", type=int, default=6, help="parts taken of each scene")
    parser.add_argument(
        "--changes", nargs="+", choices=list(CHANGES), default=list(CHANGES), metavar="KIND"
    )
    parser.add_argument("--fit", action="store_true", help="fit the verdict's figures, print them")
    given = parser.parse_args(arguments)
    sources = [matched(folder, given.cache) for folder in given.scenes]
    scenes: list[Judged] = []
    for source in sources:
        scenes += judged(source, given.trials, changes=given.changes)
        print(f"{source.name}: {len(scenes)} scenes so far", file=sys.stderr, flush=True)
    # Without a point nothing is fitted: such scenes are judged by a rule.
    scenes = [scene for scene in scenes if np.isfinite(scene.evidence.shift_deg)]
    if given.fit:
        model = fitted(scenes)
        for name, values in (("weights", model.weights), ("biases", model.biases)):
            print(f"{name} {np.round(values, 3).tolist()}")
        print(f"doubtful from {model.doubtful:.3f}\n\nHeld out:\n")
        print(rates_table(scenes, held_out(scenes, families(sources))))
    print("\nAs the program judges:\n")
    verdicts = [verdict_of(s.evidence, [""] * len(s.evidence.placed)).word for s in scenes]
    print(rates_table(scenes, [word != "sound" for word in verdicts]))
    believed = [s for s, word in zip(scenes, verdicts, strict=True) if word != "wrong"]
    print(f"\n{error_table(believed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
