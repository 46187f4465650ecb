"""Judges each photo's own word: python -m benchmarks.verdict_photos SCENE_DIR... --cache FOLDER.

Of every scene folder (as for ``benchmarks.verdict``, whose cache it shares) parts of five to ten
photos are solved, as they are, in which photos hang by a thread. *Loose*: each photo is drawn from
all that share 30 matches with one drawn before. *Hung*: photos that share much, but one of them
keeps its matches with its one or two strongest partners alone; or with one, and of its features
hardly any that a third photo has, too, so that nothing tells how far the two stand apart.

In scenes whose median pair is right, how many of the photos that are off have a word that says so,
and how many of those that are right?
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.verdict import errors_deg, hash_of, photos_table, rates_table
from benchmarks.verdict_fit import Judged
from benchmarks.verdict_scenes import (
    Matched,
    aligned,
    drawn_photos,
    matched,
    part,
    some_photos,
)
from pointmap.camera import Array, Index
from recon.stage_results import PairMatches
from recon.two_view.focal_lengths import FocalOptions, solve_focals
from recon.verdict.evidence import scene_evidence
from recon.verdict.judge import verdict_of

_LOOSE_SIZES, _HUNG_SIZES, _TIED = (5, 6, 7, 8, 10), (5, 6, 7, 8), 30
# Partners that a photo keeps; 0: one, without what a third photo shows, but for this share.
_PARTNERS, _LINKED = (1, 0, 2, 0), 0.03


def loose_photos(scene: Matched, count: int, rng: np.random.Generator) -> list[int]:
    """Return photos that hang together, however little they share."""

    def candidates(tied: Array) -> Index:
        enough = np.flatnonzero(tied >= _TIED)
        return enough if len(enough) else np.argsort(-tied)[:2]

    return drawn_photos(scene, count, rng, candidates)


def hung(scene: Matched, k: int, partners: int) -> Matched:
    """Return the scene of which photo ``k`` keeps its matches with so many partners alone."""
    mine = sorted((m for m in scene.matches if k in (m.i, m.j)), key=len, reverse=True)
    others = [m for m in scene.matches if k not in (m.i, m.j)]
    kept = mine[: max(partners, 1)]
    if partners == 0 and kept:
        kept = [_without_third(kept[0], k, others)]
    return replace(scene, matches=tuple(others + kept))


def _without_third(pair: PairMatches, k: int, others: Sequence[PairMatches]) -> PairMatches:
    """Return a pair of photo ``k`` without most features that its partner shares with others."""
    partner = pair.j if pair.i == k else pair.i
    shared = [m.index_i if m.i == partner else m.index_j for m in others if partner in (m.i, m.j)]
    own = pair.index_j if pair.j == partner else pair.index_i
    linked = np.isin(own, np.concatenate([np.zeros(0, np.int64), *shared]))
    linked &= np.random.default_rng(len(pair)).random(len(pair)) > _LINKED
    return pair.select(~linked)


def judged_photos(scene: Matched, trials: int) -> Iterator[Judged]:
    """Yield loose and hung parts of a scene, solved and compared with the truth."""
    rng = np.random.default_rng(abs(hash_of(scene.name)) + 7)
    for trial in range(trials):
        turn = trial // 2
        if trial % 2:
            kind = "loose"
            small = part(scene, loose_photos(scene, _LOOSE_SIZES[turn % len(_LOOSE_SIZES)], rng))
        else:
            kind = "hung"
            small = part(scene, some_photos(scene, _HUNG_SIZES[turn % len(_HUNG_SIZES)], rng))
            partners = _PARTNERS[turn % len(_PARTNERS)]
            small = hung(small, int(rng.integers(len(small.photos))), partners)
        focals = solve_focals(small.photos, small.matches, None, FocalOptions())
        _, alignment = aligned(small.photos, small.matches, focals)
        if (placed := int(alignment.placed.sum())) > 2:
            evidence = scene_evidence(small.photos, alignment)
            yield Judged(scene.name, kind, evidence, *errors_deg(small, alignment), placed)


def main(arguments: Sequence[str]) -> int:
    """Make the scenes, judge them, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdict_photos")
    parser.add_argument("scenes", nargs="+", type=Path, metavar="SCENE_DIR")
    parser.add_argument("--cache", type=Path, required=True, help="folder for what was matched")
    parser.add_argument("--trials", type=int, default=20, help="parts taken of each scene")
    given = parser.parse_args(arguments)
    found: list[Judged] = []
    for folder in given.scenes:
        scenes = list(judged_photos(matched(folder, given.cache), given.trials))
        print(f"{folder.name}\n\n{photos_table(scenes)}\n", flush=True)
        found += scenes
    words = [verdict_of(s.evidence, [""] * len(s.evidence.placed)).word for s in found]
    print(f"All\n\n{photos_table(found)}\n")
    print(rates_table(found, [word != "sound" for word in words]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
