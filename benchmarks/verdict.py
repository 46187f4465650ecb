"""Judges the verdict: python -m benchmarks.verdict SCENE_DIR... --cache FOLDER.

Of every scene folder (``images/``, ``cameras.json`` with true poses) features are matched once and
kept in the cache. From those matches many scenes are solved: parts of the photos, fewer or less
accurate matches, and what a verdict has to find: zooms that nothing tells of, crops off the centre,
lenses that bend, focal lengths forced wrong, cameras moved, turned, mirrored and exchanged. Of
scenes of two places that look alike (``--look-alikes``) parts are solved as they are. The true
poses say which of them came out right.

A scene is wrong when the median pair of its placed photos is off by more than 5 degrees, the larger
of rotation and direction, and right below. A scene whose median pair is right may have a photo that
stands elsewhere, and isn't right then: the last row leaves out those with a photo that is off by
more than 10 degrees (the median of its pairs). The verdict's figures are fitted to scenes
(``--fit``), and told of scenes that were held out: those of one place at a time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.verdict_fit import ALIKE, WRONG_DEG, Judged, Rates, fitted, held_out
from benchmarks.verdict_scenes import (
    CHANGES,
    DISTURBED,
    Matched,
    disturbed,
    matched,
    part,
    solved,
    some_photos,
)
from pointmap.camera import Array
from recon.alignment.compared_pictures import compare_pictures
from recon.evaluation.poses import relative_pose_errors
from recon.evaluation.tables import markdown
from recon.stage_results import Alignment
from recon.verdict.evidence import scene_evidence, with_pictures
from recon.verdict.judge import (
    asked_again,
    expected_errors_deg,
    loosely_held,
    show_two_places,
    verdict_of,
)
from recon.verdict.single_joint import joined_by_one

CLEAR_DEG = 2.5, 10.0
# A photo that is off by more makes a scene that is right otherwise one that is right in part.
_PHOTO_DEG = 10.0
_SIZES = (3, 5, 8, 2, 4, 6)
_FEWEST_ALIKE = 5
_OWN_PICTURES = ("as it is", "noise", "few matches", "wrong focal", ALIKE, *DISTURBED)


def judged(scene: Matched, trials: int, *, changes: Sequence[str]) -> Iterator[Judged]:
    """Yield scenes made from one, solved and compared with the truth."""
    rng = np.random.default_rng(abs(hash_of(scene.name)))
    for trial in range(trials):
        size = _SIZES[trial % len(_SIZES)]
        small = part(scene, some_photos(scene, size, rng))
        for kind in changes:
            change = CHANGES[kind]
            # Zooms need photos that were not zoomed.
            if kind == "zooms" and size < 3:
                continue
            changed = change(small, rng)
            alignment = solved(changed, rng)
            yield from _one(changed, kind, alignment)
            if kind == "as it is" and trial % 2 == 0:
                how = DISTURBED[trial // 2 % len(DISTURBED)]
                yield from _one(changed, how, disturbed(alignment, how, rng))
        if trial % 2 == 0:
            yield from _one(small, "wrong focal", solved(small, rng, force=True))


def judged_alike(scene: Matched, trials: int) -> Iterator[Judged]:
    """Yield parts of a scene of two places that look alike, solved and compared with the truth, in
    which both mostly are; of few photos nothing tells.
    """
    rng = np.random.default_rng(abs(hash_of(scene.name)))
    for trial in range(trials):
        size = _SIZES[trial % len(_SIZES)]
        small = part(scene, some_photos(scene, size, rng))
        if size >= _FEWEST_ALIKE:
            yield from _one(small, ALIKE, solved(small, rng))


def _one(scene: Matched, kind: str, alignment: Alignment) -> Iterator[Judged]:
    placed = int(alignment.placed.sum())
    if placed < 2:
        return
    error, photo_deg = errors_deg(scene, alignment)
    # What was changed was matches; of some kinds the pictures fit them still.
    own = kind in _OWN_PICTURES
    compared = compare_pictures(scene.photos, alignment) if own else None
    evidence = scene_evidence(scene.photos, alignment)
    evidence = with_pictures(evidence, scene.photos, alignment, compared)
    evidence = asked_again(evidence, scene.photos, alignment)
    by_rule = alignment.cut_out or loosely_held(evidence) is not None
    by_rule |= joined_by_one(alignment) is not None
    by_rule |= own and show_two_places(scene.photos, alignment)
    yield Judged(scene.name, kind, evidence, error, photo_deg, placed, by_rule)


def errors_deg(scene: Matched, alignment: Alignment) -> tuple[float, Array]:
    """Return the median error of the pairs of placed photos, and of each photo's pairs, (N, 2) of
    rotation and direction, NaN where it was not placed.
    """
    placed = np.flatnonzero(alignment.placed).tolist()
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
    return float(np.median(errors.pose_deg)), photo_deg


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


def rates_table(scenes: Sequence[Judged], doubted: Sequence[bool]) -> str:
    """Return a Markdown table: rates of each kind of scene, folder, size, and of all; then of those
    that are clearly right or wrong.
    """
    pairs = list(zip(scenes, doubted, strict=True))
    rows = []
    for kind in dict.fromkeys(scene.kind for scene in scenes):
        rows.append((kind, [(s, d) for s, d in pairs if s.kind == kind]))
    for source in dict.fromkeys(scene.source for scene in scenes):
        rows.append((f"*{source}*", [(s, d) for s, d in pairs if s.source == source]))
    for name, sizes in (("2 photos", (2, 2)), ("3 or 4", (3, 4)), ("5 and more", (5, np.inf))):
        rows.append((name, [(s, d) for s, d in pairs if sizes[0] <= s.photos <= sizes[1]]))
    rows.append(("**all**", pairs))
    least, most = CLEAR_DEG
    clear = [(s, d) for s, d in pairs if not least < s.error_deg < most and s.photos > 2]
    rows.append((f"3 and more, below {least:g} or above {most:g} degrees", clear))
    whole = [(s, d) for s, d in clear if s.error_deg > most or np.nanmax(s.photo_deg) < _PHOTO_DEG]
    rows.append((f"the same, right ones without a photo off by {_PHOTO_DEG:g} degrees", whole))
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


def photos_table(scenes: Sequence[Judged]) -> str:
    """Return a Markdown table of the photos of right scenes: by how far they are off (the larger
    median of their pairs), how many have a word of their own that warns, or are expected to be off
    by a third of that or more.
    """
    right = [s for s in scenes if s.error_deg <= WRONG_DEG]
    words = [verdict_of(s.evidence, [""] * len(s.evidence.placed)).photos for s in right]
    off = np.concatenate([np.max(s.photo_deg, axis=1) for s in right])
    expected = np.concatenate([np.max(expected_errors_deg(s.evidence), axis=0) for s in right])
    warned = np.array([p is not None and p.word != "sound" for photos in words for p in photos])
    rows = []
    for least, most in (
        (_PHOTO_DEG, np.inf),
        (WRONG_DEG, _PHOTO_DEG),
        (2.0, WRONG_DEG),
        (0.0, 2.0),
    ):
        those = (off > least) & (off <= most)
        told = warned | (3 * expected >= off)
        shares = [f"{one[those].mean():.1%}" if those.any() else "-" for one in (warned, told)]
        rows.append((f"{least:g} to {most:g}", str(those.sum()), *shares))
    return markdown(("degrees off", "photos", "warned of", "or a third expected"), rows)


def main(arguments: Sequence[str]) -> int:
    """Make the scenes, judge them, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdict", description=__doc__)
    parser.add_argument("scenes", nargs="+", type=Path, metavar="SCENE_DIR")
    parser.add_argument("--cache", type=Path, required=True, help="folder for what was matched")
    parser.add_argument(
        "--look-alikes",
        nargs="+",
        type=Path,
        default=[],
        metavar="SCENE_DIR",
        help="scenes of two places that look alike",
    )
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
    for source in (matched(folder, given.cache) for folder in given.look_alikes):
        scenes += judged_alike(source, given.trials)
        sources.append(source)
    # Without a point nothing is fitted: such scenes are judged by a rule.
    scenes = [scene for scene in scenes if np.isfinite(scene.evidence.shift_deg)]
    if given.fit:
        model = fitted(scenes)
        for one in (model, model.again):
            if one is not None:
                print(f"weights {np.round(one.weights, 2).tolist()}, offset {one.offset:.2f}")
        print("\nHeld out:\n")
        print(rates_table(scenes, held_out(scenes, families(sources))))
    print("\nAs the program judges:\n")
    verdicts = [verdict_of(s.evidence, [""] * len(s.evidence.placed)).word for s in scenes]
    doubted = [s.by_rule or word != "sound" for s, word in zip(scenes, verdicts, strict=True)]
    print(rates_table(scenes, doubted))
    believed = [s for s, word in zip(scenes, verdicts, strict=True) if word != "wrong"]
    print(f"\n{error_table(believed)}")
    print(f"\nPhotos of right scenes:\n\n{photos_table(scenes)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
