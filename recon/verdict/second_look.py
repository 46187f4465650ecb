"""A second look at the cameras of a few photos, once stereo has compared these pixel by pixel.

Matches of two photos may fit wrong cameras as well as right ones: no third photo contradicts them.
Stereo then looks along the wrong lines, and finds next to nothing where the matches are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recon.stage_results import CONFIRMED, DenseDepths, DepthMap
from recon.verdict.judge import doubted

if TYPE_CHECKING:
    from pointmap.images import ResizedPhoto
    from recon.scene import Verdict

# Scenes of so few photos are looked at; of more, other signs tell.
_FEW_PHOTOS = 4
# Share of the depth that stereo has to confirm: measured, 0 to 0.12 with cameras of two photos that
# are off by more than 10 degrees, 0.2 to 0.9 with right ones (benchmarks/README.md).
_AGREES = 0.15
# Depth counts where a photo has texture, neighbouring pixels that differ by more levels of 255, in
# so much of the picture or more.
_TEXTURE_LEVELS, _LEAST = 4.0, 0.01


def judge_again(verdict: Verdict | None, dense: DenseDepths) -> Verdict | None:
    """Return the verdict on a scene whose depth was refined by stereo: doubtful where it was sound
    and stereo does not agree.

    Nothing is asked of photos from one place, whose cameras no depth can confirm.
    """
    if verdict is None or verdict.word != "sound" or verdict.direction_error_deg is None:
        return verdict
    numbers = [k for k, photo in enumerate(verdict.photos) if photo is not None]
    if len(numbers) > _FEW_PHOTOS:
        return verdict
    shares = [_confirmed(dense.frames[k], dense.depths[k]) for k in numbers]
    told = [share for share in shares if share is not None]
    if not told or (agreeing := float(np.median(told))) >= _AGREES:
        return verdict
    return doubted(
        verdict,
        f"compared pixel by pixel, the photos agree in {agreeing:.0%} of their depth only, though "
        "their matches fit: add photos in between",
    )


def _confirmed(frame: ResizedPhoto, depth: DepthMap | None) -> float | None:
    """Return the share of a photo's depth, where there is texture, that another photo confirms;
    None where there is hardly any.
    """
    if depth is None:
        return None
    grey = frame.pixels.mean(axis=2)
    steps = np.abs(np.diff(grey, axis=1))[:-1], np.abs(np.diff(grey, axis=0))[:, :-1]
    counted = np.zeros(grey.shape, bool)
    counted[:-1, :-1] = np.maximum(*steps) > _TEXTURE_LEVELS
    counted &= depth.depth > 0
    if counted.mean() < _LEAST:
        return None
    return float((depth.confidence[counted] > CONFIRMED).mean())
