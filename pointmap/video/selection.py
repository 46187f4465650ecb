"""Which of a video's candidate frames become photos: a function of measurements alone.

Motion is counted in shares of the picture's width and height, so that a step of 0.06 leaves an
overlap of about 94 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pointmap.video.motion import TrackedFeatures, displacement

STEP = 0.06
"""How far the picture moves from one chosen frame to the next."""
MOST_FRAMES = 300
"""So many are chosen at most from all videos together, unless a number is asked for."""
_STEPS = 0.01, 0.2
# Two frames that are further apart overlap by less than 70 % and match badly.
_REACH = 0.3
# From a step of its own: nearer frames show nothing new, and from there on a sharper one is
# waited for, up to the last.
_NEAREST, _FURTHEST = 0.6, 3.0
# A camera that swings back shows what was chosen a few frames ago.
_RECENT = 8
# The first frame, and the first after a cut or where all features were lost.
_START_S = 0.5


@dataclass(frozen=True)
class Candidate:
    """A frame that may be chosen: ``time_s`` from the first one, ``sharpness`` > 0 (comparable
    among frames of like content) and the ``features`` tracked into it.
    """

    time_s: float
    sharpness: float
    features: TrackedFeatures


def choose(clips: Sequence[Sequence[Candidate]], target: int | None = None) -> list[list[int]]:
    """Return for each clip the indices of the frames to keep, ascending.

    Without a ``target`` frames follow the motion, every ``STEP``, and no more than ``MOST_FRAMES``
    in all. With one, the step is made smaller or larger for that many in all; where the clips don't
    show as many different views, there are fewer.
    """
    chosen = [choose_by_motion(clip, STEP) for clip in clips]
    if target is None and _count(chosen) <= MOST_FRAMES:
        return chosen
    wanted = MOST_FRAMES if target is None else target
    chosen = _largest_step_for(clips, wanted)
    # What is left is too many by a few, or cannot be reached by a larger step.
    places = [(clip, index) for clip, indices in enumerate(chosen) for index in indices]
    kept = np.linspace(0, len(places) - 1, min(wanted, len(places))).round().astype(int)
    thinned: list[list[int]] = [[] for _ in clips]
    for clip, index in (places[k] for k in kept):
        thinned[clip].append(index)
    return thinned


def choose_by_motion(clip: Sequence[Candidate], step: float) -> list[int]:
    """Return indices of frames that are about ``step`` apart, each the sharpest around there.

    Of the frames between 0.6 and 3 steps after the last one (but at most 30 % of the picture), the
    best by ``log(sharpness) - log(motion / step)**2`` is taken. No frame is taken where nothing
    moved, or where the picture has come back to one of the last few.
    """
    chosen: list[int] = []
    best: tuple[float, int] | None = None
    k = 0
    while k < len(clip):
        moved = np.inf
        for c in reversed(chosen[-_RECENT:]):
            moved = min(moved, displacement(clip[c].features, clip[k].features))
            if moved < _NEAREST * step:
                break
        if moved > min(_FURTHEST * step, _REACH):
            # Out of reach: the best so far, if there is one, or this one, which is a new start
            # when nothing that was chosen is seen in it any more.
            if best is None:
                best = 0.0, k if np.isfinite(moved) else _sharpest_at_start(clip, k)
            chosen.append(best[1])
            k, best = best[1] + 1, None
            continue
        if moved >= _NEAREST * step:
            score = float(np.log(clip[k].sharpness) - np.log(moved / step) ** 2)
            best = (score, k) if best is None else max(best, (score, k))
        k += 1
        if k == len(clip) and best is not None:
            chosen.append(best[1])
            k, best = best[1] + 1, None
    return chosen


def _sharpest_at_start(clip: Sequence[Candidate], start: int) -> int:
    until = clip[start].time_s + _START_S
    near = [k for k in range(start, len(clip)) if clip[k].time_s <= until]
    return max(near, key=lambda k: clip[k].sharpness)


def _largest_step_for(clips: Sequence[Sequence[Candidate]], wanted: int) -> list[list[int]]:
    """Choose with the largest step that gives ``wanted`` frames or more, by bisection."""
    low, high = _STEPS
    finest = [choose_by_motion(clip, low) for clip in clips]
    for _ in range(8):
        step = float(np.sqrt(low * high))
        chosen = [choose_by_motion(clip, step) for clip in clips]
        if _count(chosen) >= wanted:
            low, finest = step, chosen
        else:
            high = step
    return finest


def _count(chosen: Sequence[Sequence[int]]) -> int:
    return sum(map(len, chosen))
